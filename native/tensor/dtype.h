// Number formats of tensors: of weights as a file has them, of the KV pool, and of the activations between two ops, which
// each device chooses (Backend::activation_dtype): f32 on the CPU, f32, f16 or bf16 on a GPU.
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
