// Attention over all scales of a sequence under the scale-causal rule, as training runs it.
//
// A task is a head of a sequence, or some groups of its queries. A group walks the blocks of keys that it sees: keys are
// copied and values transposed once, then every panel of queries makes its scores [keys, queries], folds them into a
// running maximum and sum per query (online softmax) and adds its weighted values, outᵀ [D, queries].
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/backend/cpu/attention_training.cc"
#include "native/backend/cpu/simd.h"
// Re-includes this file for every target.
#include <hwy/foreach_target.h>

#include <algorithm>
#include <limits>

#include "native/backend/cpu/causal-inl.h"
#include "native/ops/attention_gradient.h"
#include "native/ops/check_attention_gradient.h"

// clang-format off: must stay behind foreach_target.h and the files it compiles again
#include <hwy/contrib/math/math-inl.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace nextscale {
namespace HWY_NAMESPACE {
namespace {

constexpr float kLog2E = 1.44269504088896340736f, kLn2 = 0.69314718055994530942f;
constexpr size_t kKeyBlock = 160;
constexpr size_t kValueStride = PaddedStride(kKeyBlock);

// A worker's scratch.
struct Workspace {
  Workspace(float* scratch, size_t head_dim)
      : key_stride(PaddedStride(head_dim)),
        keys(scratch),
        values(keys + kKeyBlock * key_stride),
        weights(values + head_dim * kValueStride),
        queries(weights + kKeyBlock * kPanel) {
    const size_t free = Context::kScratchBytes / sizeof(float) - static_cast<size_t>(queries - scratch);
    max_panels = std::min(kGroupPanels, free / (2 * (head_dim + 1) * kPanel));
    outs = queries + max_panels * head_dim * kPanel;
    maxima = outs + max_panels * head_dim * kPanel;
    sums = maxima + max_panels * kPanel;
  }

  size_t key_stride;
  float* keys;     // [kKeyBlock, key_stride]
  float* values;   // [D, kValueStride]: transposed
  float* weights;  // [kKeyBlock][kPanel]: scores, then weights, of one panel
  size_t max_panels;
  float* queries;  // [panels][D][kPanel], times softmax_factor · log2(e): weights are powers of two
  float* outs;     // [panels][D][kPanel]
  float* maxima;   // [panels][kPanel]
  float* sums;     // [panels][kPanel]
};

// Scores that the rule hides become −infinity. `scores` [num_keys][kPanel] of keys first_key.. of the sequence.
void HideScores(std::span<const size_t> ends, const QueryPanel& panel, size_t first_key, size_t num_keys,
                float* HWY_RESTRICT scores) {
  for (size_t key = std::max(first_key, panel.full); key < first_key + num_keys; ++key) {
    float* const row = scores + (key - first_key) * kPanel;
    std::fill(row, row + (FirstObserver(ends, key) - panel.first), -std::numeric_limits<float>::infinity());
  }
}

// Scores (base 2) [num_keys][kPanel] → weights in place; updates the panel's maxima, sums and out [D][kPanel].
void UpdateSoftmax(float* HWY_RESTRICT scores, size_t num_keys, size_t head_dim, float* HWY_RESTRICT maxima,
                   float* HWY_RESTRICT sums, float* HWY_RESTRICT out) {
  const DF df;
  const VF old0 = hn::LoadU(df, maxima), old1 = hn::LoadU(df, maxima + kLanes);
  VF max0 = old0, max1 = old1;
  for (size_t j = 0; j < num_keys * kPanel; j += kPanel) {
    max0 = hn::Max(max0, hn::LoadU(df, scores + j));
    max1 = hn::Max(max1, hn::LoadU(df, scores + j + kLanes));
  }
  VF sum0 = hn::Zero(df), sum1 = hn::Zero(df);
  for (size_t j = 0; j < num_keys * kPanel; j += kPanel) {
    const VF weight0 = Exp2(df, hn::Sub(hn::LoadU(df, scores + j), max0));
    const VF weight1 = Exp2(df, hn::Sub(hn::LoadU(df, scores + j + kLanes), max1));
    sum0 = hn::Add(sum0, weight0);
    sum1 = hn::Add(sum1, weight1);
    hn::StoreU(weight0, df, scores + j);
    hn::StoreU(weight1, df, scores + j + kLanes);
  }
  const VF factor0 = Exp2(df, hn::Sub(old0, max0)), factor1 = Exp2(df, hn::Sub(old1, max1));
  hn::StoreU(max0, df, maxima);
  hn::StoreU(max1, df, maxima + kLanes);
  hn::StoreU(hn::MulAdd(factor0, hn::LoadU(df, sums), sum0), df, sums);
  hn::StoreU(hn::MulAdd(factor1, hn::LoadU(df, sums + kLanes), sum1), df, sums + kLanes);
  if (hn::AllTrue(df, hn::Eq(old0, max0)) && hn::AllTrue(df, hn::Eq(old1, max1))) return;
  for (size_t d = 0; d < head_dim * kPanel; d += kPanel) {
    hn::StoreU(hn::Mul(factor0, hn::LoadU(df, out + d)), df, out + d);
    hn::StoreU(hn::Mul(factor1, hn::LoadU(df, out + d + kLanes)), df, out + d + kLanes);
  }
}

// One panel against the gathered block of keys first_key..; the first block starts the panel's state.
void AttendPanel(const Workspace& ws, std::span<const size_t> ends, const QueryPanel& panel, size_t index,
                 size_t first_key, size_t num_keys, size_t head_dim) {
  float* const queries = ws.queries + index * head_dim * kPanel;
  float* const out = ws.outs + index * head_dim * kPanel;
  const EvenTiles keys(num_keys);
  for (size_t t = 0; t < keys.count; ++t) {
    MultiplyTile<float>(keys.size(t), ws.keys + keys.begin(t) * ws.key_stride, ws.key_stride, queries, head_dim, false,
                        ws.weights + keys.begin(t) * kPanel, kPanel);
  }
  HideScores(ends, panel, first_key, num_keys, ws.weights);
  if (first_key == 0) {
    std::fill_n(ws.maxima + index * kPanel, kPanel, -std::numeric_limits<float>::infinity());
    std::fill_n(ws.sums + index * kPanel, kPanel, 0.0f);
    std::fill_n(out, head_dim * kPanel, 0.0f);
  }
  UpdateSoftmax(ws.weights, num_keys, head_dim, ws.maxima + index * kPanel, ws.sums + index * kPanel, out);
  const EvenTiles dims(head_dim);
  for (size_t t = 0; t < dims.count; ++t) {
    MultiplyTile<float>(dims.size(t), ws.values + dims.begin(t) * kValueStride, kValueStride, ws.weights, num_keys, true,
                        out + dims.begin(t) * kPanel, kPanel);
  }
}

// outs / sums → rows of out; ln of the sums.
void StorePanel(const CausalAttentionArgs& args, const Workspace& ws, size_t row, size_t head, size_t num_queries,
                size_t index) {
  const DF df;
  const size_t head_dim = args.head_dim;
  float* const out = ws.outs + index * head_dim * kPanel;
  for (size_t half = 0; half < kPanel; half += kLanes) {
    const VF sum = hn::LoadU(df, ws.sums + index * kPanel + half);
    const VF inverse = hn::Div(hn::Set(df, 1.0f), sum);
    for (size_t d = half; d < head_dim * kPanel; d += kPanel) {
      hn::StoreU(hn::Mul(inverse, hn::LoadU(df, out + d)), df, out + d);
    }
    const VF maximum = hn::LoadU(df, ws.maxima + index * kPanel + half);
    hn::StoreU(hn::MulAdd(maximum, hn::Set(df, kLn2), hn::Log(df, sum)), df, ws.sums + index * kPanel + half);
  }
  Transpose(out, kPanel, head_dim, num_queries, args.out + row * args.out_stride + head * head_dim, args.out_stride);
  if (args.log_sums == nullptr) return;
  for (size_t i = 0; i < num_queries; ++i) {
    args.log_sums[(row + i) * args.num_heads + head] = ws.sums[index * kPanel + i];
  }
}

void AttendGroup(const CausalAttentionArgs& args, const CausalSequence& sequence, size_t head, const QueryGroup& group,
                 const Workspace& ws) {
  const size_t head_dim = args.head_dim, width = args.num_heads * head_dim, stride = args.qkv_stride;
  const float* const qkv = args.qkv + sequence.first_row * stride + head * head_dim;
  for (size_t p = 0; p < group.count; ++p) {
    PackTransposed(qkv + group.panels[p].first * stride, stride, group.panels[p].size, head_dim,
                   args.softmax_factor * kLog2E, ws.queries + p * head_dim * kPanel);
  }
  for (size_t first_key = 0; first_key < group.visible(); first_key += kKeyBlock) {
    const size_t num_keys = std::min(kKeyBlock, group.visible() - first_key);
    const float* const keys = qkv + first_key * stride + width;
    CopyRows(keys, stride, num_keys, head_dim, ws.keys, ws.key_stride);
    Transpose(keys + width, stride, num_keys, head_dim, ws.values, kValueStride);
    for (size_t p = 0; p < group.count; ++p) {
      const QueryPanel& panel = group.panels[p];
      if (panel.visible <= first_key) continue;
      AttendPanel(ws, sequence.ends, panel, p, first_key, std::min(num_keys, panel.visible - first_key), head_dim);
    }
  }
  for (size_t p = 0; p < group.count; ++p) {
    const QueryPanel& panel = group.panels[p];
    StorePanel(args, ws, sequence.first_row + panel.first, head, panel.size, p);
  }
}

void CausalAttentionOnTarget(Context& context, const CausalAttentionArgs& args) {
  // A head's queries are split only when heads alone cannot keep every thread busy: each group gathers its keys again.
  // A query's result depends on neither.
  const size_t num_heads = args.sequences.size() * args.num_heads;
  const size_t wanted = context.pool().size() == 1 ? 1 : 2 * context.pool().size();
  const size_t num_parts = (wanted + num_heads - 1) / num_heads;
  context.pool().ParallelFor(num_heads * num_parts, [&](size_t task, size_t worker) {
    const CausalSequence& sequence = args.sequences[task / (num_parts * args.num_heads)];
    const size_t head = task / num_parts % args.num_heads, part = task % num_parts;
    const Workspace ws(context.scratch<float>(worker), args.head_dim);
    const size_t num_rows = sequence.ends.empty() ? 0 : sequence.ends.back();
    const size_t max_panels =
        num_parts == 1 ? ws.max_panels : std::clamp<size_t>(num_rows / (2 * num_parts * kPanel), 1, ws.max_panels);
    size_t index = 0;
    for (QueryGroup group(sequence.ends, 0, kPanel, max_panels); group.count != 0;
         group = QueryGroup(sequence.ends, group.end(), kPanel, max_panels)) {
      if (index++ % num_parts == part) AttendGroup(args, sequence, head, group, ws);
    }
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace nextscale
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nextscale {

HWY_EXPORT(CausalAttentionOnTarget);

void CausalAttention(Context& context, const CausalAttentionArgs& args) {
  CheckCausalAttention(args);
  if (args.sequences.empty()) return;
  HWY_DYNAMIC_DISPATCH(CausalAttentionOnTarget)(context, args);
}

}  // namespace nextscale
#endif  // HWY_ONCE
