// What the core is told about a checkpoint: named tensors, each in memory or a range of bytes that is read when it is
// asked for. The table is built by io/safetensors (native tests, benchmark) or handed over by the addon (TypeScript has
// read the header of a .pth or safetensors file). Either way every range was checked to lie inside its file.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
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
  std::vector<size_t> shape;                           // row-major, contiguous
  std::shared_ptr<const std::byte[]> owner = nullptr;  // keeps `data` while the view is held; null: somebody else does

  size_t num_elements() const {
    size_t count = 1;
    for (size_t side : shape) count *= side;
    return count;
  }
  size_t bytes() const { return num_elements() * DTypeBytes(dtype); }
};

// Where the bytes of tensors lie that are not in memory yet.
class ByteReader {
 public:
  virtual ~ByteReader() = default;
  // Fills [out, out + bytes) from `offset` on, or throws Error(kIo).
  virtual void Read(std::byte* out, size_t offset, size_t bytes) const = 0;
};

// A tensor that its reader still has.
struct TensorPlace {
  std::shared_ptr<const ByteReader> reader;
  size_t offset = 0;  // bytes
  DType dtype = DType::kF32;
  std::vector<size_t> shape;
  std::vector<size_t> strides = {};  // elements, one per dimension; empty: row-major without gaps

  size_t num_elements() const;
  // Bytes from the first element to the end of the last one. Throws Error(kInvalidCheckpoint) beyond the address space.
  size_t span_bytes() const;
};

// One thread at a time.
class TensorTable {
 public:
  void Add(std::string name, TensorView view);
  void AddPlace(std::string name, TensorPlace place);
  bool Has(const std::string& name) const { return tensors_.count(name) != 0; }
  // Whether any name begins with this.
  bool HasAny(std::string_view prefix) const {
    return std::any_of(tensors_.begin(), tensors_.end(),
                       [&](const auto& entry) { return entry.first.starts_with(prefix); });
  }

  // Its numbers, row-major; read now unless they are in memory. Hold no view longer than it is needed: the memory of
  // one that nobody holds serves for the next. Throws Error(kInvalidCheckpoint) that names the tensor, what was found
  // and what was expected, and kIo.
  TensorView Get(const std::string& name, std::span<const size_t> shape) const;
  TensorView Get(const std::string& name, std::initializer_list<size_t> shape) const {
    return Get(name, std::span(shape.begin(), shape.size()));
  }
  // Bytes that Get would give; reads nothing. Throws Error(kInvalidCheckpoint) as Get does.
  size_t Bytes(const std::string& name, std::span<const size_t> shape) const;

  // The tensor widened to f32. Throws also when an element is NaN or infinite (kNotFinite, with its index).
  std::vector<float> Floats(const std::string& name, std::span<const size_t> shape) const;
  std::vector<float> Floats(const std::string& name, std::initializer_list<size_t> shape) const {
    return Floats(name, std::span(shape.begin(), shape.size()));
  }

 private:
  struct Entry {
    TensorPlace place;                // without a reader for what is in memory
    const std::byte* data = nullptr;  // in memory
  };

  void AddEntry(std::string name, Entry entry);
  const Entry& Find(const std::string& name, std::span<const size_t> shape) const;
  std::shared_ptr<std::byte[]> Scratch(size_t bytes) const;

  std::unordered_map<std::string, Entry> tensors_;
  mutable std::shared_ptr<std::byte[]> scratch_;  // of the last tensor that was read
  mutable size_t scratch_bytes_ = 0;
};

// Widens `count` elements at `source` (any alignment) to f32. Exact for f16 and bf16.
void WidenToFloat(float* out, const std::byte* source, DType dtype, size_t count);

}  // namespace nextscale
