#include "native/backend/cuda/cuda_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "native/backend/cuda/convert.h"
#include "native/backend/cuda/graph_cache.h"
#include "native/backend/cuda/memory.h"
#include "native/backend/cuda/plan.h"
#include "native/backend/cuda/staging.h"
#include "native/base/error.h"
#include "native/ops/check.h"
#include "native/ops/check_map.h"

namespace nextscale::cuda {
namespace {

constexpr size_t kTableBytes = size_t{8} << 20, kTransferBytes = size_t{16} << 20;

uint32_t U32(size_t value, const char* what) {
  NS_REQUIRE(value <= 0xFFFFFFFFu, ErrorCode::kInvalidArgument, what, ": ", value, " is too large");
  return static_cast<uint32_t>(value);
}

class CudaBackend final : public Backend {
 public:
  CudaBackend(std::unique_ptr<Device> device, DType dtype)
      : device_(std::move(device)),
        dtype_(dtype),
        name_("cuda:" + std::to_string(device_->info().index)),
        traits_{device_->info().num_multiprocessors, device_->info().has_wgmma},
        memory_(*device_),
        graphs_(*device_),
        tables_(std::make_unique<TableArea>(*device_, kTableBytes)),
        transfers_(*device_, kTransferBytes) {}
  ~CudaBackend() override {
    try {
      device_->Wait();  // what is queued still uses the memory
    } catch (const Error&) {
    }
  }

  std::string_view name() const override { return name_; }
  DType activation_dtype() const override { return dtype_; }
  bool immediate() const override { return false; }
  // One image of 64 with both branches at 16 × 16, and more rows than any chip has tiles for.
  size_t batch_rows(size_t) const override { return 32768; }

  Buffer Allocate(size_t bytes, const char* what) override;
  void Upload(void* to, const void* from, size_t bytes) override {
    Flush();
    transfers_.Upload(to, from, bytes, [this] { Wait(); });
  }
  void Download(void* to, const void* from, size_t bytes) override {
    Flush();
    transfers_.Download(to, from, bytes, [this] { Wait(); });
  }
  void Copy(void* to, const void* from, size_t bytes) override {
    Flush();
    if (bytes != 0) device_->CopyWithin(to, from, bytes);
  }
  void Clear(void* at, size_t bytes) override {
    Flush();
    if (bytes != 0) device_->Clear(at, bytes);
  }
  void Section() override { Flush(); }
  void Wait() override;

  PackedMatrix PackMatrix(const TensorView& weights, const char* name) override;
  PackedConv PackConv(const TensorView& weights, const std::vector<float>& bias, const char* name,
                      ConvUse use) override;
  Codebook MakeCodebook(const std::vector<float>& rows, size_t size, size_t dim) override;

  void Linear(const nextscale::LinearArgs& args) override;
  void ModulatedNorm(const nextscale::ModulatedNormArgs& args) override;
  void Qkv(const nextscale::LinearArgs& linear, const nextscale::SplitHeadsArgs& split) override;
  void Attention(const nextscale::AttentionArgs& args) override;
  void Embed(const nextscale::EmbedArgs& args) override;
  void LabelCondition(const nextscale::LabelConditionArgs& args) override;
  void AddOffset(const nextscale::AddOffsetArgs& args) override;
  void Sample(std::span<const nextscale::SampleArgs> images) override;
  void CrossEntropy(const nextscale::CrossEntropyArgs& args) override;

  size_t AddCodesWorkspace(const AddCodesArgs& args) override {
    return args.num_images * args.side * args.side * args.codebook->dim;
  }
  void AddCodes(const AddCodesArgs& args) override;
  void AreaDown(const nextscale::AreaDownArgs& args) override;
  void NearestCode(const nextscale::NearestCodeArgs& args) override;
  size_t ConvWorkspace(const ConvArgs& args) override {
    const size_t bytes = args.in_height * args.in_width * args.in_stride * DTypeBytes(args.in_dtype);
    return args.gain == nullptr ? 0 : (bytes + sizeof(float) - 1) / sizeof(float);  // the normalised input
  }
  void Conv(const ConvArgs& args) override;
  size_t GroupNormWorkspace(size_t num_pixels, size_t num_groups) override {
    static_assert(sizeof(Moments) == sizeof(double));
    return GroupNormPieces(U32(num_pixels, "group norm: pixels")) * num_groups;
  }
  void GroupNorm(const nextscale::GroupNormArgs& args) override;
  void NormalizeMap(const nextscale::NormalizeMapArgs& args) override;
  void ImageToMap(const nextscale::ImageToMapArgs& args) override;
  void MapToImage(const nextscale::MapToImageArgs& args) override;

 private:
  void Flush();
  // Makes sure that tables of this size can be appended without a wait between them.
  void ReserveTables(size_t bytes);
  RowTables MakeRows(std::span<const RowSpan> spans, size_t num_rows);
  struct KvTables {
    const SequenceRows* sequences = nullptr;
    const uint32_t* slots = nullptr;
    const uint32_t* row_slots = nullptr;
    KvMemory kv;
    uint32_t num_sequences = 0, max_rows = 0, max_keys = 0;
  };
  const KvTables& MakeKv(std::span<const AttentionSequence> sequences, size_t width);
  LinearArgs ToDevice(const nextscale::LinearArgs& args) const;
  void UploadRows(const Buffer& weights, const std::vector<std::byte>& rows, size_t first, size_t num_rows, size_t k,
                  DType dtype, std::vector<std::byte>& tiles);

  std::unique_ptr<Device> device_;
  DType dtype_;
  std::string name_, lost_;
  DeviceTraits traits_;
  Memory memory_;
  GraphCache graphs_;
  std::unique_ptr<TableArea> tables_;
  Transfers transfers_;
  LaunchList list_;

  // The latest tables, which the next op often needs again. Dropped when their place is.
  RowTableData row_data_, last_row_data_;
  RowTables last_rows_;
  bool has_rows_ = false, has_kv_ = false;
  AttentionTables kv_data_;
  std::vector<AttentionSequence> last_sequences_;  // their slots may not be read
  size_t last_width_ = 0;
  KvTables last_kv_;
  std::vector<SampleImage> samples_;
};

// ------------------------------------------------------------------ running

void CudaBackend::Flush() {
  if (!lost_.empty()) throw Error(ErrorCode::kDeviceLost, lost_);
  if (list_.empty()) return;
  try {
    tables_->Push();
    graphs_.Run(list_);
    list_.Clear();
  } catch (const Error& error) {
    list_.Clear();
    if (error.code() == ErrorCode::kDeviceLost) lost_ = error.what();
    throw;
  }
}

void CudaBackend::Wait() {
  Flush();
  try {
    device_->Wait();
  } catch (const Error& error) {
    transfers_.Restart();
    if (error.code() == ErrorCode::kDeviceLost) lost_ = error.what();
    throw;
  }
  transfers_.Deliver();
  tables_->Restart();
  has_rows_ = has_kv_ = false;
}

void CudaBackend::ReserveTables(size_t bytes) {
  if (tables_->HasRoom(bytes)) return;
  Wait();
  if (tables_->HasRoom(bytes)) return;
  const size_t larger = std::max(2 * tables_->bytes(), 2 * bytes);
  tables_ = std::make_unique<TableArea>(*device_, larger);  // where it cannot be had, the old one stays
}

Buffer CudaBackend::Allocate(size_t bytes, const char* what) {
  Flush();  // what was issued may use memory that is free by now
  Buffer buffer;
  try {
    buffer = memory_.Allocate(bytes, what);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kOutOfMemory) throw;
    Wait();
    memory_.Trim();
    try {
      buffer = memory_.Allocate(bytes, what);
    } catch (const Error& again) {
      throw Error(again.code(), Message(again.what(), "; ", memory_.used_bytes(), " bytes are in use by this model"));
    }
  }
  if (bytes != 0) device_->Clear(buffer.data(), bytes);
  return buffer;
}

// ------------------------------------------------------------------ weights

PackedMatrix CudaBackend::PackMatrix(const TensorView& weights, const char* name) {
  CheckPackMatrix(weights, name);
  PackedMatrix packed;
  packed.dtype = dtype_;
  packed.n = weights.shape[0];
  packed.k = weights.shape[1];
  packed.panel = 1;
  const size_t row_bytes = packed.k * DTypeBytes(dtype_);
  const auto k = U32(packed.k, name);
  packed.data = Allocate(WeightBytes(U32(packed.n, name), k, dtype_), name);
  std::vector<std::byte> rows(std::min<size_t>(packed.n, kWeightTile) * row_bytes);
  std::vector<std::byte> tiles(WeightBytes(kWeightTile, k, dtype_));
  std::vector<float> scratch;
  for (size_t first = 0; first < packed.n; first += kWeightTile) {
    const size_t here = std::min<size_t>(kWeightTile, packed.n - first);
    ConvertElements(weights, first * packed.k, here * packed.k, dtype_, name, rows.data(), scratch);
    UploadRows(packed.data, rows, first, here, packed.k, dtype_, tiles);
  }
  return packed;
}

// Rows `first` .. + num_rows (at most a tile of them) of weights [n, k], as they come from a file.
void CudaBackend::UploadRows(const Buffer& weights, const std::vector<std::byte>& rows, size_t first, size_t num_rows,
                             size_t k, DType dtype, std::vector<std::byte>& tiles) {
  if (dtype == DType::kF32) {
    return Upload(weights.data() + first * k * sizeof(float), rows.data(), num_rows * k * sizeof(float));
  }
  PackTiles(rows.data(), num_rows, k, tiles.data());
  Upload(weights.data() + WeightPiece(static_cast<uint32_t>(first), 0, static_cast<uint32_t>(k)), tiles.data(),
         tiles.size());
}

// [cout, cin, 3, 3] → [cout, 9, padded cin], in tiles where it is not f32.
PackedConv CudaBackend::PackConv(const TensorView& weights, const std::vector<float>& bias, const char* name,
                                 ConvUse use) {
  CheckPackConv(weights, bias, name);
  for (float value : bias)
    NS_REQUIRE(std::isfinite(value), ErrorCode::kNotFinite, name, ": NaN or infinity in the bias");
  PackedConv packed;
  packed.dtype = use == ConvUse::kLatent ? DType::kF32 : dtype_;
  packed.cout = weights.shape[0];
  packed.cin = weights.shape[1];
  packed.panel = 1;
  const size_t size = DTypeBytes(packed.dtype);
  const size_t stride = use == ConvUse::kLatent ? packed.cin : MapStride(packed.cin);
  const size_t filter = 9 * packed.cin, k = 9 * stride;
  packed.data = Allocate(WeightBytes(U32(packed.cout, name), U32(k, name), packed.dtype), name);
  std::vector<std::byte> rows(kWeightTile * k * size), from(filter * size);
  std::vector<std::byte> tiles(WeightBytes(kWeightTile, U32(k, name), packed.dtype));
  std::vector<float> scratch;
  for (size_t first = 0; first < packed.cout; first += kWeightTile) {
    const size_t here = std::min<size_t>(kWeightTile, packed.cout - first);
    for (size_t o = 0; o < here; ++o) {
      ConvertElements(weights, (first + o) * filter, filter, packed.dtype, name, from.data(), scratch);
      for (size_t i = 0; i < packed.cin; ++i) {
        for (size_t tap = 0; tap < 9; ++tap) {
          std::memcpy(rows.data() + ((o * 9 + tap) * stride + i) * size, from.data() + (i * 9 + tap) * size, size);
        }
      }
    }
    UploadRows(packed.data, rows, first, here, k, packed.dtype, tiles);
  }
  packed.bias = Allocate(bias.size() * sizeof(float), name);
  Upload(packed.bias.data(), bias.data(), bias.size() * sizeof(float));
  return packed;
}

Codebook CudaBackend::MakeCodebook(const std::vector<float>& rows, size_t size, size_t dim) {
  NS_REQUIRE(size > 0 && dim > 0 && rows.size() == size * dim, ErrorCode::kInvalidArgument, "codebook: ", rows.size(),
             " numbers for ", size, " codes of ", dim);
  Codebook codebook;
  codebook.size = size;
  codebook.dim = dim;
  codebook.rows = Allocate(rows.size() * sizeof(float), "the codebook");
  Upload(codebook.rows.data(), rows.data(), rows.size() * sizeof(float));
  return codebook;
}

// ------------------------------------------------------------------ tables

RowTables CudaBackend::MakeRows(std::span<const RowSpan> spans, size_t num_rows) {
  row_data_.Build(spans, num_rows);
  ReserveTables(TableArea::Needed(
      {row_data_.span_of_row.size() * sizeof(uint32_t), row_data_.spans.size() * sizeof(SpanTarget)}));
  const auto same = [](const SpanTarget& a, const SpanTarget& b) {
    return a.modulation == b.modulation && a.compact_row == b.compact_row && a.x_row == b.x_row;
  };
  if (!has_rows_ || row_data_.span_of_row != last_row_data_.span_of_row) {
    last_rows_.span_of_row = tables_->Append(std::span<const uint32_t>(row_data_.span_of_row));
    has_rows_ = false;
  }
  if (!has_rows_ || !std::equal(row_data_.spans.begin(), row_data_.spans.end(), last_row_data_.spans.begin(),
                                last_row_data_.spans.end(), same)) {
    last_rows_.spans = tables_->Append(std::span<const SpanTarget>(row_data_.spans));
  }
  has_rows_ = true;
  std::swap(row_data_, last_row_data_);
  return last_rows_;
}

const CudaBackend::KvTables& CudaBackend::MakeKv(std::span<const AttentionSequence> sequences, size_t width) {
  // The slots of the last call may be gone or changed by now: their copy in kv_data_ counts.
  size_t first_key = 0;
  const auto same = [&](const AttentionSequence& a, const AttentionSequence& b) {
    const auto last_slots = kv_data_.slots.begin() + static_cast<std::ptrdiff_t>(first_key);
    first_key += a.kv.slots.size() + a.kv.tail_rows;
    return a.compact_row == b.compact_row && a.num_rows == b.num_rows && a.kv.slots.size() == b.kv.slots.size() &&
           a.kv.pool == b.kv.pool && a.kv.tail == b.kv.tail && a.kv.tail_rows == b.kv.tail_rows &&
           a.kv.dtype == b.kv.dtype && std::equal(a.kv.slots.begin(), a.kv.slots.end(), last_slots);
  };
  if (has_kv_ && last_width_ == width &&
      std::equal(sequences.begin(), sequences.end(), last_sequences_.begin(), last_sequences_.end(), same)) {
    return last_kv_;
  }
  size_t num_rows = 0;
  const KvView& first = sequences.front().kv;
  const size_t row_bytes = 2 * width * DTypeBytes(first.dtype);
  for (const AttentionSequence& sequence : sequences) {
    num_rows = std::max(num_rows, sequence.compact_row + sequence.num_rows);
    NS_REQUIRE(sequence.kv.dtype == first.dtype && sequence.kv.pool == first.pool, ErrorCode::kInvalidArgument,
               "attention: sequences of one call must share the pool and its format");
    const auto from_first = static_cast<size_t>(sequence.kv.tail - first.tail);
    NS_REQUIRE(sequence.kv.tail_rows == 0 || (sequence.kv.tail >= first.tail && from_first % row_bytes == 0),
               ErrorCode::kInvalidArgument, "attention: tails must be rows of one memory that begins with the first's");
  }
  has_kv_ = false;  // until the new ones stand: Build may throw
  kv_data_.Build(sequences, first.tail, row_bytes, num_rows);
  ReserveTables(
      TableArea::Needed({kv_data_.sequences.size() * sizeof(SequenceRows), kv_data_.slots.size() * sizeof(uint32_t),
                         kv_data_.row_slots.size() * sizeof(uint32_t)}));
  last_kv_.sequences = tables_->Append(std::span<const SequenceRows>(kv_data_.sequences));
  last_kv_.slots = tables_->Append(std::span<const uint32_t>(kv_data_.slots));
  last_kv_.row_slots = tables_->Append(std::span<const uint32_t>(kv_data_.row_slots));
  last_kv_.kv.pool = reinterpret_cast<unsigned char*>(first.pool);
  last_kv_.kv.tail = reinterpret_cast<unsigned char*>(first.tail);
  last_kv_.kv.dtype = first.dtype;
  last_kv_.num_sequences = U32(sequences.size(), "attention: sequences");
  last_kv_.max_rows = kv_data_.max_rows;
  last_kv_.max_keys = kv_data_.max_keys;
  last_sequences_.assign(sequences.begin(), sequences.end());
  last_width_ = width;
  has_kv_ = true;
  return last_kv_;
}

// ------------------------------------------------------------------ transformer

LinearArgs CudaBackend::ToDevice(const nextscale::LinearArgs& args) const {
  nextscale::CheckLinear(args);
  NS_REQUIRE(args.a_dtype == args.weights->dtype, ErrorCode::kInvalidArgument, "linear: a is in ",
             DTypeName(args.a_dtype), " and the weights in ", DTypeName(args.weights->dtype));
  LinearArgs linear;
  linear.out = args.out;
  linear.a = args.a;
  linear.weights = args.weights->data.data();
  linear.bias = args.bias;
  linear.out_stride = U32(args.out_stride, "linear: out_stride");
  linear.a_stride = U32(args.a_stride, "linear: a_stride");
  linear.num_rows = U32(args.num_rows, "linear: rows");
  linear.n = U32(args.weights->n, "linear: n");
  linear.k = U32(args.weights->k, "linear: k");
  linear.dtype = args.a_dtype;
  linear.out_dtype = args.out_dtype;
  linear.epilogue = args.epilogue == Epilogue::kGelu ? LinearEpilogue::kGelu : LinearEpilogue::kStore;
  return linear;
}

void CudaBackend::Linear(const nextscale::LinearArgs& args) {
  LinearArgs linear = ToDevice(args);
  if (args.num_rows == 0) return;
  if (args.epilogue == Epilogue::kResidual && args.out_dtype == DType::kF32) {
    linear.epilogue = LinearEpilogue::kResidual;
    linear.rows = MakeRows(args.spans, args.num_rows);
    linear.gate_offset = U32(args.gate_offset, "linear: gate_offset");
  } else if (args.epilogue == Epilogue::kResidual) {  // a map onto itself
    NS_REQUIRE(args.spans.size() == 1 && args.spans[0].x_row == 0 && args.spans[0].modulation == nullptr,
               ErrorCode::kInvalidArgument, "linear: x in ", DTypeName(args.out_dtype), " with ", args.spans.size(),
               " spans, expected one without modulation");
    linear.residual = args.out;
    linear.residual_stride = linear.out_stride;
  }
  AddLinear(list_, linear, traits_, "linear");
}

void CudaBackend::ModulatedNorm(const nextscale::ModulatedNormArgs& args) {
  CheckModulatedNorm(args);
  if (args.spans.empty()) return;
  const size_t num_rows = args.spans.back().compact_row + args.spans.back().num_rows;
  if (num_rows == 0) return;
  cuda::ModulatedNormArgs norm;
  norm.out = args.out;
  norm.x = args.x;
  norm.rows = MakeRows(args.spans, num_rows);
  norm.out_stride = U32(args.out_stride, "norm: out_stride");
  norm.x_stride = U32(args.x_stride, "norm: x_stride");
  norm.width = U32(args.width, "norm: width");
  norm.num_rows = U32(num_rows, "norm: rows");
  norm.gain_offset = U32(args.gain_offset, "norm: gain_offset");
  norm.shift_offset = U32(args.shift_offset, "norm: shift_offset");
  norm.out_dtype = args.out_dtype;
  AddModulatedNorm(list_, norm, "norm");
}

void CudaBackend::Qkv(const nextscale::LinearArgs& args, const nextscale::SplitHeadsArgs& split) {
  CheckSplitHeads(split);
  NS_REQUIRE(args.epilogue == Epilogue::kStore && args.out == split.qkv && args.out_dtype == split.dtype &&
                 args.out_stride == split.qkv_stride,
             ErrorCode::kInvalidArgument, "qkv: the linear layer must store what is split");
  LinearArgs linear = ToDevice(args);
  if (args.num_rows == 0 || split.sequences.empty()) return;
  const KvTables& kv = MakeKv(split.sequences, split.num_heads * split.head_dim);
  linear.num_heads = U32(split.num_heads, "qkv: heads");
  linear.head_dim = U32(split.head_dim, "qkv: head size");
  linear.kv = kv.kv;
  if (FusesQkv(linear)) {
    linear.epilogue = LinearEpilogue::kQkv;
    linear.head_factor = split.head_factor;
    linear.row_slots = kv.row_slots;
    return AddLinear(list_, linear, traits_, "qkv");
  }
  AddLinear(list_, linear, traits_, "qkv");
  cuda::SplitHeadsArgs heads;
  heads.qkv = split.qkv;
  heads.head_factor = split.head_factor;
  heads.row_slots = kv.row_slots;
  heads.kv = kv.kv;
  heads.qkv_stride = linear.out_stride;
  heads.num_rows = linear.num_rows;
  heads.num_heads = linear.num_heads;
  heads.head_dim = linear.head_dim;
  heads.dtype = split.dtype;
  AddSplitHeads(list_, heads, "qkv");
}

void CudaBackend::Attention(const nextscale::AttentionArgs& args) {
  nextscale::CheckAttention(args);
  if (args.sequences.empty()) return;
  const KvTables& kv = MakeKv(args.sequences, args.num_heads * args.head_dim);
  cuda::AttentionArgs attention;
  attention.out = args.out;
  attention.q = args.q;
  attention.sequences = kv.sequences;
  attention.slots = kv.slots;
  attention.kv = kv.kv;
  attention.out_stride = U32(args.out_stride, "attention: out_stride");
  attention.q_stride = U32(args.q_stride, "attention: q_stride");
  attention.num_heads = U32(args.num_heads, "attention: heads");
  attention.head_dim = U32(args.head_dim, "attention: head size");
  attention.softmax_factor = args.softmax_factor;
  attention.num_sequences = kv.num_sequences;
  attention.max_rows = kv.max_rows;
  attention.max_keys = kv.max_keys;
  attention.dtype = args.dtype;
  AddAttention(list_, attention, "attention");
}

void CudaBackend::Embed(const nextscale::EmbedArgs& args) {
  CheckEmbed(args);
  cuda::EmbedArgs embed;
  embed.x = args.x;
  embed.position = args.position;
  embed.class_embedding = args.class_embedding;
  embed.start = args.start;
  if (args.class_embedding != nullptr) {
    ReserveTables(TableArea::Needed({args.labels.size_bytes()}));
    embed.labels = tables_->Append(args.labels);
  }
  embed.stride = U32(args.stride, "embed: stride");
  embed.width = U32(args.width, "embed: width");
  embed.num_tokens = U32(args.num_tokens, "embed: tokens");
  embed.num_images = U32(args.num_images, "embed: images");
  embed.num_branches = U32(args.num_branches, "embed: branches");
  AddEmbed(list_, embed, "embed");
}

void CudaBackend::LabelCondition(const nextscale::LabelConditionArgs& args) {
  CheckLabelCondition(args);
  ReserveTables(TableArea::Needed({args.labels.size_bytes()}));
  cuda::LabelConditionArgs condition;
  condition.out = args.out;
  condition.class_embedding = args.class_embedding;
  condition.labels = tables_->Append(args.labels);
  condition.out_stride = U32(args.out_stride, "label condition: stride");
  condition.width = U32(args.width, "label condition: width");
  condition.num_labels = U32(args.labels.size(), "label condition: labels");
  condition.out_dtype = args.out_dtype;
  AddLabelCondition(list_, condition, "label condition");
}

void CudaBackend::AddOffset(const nextscale::AddOffsetArgs& args) {
  CheckAddOffset(args);
  cuda::AddOffsetArgs add;
  add.out = args.out;
  add.in = args.in;
  add.offset = args.offset;
  add.out_stride = U32(args.out_stride, "add offset: stride");
  add.in_stride = U32(args.in_stride, "add offset: stride");
  add.num_rows = U32(args.num_rows, "add offset: rows");
  add.width = U32(args.width, "add offset: width");
  AddAddOffset(list_, add, "add offset");
}

// Images that follow each other with equal shapes share a launch.
void CudaBackend::Sample(std::span<const nextscale::SampleArgs> images) {
  for (size_t first = 0; first < images.size();) {
    const nextscale::SampleArgs& head = images[first];
    samples_.clear();
    while (first < images.size() && images[first].num_tokens == head.num_tokens &&
           images[first].stride == head.stride && images[first].codebook_size == head.codebook_size) {
      const nextscale::SampleArgs& args = images[first++];
      nextscale::CheckSample(args);
      samples_.push_back({.tokens = args.tokens,
                          .cond = args.cond,
                          .uncond = args.uncond,
                          .logits_out = args.logits_out,
                          .seed = args.seed,
                          .image = args.image,
                          .guidance = args.guidance,
                          .top_p = args.top_p,
                          .top_k = U32(args.top_k, "sample: top_k"),
                          .scale_index = args.scale_index});
    }
    ReserveTables(TableArea::Needed({samples_.size() * sizeof(SampleImage)}));
    cuda::SampleArgs sample;
    sample.images = tables_->Append(std::span<const SampleImage>(samples_));
    sample.num_images = U32(samples_.size(), "sample: images");
    sample.num_tokens = U32(head.num_tokens, "sample: tokens");
    sample.codebook_size = U32(head.codebook_size, "sample: codebook size");
    sample.stride = U32(head.stride, "sample: stride");
    AddSample(list_, sample, "sample");
  }
}

void CudaBackend::CrossEntropy(const nextscale::CrossEntropyArgs& args) {
  NS_REQUIRE(args.logits != nullptr && args.targets != nullptr && args.losses != nullptr, ErrorCode::kInvalidArgument,
             "cross entropy: an array is missing");
  NS_REQUIRE(args.stride >= args.codebook_size && args.smoothing == 0.0f && args.gradient_factor == 0.0f,
             ErrorCode::kInvalidArgument, "cross entropy: on this device without smoothing and gradient; stride ",
             args.stride, " for ", args.codebook_size, " codes");
  cuda::CrossEntropyArgs loss;
  loss.logits = args.logits;
  loss.targets = args.targets;
  loss.losses = args.losses;
  loss.num_rows = U32(args.num_rows, "cross entropy: rows");
  loss.stride = U32(args.stride, "cross entropy: stride");
  loss.codebook_size = U32(args.codebook_size, "cross entropy: codebook size");
  AddCrossEntropy(list_, loss, "cross entropy");
}

// ------------------------------------------------------------------ tokenizer

void CudaBackend::AddCodes(const AddCodesArgs& args) {
  CheckAddCodes(args);
  GatherBicubicArgs gather;
  gather.out = args.workspace;
  gather.tokens = args.tokens;
  gather.codebook = args.codebook->rows.as<float>();
  gather.num_images = U32(args.num_images, "add codes: images");
  gather.in_side = U32(args.in_side, "add codes: side");
  gather.out_side = U32(args.side, "add codes: side");
  gather.channels = U32(args.codebook->dim, "add codes: channels");
  AddGatherBicubic(list_, gather, "add codes");
  ResidualConvArgs conv;
  conv.f_hat = args.f;
  conv.h = args.workspace;
  if (args.residual_conv != nullptr) {
    NS_REQUIRE(args.residual_conv->dtype == DType::kF32, ErrorCode::kInvalidArgument,
               "add codes: residual convolution in ", DTypeName(args.residual_conv->dtype), ", expected f32");
    conv.weights = args.residual_conv->data.as<float>();
    conv.bias = args.residual_conv->bias.as<float>();
    conv.mix = args.mix;
  }
  conv.num_images = gather.num_images;
  conv.side = gather.out_side;
  conv.channels = gather.channels;
  conv.sign = args.sign;
  AddResidualConv(list_, conv, "add codes");
}

void CudaBackend::AreaDown(const nextscale::AreaDownArgs& args) {
  CheckAreaDown(args);
  cuda::AreaDownArgs area;
  area.out = args.out;
  area.in = args.in;
  area.num_images = U32(args.num_images, "area: images");
  area.in_side = U32(args.in_side, "area: side");
  area.out_side = U32(args.out_side, "area: side");
  area.channels = U32(args.channels, "area: channels");
  area.out_stride = U32(args.out_stride, "area: stride");
  area.in_stride = U32(args.in_stride, "area: stride");
  area.out_dtype = args.out_dtype;
  AddAreaDown(list_, area, "area");
}

void CudaBackend::NearestCode(const nextscale::NearestCodeArgs& args) {
  CheckNearestCode(args);
  cuda::NearestCodeArgs nearest;
  nearest.tokens = args.tokens;
  nearest.rows = args.rows;
  nearest.codebook = args.codebook->rows.as<float>();
  nearest.num_rows = U32(args.num_rows, "nearest code: rows");
  nearest.stride = U32(args.stride, "nearest code: stride");
  nearest.codebook_size = U32(args.codebook->size, "nearest code: codes");
  nearest.dim = U32(args.codebook->dim, "nearest code: numbers");
  AddNearestCode(list_, nearest, "nearest code");
}

void CudaBackend::Conv(const ConvArgs& args) {
  CheckConv(args);
  CheckConvWorkspace(args, ConvWorkspace(args));
  NS_REQUIRE(args.in_dtype == args.weights->dtype, ErrorCode::kInvalidArgument, "conv: in is in ",
             DTypeName(args.in_dtype), " and the weights in ", DTypeName(args.weights->dtype));
  const size_t stride = MapStride(args.weights->cin);
  NS_REQUIRE(args.in_stride == stride, ErrorCode::kInvalidArgument, "conv: in_stride is ", args.in_stride,
             ", expected ", stride);
  const void* in = args.in;
  if (args.gain != nullptr) {
    cuda::NormalizeMapArgs normalize;
    normalize.out = args.workspace;
    normalize.x = args.in;
    normalize.gain = args.gain;
    normalize.shift = args.shift;
    normalize.num_pixels = U32(args.in_height * args.in_width, "conv: pixels");
    normalize.width = normalize.out_stride = normalize.x_stride = U32(stride, "conv: stride");
    normalize.dtype = args.in_dtype;
    normalize.silu = true;
    AddNormalizeMap(list_, normalize, "conv");
    in = args.workspace;
  }
  LinearArgs conv;
  conv.out = args.out;
  conv.a = in;
  conv.weights = args.weights->data.data();
  conv.bias = args.weights->bias.as<float>();
  conv.residual = args.residual;
  conv.residual_stride = U32(args.residual_stride, "conv: stride");
  conv.conv.shape = args.kind == ConvKind::kUp     ? ConvShape::kUp
                    : args.kind == ConvKind::kDown ? ConvShape::kDown
                                                   : ConvShape::kSame;
  conv.conv.in_height = U32(args.in_height, "conv: height");
  conv.conv.in_width = U32(args.in_width, "conv: width");
  conv.conv.cin = U32(stride, "conv: stride");
  conv.conv.out_height = U32(args.out_height(), "conv: height");
  conv.conv.out_width = U32(args.out_width(), "conv: width");
  conv.out_stride = U32(args.out_stride, "conv: stride");
  conv.num_rows = U32(args.out_height() * args.out_width(), "conv: pixels");
  conv.n = U32(args.weights->cout, "conv: channels");
  conv.padded_n = U32(MapStride(args.weights->cout), "conv: channels");
  conv.k = 9 * conv.conv.cin;
  conv.dtype = args.in_dtype;
  conv.out_dtype = args.out_dtype;
  conv.is_conv = true;
  AddLinear(list_, conv, traits_, "conv");
}

void CudaBackend::GroupNorm(const nextscale::GroupNormArgs& args) {
  CheckGroupNorm(args);
  cuda::GroupNormArgs norm;
  norm.x = args.x;
  norm.gain = args.gain;
  norm.shift = args.shift;
  norm.weight = args.weight;
  norm.bias = args.bias;
  norm.moments = reinterpret_cast<Moments*>(args.workspace);
  norm.num_pixels = U32(args.num_pixels, "group norm: pixels");
  norm.x_stride = U32(args.x_stride, "group norm: stride");
  norm.channels = U32(args.channels, "group norm: channels");
  norm.padded_channels = U32(MapStride(args.channels), "group norm: channels");
  norm.num_groups = U32(args.num_groups, "group norm: groups");
  norm.eps = static_cast<float>(args.eps);
  norm.dtype = args.dtype;
  AddGroupNorm(list_, norm, "group norm");
}

void CudaBackend::NormalizeMap(const nextscale::NormalizeMapArgs& args) {
  CheckNormalizeMap(args);
  cuda::NormalizeMapArgs normalize;
  normalize.out = args.out;
  normalize.x = args.x;
  normalize.gain = args.gain;
  normalize.shift = args.shift;
  normalize.num_pixels = U32(args.num_pixels, "normalize map: pixels");
  normalize.width = U32(MapStride(args.channels), "normalize map: channels");
  normalize.out_stride = U32(args.out_stride, "normalize map: stride");
  normalize.x_stride = U32(args.x_stride, "normalize map: stride");
  normalize.dtype = args.dtype;
  AddNormalizeMap(list_, normalize, "normalize map");
}

void CudaBackend::ImageToMap(const nextscale::ImageToMapArgs& args) {
  CheckImageToMap(args);
  cuda::ImageToMapArgs image;
  image.map = args.map;
  image.planar = args.planar;
  image.stride = U32(args.stride, "image: stride");
  image.num_pixels = U32(args.num_pixels, "image: pixels");
  image.channels = U32(args.channels, "image: channels");
  image.dtype = args.dtype;
  AddImageToMap(list_, image, "image to map");
}

void CudaBackend::MapToImage(const nextscale::MapToImageArgs& args) {
  CheckMapToImage(args);
  cuda::MapToImageArgs image;
  image.planar = args.planar;
  image.bytes = args.bytes;
  image.map = args.map;
  image.stride = U32(args.stride, "image: stride");
  image.num_pixels = U32(args.num_pixels, "image: pixels");
  image.channels = U32(args.channels, "image: channels");
  AddMapToImage(list_, image, "map to image");
}

}  // namespace

std::unique_ptr<Backend> MakeCudaBackend(std::unique_ptr<Device> device, DType dtype) {
  return std::make_unique<CudaBackend>(std::move(device), dtype);
}

}  // namespace nextscale::cuda
