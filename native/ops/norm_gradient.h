// Modulated layer norm and gated residual as training runs them: what the backward pass needs is kept.
//
// A block sees compact matrices [M, C] of the rows it runs (rows.h); x and dx hold all rows.
#pragma once

#include <cstddef>
#include <span>

#include "native/ops/context.h"
#include "native/ops/rows.h"

namespace nextscale {

// A RowSpan whose sequence also collects the gradient of its modulation vector. The spans of one sequence are adjacent
// and name the same dmodulation; different sequences name different ones.
struct GradientSpan {
  size_t compact_row = 0;
  size_t x_row = 0;
  size_t num_rows = 0;
  const float* modulation = nullptr;  // chunks of width C
  float* dmodulation = nullptr;       // the same layout; null in a pass without gradients
};

// normal[compact] = (x − mean) / √(var + 1e-6), inverse_deviation[compact] = 1 / √(var + 1e-6); biased variance over C.
struct NormalizeRowsArgs {
  float* normal = nullptr;             // [M, stride]
  size_t stride = 0;
  float* inverse_deviation = nullptr;  // [M]
  const float* x = nullptr;            // [rows, x_stride]
  size_t x_stride = 0;
  size_t width = 0;                    // C
  std::span<const GradientSpan> spans;
};
void NormalizeRows(Context& context, const NormalizeRowsArgs& args);

// out = normal · (1 + modulation[gain_offset + c]) + modulation[shift_offset + c], compact rows.
struct ModulateArgs {
  float* out = nullptr;           // [M, stride]
  const float* normal = nullptr;  // [M, stride]
  size_t stride = 0;
  size_t width = 0;
  std::span<const GradientSpan> spans;
  size_t gain_offset = 0, shift_offset = 0;
};
void Modulate(Context& context, const ModulateArgs& args);

// Backward of both: dx[x_row] += inverse_deviation · (g − mean(g) − normal · mean(g · normal)), g = dy · (1 + gain);
// dmodulation[gain_offset + c] += Σ_rows dy · normal, dmodulation[shift_offset + c] += Σ_rows dy.
struct ModulatedNormGradientArgs {
  float* dx = nullptr;            // [rows, x_stride]
  size_t x_stride = 0;
  const float* dy = nullptr;      // [M, stride]
  const float* normal = nullptr;  // [M, stride]
  size_t stride = 0;
  const float* inverse_deviation = nullptr;  // [M]
  size_t width = 0;
  std::span<const GradientSpan> spans;
  size_t gain_offset = 0, shift_offset = 0;
};
void ModulatedNormGradient(Context& context, const ModulatedNormGradientArgs& args);

// x[x_row] += modulation[gate_offset + c] · y[compact].
struct GatedResidualArgs {
  float* x = nullptr;
  size_t x_stride = 0;
  const float* y = nullptr;  // [M, stride]
  size_t stride = 0;
  size_t width = 0;
  std::span<const GradientSpan> spans;
  size_t gate_offset = 0;
};
void GatedResidual(Context& context, const GatedResidualArgs& args);

// dy[compact] = gate · dx[x_row]; dmodulation[gate_offset + c] += Σ_rows dx[x_row] · y[compact]. dx itself passes unchanged.
struct GatedResidualGradientArgs {
  float* dy = nullptr;        // [M, stride]; may be y
  const float* dx = nullptr;  // [rows, x_stride]
  size_t x_stride = 0;
  const float* y = nullptr;   // [M, stride]
  size_t stride = 0;
  size_t width = 0;
  std::span<const GradientSpan> spans;
  size_t gate_offset = 0;
};
void GatedResidualGradient(Context& context, const GatedResidualGradientArgs& args);

}  // namespace nextscale
