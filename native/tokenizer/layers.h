// The building blocks that the tokenizer's decoder and encoder share, and the chain that runs them.
//
// A chain is built by Add… calls that follow the reference's modules in order; each packs its weights and says what
// memory it needs. Then Allocate() makes that memory once, and Run() only computes. Three buffers hold all maps: the
// current map, and two that a block may fill.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "native/base/cancel.h"
#include "native/ops/backend.h"
#include "native/tensor/tensor_table.h"
#include "native/tokenizer/weights.h"

namespace nextscale {

// A map inside a chain (layout: native/ops/conv.h).
struct Map {
  size_t height = 0, width = 0, channels = 0;
  DType dtype = DType::kF32;
  void* data = nullptr;

  size_t num_pixels() const { return height * width; }
  size_t stride() const { return MapStride(channels); }
  size_t num_bytes() const { return num_pixels() * stride() * DTypeBytes(dtype); }
};

// What layers compute in besides maps: sized by the largest need of the chain.
struct ChainMemory {
  std::array<Buffer, 3> maps;
  Buffer conv, norm, gain;
  std::array<size_t, 3> map_bytes = {};
  size_t conv_floats = 0, norm_doubles = 0, gain_floats = 0;

  void* map(size_t index) const { return maps[index].data(); }
};

class Layer;

class LayerChain {
 public:
  // The chain starts with a map of side × side pixels. The tensors' prefix goes before every name of the Add… calls,
  // which read `tensors`.
  LayerChain(Backend& backend, const TensorTable& tensors, std::string prefix, size_t side, size_t channels);
  ~LayerChain();

  // The last layer of a chain may leave f32 (dtype); others leave activations.
  void AddConv(const std::string& name, size_t channels, ConvKind kind, DType dtype);
  void AddConv(const std::string& name, size_t channels, ConvKind kind = ConvKind::kSame);
  // SiLU(GroupNorm) and a convolution (reference: norm_out, conv_out).
  void AddNormConv(const std::string& norm, const std::string& conv, size_t channels, DType dtype);
  void AddResidualBlock(const std::string& name, size_t channels);  // reference: ResnetBlock
  void AddAttention(const std::string& name);                       // reference: AttnBlock
  void Allocate();

  // The first map, to be filled before each Run.
  Map input() const;
  // Returns the last map, valid until the next Run. `cancelled` (may be null) is polled before each layer;
  // throws Error(kAborted).
  Map Run(const CancelFlag* cancelled);

  size_t channels() const { return current_.channels; }

 private:
  void Add(std::unique_ptr<Layer> layer);

  Backend& backend_;
  const LayerWeights weights_;
  Map first_, current_;       // shapes while the chain is built
  size_t current_index_ = 0;  // which buffer holds the current map
  std::vector<std::unique_ptr<Layer>> layers_;
  ChainMemory memory_;
};

}  // namespace nextscale
