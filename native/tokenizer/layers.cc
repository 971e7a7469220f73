#include "native/tokenizer/layers.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "native/base/error.h"

namespace nextscale {

// One step of a chain. Buffers are named by index: a step reads the current map in `in_index` and says where its result
// is.
class Layer {
 public:
  virtual ~Layer() = default;
  // Shape and buffer of the result for a current map in buffer `index`; notes the memory that Forward will need.
  virtual Map Plan(Backend& backend, const Map& in, size_t index, size_t& out_index, ChainMemory& memory) = 0;
  virtual void Forward(Backend& backend, const ChainMemory& memory) = 0;

 protected:
  static void Reserve(ChainMemory& memory, size_t index, const Map& map) {
    memory.map_bytes[index] = std::max(memory.map_bytes[index], map.num_bytes());
  }
};

namespace {

Map At(Map map, const ChainMemory& memory, size_t index) {
  map.data = memory.map(index);
  return map;
}

Map OutputOf(const Map& in, size_t channels, ConvKind kind, DType dtype) {
  const auto side = [&](size_t n) { return kind == ConvKind::kUp ? 2 * n : kind == ConvKind::kDown ? n / 2 : n; };
  return {.height = side(in.height), .width = side(in.width), .channels = channels, .dtype = dtype};
}

ConvArgs ConvArgsFor(const PackedConv& weights, const Map& in, const Map& out, ConvKind kind) {
  ConvArgs args;
  args.out = out.data;
  args.out_dtype = out.dtype;
  args.out_stride = out.stride();
  args.in = in.data;
  args.in_dtype = in.dtype;
  args.in_stride = in.stride();
  args.in_height = in.height;
  args.in_width = in.width;
  args.kind = kind;
  args.weights = &weights;
  return args;
}

// normed: with gain and shift, which a device may apply in the workspace.
void ReserveConv(Backend& backend, ChainMemory& memory, const PackedConv& weights, const Map& in, const Map& out,
                 ConvKind kind, bool normed) {
  ConvArgs args = ConvArgsFor(weights, in, out, kind);
  static constexpr float kSome = 0;  // only whether there is one counts here
  if (normed) args.gain = args.shift = &kSome;
  memory.conv_floats = std::max(memory.conv_floats, backend.ConvWorkspace(args));
}

void RunConv(Backend& backend, const ChainMemory& memory, ConvArgs args) {
  args.workspace = memory.conv.as<float>();
  args.workspace_floats = memory.conv_floats;
  backend.Conv(args);
}

void ReserveNorm(Backend& backend, ChainMemory& memory, const Map& map) {
  memory.norm_doubles = std::max(memory.norm_doubles, backend.GroupNormWorkspace(map.num_pixels(), kNumGroups));
  memory.gain_floats = std::max(memory.gain_floats, 2 * map.stride());
}

// Statistics of `map`; leaves gain and shift in memory.gain, one after the other.
void RunNorm(Backend& backend, const ChainMemory& memory, const NormWeights& weights, const Map& map) {
  GroupNormArgs args;
  args.gain = memory.gain.as<float>();
  args.shift = args.gain + map.stride();
  args.x = map.data;
  args.dtype = map.dtype;
  args.x_stride = map.stride();
  args.num_pixels = map.num_pixels();
  args.channels = map.channels;
  args.num_groups = kNumGroups;
  args.weight = weights.weight.as<float>();
  args.bias = weights.bias.as<float>();
  args.workspace = memory.norm.as<double>();
  backend.GroupNorm(args);
}

// conv(SiLU(norm(in)))
void RunNormConv(Backend& backend, const ChainMemory& memory, const NormWeights& norm, const PackedConv& conv,
                 const Map& in, const Map& out, const void* residual) {
  RunNorm(backend, memory, norm, in);
  ConvArgs args = ConvArgsFor(conv, in, out, ConvKind::kSame);
  args.gain = memory.gain.as<float>();
  args.shift = args.gain + in.stride();
  args.residual = residual;
  args.residual_stride = out.stride();
  RunConv(backend, memory, args);
}

LinearArgs DenseArgs(const DenseWeights& weights, const Map& in, const Map& out) {
  LinearArgs args;
  args.out = out.data;
  args.out_dtype = out.dtype;
  args.out_stride = out.stride();
  args.a = in.data;
  args.a_dtype = in.dtype;
  args.a_stride = in.stride();
  args.num_rows = in.num_pixels();
  args.weights = &weights.matrix;
  args.bias = weights.bias.as<float>();
  return args;
}

// ------------------------------------------------------------------ layers

class ConvLayer : public Layer {
 public:
  ConvLayer(PackedConv conv, ConvKind kind, DType dtype) : conv_(std::move(conv)), kind_(kind), dtype_(dtype) {}
  Map Plan(Backend& backend, const Map& in, size_t index, size_t& out_index, ChainMemory& memory) override {
    in_ = in;
    in_index_ = index;
    out_index_ = out_index = (index + 1) % 3;
    out_ = OutputOf(in, conv_.cout, kind_, dtype_);
    Reserve(memory, out_index, out_);
    ReserveConv(backend, memory, conv_, in, out_, kind_, false);
    return out_;
  }
  void Forward(Backend& backend, const ChainMemory& memory) override {
    RunConv(backend, memory, ConvArgsFor(conv_, At(in_, memory, in_index_), At(out_, memory, out_index_), kind_));
  }

 private:
  PackedConv conv_;
  ConvKind kind_;
  DType dtype_;
  Map in_, out_;
  size_t in_index_ = 0, out_index_ = 0;
};

class NormConvLayer : public Layer {
 public:
  NormConvLayer(NormWeights norm, PackedConv conv, DType dtype)
      : norm_(std::move(norm)), conv_(std::move(conv)), dtype_(dtype) {}
  Map Plan(Backend& backend, const Map& in, size_t index, size_t& out_index, ChainMemory& memory) override {
    in_ = in;
    in_index_ = index;
    out_index_ = out_index = (index + 1) % 3;
    out_ = OutputOf(in, conv_.cout, ConvKind::kSame, dtype_);
    Reserve(memory, out_index, out_);
    ReserveConv(backend, memory, conv_, in, out_, ConvKind::kSame, true);
    ReserveNorm(backend, memory, in);
    return out_;
  }
  void Forward(Backend& backend, const ChainMemory& memory) override {
    RunNormConv(backend, memory, norm_, conv_, At(in_, memory, in_index_), At(out_, memory, out_index_), nullptr);
  }

 private:
  NormWeights norm_;
  PackedConv conv_;
  DType dtype_;
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
  Map Plan(Backend& backend, const Map& in, size_t index, size_t& out_index, ChainMemory& memory) override {
    in_ = in;
    out_ = OutputOf(in, conv1_.cout, ConvKind::kSame, in.dtype);
    in_index_ = index;
    hidden_index_ = (index + 1) % 3;
    out_index_ = out_index = has_shortcut_ ? (index + 2) % 3 : index;
    Reserve(memory, hidden_index_, out_);
    Reserve(memory, out_index_, out_);
    ReserveConv(backend, memory, conv1_, in, out_, ConvKind::kSame, true);
    ReserveConv(backend, memory, conv2_, out_, out_, ConvKind::kSame, true);
    ReserveNorm(backend, memory, in);
    ReserveNorm(backend, memory, out_);
    return out_;
  }
  void Forward(Backend& backend, const ChainMemory& memory) override {
    const Map in = At(in_, memory, in_index_), hidden = At(out_, memory, hidden_index_),
              out = At(out_, memory, out_index_);
    if (has_shortcut_) backend.Linear(DenseArgs(shortcut_, in, out));
    RunNormConv(backend, memory, norm1_, conv1_, in, hidden, nullptr);
    RunNormConv(backend, memory, norm2_, conv2_, hidden, out, out.data);
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
// holds q | k | v, the third the keys and values, then the normalised map, which becomes the result of the attention,
// then the projection.
class AttentionLayer : public Layer {
 public:
  AttentionLayer(NormWeights norm, DenseWeights qkv, DenseWeights proj)
      : norm_(std::move(norm)), qkv_(std::move(qkv)), proj_(std::move(proj)) {}
  Map Plan(Backend& backend, const Map& in, size_t index, size_t& out_index, ChainMemory& memory) override {
    x_ = in;
    index_ = out_index = index;
    wide_ = in;
    wide_.channels = 3 * in.channels;
    Reserve(memory, (index + 1) % 3, wide_);
    size_t& bytes = memory.map_bytes[(index + 2) % 3];
    bytes = std::max(bytes, KeyValueBytes() + in.num_bytes());
    ReserveNorm(backend, memory, in);
    return x_;
  }
  void Forward(Backend& backend, const ChainMemory& memory) override {
    const Map x = At(x_, memory, index_), wide = At(wide_, memory, (index_ + 1) % 3);
    Map other = At(x_, memory, (index_ + 2) % 3);
    std::byte* const keys_values = static_cast<std::byte*>(other.data);
    other.data = keys_values + KeyValueBytes();

    RunNorm(backend, memory, norm_, x);
    backend.NormalizeMap({.out = other.data,
                          .dtype = other.dtype,
                          .out_stride = other.stride(),
                          .x = x.data,
                          .x_stride = x.stride(),
                          .num_pixels = x.num_pixels(),
                          .channels = x.channels,
                          .gain = memory.gain.as<float>(),
                          .shift = memory.gain.as<float>() + x.stride()});

    AttentionSequence sequence;
    sequence.num_rows = x.num_pixels();
    sequence.kv.dtype = x.dtype;
    sequence.kv.tail = keys_values;
    sequence.kv.tail_rows = x.num_pixels();
    const std::span sequences(&sequence, 1);
    backend.Qkv(DenseArgs(qkv_, other, wide), {.qkv = wide.data,
                                               .dtype = wide.dtype,
                                               .qkv_stride = wide.stride(),
                                               .num_heads = 1,
                                               .head_dim = x.channels,
                                               .head_factor = nullptr,
                                               .sequences = sequences});
    backend.Attention({.out = other.data,
                       .dtype = other.dtype,
                       .out_stride = other.stride(),
                       .q = wide.data,
                       .q_stride = wide.stride(),
                       .num_heads = 1,
                       .head_dim = x.channels,
                       .softmax_factor = 1.0f / std::sqrt(static_cast<float>(x.channels)),
                       .sequences = sequences});
    const RowSpan all = {.compact_row = 0, .x_row = 0, .num_rows = x.num_pixels(), .modulation = nullptr};
    LinearArgs proj = DenseArgs(proj_, other, x);
    proj.epilogue = Epilogue::kResidual;
    proj.spans = std::span(&all, 1);
    backend.Linear(proj);
  }

 private:
  size_t KeyValueBytes() const { return (2 * x_.channels * x_.num_pixels() * DTypeBytes(x_.dtype) + 255) / 256 * 256; }

  NormWeights norm_;
  DenseWeights qkv_, proj_;
  Map x_, wide_;
  size_t index_ = 0;
};

}  // namespace

// ------------------------------------------------------------------ chain

LayerChain::LayerChain(Backend& backend, const TensorTable& tensors, std::string prefix, size_t side, size_t channels)
    : backend_(backend), weights_(backend, tensors, std::move(prefix)) {
  first_ = current_ = {.height = side, .width = side, .channels = channels, .dtype = backend.activation_dtype()};
  memory_.map_bytes[0] = first_.num_bytes();
}

LayerChain::~LayerChain() = default;

void LayerChain::Add(std::unique_ptr<Layer> layer) {
  size_t out_index = 0;
  current_ = layer->Plan(backend_, current_, current_index_, out_index, memory_);
  current_index_ = out_index;
  layers_.push_back(std::move(layer));
}

void LayerChain::AddConv(const std::string& name, size_t channels, ConvKind kind) {
  AddConv(name, channels, kind, backend_.activation_dtype());
}

void LayerChain::AddConv(const std::string& name, size_t channels, ConvKind kind, DType dtype) {
  Add(std::make_unique<ConvLayer>(weights_.Conv(name, channels, current_.channels), kind, dtype));
}

void LayerChain::AddNormConv(const std::string& norm, const std::string& conv, size_t channels, DType dtype) {
  Add(std::make_unique<NormConvLayer>(weights_.Norm(norm, current_.channels),
                                      weights_.Conv(conv, channels, current_.channels), dtype));
}

void LayerChain::AddResidualBlock(const std::string& name, size_t channels) {
  const size_t width = current_.channels;
  auto block = std::make_unique<ResidualBlock>(
      weights_.Norm(name + ".norm1", width), weights_.Conv(name + ".conv1", channels, width),
      weights_.Norm(name + ".norm2", channels), weights_.Conv(name + ".conv2", channels, channels));
  if (channels != width) block->SetShortcut(weights_.Dense(name + ".nin_shortcut", channels, width));
  Add(std::move(block));
}

void LayerChain::AddAttention(const std::string& name) {
  constexpr size_t kMaxHead = 1024;  // of the attention op
  const size_t width = current_.channels;
  NS_REQUIRE(width <= kMaxHead, ErrorCode::kInvalidCheckpoint, weights_.prefix(), name, ": attention over ", width,
             " channels, at most ", kMaxHead, " are supported");
  Add(std::make_unique<AttentionLayer>(weights_.Norm(name + ".norm", width),
                                       weights_.Dense(name + ".qkv", 3 * width, width),
                                       weights_.Dense(name + ".proj_out", width, width)));
}

void LayerChain::Allocate() {
  const auto allocate = [&](size_t bytes) { return backend_.Allocate(bytes, "the maps of the tokenizer"); };
  for (size_t i = 0; i < 3; ++i) memory_.maps[i] = allocate(memory_.map_bytes[i]);
  memory_.conv = allocate(memory_.conv_floats * sizeof(float));
  memory_.norm = allocate(memory_.norm_doubles * sizeof(double));
  memory_.gain = allocate(memory_.gain_floats * sizeof(float));
}

Map LayerChain::input() const { return At(first_, memory_, 0); }

Map LayerChain::Run(const CancelFlag* cancelled) {
  for (const auto& layer : layers_) {
    if (cancelled != nullptr) cancelled->Check();
    layer->Forward(backend_, memory_);
  }
  return At(current_, memory_, current_index_);
}

}  // namespace nextscale
