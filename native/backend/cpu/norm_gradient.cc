// The way back through norm, modulation and gated residual. Rows are independent; sums over the rows of a sequence are
// made per group of columns, in order of rows, so that the number of threads does not matter.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/backend/cpu/norm_gradient.cc"
#include "native/backend/cpu/simd.h"
// Re-includes this file for every target.
#include <hwy/foreach_target.h>

#include <algorithm>

#include "native/backend/cpu/kernels.h"
#include "native/backend/cpu/simd-inl.h"
#include "native/ops/check_gradient.h"

HWY_BEFORE_NAMESPACE();
namespace nextscale {
namespace HWY_NAMESPACE {
namespace {

// body(span, compact row, row of x) for every row, in parallel.
template <typename Body>
void ForEachRow(Context& context, std::span<const RowSpan> spans, size_t width, const Body& body) {
  if (spans.empty()) return;
  const size_t num_rows = spans.back().compact_row + spans.back().num_rows;
  constexpr size_t kTaskFloats = 16384;  // tens of microseconds
  const size_t task_rows = std::max<size_t>(1, kTaskFloats / width);
  context.pool().ParallelFor((num_rows + task_rows - 1) / task_rows, [&](size_t task, size_t) {
    const RowSpan* span = spans.data();
    for (size_t row = task * task_rows; row < std::min(num_rows, (task + 1) * task_rows); ++row) {
      while (row - span->compact_row >= span->num_rows) ++span;
      body(*span, row, span->x_row + row - span->compact_row);
    }
  });
}

constexpr size_t kColumns = 128;  // of a task: a few lines of every row, sums in the first cache

// body(spans of one sequence, first column, end column) for groups of columns of every sequence, in parallel.
template <typename Body>
void ForEachSequence(Context& context, std::span<const RowSpan> spans, size_t width, const Body& body) {
  if (spans.empty() || spans.back().compact_row + spans.back().num_rows == 0) return;
  const size_t num_groups = (width + kColumns - 1) / kColumns;
  // A span that continues its predecessor's sequence has nothing to do.
  context.pool().ParallelFor(spans.size() * num_groups, [&](size_t task, size_t) {
    const size_t first = task / num_groups, column = task % num_groups * kColumns;
    if (first > 0 && spans[first - 1].dmodulation == spans[first].dmodulation) return;
    size_t end = first + 1;
    while (end < spans.size() && spans[end].dmodulation == spans[first].dmodulation) ++end;
    body(spans.subspan(first, end - first), column, std::min(width, column + kColumns));
  });
}

template <typename Term>  // term(tag, c): the numbers from column c
HWY_INLINE float SumRow(size_t width, const Term& term) {
  const DF df;
  VF sum = hn::Zero(df);
  size_t c = 0;
  for (; c + kLanes <= width; c += kLanes) sum = hn::Add(sum, term(df, c));
  float total = hn::GetLane(hn::SumOfLanes(df, sum));
  const hn::CappedTag<float, 1> one;
  for (; c < width; ++c) total += hn::GetLane(term(one, c));
  return total;
}

template <typename Step>  // step(tag, c): whole vectors, then single numbers
HWY_INLINE void ForColumns(size_t first, size_t end, const Step& step) {
  const DF df;
  const hn::CappedTag<float, 1> one;
  size_t c = first;
  for (; c + kLanes <= end; c += kLanes) step(df, c);
  for (; c < end; ++c) step(one, c);
}

void AddTo(float* sums, const float* values, size_t count) {
  ForColumns(0, count, [&](auto d, size_t c) HWY_ATTR {
    hn::StoreU(hn::Add(hn::LoadU(d, sums + c), hn::LoadU(d, values + c)), d, sums + c);
  });
}

void ModulateOnTarget(Context& context, const ModulateArgs& args) {
  ForEachRow(context, args.spans, args.width, [&](const RowSpan& span, size_t row, size_t) HWY_ATTR {
    const float* const normal = args.normal + row * args.stride;
    const float* const gain = span.modulation + args.gain_offset;
    const float* const shift = span.modulation + args.shift_offset;
    float* const out = args.out + row * args.stride;
    ForColumns(0, args.width, [&](auto d, size_t c) HWY_ATTR {
      const auto factor = hn::Add(hn::Set(d, 1.0f), hn::LoadU(d, gain + c));
      hn::StoreU(hn::MulAdd(hn::LoadU(d, normal + c), factor, hn::LoadU(d, shift + c)), d, out + c);
    });
  });
}

void ModulatedNormGradientOnTarget(Context& context, const ModulatedNormGradientArgs& args) {
  const float share = 1.0f / static_cast<float>(args.width);
  ForEachRow(context, args.spans, args.width, [&](const RowSpan& span, size_t row, size_t x_row) HWY_ATTR {
    const float* const dy = args.dy + row * args.stride;
    const float* const normal = args.normal + row * args.stride;
    const float* const gain = span.modulation + args.gain_offset;
    float* const dx = args.dx + x_row * args.x_stride;
    const auto gradient = [&](auto d, size_t c) HWY_ATTR {
      return hn::Mul(hn::LoadU(d, dy + c), hn::Add(hn::Set(d, 1.0f), hn::LoadU(d, gain + c)));
    };
    const float mean = share * SumRow(args.width, gradient);
    const float slope = share * SumRow(args.width, [&](auto d, size_t c) HWY_ATTR {
                          return hn::Mul(gradient(d, c), hn::LoadU(d, normal + c));
                        });
    const float factor = args.inverse_deviation[row];
    ForColumns(0, args.width, [&](auto d, size_t c) HWY_ATTR {
      const auto flat = hn::Sub(gradient(d, c), hn::Set(d, mean));
      const auto g = hn::NegMulAdd(hn::LoadU(d, normal + c), hn::Set(d, slope), flat);
      hn::StoreU(hn::MulAdd(hn::Set(d, factor), g, hn::LoadU(d, dx + c)), d, dx + c);
    });
  });
  ForEachSequence(context, args.spans, args.width,
                  [&](std::span<const RowSpan> spans, size_t first, size_t end) HWY_ATTR {
                    float gains[kColumns] = {}, shifts[kColumns] = {};
                    for (const RowSpan& span : spans) {
                      for (size_t row = span.compact_row; row < span.compact_row + span.num_rows; ++row) {
                        const float* const dys = args.dy + row * args.stride + first;
                        const float* const normals = args.normal + row * args.stride + first;
                        ForColumns(0, end - first, [&](auto d, size_t c) HWY_ATTR {
                          const auto dy = hn::LoadU(d, dys + c);
                          hn::StoreU(hn::MulAdd(dy, hn::LoadU(d, normals + c), hn::LoadU(d, gains + c)), d, gains + c);
                          hn::StoreU(hn::Add(dy, hn::LoadU(d, shifts + c)), d, shifts + c);
                        });
                      }
                    }
                    AddTo(spans.front().dmodulation + args.gain_offset + first, gains, end - first);
                    AddTo(spans.front().dmodulation + args.shift_offset + first, shifts, end - first);
                  });
}

void GatedResidualGradientOnTarget(Context& context, const GatedResidualGradientArgs& args) {
  // First the sums: dy may take y's place.
  ForEachSequence(
      context, args.spans, args.width, [&](std::span<const RowSpan> spans, size_t first, size_t end) HWY_ATTR {
        float gates[kColumns] = {};
        for (const RowSpan& span : spans) {
          for (size_t i = 0; i < span.num_rows; ++i) {
            const float* const dx = args.dx + (span.x_row + i) * args.x_stride + first;
            const float* const y = args.y + (span.compact_row + i) * args.stride + first;
            ForColumns(0, end - first, [&](auto d, size_t c) HWY_ATTR {
              hn::StoreU(hn::MulAdd(hn::LoadU(d, dx + c), hn::LoadU(d, y + c), hn::LoadU(d, gates + c)), d, gates + c);
            });
          }
        }
        AddTo(spans.front().dmodulation + args.gate_offset + first, gates, end - first);
      });
  ForEachRow(context, args.spans, args.width, [&](const RowSpan& span, size_t row, size_t x_row) HWY_ATTR {
    const float* const gate = span.modulation + args.gate_offset;
    const float* const dx = args.dx + x_row * args.x_stride;
    float* const dy = args.dy + row * args.stride;
    ForColumns(0, args.width, [&](auto d, size_t c) HWY_ATTR {
      hn::StoreU(hn::Mul(hn::LoadU(d, gate + c), hn::LoadU(d, dx + c)), d, dy + c);
    });
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace nextscale
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nextscale {

HWY_EXPORT(ModulateOnTarget);
HWY_EXPORT(ModulatedNormGradientOnTarget);
HWY_EXPORT(GatedResidualGradientOnTarget);

void Modulate(Context& context, const ModulateArgs& args) {
  CheckModulate(args);
  HWY_DYNAMIC_DISPATCH(ModulateOnTarget)(context, args);
}

void ModulatedNormGradient(Context& context, const ModulatedNormGradientArgs& args) {
  CheckModulatedNormGradient(args);
  HWY_DYNAMIC_DISPATCH(ModulatedNormGradientOnTarget)(context, args);
}

void GatedResidualGradient(Context& context, const GatedResidualGradientArgs& args) {
  CheckGatedResidualGradient(args);
  HWY_DYNAMIC_DISPATCH(GatedResidualGradientOnTarget)(context, args);
}

}  // namespace nextscale
#endif  // HWY_ONCE
