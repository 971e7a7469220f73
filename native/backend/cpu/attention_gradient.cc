// Gradient of attention over all scales of a sequence: weights are made again from the kept sums, block by block.
//
// A task is a head of a sequence. It walks blocks of keys; for each panel of queries that sees the block it makes, all
// [keys, queries]: the weights P, dP = V · dOᵀ, dS = P ∘ (dP − D); then dV += P · dO, dK += dS · Q, and dQᵀ = Kᵀ · dS,
// which is added to the queries' rows. Blocks are cut by the sequence alone.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/backend/cpu/attention_gradient.cc"
#include "native/backend/cpu/simd.h"
// Re-includes this file for every target.
#include <hwy/foreach_target.h>

#include <algorithm>
#include <limits>

#include "native/backend/cpu/causal-inl.h"
#include "native/backend/cpu/kernels.h"
#include "native/ops/check_gradient.h"

HWY_BEFORE_NAMESPACE();
namespace nextscale {
namespace HWY_NAMESPACE {
namespace {

constexpr size_t kMaxKeyBlock = 160;
constexpr size_t kBlockStride = PaddedStride(kMaxKeyBlock);

// One head of one sequence; a worker's scratch.
struct Job {
  Job(const AttentionGradientArgs& job_args, const CausalSequence& job_sequence, size_t head, float* scratch)
      : args(job_args),
        sequence(job_sequence),
        head_index(head),
        dim(args.head_dim),
        width(args.num_heads * dim),
        padded(RoundUp(dim, kPanel)),
        sum_stride(PaddedStride(padded)) {
    const auto take = [&](size_t floats) {
      float* const taken = scratch;
      scratch += RoundUp(floats, 16);
      return taken;
    };
    keys = take(dim * kBlockStride);
    dkeys = take(kMaxKeyBlock * sum_stride);
    dvalues = take(kMaxKeyBlock * sum_stride);
    queries = take(dim * kPanel);
    douts = take(dim * kPanel);
    query_rows = take(padded * kPanel);
    dout_rows = take(padded * kPanel);
    weights = take(kMaxKeyBlock * kPanel);
    dweights = take(kMaxKeyBlock * kPanel);
    dqueries = take(dim * kPanel);
    log_sums = take(kPanel);
    products = take(kPanel);
  }
  // Row of q (0), k (1) or v (2).
  const float* Row(size_t row, size_t part) const {
    return args.qkv + (sequence.first_row + row) * args.qkv_stride + part * width + head_index * dim;
  }
  float* GradientRow(size_t row, size_t part) const {
    return args.dqkv + (sequence.first_row + row) * args.qkv_stride + part * width + head_index * dim;
  }
  size_t OutOffset(size_t row) const { return (sequence.first_row + row) * args.out_stride + head_index * dim; }

  const AttentionGradientArgs& args;
  const CausalSequence& sequence;
  size_t head_index, dim, width, padded, sum_stride;
  float* keys;                    // [D, kBlockStride]: the block's keys, transposed
  float *dkeys, *dvalues;         // [kMaxKeyBlock, sum_stride]
  float *queries, *douts;         // [D][kPanel]
  float *query_rows, *dout_rows;  // panels [D / kPanel][queries][kPanel]
  float *weights, *dweights;      // [keys][kPanel]
  float* dqueries;                // [D][kPanel]
  float *log_sums, *products;     // [kPanel]; products: D = Σ dout · out
};

// Everything about a panel of queries that does not depend on the keys.
void LoadPanel(const Job& job, const QueryPanel& panel) {
  const AttentionGradientArgs& args = job.args;
  const float* const dout = args.dout + job.OutOffset(panel.first);
  PackTransposed(job.Row(panel.first, 0), args.qkv_stride, panel.size, job.dim, 1.0f, job.queries);
  PackTransposed(dout, args.out_stride, panel.size, job.dim, 1.0f, job.douts);
  PackRows(job.Row(panel.first, 0), args.qkv_stride, panel.size, job.dim, job.query_rows);
  PackRows(dout, args.out_stride, panel.size, job.dim, job.dout_rows);
  std::fill_n(job.log_sums, kPanel, 0.0f);
  std::fill_n(job.products, kPanel, 0.0f);
  for (size_t i = 0; i < panel.size; ++i) {
    job.log_sums[i] = args.log_sums[(job.sequence.first_row + panel.first + i) * args.num_heads + job.head_index];
    const float* const out = args.out + job.OutOffset(panel.first + i);
    float sum = 0;
    for (size_t d = 0; d < job.dim; ++d) sum += dout[i * args.out_stride + d] * out[d];
    job.products[i] = sum;
  }
}

// left [keys, dim] (rows of qkv) times the packed panel → out [keys][kPanel].
void MultiplyKeys(const Job& job, const float* left, const float* panel, size_t num_keys, float* out) {
  const EvenTiles tiles(num_keys);
  for (size_t t = 0; t < tiles.count; ++t) {
    MultiplyTile<float>(tiles.size(t), left + tiles.begin(t) * job.args.qkv_stride, job.args.qkv_stride, panel, job.dim,
                        false, out + tiles.begin(t) * kPanel, kPanel);
  }
}

// sums [keys, padded] += left [keys][kPanel] · rows (panels of num_queries).
void AddProducts(const Job& job, const float* left, const float* rows, size_t num_queries, size_t num_keys,
                 float* sums) {
  const EvenTiles tiles(num_keys);
  for (size_t d = 0; d < job.padded; d += kPanel) {
    for (size_t t = 0; t < tiles.count; ++t) {
      MultiplyTile<float>(tiles.size(t), left + tiles.begin(t) * kPanel, kPanel, rows + d * num_queries, num_queries,
                          true, sums + tiles.begin(t) * job.sum_stride + d, job.sum_stride);
    }
  }
}

// Scores in `weights` → P; dP in `dweights` → dS, with the softmax factor.
void MakeWeights(const Job& job, const QueryPanel& panel, size_t first_key, size_t num_keys) {
  const DF df;
  const std::span<const size_t> ends = job.sequence.ends;
  for (size_t key = std::max(first_key, panel.full); key < first_key + num_keys; ++key) {
    float* const row = job.weights + (key - first_key) * kPanel;
    std::fill(row, row + (FirstObserver(ends, key) - panel.first), -std::numeric_limits<float>::infinity());
  }
  const VF factor = hn::Set(df, job.args.softmax_factor);
  for (size_t half = 0; half < kPanel; half += kLanes) {
    const VF log_sum = hn::LoadU(df, job.log_sums + half), product = hn::LoadU(df, job.products + half);
    for (size_t i = half; i < num_keys * kPanel; i += kPanel) {
      const VF weight = Exp(df, hn::MulSub(factor, hn::LoadU(df, job.weights + i), log_sum));
      const VF slope = hn::Mul(hn::Mul(weight, factor), hn::Sub(hn::LoadU(df, job.dweights + i), product));
      hn::StoreU(weight, df, job.weights + i);
      hn::StoreU(slope, df, job.dweights + i);
    }
  }
}

// The part of dQ that a block of keys gives; the first block begins the sum.
void AddToQueries(const Job& job, const QueryPanel& panel, size_t first_key, size_t num_keys) {
  const EvenTiles dims(job.dim);
  for (size_t t = 0; t < dims.count; ++t) {
    MultiplyTile<float>(dims.size(t), job.keys + dims.begin(t) * kBlockStride, kBlockStride, job.dweights, num_keys,
                        false, job.dqueries + dims.begin(t) * kPanel, kPanel);
  }
  if (first_key == 0) {
    Transpose(job.dqueries, kPanel, job.dim, panel.size, job.GradientRow(panel.first, 0), job.args.qkv_stride);
    return;
  }
  for (size_t i = 0; i < panel.size; ++i) {
    float* const row = job.GradientRow(panel.first + i, 0);
    for (size_t d = 0; d < job.dim; ++d) row[d] += job.dqueries[d * kPanel + i];
  }
}

void RunKeyBlock(const Job& job, size_t first_key, size_t num_keys) {
  const std::span<const size_t> ends = job.sequence.ends;
  Transpose(job.Row(first_key, 1), job.args.qkv_stride, num_keys, job.dim, job.keys, kBlockStride);
  std::fill_n(job.dkeys, num_keys * job.sum_stride, 0.0f);
  std::fill_n(job.dvalues, num_keys * job.sum_stride, 0.0f);
  // The first query that sees any of these keys begins the scale of the first one.
  for (size_t query = FirstObserver(ends, first_key); query < ends.back();) {
    const QueryPanel panel = NextPanel(ends, query, kPanel);
    query += panel.size;
    if (panel.visible <= first_key) continue;
    const size_t seen = std::min(num_keys, panel.visible - first_key);
    LoadPanel(job, panel);
    MultiplyKeys(job, job.Row(first_key, 1), job.queries, seen, job.weights);
    MultiplyKeys(job, job.Row(first_key, 2), job.douts, seen, job.dweights);
    MakeWeights(job, panel, first_key, seen);
    AddProducts(job, job.weights, job.dout_rows, panel.size, seen, job.dvalues);
    AddProducts(job, job.dweights, job.query_rows, panel.size, seen, job.dkeys);
    AddToQueries(job, panel, first_key, seen);
  }
  for (size_t j = 0; j < num_keys; ++j) {
    std::copy_n(job.dkeys + j * job.sum_stride, job.dim, job.GradientRow(first_key + j, 1));
    std::copy_n(job.dvalues + j * job.sum_stride, job.dim, job.GradientRow(first_key + j, 2));
  }
}

void AttentionGradientOnTarget(Context& context, const AttentionGradientArgs& args) {
  context.pool().ParallelFor(args.sequences.size() * args.num_heads, [&](size_t task, size_t worker) {
    const CausalSequence& sequence = args.sequences[task / args.num_heads];
    const Job job(args, sequence, task % args.num_heads, context.scratch<float>(worker));
    const size_t num_rows = sequence.ends.back();
    const size_t num_blocks = (num_rows + kMaxKeyBlock - 1) / kMaxKeyBlock;
    for (size_t block = 0; block < num_blocks; ++block) {
      const size_t first = block * num_rows / num_blocks;
      RunKeyBlock(job, first, (block + 1) * num_rows / num_blocks - first);
    }
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace nextscale
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nextscale {

HWY_EXPORT(AttentionGradientOnTarget);

void AttentionGradient(Context& context, const AttentionGradientArgs& args) {
  CheckAttentionGradient(args);
  if (args.sequences.empty()) return;
  HWY_DYNAMIC_DISPATCH(AttentionGradientOnTarget)(context, args);
}

}  // namespace nextscale
#endif  // HWY_ONCE
