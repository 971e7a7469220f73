// Layer norm without affine part, modulated per sequence, gathering a block's rows.
//
// Outputs that only a way back needs are called kept: null in inference, and on devices that do not train.
#pragma once

#include <cstddef>
#include <span>

#include "native/ops/rows.h"
#include "native/tensor/dtype.h"

namespace nextscale {

// out[span.compact_row + i] = LN(x[span.x_row + i]) · (1 + modulation[gain_offset + c]) + modulation[shift_offset + c]
// LN: biased variance over C, eps 1e-6 (reference: AdaLNSelfAttn.forward, ln_wo_grad). A row's result depends on that
// row alone.
struct ModulatedNormArgs {
  void* out = nullptr;  // [M, out_stride]
  DType out_dtype = DType::kF32;
  size_t out_stride = 0;
  const float* x = nullptr;  // [rows, x_stride]
  size_t x_stride = 0;
  size_t width = 0;  // C
  std::span<const RowSpan> spans = {};
  size_t gain_offset = 0, shift_offset = 0;
  float* normal = nullptr;             // kept: LN(x), [M, out_stride]
  float* inverse_deviation = nullptr;  // kept, with `normal`: 1 / √(var + 1e-6), [M]
};

}  // namespace nextscale
