// The way back through the modulated norm and the gated residual, from what they kept.
//
// A block sees compact matrices [M, C] of the rows it runs (rows.h); x and dx hold all rows.
#pragma once

#include <cstddef>
#include <span>

#include "native/ops/rows.h"

namespace nextscale {

// The output of ModulatedNorm, made again: out = normal · (1 + modulation[gain_offset + c]) + modulation[shift_offset +
// c], compact rows.
struct ModulateArgs {
  float* out = nullptr;           // [M, stride]
  const float* normal = nullptr;  // [M, stride]
  size_t stride = 0;
  size_t width = 0;
  std::span<const RowSpan> spans = {};
  size_t gain_offset = 0, shift_offset = 0;
};

// Backward of ModulatedNorm: dx[x_row] += inverse_deviation · (g − mean(g) − normal · mean(g · normal)), g = dy · (1 +
// gain); dmodulation[gain_offset + c] += Σ_rows dy · normal, dmodulation[shift_offset + c] += Σ_rows dy.
struct ModulatedNormGradientArgs {
  float* dx = nullptr;  // [rows, x_stride]
  size_t x_stride = 0;
  const float* dy = nullptr;      // [M, stride]
  const float* normal = nullptr;  // [M, stride]
  size_t stride = 0;
  const float* inverse_deviation = nullptr;  // [M]
  size_t width = 0;
  std::span<const RowSpan> spans = {};
  size_t gain_offset = 0, shift_offset = 0;
};

// dy[compact] = gate · dx[x_row]; dmodulation[gate_offset + c] += Σ_rows dx[x_row] · y[compact]. dx itself passes
// unchanged.
struct GatedResidualGradientArgs {
  float* dy = nullptr;        // [M, stride]; may be y
  const float* dx = nullptr;  // [rows, x_stride]
  size_t x_stride = 0;
  const float* y = nullptr;  // [M, stride]
  size_t stride = 0;
  size_t width = 0;
  std::span<const RowSpan> spans = {};
  size_t gate_offset = 0;
};

}  // namespace nextscale
