// Splitting into heads, and one-pass attention.
//
// A task is one head of one sequence (or a part of its queries). It walks the keys in blocks of fixed size: keys and
// values of the block are gathered into packed panels once, then every tile of queries multiplies with them, keeping a
// running maximum and sum (online softmax, Milakov & Gimelshein 2018). Scores live in a tile that never leaves the
// first cache.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/backend/cpu/attention.cc"
#include "native/backend/cpu/simd.h"
// Re-includes this file for every target.
#include <hwy/foreach_target.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "native/backend/cpu/kernels.h"
#include "native/backend/cpu/microkernel-inl.h"
#include "native/base/error.h"
#include "native/ops/attention.h"
#include "native/ops/check.h"

HWY_BEFORE_NAMESPACE();
namespace nextscale {
namespace HWY_NAMESPACE {
namespace {

constexpr size_t RoundUp(size_t count, size_t unit) { return (count + unit - 1) / unit * unit; }

// Row `index` (slots first, then the tail) of a sequence's keys and values: [K (width) | V (width)].
template <typename T>
T* KvRow(const KvView& kv, size_t index, size_t width) {
  if (index < kv.slots.size()) return reinterpret_cast<T*>(kv.pool) + 2 * width * kv.slots[index];
  const size_t stride = kv.tail_stride == 0 ? 2 * width : kv.tail_stride;
  return reinterpret_cast<T*>(kv.tail) + stride * (index - kv.slots.size());
}

// ------------------------------------------------------------------ splitting into heads

// out = x / max(‖x‖, 1e-12) · factor. May be in place. Returns max(‖x‖, 1e-12).
float NormalizeHead(const float* x, size_t head_dim, float factor, float* out) {
  const DF df;
  VF sum = hn::Zero(df);
  size_t d = 0;
  for (; d + kLanes <= head_dim; d += kLanes) {
    const VF v = hn::LoadU(df, x + d);
    sum = hn::MulAdd(v, v, sum);
  }
  float total = hn::GetLane(hn::SumOfLanes(df, sum));
  for (; d < head_dim; ++d) total += x[d] * x[d];
  const float norm = std::max(std::sqrt(total), 1e-12f);
  factor /= norm;
  for (d = 0; d + kLanes <= head_dim; d += kLanes) {
    hn::StoreU(hn::Mul(hn::LoadU(df, x + d), hn::Set(df, factor)), df, out + d);
  }
  for (; d < head_dim; ++d) out[d] = x[d] * factor;
  return norm;
}

template <typename T>
void SplitRow(const SplitHeadsArgs& args, const AttentionSequence& sequence, size_t row, float* scratch) {
  const size_t width = args.num_heads * args.head_dim;
  float* q = static_cast<float*>(args.qkv) + (sequence.compact_row + row) * args.qkv_stride;  // q | k | v
  const float* k = q + width;
  if (args.head_factor != nullptr) {
    for (size_t h = 0; h < args.num_heads; ++h) {
      float* head = q + h * args.head_dim;
      const float q_norm = NormalizeHead(head, args.head_dim, args.head_factor[h], head);
      const float k_norm = NormalizeHead(head + width, args.head_dim, 1.0f, scratch + h * args.head_dim);
      if (args.inverse_norms == nullptr) continue;
      float* const inverse = args.inverse_norms + (sequence.compact_row + row) * 2 * args.num_heads + h;
      inverse[0] = 1.0f / q_norm;
      inverse[args.num_heads] = 1.0f / k_norm;
    }
    k = scratch;
  }
  const size_t num_keys = sequence.kv.slots.size() + sequence.kv.tail_rows;
  T* to = KvRow<T>(sequence.kv, num_keys - sequence.num_rows + row, width);
  // A tail may be the k | v columns themselves.
  if (static_cast<const void*>(to) != k) NarrowRow(k, width, to);
  if (static_cast<const void*>(to) != q + width) NarrowRow(q + 2 * width, width, to + width);
}

void SplitOnTarget(Context& context, const SplitHeadsArgs& args) {
  constexpr size_t kTaskRows = 8;
  size_t num_tasks = 0;
  for (const AttentionSequence& sequence : args.sequences) num_tasks += (sequence.num_rows + kTaskRows - 1) / kTaskRows;
  context.pool().ParallelFor(num_tasks, [&](size_t task, size_t worker) {
    const AttentionSequence* sequence = args.sequences.data();
    for (size_t here; task >= (here = (sequence->num_rows + kTaskRows - 1) / kTaskRows); ++sequence) task -= here;
    float* scratch = context.scratch<float>(worker);
    for (size_t row = task * kTaskRows; row < std::min(sequence->num_rows, (task + 1) * kTaskRows); ++row) {
      switch (sequence->kv.dtype) {
        case DType::kF32:
          SplitRow<float>(args, *sequence, row, scratch);
          break;
        case DType::kF16:
          SplitRow<hwy::float16_t>(args, *sequence, row, scratch);
          break;
        case DType::kBF16:
          SplitRow<hwy::bfloat16_t>(args, *sequence, row, scratch);
          break;
      }
    }
  });
}

// ------------------------------------------------------------------ attention

constexpr size_t kKeyBlock = 128;
static_assert(kKeyBlock % kPanel == 0);

// A worker's scratch for one task; sizes in floats.
struct Workspace {
  Workspace(float* scratch, size_t head_dim)
      : padded(RoundUp(head_dim, kPanel)),
        // Not a multiple of 4096 bytes: see the microkernel.
        q_stride(RoundUp(head_dim, kLanes) + kLanes),
        rows(scratch),
        keys(rows + kPanel * RoundUp(head_dim, 16)),
        values(keys + kKeyBlock * RoundUp(head_dim, 16)),
        scores(values + kKeyBlock * padded),
        state(scores + RoundUp(kTileRows, 16) * kKeyBlock) {
    const size_t used = static_cast<size_t>(state - scratch);
    // Per query: q, output, lane sums, maximum.
    max_queries = (Context::kScratchBytes / sizeof(float) - used) / (q_stride + padded + kLanes + 1);
  }
  // Carves the state of `num_queries` queries.
  void Carve(size_t num_queries) {
    out = state;
    sums = out + num_queries * padded;
    q = sums + num_queries * kLanes;
    maxima = q + num_queries * q_stride;
  }

  size_t padded;  // head_dim rounded up to whole panels
  size_t q_stride;
  float* rows;    // [kPanel, D]: keys of one panel before the transpose
  float* keys;    // [kKeyBlock / kPanel][D][kPanel]
  float* values;  // [padded / kPanel][kKeyBlock][kPanel]
  float* scores;  // [kTileRows, kKeyBlock]
  float* state;
  size_t max_queries = 0;
  float* out = nullptr;     // [queries, padded]
  float* sums = nullptr;    // [queries, kLanes]: sum of weights, per lane
  float* q = nullptr;       // [queries, q_stride]
  float* maxima = nullptr;  // [queries]
};

// Gathers keys first..first+count of one head into ws.keys and ws.values.
template <typename T>
void GatherBlock(const KvView& kv, size_t width, size_t head_offset, size_t head_dim, size_t first, size_t count,
                 const Workspace& ws) {
  for (size_t panel = 0; panel < count; panel += kPanel) {
    const size_t num_keys = std::min(kPanel, count - panel);
    for (size_t j = 0; j < num_keys; ++j) {
      const T* row = KvRow<T>(kv, first + panel + j, width) + head_offset;
      WidenRow(row, head_dim, ws.rows + j * head_dim);
      for (size_t d = 0; d < head_dim; d += kPanel) {
        float* to = ws.values + (d / kPanel * kKeyBlock + panel + j) * kPanel;
        const size_t size = std::min(kPanel, head_dim - d);
        WidenRow(row + width + d, size, to);
        std::fill(to + size, to + kPanel, 0.0f);
      }
    }
    PackPanel(reinterpret_cast<const std::byte*>(ws.rows), head_dim, num_keys, head_dim, kPanel,
              reinterpret_cast<uint32_t*>(ws.keys + panel * head_dim));
  }
}

// One row of scores (base 2) → weights in place; updates the query's maximum, lane sums and output factor.
HWY_INLINE void UpdateSoftmax(float* HWY_RESTRICT scores, size_t count, float* HWY_RESTRICT maximum,
                              float* HWY_RESTRICT sums, float* HWY_RESTRICT out, size_t out_width) {
  const DF df;
  VF largest = hn::LoadU(df, scores);
  for (size_t j = kLanes; j < count; j += kLanes) largest = hn::Max(largest, hn::LoadU(df, scores + j));
  const float block_maximum = hn::GetLane(hn::MaxOfLanes(df, largest));
  VF sum = hn::LoadU(df, sums);
  if (block_maximum > *maximum) {
    const VF factor = Exp2(df, hn::Set(df, *maximum - block_maximum));
    *maximum = block_maximum;
    sum = hn::Mul(sum, factor);
    for (size_t d = 0; d < out_width; d += kLanes) hn::StoreU(hn::Mul(factor, hn::LoadU(df, out + d)), df, out + d);
  }
  const VF shift = hn::Set(df, *maximum);
  for (size_t j = 0; j < count; j += kLanes) {
    const VF weight = Exp2(df, hn::Sub(hn::LoadU(df, scores + j), shift));
    sum = hn::Add(sum, weight);
    hn::StoreU(weight, df, scores + j);
  }
  hn::StoreU(sum, df, sums);
}

// One tile of queries against the gathered block of `count` keys.
void AttendTile(const Workspace& ws, size_t query, size_t rows, size_t head_dim, size_t count) {
  const size_t padded_count = RoundUp(count, kPanel);
  for (size_t panel = 0; panel < count; panel += kPanel) {
    MultiplyTile<float>(rows, ws.q + query * ws.q_stride, ws.q_stride, ws.keys + panel * head_dim, head_dim, false,
                        ws.scores + panel, kKeyBlock);
  }
  for (size_t r = 0; r < rows; ++r) {
    float* scores = ws.scores + r * kKeyBlock;
    std::fill(scores + count, scores + padded_count, -std::numeric_limits<float>::infinity());
    UpdateSoftmax(scores, padded_count, ws.maxima + query + r, ws.sums + (query + r) * kLanes,
                  ws.out + (query + r) * ws.padded, ws.padded);
  }
  for (size_t d = 0; d < ws.padded; d += kPanel) {
    MultiplyTile<float>(rows, ws.scores, kKeyBlock, ws.values + d * kKeyBlock, count, true,
                        ws.out + query * ws.padded + d, ws.padded);
  }
}

// Queries [first, first + count) of one head of one sequence.
void AttendQueries(const AttentionArgs& args, const AttentionSequence& sequence, size_t head, size_t first,
                   size_t count, Workspace& ws) {
  const DF df;
  const size_t head_dim = args.head_dim, width = args.num_heads * head_dim;
  const KvView& kv = sequence.kv;
  ws.Carve(count);
  std::fill_n(ws.out, count * ws.padded, 0.0f);
  std::fill_n(ws.sums, count * kLanes, 0.0f);
  std::fill_n(ws.maxima, count, -std::numeric_limits<float>::infinity());
  const float factor = args.softmax_factor * 1.44269504088896340736f;  // weights are powers of two
  for (size_t i = 0; i < count; ++i) {
    const float* q =
        static_cast<const float*>(args.q) + (sequence.compact_row + first + i) * args.q_stride + head * head_dim;
    for (size_t d = 0; d < head_dim; ++d) ws.q[i * ws.q_stride + d] = q[d] * factor;
  }
  const EvenTiles tiles(count);
  const size_t num_keys = kv.slots.size() + kv.tail_rows;
  for (size_t key = 0; key < num_keys; key += kKeyBlock) {
    const size_t block = std::min(kKeyBlock, num_keys - key);
    switch (kv.dtype) {
      case DType::kF32:
        GatherBlock<float>(kv, width, head * head_dim, head_dim, key, block, ws);
        break;
      case DType::kF16:
        GatherBlock<hwy::float16_t>(kv, width, head * head_dim, head_dim, key, block, ws);
        break;
      case DType::kBF16:
        GatherBlock<hwy::bfloat16_t>(kv, width, head * head_dim, head_dim, key, block, ws);
        break;
    }
    for (size_t t = 0; t < tiles.count; ++t) AttendTile(ws, tiles.begin(t), tiles.size(t), head_dim, block);
  }
  for (size_t i = 0; i < count; ++i) {
    float* out = static_cast<float*>(args.out) + (sequence.compact_row + first + i) * args.out_stride + head * head_dim;
    const float sum = hn::GetLane(hn::SumOfLanes(df, hn::LoadU(df, ws.sums + i * kLanes)));
    const float inverse = 1.0f / sum;
    if (args.log_sums != nullptr) {  // maxima are powers of two's exponents
      args.log_sums[(sequence.compact_row + first + i) * args.num_heads + head] =
          ws.maxima[i] * 0.69314718055994530942f + std::log(sum);
    }
    for (size_t d = 0; d < head_dim; ++d) out[d] = ws.out[i * ws.padded + d] * inverse;
  }
}

void AttentionOnTarget(Context& context, const AttentionArgs& args) {
  // Split a head's queries only when heads alone cannot keep every thread busy: each part gathers the keys again.
  const size_t num_heads = args.sequences.size() * args.num_heads;
  const size_t wanted = context.pool().size() == 1 ? 1 : 2 * context.pool().size();
  const size_t num_parts = (wanted + num_heads - 1) / num_heads;
  context.pool().ParallelFor(num_heads * num_parts, [&](size_t task, size_t worker) {
    const AttentionSequence& sequence = args.sequences[task / (num_parts * args.num_heads)];
    const size_t head = task / num_parts % args.num_heads, part = task % num_parts;
    const size_t tiles = EvenTiles(sequence.num_rows).count;
    const size_t end = std::min(sequence.num_rows, (part + 1) * tiles / num_parts * kTileRows);
    Workspace ws(context.scratch<float>(worker), args.head_dim);
    for (size_t first = part * tiles / num_parts * kTileRows; first < end;) {
      const size_t count = std::min(end - first, ws.max_queries);
      AttendQueries(args, sequence, head, first, count, ws);
      first += count;
    }
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace nextscale
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nextscale {

HWY_EXPORT(SplitOnTarget);
HWY_EXPORT(AttentionOnTarget);

void SplitHeads(Context& context, const SplitHeadsArgs& args) {
  CheckSplitHeads(args);
  CheckFloat(args.dtype, "split heads: qkv");
  HWY_DYNAMIC_DISPATCH(SplitOnTarget)(context, args);
}

void Attention(Context& context, const AttentionArgs& args) {
  CheckAttention(args);
  CheckFloat(args.dtype, "attention: q and out");
  if (args.sequences.empty()) return;
  HWY_DYNAMIC_DISPATCH(AttentionOnTarget)(context, args);
}

}  // namespace nextscale
#endif  // HWY_ONCE
