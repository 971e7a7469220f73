#include "native/backend/cuda/host/cuda_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "native/backend/cuda/host/convert.h"
#include "native/backend/cuda/host/graph_cache.h"
#include "native/backend/cuda/host/memory.h"
#include "native/backend/cuda/host/plan.h"
#include "native/backend/cuda/host/staging.h"
#include "native/backend/cuda/host/to_call.h"
#include "native/base/error.h"
#include "native/ops/check.h"
#include "native/ops/check_map.h"

namespace nextscale::cuda {
namespace {

constexpr size_t kBatchRows = 32768;
constexpr size_t kTableBytes = size_t{8} << 20, kTransferBytes = size_t{16} << 20;

// This device does not train: it keeps nothing for a way back.
void RequireNothingKept(const void* kept, const char* op) {
  NS_REQUIRE(kept == nullptr, ErrorCode::kInvalidArgument, op, ": this device keeps nothing for a way back");
}

class CudaBackend final : public Backend {
 public:
  CudaBackend(std::unique_ptr<Device> device, DType dtype)
      : device_(std::move(device)),
        dtype_(dtype),
        name_("cuda:" + std::to_string(device_->info().index)),
        traits_{device_->info().num_multiprocessors, device_->info().has_wgmma,
                device_->info().major * 10 + device_->info().minor},
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
  size_t batch_rows(size_t) const override { return kBatchRows; }
  size_t part_rows(size_t width, size_t depth) const override {
    return std::clamp<size_t>(RowsWithin(traits_, dtype_, width, depth), 1024, kBatchRows);
  }

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

  void Linear(const LinearArgs& args) override;
  void ModulatedNorm(const ModulatedNormArgs& args) override;
  void Qkv(const LinearArgs& linear, const SplitHeadsArgs& split) override;
  void Attention(const AttentionArgs& args) override;
  void Embed(const EmbedArgs& args) override;
  void Condition(const ConditionArgs& args) override;
  void AddOffset(const AddOffsetArgs& args) override;
  void Sample(std::span<const SampleArgs> images) override;
  void CrossEntropy(const CrossEntropyArgs& args) override;

  size_t AddCodesWorkspace(const AddCodesArgs& args) override {
    return args.num_images * args.side * args.side * args.codebook->dim;
  }
  void AddCodes(const AddCodesArgs& args) override;
  void AreaDown(const AreaDownArgs& args) override;
  void NearestCode(const NearestCodeArgs& args) override;
  size_t ConvWorkspace(const ConvArgs& args) override {
    const size_t bytes = args.in_height * args.in_width * args.in_stride * DTypeBytes(args.in_dtype);
    return args.gain == nullptr ? 0 : (bytes + sizeof(float) - 1) / sizeof(float);  // the normalised input
  }
  void Conv(const ConvArgs& args) override;
  size_t GroupNormWorkspace(size_t num_pixels, size_t num_groups) override {
    static_assert(sizeof(Moments) == sizeof(double));
    return GroupNormPieces(Narrow("group norm")(num_pixels)) * num_groups;
  }
  void GroupNorm(const GroupNormArgs& args) override;
  void NormalizeMap(const NormalizeMapArgs& args) override;
  void ImageToMap(const ImageToMapArgs& args) override;
  void MapToImage(const MapToImageArgs& args) override;

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
    uint32_t max_rows = 0, max_keys = 0;
  };
  const KvTables& MakeKv(std::span<const AttentionSequence> sequences, size_t width);
  LinearCall LinearCallOf(const LinearArgs& args) const;
  // A table of one op.
  template <typename T>
  const T* Upload(std::span<const T> table) {
    ReserveTables(TableArea::Needed({table.size_bytes()}));
    return tables_->Append(table);
  }
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
  const Narrow size(name);
  const uint32_t k = size(packed.k);
  packed.data = Allocate(WeightBytes(size(packed.n), k, dtype_), name);
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
  const Narrow narrow(name);
  packed.data = Allocate(WeightBytes(narrow(packed.cout), narrow(k), packed.dtype), name);
  std::vector<std::byte> rows(kWeightTile * k * size), from(filter * size);
  std::vector<std::byte> tiles(WeightBytes(kWeightTile, narrow(k), packed.dtype));
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
  CheckCodebook(rows, size, dim);
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
  for (const AttentionSequence& sequence : sequences) {
    NS_REQUIRE(sequence.kv.tail_stride == 0, ErrorCode::kInvalidArgument, "attention: tail_stride ",
               sequence.kv.tail_stride, ", expected 0 on this device");
  }
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
  last_kv_.max_rows = kv_data_.max_rows;
  last_kv_.max_keys = kv_data_.max_keys;
  last_sequences_.assign(sequences.begin(), sequences.end());
  last_width_ = width;
  has_kv_ = true;
  return last_kv_;
}

// ------------------------------------------------------------------ transformer

// The format of the activations is the weights'.
LinearCall CudaBackend::LinearCallOf(const LinearArgs& args) const {
  CheckLinear(args);
  RequireNothingKept(args.kept, "linear");
  NS_REQUIRE(args.a_dtype == args.weights->dtype, ErrorCode::kInvalidArgument, "linear: a is in ",
             DTypeName(args.a_dtype), " and the weights in ", DTypeName(args.weights->dtype));
  return ToCall(args);
}

void CudaBackend::Linear(const LinearArgs& args) {
  LinearCall call = LinearCallOf(args);
  if (args.num_rows == 0) return;
  if (args.epilogue == Epilogue::kResidual && args.out_dtype == DType::kF32) {
    call.epilogue = LinearEpilogue::kResidual;
    call.rows = MakeRows(args.spans, args.num_rows);
  } else if (args.epilogue == Epilogue::kResidual) {  // a map onto itself
    NS_REQUIRE(args.spans.size() == 1 && args.spans[0].x_row == 0 && args.spans[0].modulation == nullptr,
               ErrorCode::kInvalidArgument, "linear: x in ", DTypeName(args.out_dtype), " with ", args.spans.size(),
               " spans, expected one without modulation");
    call.residual = args.out;
    call.residual_stride = call.out_stride;
  }
  AddLinear(list_, call, traits_, "linear");
}

void CudaBackend::ModulatedNorm(const ModulatedNormArgs& args) {
  CheckModulatedNorm(args);
  RequireNothingKept(args.normal, "norm");
  if (args.spans.empty()) return;
  const size_t num_rows = args.spans.back().compact_row + args.spans.back().num_rows;
  if (num_rows == 0) return;
  const bool aligned = std::all_of(args.spans.begin(), args.spans.end(),
                                   [](const RowSpan& span) { return Aligned(span.modulation, 16); });
  AddModulatedNorm(list_, ToCall(args, num_rows, MakeRows(args.spans, num_rows)), aligned, "norm");
}

void CudaBackend::Qkv(const LinearArgs& args, const SplitHeadsArgs& split) {
  CheckQkv(args, split);
  RequireNothingKept(split.inverse_norms, "qkv");
  LinearCall call = LinearCallOf(args);
  if (args.num_rows == 0 || split.sequences.empty()) return;
  const KvTables& kv = MakeKv(split.sequences, split.num_heads * split.head_dim);
  const SplitHeadsCall heads = ToCall(split, args.num_rows, kv.row_slots, kv.kv);
  if (!FusesQkv(call, heads)) {
    AddLinear(list_, call, traits_, "qkv");
    return AddSplitHeads(list_, heads, "qkv");
  }
  call.epilogue = LinearEpilogue::kQkv;
  call.num_heads = heads.num_heads;
  call.head_dim = heads.head_dim;
  call.head_factor = heads.head_factor;
  call.row_slots = heads.row_slots;
  call.kv = heads.kv;
  AddLinear(list_, call, traits_, "qkv");
}

void CudaBackend::Attention(const AttentionArgs& args) {
  CheckAttention(args);
  RequireNothingKept(args.log_sums, "attention");
  if (args.sequences.empty()) return;
  const KvTables& kv = MakeKv(args.sequences, args.num_heads * args.head_dim);
  AttentionCall call = ToCall(args);
  call.sequences = kv.sequences;
  call.slots = kv.slots;
  call.kv = kv.kv;
  call.max_rows = kv.max_rows;
  call.max_keys = kv.max_keys;
  AddAttention(list_, call, "attention");
}

void CudaBackend::Embed(const EmbedArgs& args) {
  CheckEmbed(args);
  const int32_t* const conditions = args.starts == nullptr ? nullptr : Upload(args.conditions);
  AddEmbed(list_, ToCall(args, conditions), "embed");
}

void CudaBackend::Condition(const ConditionArgs& args) {
  CheckCondition(args);
  ReserveTables(TableArea::Needed({args.rows.size_bytes(), args.weights.size_bytes()}));
  const int32_t* const rows = tables_->Append(args.rows);
  const float* const weights = args.weights.empty() ? nullptr : tables_->Append(args.weights);
  AddCondition(list_, ToCall(args, rows, weights), "condition");
}

void CudaBackend::AddOffset(const AddOffsetArgs& args) {
  CheckAddOffset(args);
  AddAddOffset(list_, ToCall(args), "add offset");
}

// Images that follow each other with equal shapes share a launch.
void CudaBackend::Sample(std::span<const SampleArgs> images) {
  for (size_t first = 0; first < images.size();) {
    const SampleArgs& head = images[first];
    samples_.clear();
    while (first < images.size() && images[first].num_tokens == head.num_tokens &&
           images[first].stride == head.stride && images[first].codebook_size == head.codebook_size) {
      CheckSample(images[first]);
      samples_.push_back(ToCall(images[first++]));
    }
    const SampleImage* const there = Upload(std::span<const SampleImage>(samples_));
    AddSample(list_, ToCall(head, there, samples_.size()), "sample");
  }
}

void CudaBackend::CrossEntropy(const CrossEntropyArgs& args) {
  CheckCrossEntropy(args);
  NS_REQUIRE(args.smoothing == 0.0f && args.gradient_factor == 0.0f, ErrorCode::kInvalidArgument,
             "cross entropy: smoothing ", args.smoothing, " and gradient factor ", args.gradient_factor,
             ", on this device neither");
  AddCrossEntropy(list_, ToCall(args), "cross entropy");
}

// ------------------------------------------------------------------ tokenizer

void CudaBackend::AddCodes(const AddCodesArgs& args) {
  CheckAddCodes(args);
  NS_REQUIRE(args.residual_conv == nullptr || args.residual_conv->dtype == DType::kF32, ErrorCode::kInvalidArgument,
             "add codes: the residual convolution is not in f32: it was not packed for the latent");
  AddGatherBicubic(list_, ToGatherCall(args), "add codes");
  AddResidualConv(list_, ToResidualConvCall(args), "add codes");
}

void CudaBackend::AreaDown(const AreaDownArgs& args) {
  CheckAreaDown(args);
  AddAreaDown(list_, ToCall(args), "area");
}

void CudaBackend::NearestCode(const NearestCodeArgs& args) {
  CheckNearestCode(args);
  AddNearestCode(list_, ToCall(args), "nearest code");
}

void CudaBackend::Conv(const ConvArgs& args) {
  CheckConv(args);
  CheckConvWorkspace(args, ConvWorkspace(args));
  NS_REQUIRE(args.in_dtype == args.weights->dtype, ErrorCode::kInvalidArgument, "conv: in is in ",
             DTypeName(args.in_dtype), " and the weights in ", DTypeName(args.weights->dtype));
  const size_t stride = MapStride(args.weights->cin);
  NS_REQUIRE(args.in_stride == stride, ErrorCode::kInvalidArgument, "conv: in_stride is ", args.in_stride,
             ", expected ", stride);
  if (args.gain != nullptr) AddNormalizeMap(list_, ToNormalizeCall(args), "conv");
  AddLinear(list_, ToCall(args, args.gain != nullptr ? args.workspace : args.in), traits_, "conv");
}

void CudaBackend::GroupNorm(const GroupNormArgs& args) {
  CheckGroupNorm(args);
  AddGroupNorm(list_, ToCall(args), "group norm");
}

void CudaBackend::NormalizeMap(const NormalizeMapArgs& args) {
  CheckNormalizeMap(args);
  AddNormalizeMap(list_, ToCall(args), "normalize map");
}

void CudaBackend::ImageToMap(const ImageToMapArgs& args) {
  CheckImageToMap(args);
  AddImageToMap(list_, ToCall(args), "image to map");
}

void CudaBackend::MapToImage(const MapToImageArgs& args) {
  CheckMapToImage(args);
  AddMapToImage(list_, ToCall(args), "map to image");
}

}  // namespace

std::unique_ptr<Backend> MakeCudaBackend(std::unique_ptr<Device> device, DType dtype) {
  return std::make_unique<CudaBackend>(std::move(device), dtype);
}

}  // namespace nextscale::cuda
