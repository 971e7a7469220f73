// Guidance, filters and draws. One token per task; selection instead of sorting.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/backend/cpu/sample.cc"
#include "native/backend/cpu/simd.h"
// Re-includes this file for every target.
#include <hwy/foreach_target.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <functional>

#include "native/backend/cpu/kernels.h"
#include "native/backend/cpu/simd-inl.h"
#include "native/base/error.h"
#include "native/base/rng.h"
#include "native/ops/check.h"
#include "native/ops/sample.h"

HWY_BEFORE_NAMESPACE();
namespace nextscale {
namespace HWY_NAMESPACE {
namespace {

// out = (1 + guidance) · cond − guidance · uncond; true when every logit is finite.
bool Guide(const float* cond, const float* uncond, size_t count, float guidance, float* out) {
  const DF df;
  const float cond_factor = static_cast<float>(1.0 + static_cast<double>(guidance));
  VF bad = hn::Zero(df);  // x − x is NaN exactly when x is not finite
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    VF x = hn::LoadU(df, cond + i);
    if (uncond != nullptr) {
      x = hn::Sub(hn::Mul(hn::Set(df, cond_factor), x), hn::Mul(hn::Set(df, guidance), hn::LoadU(df, uncond + i)));
    }
    bad = hn::Add(bad, hn::Sub(x, x));
    hn::StoreU(x, df, out + i);
  }
  float rest = 0.0f;
  for (; i < count; ++i) {
    out[i] = uncond == nullptr ? cond[i] : cond_factor * cond[i] - guidance * uncond[i];
    rest += out[i] - out[i];
  }
  return hn::GetLane(hn::SumOfLanes(df, bad)) + rest == 0.0f;
}

// weights = e^(logits − maximum) where logits >= threshold, else 0. In place.
void ToWeights(float* logits, size_t count, float maximum, float threshold) {
  const DF df;
  const auto weigh = [&](VF x) HWY_ATTR {
    return hn::IfThenElseZero(hn::Ge(x, hn::Set(df, threshold)), Exp(df, hn::Sub(x, hn::Set(df, maximum))));
  };
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) hn::StoreU(weigh(hn::LoadU(df, logits + i)), df, logits + i);
  float rest[kLanes] = {};
  std::copy(logits + i, logits + count, rest);
  hn::StoreU(weigh(hn::LoadU(df, rest)), df, rest);
  std::copy(rest, rest + (count - i), logits + i);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace nextscale
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nextscale {

HWY_EXPORT(Guide);
HWY_EXPORT(ToWeights);

namespace {

// A worker's scratch for one token.
struct Workspace {
  Workspace(std::byte* scratch, size_t codebook_size)
      : keys(reinterpret_cast<uint64_t*>(scratch)),
        row(reinterpret_cast<float*>(keys + codebook_size)),
        copy(row + codebook_size) {}
  uint64_t* keys;  // [V]
  float* row;      // [V]
  float* copy;     // [V]
};

// Sorts like (logit, index).
uint64_t SortKey(float logit, uint32_t index) {
  const uint32_t bits = std::bit_cast<uint32_t>(logit + 0.0f);  // -0 and 0 are equal
  return uint64_t{bits ^ (bits >> 31 != 0 ? 0xFFFFFFFFu : 0x80000000u)} << 32 | index;
}

// Of `keys` in ascending order, how many have a cumulative weight <= limit? Leaves exactly those in front. Halves the
// range around the boundary, so the cost is linear; sums are double, so that their order does not matter.
size_t CountBelow(uint64_t* keys, size_t count, const float* weights, double limit) {
  size_t first = 0, last = count;
  double below = 0.0;
  const auto weight = [&](size_t i) { return static_cast<double>(weights[static_cast<uint32_t>(keys[i])]); };
  while (first < last) {
    const size_t middle = (first + last) / 2;
    std::nth_element(keys + first, keys + middle, keys + last);
    double half = 0.0;
    for (size_t i = first; i <= middle; ++i) half += weight(i);
    if (below + half <= limit) {
      below += half;
      first = middle + 1;
    } else {
      last = middle;
    }
  }
  return first;
}

// Top-k, top-p: logits in ws.row become weights (0 = removed) that are not normalised. Returns their sum.
double Filter(const Workspace& ws, size_t codebook_size, size_t top_k, float top_p) {
  float* const row = ws.row;
  const float maximum = *std::max_element(row, row + codebook_size);
  float threshold = -std::numeric_limits<float>::infinity();
  if (top_k != 0 && top_k < codebook_size) {
    std::copy_n(row, codebook_size, ws.copy);
    std::nth_element(ws.copy, ws.copy + (top_k - 1), ws.copy + codebook_size, std::greater<float>());
    threshold = ws.copy[top_k - 1];
  }
  size_t num_left = 0;
  const bool nucleus = top_p > 0.0f && top_p < 1.0f;
  for (size_t i = 0; nucleus && i < codebook_size; ++i) {
    if (row[i] >= threshold) ws.keys[num_left++] = SortKey(row[i], static_cast<uint32_t>(i));
  }
  HWY_DYNAMIC_DISPATCH(ToWeights)(row, codebook_size, maximum, threshold);
  double total = 0.0;
  for (size_t i = 0; i < codebook_size; ++i) total += static_cast<double>(row[i]);
  if (!nucleus) return total;

  // The largest always stays: it stands alone behind the others.
  std::nth_element(ws.keys, ws.keys + (num_left - 1), ws.keys + num_left);
  const size_t removed = CountBelow(ws.keys, num_left - 1, row, (1.0 - static_cast<double>(top_p)) * total);
  for (size_t i = 0; i < removed; ++i) row[static_cast<uint32_t>(ws.keys[i])] = 0.0f;
  total = 0.0;
  for (size_t i = 0; i < codebook_size; ++i) total += static_cast<double>(row[i]);
  return total;
}

// Inverse of the cumulative distribution, in index order. u in [0, 1).
int32_t Draw(const float* weights, size_t codebook_size, double total, double u) {
  double below = 0.0;
  size_t token = 0;
  for (size_t i = 0; i < codebook_size; ++i) {
    if (weights[i] == 0.0f) continue;
    token = i;  // the last one that is left, should rounding run past the end
    below += static_cast<double>(weights[i]);
    if (below > u * total) break;
  }
  return static_cast<int32_t>(token);
}

}  // namespace

void Sample(Context& context, const SampleArgs& args) {
  CheckSample(args);
  const size_t codebook_size = args.codebook_size;
  context.pool().ParallelFor(args.num_tokens, [&](size_t token, size_t worker) {
    const Workspace ws(context.scratch<std::byte>(worker), codebook_size);
    const float* uncond = args.uncond == nullptr ? nullptr : args.uncond + token * args.stride;
    if (!HWY_DYNAMIC_DISPATCH(Guide)(args.cond + token * args.stride, uncond, codebook_size, args.guidance, ws.row)) {
      args.tokens[token] = -1;
      return;
    }
    if (args.logits_out != nullptr) std::copy_n(ws.row, codebook_size, args.logits_out + token * codebook_size);
    if (args.top_k == 1) {
      args.tokens[token] = static_cast<int32_t>(std::max_element(ws.row, ws.row + codebook_size) - ws.row);
      return;
    }
    const double total = Filter(ws, codebook_size, args.top_k, args.top_p);
    const double u = UniformDraw(args.seed, args.image, args.scale_index, static_cast<uint32_t>(token));
    args.tokens[token] = Draw(ws.row, codebook_size, total, u);
  });
}

void FilterProbabilities(Context& context, float* logits, size_t codebook_size, size_t top_k, float top_p) {
  SampleArgs args;  // one token
  args.cond = logits;
  args.stride = args.codebook_size = codebook_size;
  args.top_k = top_k;
  args.top_p = top_p;
  args.num_tokens = 1;
  int32_t unused = 0;
  args.tokens = &unused;
  CheckSample(args);
  const Workspace ws(context.scratch<std::byte>(0), codebook_size);
  std::copy_n(logits, codebook_size, ws.row);
  const double total = Filter(ws, codebook_size, top_k, top_p);
  for (size_t i = 0; i < codebook_size; ++i) logits[i] = static_cast<float>(static_cast<double>(ws.row[i]) / total);
}

}  // namespace nextscale
#endif  // HWY_ONCE
