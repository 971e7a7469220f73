// Operands of the microkernel for the gradient of attention, made from rows, per SIMD target.
//
// Scores are computed transposed, [keys, queries]: keys are the rows of a tile, a panel holds queries. So the softmax
// runs along lanes (one query each, no sums across lanes), and a finished tile of weights is at once the left operand
// of weightsᵀ-like products (row-major) and a packed panel (k = keys).
#if defined(NEXTSCALE_BACKEND_CPU_CAUSAL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NEXTSCALE_BACKEND_CPU_CAUSAL_INL_H_
#undef NEXTSCALE_BACKEND_CPU_CAUSAL_INL_H_
#else
#define NEXTSCALE_BACKEND_CPU_CAUSAL_INL_H_
#endif

#include <algorithm>
#include <cstddef>

#include "native/backend/cpu/microkernel-inl.h"
#include "native/backend/cpu/query_panels.h"

HWY_BEFORE_NAMESPACE();
namespace nextscale {
namespace HWY_NAMESPACE {

constexpr size_t RoundUp(size_t count, size_t unit) { return (count + unit - 1) / unit * unit; }

// Distance of rows of `width` floats in scratch: whole cache lines, and rarely a multiple of 4096 bytes (microkernel).
constexpr size_t PaddedStride(size_t width) { return RoundUp(width, 16) + 16; }

// to[c · to_stride + r] = from[r · from_stride + c]
HWY_INLINE void Transpose(const float* HWY_RESTRICT from, size_t from_stride, size_t num_rows, size_t num_columns,
                          float* HWY_RESTRICT to, size_t to_stride) {
  size_t whole_rows = 0, whole_columns = 0;
#if HWY_TARGET != HWY_SCALAR
  whole_rows = num_rows / 4 * 4, whole_columns = num_columns / 4 * 4;
  for (size_t c = 0; c < whole_columns; c += 4) {
    for (size_t r = 0; r < whole_rows; r += 4) {
      TransposeBlock(reinterpret_cast<const std::byte*>(from + r * from_stride + c), from_stride,
                     reinterpret_cast<uint32_t*>(to + c * to_stride + r), to_stride);
    }
  }
#endif
  for (size_t c = 0; c < num_columns; ++c) {
    for (size_t r = c < whole_columns ? whole_rows : 0; r < num_rows; ++r) {
      to[c * to_stride + r] = from[r * from_stride + c];
    }
  }
}

// Rows [num_rows <= kPanel, head_dim] → panel [head_dim][kPanel], times `factor`; the other columns become zero.
HWY_INLINE void PackTransposed(const float* rows, size_t stride, size_t num_rows, size_t head_dim, float factor,
                               float* HWY_RESTRICT panel) {
  const DF df;
  PackPanel(reinterpret_cast<const std::byte*>(rows), stride, num_rows, head_dim, kPanel,
            reinterpret_cast<uint32_t*>(panel));
  if (factor == 1.0f) return;
  const VF factors = hn::Set(df, factor);
  for (size_t i = 0; i < head_dim * kPanel; i += kLanes) {
    hn::StoreU(hn::Mul(factors, hn::LoadU(df, panel + i)), df, panel + i);
  }
}

// Rows [num_rows, head_dim] → panels [ceil(head_dim / kPanel)][num_rows][kPanel], zero padded.
HWY_INLINE void PackRows(const float* rows, size_t stride, size_t num_rows, size_t head_dim,
                         float* HWY_RESTRICT panels) {
  for (size_t d = 0; d < head_dim; d += kPanel, panels += num_rows * kPanel) {
    const size_t valid = std::min(kPanel, head_dim - d);
    for (size_t r = 0; r < num_rows; ++r) {
      std::copy_n(rows + r * stride + d, valid, panels + r * kPanel);
      std::fill(panels + r * kPanel + valid, panels + (r + 1) * kPanel, 0.0f);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace nextscale
HWY_AFTER_NAMESPACE();
#endif  // NEXTSCALE_BACKEND_CPU_CAUSAL_INL_H_
