#include "native/model/vae_layers.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "native/base/error.h"
#include "native/io/mapped_file.h"
#include "native/ops/attention.h"
#include "native/ops/group_norm.h"

namespace nextscale {

constexpr size_t kNumGroups = 32;  // reference: Normalize(num_groups=32, eps=1e-6)

// One step of a chain. Buffers are named by index: a step reads the current map in `in_index` and says where its result
// is.
class Layer {
 public:
  virtual ~Layer() = default;
  // Shape and buffer of the result for a current map in buffer `index`; notes the memory that Forward will need.
  virtual Map Plan(const Map& in, size_t index, size_t& out_index, ChainMemory& memory) = 0;
  virtual void Forward(Context& context, const ChainMemory& memory) = 0;

 protected:
  static void Reserve(ChainMemory& memory, size_t index, const Map& map) {
    memory.map_floats[index] = std::max(memory.map_floats[index], map.num_floats());
  }
};

namespace {

Map At(Map map, const ChainMemory& memory, size_t index) {
  map.data = memory.map(index);
  return map;
}

Map OutputOf(const Map& in, size_t channels, ConvKind kind) {
  const auto side = [&](size_t n) { return kind == ConvKind::kUp ? 2 * n : kind == ConvKind::kDown ? n / 2 : n; };
  return {.height = side(in.height), .width = side(in.width), .channels = channels};
}

ConvArgs ConvArgsFor(const PackedConv& weights, const Map& in, const Map& out, ConvKind kind) {
  ConvArgs args;
  args.out = out.data;
  args.out_stride = out.stride();
  args.in = in.data;
  args.in_stride = in.stride();
  args.in_height = in.height;
  args.in_width = in.width;
  args.kind = kind;
  args.weights = &weights;
  return args;
}

void ReserveConv(ChainMemory& memory, const PackedConv& weights, const Map& in, ConvKind kind) {
  const Map out = OutputOf(in, weights.cout, kind);
  memory.conv_floats = std::max(memory.conv_floats, ConvWorkspace(ConvArgsFor(weights, in, out, kind)));
}

void RunConv(Context& context, const ChainMemory& memory, ConvArgs args) {
  args.workspace = memory.conv.as<float>();
  args.workspace_floats = memory.conv_floats;
  Conv(context, args);
}

void ReserveNorm(ChainMemory& memory, const Map& map) {
  memory.norm_doubles = std::max(memory.norm_doubles, GroupNormWorkspace(map.num_pixels(), kNumGroups));
  memory.gain_floats = std::max(memory.gain_floats, 2 * map.stride());
}

// Statistics of `map`; leaves gain and shift in memory.gain, one after the other.
void RunNorm(Context& context, const ChainMemory& memory, const NormWeights& weights, const Map& map) {
  GroupNormArgs args;
  args.gain = memory.gain.as<float>();
  args.shift = args.gain + map.stride();
  args.x = map.data;
  args.x_stride = map.stride();
  args.num_pixels = map.num_pixels();
  args.channels = map.channels;
  args.num_groups = kNumGroups;
  args.weight = weights.weight.data();
  args.bias = weights.bias.data();
  args.workspace = memory.norm.as<double>();
  GroupNorm(context, args);
}

// conv(SiLU(norm(in)))
void RunNormConv(Context& context, const ChainMemory& memory, const NormWeights& norm, const PackedConv& conv,
                 const Map& in, const Map& out, const float* residual) {
  RunNorm(context, memory, norm, in);
  ConvArgs args = ConvArgsFor(conv, in, out, ConvKind::kSame);
  args.gain = memory.gain.as<float>();
  args.shift = args.gain + in.stride();
  args.residual = residual;
  args.residual_stride = out.stride();
  RunConv(context, memory, args);
}

// rows of `in` → rows of `out`; with `residual` set, out += instead of =.
void RunDense(Context& context, const DenseWeights& weights, const Map& in, const Map& out, bool residual) {
  const RowSpan all = {.compact_row = 0, .x_row = 0, .num_rows = in.num_pixels(), .modulation = nullptr};
  LinearArgs args;
  args.out = out.data;
  args.out_stride = out.stride();
  args.a = in.data;
  args.a_stride = in.stride();
  args.num_rows = in.num_pixels();
  args.weights = &weights.matrix;
  args.bias = weights.bias.data();
  args.epilogue = residual ? Epilogue::kResidual : Epilogue::kStore;
  if (residual) args.spans = std::span(&all, 1);
  Linear(context, args);
}

// ------------------------------------------------------------------ layers

class ConvLayer : public Layer {
 public:
  ConvLayer(PackedConv conv, ConvKind kind) : conv_(std::move(conv)), kind_(kind) {}
  Map Plan(const Map& in, size_t index, size_t& out_index, ChainMemory& memory) override {
    in_ = in;
    in_index_ = index;
    out_index_ = out_index = (index + 1) % 3;
    out_ = OutputOf(in, conv_.cout, kind_);
    Reserve(memory, out_index, out_);
    ReserveConv(memory, conv_, in, kind_);
    return out_;
  }
  void Forward(Context& context, const ChainMemory& memory) override {
    RunConv(context, memory, ConvArgsFor(conv_, At(in_, memory, in_index_), At(out_, memory, out_index_), kind_));
  }

 private:
  PackedConv conv_;
  ConvKind kind_;
  Map in_, out_;
  size_t in_index_ = 0, out_index_ = 0;
};

class NormConvLayer : public Layer {
 public:
  NormConvLayer(NormWeights norm, PackedConv conv) : norm_(std::move(norm)), conv_(std::move(conv)) {}
  Map Plan(const Map& in, size_t index, size_t& out_index, ChainMemory& memory) override {
    in_ = in;
    in_index_ = index;
    out_index_ = out_index = (index + 1) % 3;
    out_ = OutputOf(in, conv_.cout, ConvKind::kSame);
    Reserve(memory, out_index, out_);
    ReserveConv(memory, conv_, in, ConvKind::kSame);
    ReserveNorm(memory, in);
    return out_;
  }
  void Forward(Context& context, const ChainMemory& memory) override {
    RunNormConv(context, memory, norm_, conv_, At(in_, memory, in_index_), At(out_, memory, out_index_), nullptr);
  }

 private:
  NormWeights norm_;
  PackedConv conv_;
  Map in_, out_;
  size_t in_index_ = 0, out_index_ = 0;
};

// x ← shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x)))))); in place where the width stays.
class ResidualBlock : public Layer {
 public:
  ResidualBlock(NormWeights norm1, PackedConv conv1, NormWeights norm2, PackedConv conv2)
      : norm1_(std::move(norm1)), norm2_(std::move(norm2)), conv1_(std::move(conv1)), conv2_(std::move(conv2)) {}
  void SetShortcut(DenseWeights shortcut) {
    shortcut_ = std::move(shortcut);
    has_shortcut_ = true;
  }
  Map Plan(const Map& in, size_t index, size_t& out_index, ChainMemory& memory) override {
    in_ = in;
    out_ = OutputOf(in, conv1_.cout, ConvKind::kSame);
    in_index_ = index;
    hidden_index_ = (index + 1) % 3;
    out_index_ = out_index = has_shortcut_ ? (index + 2) % 3 : index;
    Reserve(memory, hidden_index_, out_);
    Reserve(memory, out_index_, out_);
    ReserveConv(memory, conv1_, in, ConvKind::kSame);
    ReserveConv(memory, conv2_, out_, ConvKind::kSame);
    ReserveNorm(memory, in);
    ReserveNorm(memory, out_);
    return out_;
  }
  void Forward(Context& context, const ChainMemory& memory) override {
    const Map in = At(in_, memory, in_index_), hidden = At(out_, memory, hidden_index_),
              out = At(out_, memory, out_index_);
    if (has_shortcut_) RunDense(context, shortcut_, in, out, false);
    RunNormConv(context, memory, norm1_, conv1_, in, hidden, nullptr);
    RunNormConv(context, memory, norm2_, conv2_, hidden, out, out.data);
  }

 private:
  NormWeights norm1_, norm2_;
  PackedConv conv1_, conv2_;
  DenseWeights shortcut_;
  bool has_shortcut_ = false;
  Map in_, out_;
  size_t in_index_ = 0, hidden_index_ = 0, out_index_ = 0;
};

// x ← x + proj(attention(qkv(norm(x)))), one head over all pixels, softmax factor 1/√C. In place; one other buffer
// holds q | k | v, the third the normalised map, then the keys and values, then the result of the attention.
class AttentionLayer : public Layer {
 public:
  AttentionLayer(NormWeights norm, DenseWeights qkv, DenseWeights proj)
      : norm_(std::move(norm)), qkv_(std::move(qkv)), proj_(std::move(proj)) {}
  Map Plan(const Map& in, size_t index, size_t& out_index, ChainMemory& memory) override {
    x_ = in;
    index_ = out_index = index;
    wide_ = in;
    wide_.channels = 3 * in.channels;
    Reserve(memory, (index + 1) % 3, wide_);
    const size_t kv_floats = (2 * in.channels * in.num_pixels() + 15) / 16 * 16;
    size_t& floats = memory.map_floats[(index + 2) % 3];
    floats = std::max(floats, kv_floats + in.num_floats());
    ReserveNorm(memory, in);
    return x_;
  }
  void Forward(Context& context, const ChainMemory& memory) override {
    const Map x = At(x_, memory, index_), wide = At(wide_, memory, (index_ + 1) % 3);
    Map other = At(x_, memory, (index_ + 2) % 3);
    float* keys_values = other.data;
    other.data += (2 * x.channels * x.num_pixels() + 15) / 16 * 16;

    RunNorm(context, memory, norm_, x);
    NormalizeMap(context, {.out = other.data,
                           .out_stride = other.stride(),
                           .x = x.data,
                           .x_stride = x.stride(),
                           .num_pixels = x.num_pixels(),
                           .channels = x.channels,
                           .gain = memory.gain.as<float>(),
                           .shift = memory.gain.as<float>() + x.stride()});
    RunDense(context, qkv_, other, wide, false);

    AttentionSequence sequence;
    sequence.num_rows = x.num_pixels();
    sequence.kv.tail = reinterpret_cast<std::byte*>(keys_values);
    sequence.kv.tail_rows = x.num_pixels();
    const std::span sequences(&sequence, 1);
    SplitHeads(context, {.qkv = wide.data,
                         .qkv_stride = wide.stride(),
                         .num_heads = 1,
                         .head_dim = x.channels,
                         .head_factor = nullptr,
                         .sequences = sequences});
    Attention(context, {.out = other.data,
                        .out_stride = other.stride(),
                        .q = wide.data,
                        .q_stride = wide.stride(),
                        .num_heads = 1,
                        .head_dim = x.channels,
                        .softmax_factor = 1.0f / std::sqrt(static_cast<float>(x.channels)),
                        .sequences = sequences});
    RunDense(context, proj_, other, x, true);
  }

 private:
  NormWeights norm_;
  DenseWeights qkv_, proj_;
  Map x_, wide_;
  size_t index_ = 0;
};

}  // namespace

// ------------------------------------------------------------------ chain

LayerChain::LayerChain(Context& context, const TensorTable& tensors, std::string prefix, size_t side, size_t channels)
    : context_(context), tensors_(tensors), prefix_(std::move(prefix)) {
  first_ = current_ = {.height = side, .width = side, .channels = channels};
  memory_.map_floats[0] = first_.num_floats();
}

LayerChain::~LayerChain() = default;

PackedConv LayerChain::LoadConv(const std::string& name, size_t cout, size_t cin) {
  const std::string weight = prefix_ + name + ".weight";
  const TensorView& view = tensors_.Get(weight, {cout, cin, 3, 3});
  PackedConv packed = PackConv(context_, view, tensors_.Floats(prefix_ + name + ".bias", {cout}), weight.c_str());
  if (view.mapped) DropMappedPages(view.data, view.bytes());  // read once: no need to keep the file's copy resident
  return packed;
}

DenseWeights LayerChain::LoadDense(const std::string& name, size_t out, size_t in) {
  const std::string weight = prefix_ + name + ".weight";
  TensorView view = tensors_.Get(weight, {out, in, 1, 1});
  view.shape = {out, in};
  DenseWeights dense = {.matrix = PackMatrix(context_, view, weight.c_str()),
                        .bias = tensors_.Floats(prefix_ + name + ".bias", {out})};
  if (view.mapped) DropMappedPages(view.data, view.bytes());
  return dense;
}

NormWeights LayerChain::LoadNorm(const std::string& name, size_t channels) {
  NS_REQUIRE(channels % kNumGroups == 0, ErrorCode::kInvalidCheckpoint, prefix_, name, ": ", channels,
             " channels, expected a multiple of ", kNumGroups, " (the groups of every normalisation)");
  return {.weight = tensors_.Floats(prefix_ + name + ".weight", {channels}),
          .bias = tensors_.Floats(prefix_ + name + ".bias", {channels})};
}

void LayerChain::Add(std::unique_ptr<Layer> layer) {
  size_t out_index = 0;
  current_ = layer->Plan(current_, current_index_, out_index, memory_);
  current_index_ = out_index;
  layers_.push_back(std::move(layer));
}

void LayerChain::AddConv(const std::string& name, size_t channels, ConvKind kind) {
  Add(std::make_unique<ConvLayer>(LoadConv(name, channels, current_.channels), kind));
}

void LayerChain::AddNormConv(const std::string& norm, const std::string& conv, size_t channels) {
  Add(std::make_unique<NormConvLayer>(LoadNorm(norm, current_.channels), LoadConv(conv, channels, current_.channels)));
}

void LayerChain::AddResidualBlock(const std::string& name, size_t channels) {
  const size_t width = current_.channels;
  auto block = std::make_unique<ResidualBlock>(
      LoadNorm(name + ".norm1", width), LoadConv(name + ".conv1", channels, width), LoadNorm(name + ".norm2", channels),
      LoadConv(name + ".conv2", channels, channels));
  if (channels != width) block->SetShortcut(LoadDense(name + ".nin_shortcut", channels, width));
  Add(std::move(block));
}

void LayerChain::AddAttention(const std::string& name) {
  constexpr size_t kMaxHead = 1024;  // of the attention op
  const size_t width = current_.channels;
  NS_REQUIRE(width <= kMaxHead, ErrorCode::kInvalidCheckpoint, prefix_, name, ": attention over ", width,
             " channels, at most ", kMaxHead, " are supported");
  Add(std::make_unique<AttentionLayer>(LoadNorm(name + ".norm", width), LoadDense(name + ".qkv", 3 * width, width),
                                       LoadDense(name + ".proj_out", width, width)));
}

void LayerChain::Allocate() {
  for (size_t i = 0; i < 3; ++i) memory_.maps[i] = Buffer(memory_.map_floats[i] * sizeof(float));
  memory_.conv = Buffer(memory_.conv_floats * sizeof(float));
  memory_.norm = Buffer(memory_.norm_doubles * sizeof(double));
  memory_.gain = Buffer(memory_.gain_floats * sizeof(float));
}

Map LayerChain::input() const { return At(first_, memory_, 0); }

Map LayerChain::Run(Context& context, const std::function<bool()>& cancelled) {
  for (const auto& layer : layers_) {
    NS_REQUIRE(!cancelled || !cancelled(), ErrorCode::kAborted, "cancelled");
    layer->Forward(context, memory_);
  }
  return At(current_, memory_, current_index_);
}

}  // namespace nextscale
