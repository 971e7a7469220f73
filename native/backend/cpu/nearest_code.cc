// Nearest code vectors: one pass over the codebook per token, lanes across codes.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/backend/cpu/nearest_code.cc"
#include "native/backend/cpu/simd.h"
// Re-includes this file for every target.
#include <hwy/foreach_target.h>

#include <algorithm>
#include <limits>

#include "native/backend/cpu/kernels.h"
#include "native/backend/cpu/simd-inl.h"
#include "native/ops/check_map.h"

HWY_BEFORE_NAMESPACE();
namespace nextscale {
namespace HWY_NAMESPACE {
namespace {

constexpr size_t kCodes = 4 * kLanes;  // codes of a panel: four independent sums hide the latency of the multiply-add

size_t CodePanel() { return kCodes; }

int32_t NearestOne(const Codebook& codebook, const float* row) {
  const DF df;
  const hn::RebindToSigned<DF> di;
  const size_t num_panels = (codebook.size + kCodes - 1) / kCodes;
  VF best[4];
  hn::Vec<decltype(di)> best_index[4], index[4];
  for (size_t i = 0; i < 4; ++i) {
    best[i] = hn::Set(df, std::numeric_limits<float>::infinity());
    index[i] = hn::Iota(di, static_cast<int32_t>(i * kLanes));
    best_index[i] = hn::Set(di, std::numeric_limits<int32_t>::max());
  }
  const float* code = codebook.panels.as<float>();
  for (size_t panel = 0; panel < num_panels; ++panel) {
    VF sum[4] = {hn::Zero(df), hn::Zero(df), hn::Zero(df), hn::Zero(df)};
    for (size_t e = 0; e < codebook.dim; ++e, code += kCodes) {
      const VF value = hn::Set(df, row[e]);
      for (size_t i = 0; i < 4; ++i) {
        const VF difference = hn::Sub(value, hn::Load(df, code + i * kLanes));
        sum[i] = hn::MulAdd(difference, difference, sum[i]);
      }
    }
    for (size_t i = 0; i < 4; ++i) {
      const auto closer = hn::Lt(sum[i], best[i]);  // strict: the first minimum of a lane stays
      best[i] = hn::IfThenElse(closer, sum[i], best[i]);
      best_index[i] = hn::IfThenElse(hn::RebindMask(di, closer), index[i], best_index[i]);
      index[i] = hn::Add(index[i], hn::Set(di, static_cast<int32_t>(kCodes)));
    }
  }
  HWY_ALIGN float distances[kCodes];
  HWY_ALIGN int32_t indices[kCodes];
  for (size_t i = 0; i < 4; ++i) {
    hn::Store(best[i], df, distances + i * kLanes);
    hn::Store(best_index[i], di, indices + i * kLanes);
  }
  size_t nearest = 0;
  for (size_t i = 1; i < kCodes; ++i) {
    const bool first = distances[i] == distances[nearest] && indices[i] < indices[nearest];
    if (distances[i] < distances[nearest] || first) nearest = i;
  }
  return indices[nearest] < static_cast<int32_t>(codebook.size) ? indices[nearest] : 0;
}

void NearestOnTarget(Context& context, const NearestCodeArgs& args) {
  context.pool().ParallelFor(args.num_rows, [&](size_t row, size_t) HWY_ATTR {
    args.tokens[row] = NearestOne(*args.codebook, args.rows + row * args.stride);
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace nextscale
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "native/base/error.h"

namespace nextscale {

HWY_EXPORT(CodePanel);
HWY_EXPORT(NearestOnTarget);

Codebook MakeCodebook(const std::vector<float>& rows, size_t size, size_t dim) {
  CheckCodebook(rows, size, dim);
  Codebook codebook;
  codebook.size = size;
  codebook.dim = dim;
  codebook.panel = HWY_DYNAMIC_DISPATCH(CodePanel)();
  codebook.rows = Buffer(rows.size() * sizeof(float));
  std::copy(rows.begin(), rows.end(), codebook.rows.as<float>());
  const size_t num_panels = (size + codebook.panel - 1) / codebook.panel;
  codebook.panels = Buffer(num_panels * codebook.panel * dim * sizeof(float));
  for (size_t v = 0; v < num_panels * codebook.panel; ++v) {
    const float* code = rows.data() + std::min(v, size - 1) * dim;
    float* column = codebook.panels.as<float>() + v / codebook.panel * codebook.panel * dim + v % codebook.panel;
    for (size_t e = 0; e < dim; ++e) column[e * codebook.panel] = code[e];
  }
  return codebook;
}

void NearestCode(Context& context, const NearestCodeArgs& args) {
  CheckNearestCode(args);
  HWY_DYNAMIC_DISPATCH(NearestOnTarget)(context, args);
}

}  // namespace nextscale
#endif  // HWY_ONCE
