// Every tensor of the transformer, once: its name, its shape, the block that it belongs to. Weights are read,
// parameters laid out and initialised, and test models made by this list.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "native/model/config.h"

namespace nextscale {

struct TransformerTensor {
  std::string name;  // the reference's; files put "var." before it: "blocks.0.attn.proj.weight"
  std::vector<size_t> shape;
  std::optional<size_t> block_index;

  std::string file_name() const { return "var." + name; }
  size_t num_elements() const {
    size_t total = 1;
    for (const size_t side : shape) total *= side;
    return total;
  }
};

// Members are places in `all`; a linear layer's weight is [n, k], its bias [n].
struct LinearTensors {
  size_t weight = 0, bias = 0;
};

struct BlockTensors {
  size_t scale_mul = 0;  // [1, H, 1, 1]; only with L2 norm
  size_t q_bias = 0, v_bias = 0;
  size_t qkv = 0;  // [3C, C]
  LinearTensors proj, fc1, fc2;
  LinearTensors ada;      // [6C, C]; only without shared modulations
  size_t ada_offset = 0;  // [1, 1, 6, C]; only with them
};

struct TransformerTensors {
  explicit TransformerTensors(const ModelConfig& config);

  std::vector<TransformerTensor> all;
  size_t class_embedding = 0, start_position = 0, position = 0, level = 0;
  LinearTensors word, head_ada, head;
  std::optional<LinearTensors> shared_ada;
  std::vector<BlockTensors> blocks;

 private:
  size_t Add(std::string name, std::vector<size_t> shape);
  LinearTensors AddLinear(const std::string& name, size_t n, size_t k);
  void AddBlock(const TransformerConfig& transformer);

  std::optional<size_t> block_index_;  // of what is added next
};

}  // namespace nextscale
