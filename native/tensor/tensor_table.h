// What the core is told about a checkpoint: named tensors, each a range of bytes in a mapped file.
// The table is built by io/safetensors (native tests, benchmark) or handed over by the addon (TypeScript has read the
// header of a .pth or safetensors file). Either way every range was checked to lie inside its file.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "native/tensor/dtype.h"

namespace nextscale {

struct TensorView {
  const std::byte* data = nullptr;  // not necessarily aligned: read with memcpy
  DType dtype = DType::kF32;
  std::vector<size_t> shape;        // row-major, contiguous
  bool mapped = false;              // in a read-only file mapping: its pages may be dropped after use (io/mapped_file.h)

  size_t num_elements() const {
    size_t count = 1;
    for (size_t side : shape) count *= side;
    return count;
  }
  size_t bytes() const { return num_elements() * DTypeBytes(dtype); }
};

class TensorTable {
 public:
  void Add(std::string name, TensorView view);
  bool Has(const std::string& name) const { return tensors_.count(name) != 0; }
  // Whether any name begins with this.
  bool HasAny(std::string_view prefix) const {
    return std::any_of(tensors_.begin(), tensors_.end(), [&](const auto& entry) { return entry.first.starts_with(prefix); });
  }

  // Throws Error(kInvalidCheckpoint) that names the tensor, what was found and what was expected.
  const TensorView& Get(const std::string& name, std::span<const size_t> shape) const;
  const TensorView& Get(const std::string& name, std::initializer_list<size_t> shape) const {
    return Get(name, std::span(shape.begin(), shape.size()));
  }

  // The tensor widened to f32. Throws also when an element is NaN or infinite (kNotFinite, with its index).
  std::vector<float> Floats(const std::string& name, std::initializer_list<size_t> shape) const;

 private:
  std::unordered_map<std::string, TensorView> tensors_;
};

// Widens `count` elements at `source` (any alignment) to f32. Exact for f16 and bf16.
void WidenToFloat(float* out, const std::byte* source, DType dtype, size_t count);

}  // namespace nextscale
