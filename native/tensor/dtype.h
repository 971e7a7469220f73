// Number formats of stored tensors. Activations are always f32; weights and the KV pool may be narrower.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nextscale {

enum class DType : uint8_t { kF32, kF16, kBF16 };

constexpr size_t DTypeBytes(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

constexpr std::string_view DTypeName(DType dtype) {
  return dtype == DType::kF32 ? "f32" : dtype == DType::kF16 ? "f16" : "bf16";
}

}  // namespace nextscale
