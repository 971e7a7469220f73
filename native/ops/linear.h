// out = epilogue(a · Wᵀ + bias): every linear layer of the transformer, and 1×1 convolutions.
//
// Promise: each output element is one chain of fused multiply-adds over k = 0..K-1 in ascending order, then the bias,
// then the epilogue, whatever M, the thread count or the row's position in the batch. So a row's result does not depend
// on what else is in the batch.
#pragma once

#include <cstddef>
#include <span>

#include "native/ops/rows.h"
#include "native/tensor/buffer.h"
#include "native/tensor/tensor_table.h"

namespace nextscale {

// Weights [N, K] in the order and format that a device's kernels read. Immutable after packing.
// CPU: the format of the file, panels[ceil(n / panel)][k][panel], zero padded.
struct PackedMatrix {
  DType dtype = DType::kF32;
  size_t n = 0, k = 0;
  size_t panel = 0;
  Buffer data;
};

enum class Epilogue {
  kStore,     // out[i] = y
  kGelu,      // out[i] = 0.5 y (1 + tanh(√(2/π) (y + 0.044715 y³)))
  kResidual,  // x[span row] += gate · y; gate = span.modulation[gate_offset + column], or 1 where modulation is null
};

struct LinearArgs {
  // kStore, kGelu: [M, out_stride >= N]. kResidual: x [rows, out_stride], f32; also in activations where there is one
  // span, from row 0 to row 0 and without modulation.
  void* out = nullptr;
  DType out_dtype = DType::kF32;
  size_t out_stride = 0;
  const void* a = nullptr;  // [M, a_stride >= K]
  DType a_dtype = DType::kF32;
  size_t a_stride = 0;
  size_t num_rows = 0;  // M
  const PackedMatrix* weights = nullptr;
  const float* bias = nullptr;  // [N] or null
  Epilogue epilogue = Epilogue::kStore;
  std::span<const RowSpan> spans = {};  // kResidual: covers compact rows 0..M-1 in order
  size_t gate_offset = 0;
  // Kept for a way back (norm.h): a · Wᵀ + bias, what GELU is applied to or the gate multiplies. [M, kept_stride >= N],
  // with kGelu and kResidual.
  float* kept = nullptr;
  size_t kept_stride = 0;
};

}  // namespace nextscale
