// Attention over rows of the pool: one pass, online softmax in base 2, scores only in registers.
//
// A warp has 16 queries of one head; blocks of 64 keys start at key 0, so a row's result depends on its own sequence
// only, in every shape of block.
#pragma once

#include "native/backend/cuda/kernels/thread.h"

namespace nextscale::cuda::NS_SIDE {

inline constexpr float kLog2E = 1.4426950408889634f;
NS_DEVICE float NegativeInfinity() { return FloatFromBits(0xFF800000u); }

// Starts the copies of one block of keys and their values; rows past the last key become zeros.
template <typename T, typename Shape>
NS_DEVICE void LoadKeys(const Thread& thread, const AttentionCall& args, const SequenceRows& sequence, uint32_t head,
                        uint32_t first_key, unsigned char* keys) {
  const uint64_t row_bytes = uint64_t{4} * args.num_heads * args.head_dim;  // K | V, two bytes each
  for (int index = thread.index(); index < kKeyBlock * Shape::kPieces; index += Shape::kThreads) {
    const uint32_t row = static_cast<uint32_t>(index / Shape::kPieces);
    const uint32_t piece = static_cast<uint32_t>(index % Shape::kPieces);
    const bool inside = first_key + row < sequence.num_keys && piece * 8 < args.head_dim;
    const unsigned char* from = static_cast<const unsigned char*>(args.q);  // any valid address
    if (inside) {
      from = KvRow(args.kv, args.slots[sequence.first_slot + first_key + row], row_bytes) +
             (uint64_t{head} * args.head_dim + piece * 8) * 2;
    }
    const uint32_t offset = SwizzledOffset<Shape::kPieces>(row, piece);
    thread.CopyAsync(keys + offset, from, inside);
    thread.CopyAsync(keys + Shape::kBlockBytes + offset, inside ? from + row_bytes / 2 : from, inside);
  }
}

// Of a lane's two rows of scores (accumulator rows lane / 4 and lane / 4 + 8): largest, sum and weighted values so far.
template <int kHeadDim>
struct SoftmaxState {
  float largest[2], sum[2];
  float out[kHeadDim / 8][4];
};

// Scores of 16 queries and 64 keys, times factor · log2 e; −∞ past the last key.
template <typename T, typename Shape>
NS_DEVICE void Scores(const Thread& thread, const uint32_t (&q)[Shape::kHeadDim / 16][4], const unsigned char* keys,
                      int num_keys, float factor, float (&scores)[kKeyBlock / 8][4]) {
  const int lane = thread.lane();
  NS_UNROLL
  for (int step = 0; step < Shape::kHeadDim / 16; ++step) {
    NS_UNROLL
    for (int j = 0; j < kKeyBlock / 16; ++j) {
      uint32_t k[4];
      thread.LoadMatrices(k, keys + SwizzledOffset<Shape::kPieces>(static_cast<uint32_t>(j * 16 + LoadBRow(lane)),
                                                                   static_cast<uint32_t>(step * 2 + LoadBChunk(lane))));
      thread.Mma(T{}, scores[2 * j], q[step], k[0], k[1]);
      thread.Mma(T{}, scores[2 * j + 1], q[step], k[2], k[3]);
    }
  }
  NS_UNROLL
  for (int j = 0; j < kKeyBlock / 8; ++j) {
    NS_UNROLL
    for (int e = 0; e < 4; ++e) {
      scores[j][e] = j * 8 + AccumulatorColumn(lane, e) < num_keys ? scores[j][e] * factor : NegativeInfinity();
    }
  }
}

// Scores become weights relative to the new largest; what was summed so far is brought to it.
template <typename Shape>
NS_DEVICE void Rescale(const Thread& thread, float (&scores)[kKeyBlock / 8][4], SoftmaxState<Shape::kHeadDim>& state) {
  NS_UNROLL
  for (int half = 0; half < 2; ++half) {
    float largest = state.largest[half];
    NS_UNROLL
    for (int j = 0; j < kKeyBlock / 8; ++j) {
      largest = scores[j][half * 2] > largest ? scores[j][half * 2] : largest;
      largest = scores[j][half * 2 + 1] > largest ? scores[j][half * 2 + 1] : largest;
    }
    NS_UNROLL
    for (int mask = 1; mask <= 2; mask *= 2) {  // the four lanes of a row
      const float other = thread.ShuffleXor(largest, mask);
      largest = other > largest ? other : largest;
    }
    const float correction = Exp2(state.largest[half] - largest);
    state.largest[half] = largest;
    float sum = state.sum[half] * correction;
    NS_UNROLL
    for (int j = 0; j < kKeyBlock / 8; ++j) {
      NS_UNROLL
      for (int e = half * 2; e < half * 2 + 2; ++e) {
        scores[j][e] = Exp2(scores[j][e] - largest);
        sum += scores[j][e];
      }
    }
    state.sum[half] = sum;
    NS_UNROLL
    for (int j = 0; j < Shape::kHeadDim / 8; ++j) {
      state.out[j][half * 2] *= correction;
      state.out[j][half * 2 + 1] *= correction;
    }
  }
}

// out += weights · values: the accumulators of the scores are, in pairs, the first operand's registers.
template <typename T, typename Shape>
NS_DEVICE void AddValues(const Thread& thread, const float (&weights)[kKeyBlock / 8][4], const unsigned char* values,
                         SoftmaxState<Shape::kHeadDim>& state) {
  const int lane = thread.lane();
  NS_UNROLL
  for (int step = 0; step < kKeyBlock / 16; ++step) {
    const float(&low)[4] = weights[2 * step];
    const float(&high)[4] = weights[2 * step + 1];
    const uint32_t p[4] = {Pack<T>(low[0], low[1]), Pack<T>(low[2], low[3]), Pack<T>(high[0], high[1]),
                           Pack<T>(high[2], high[3])};
    NS_UNROLL
    for (int j = 0; j < Shape::kHeadDim / 16; ++j) {
      uint32_t v[4];
      thread.LoadMatricesTransposed(
          v, values + SwizzledOffset<Shape::kPieces>(static_cast<uint32_t>(step * 16 + LoadARow(lane)),
                                                     static_cast<uint32_t>(j * 2 + LoadAChunk(lane))));
      thread.Mma(T{}, state.out[2 * j], p, v[0], v[1]);
      thread.Mma(T{}, state.out[2 * j + 1], p, v[2], v[3]);
    }
  }
}

// q, out and the pool in format T. head_dim, q_stride and out_stride in multiples of 8, rows 16-byte aligned, every
// sequence with queries has keys. Grid: query tiles × heads × sequences.
template <typename T, typename Shape>
NS_DEVICE void AttentionTile(const Thread& thread, const AttentionCall& args) {
  const SequenceRows sequence = args.sequences[thread.block_z()];
  const uint32_t head = thread.block_y(), query0 = thread.block_x() * Shape::kQueries;
  if (query0 >= sequence.num_rows) return;
  unsigned char* const q_tile = thread.shared();
  unsigned char* const kv_tiles = q_tile + Shape::kQueries * Shape::kHeadDim * 2;
  for (int index = thread.index(); index < Shape::kQueries * Shape::kPieces; index += Shape::kThreads) {
    const uint32_t row = static_cast<uint32_t>(index / Shape::kPieces);
    const uint32_t piece = static_cast<uint32_t>(index % Shape::kPieces);
    const bool inside = query0 + row < sequence.num_rows && piece * 8 < args.head_dim;
    const T* from = static_cast<const T*>(args.q);
    if (inside) {
      from += uint64_t{sequence.compact_row + query0 + row} * args.q_stride + head * args.head_dim + piece * 8;
    }
    thread.CopyAsync(q_tile + SwizzledOffset<Shape::kPieces>(row, piece), from, inside);
  }
  LoadKeys<T, Shape>(thread, args, sequence, head, 0, kv_tiles);
  thread.CopyCommit();

  const int lane = thread.lane(), warp_row = thread.warp() * 16;
  const bool busy = query0 + static_cast<uint32_t>(warp_row) < sequence.num_rows;  // the same for a whole warp
  const float factor = args.softmax_factor * kLog2E;
  uint32_t q[Shape::kHeadDim / 16][4] = {};
  SoftmaxState<Shape::kHeadDim> state{{NegativeInfinity(), NegativeInfinity()}, {0.0f, 0.0f}, {}};
  const uint32_t num_blocks = DivideUp(sequence.num_keys, kKeyBlock);
  for (uint32_t block = 0; block < num_blocks; ++block) {
    thread.template CopyWait<0>();
    thread.Sync();  // this block has arrived, and everyone is done with the other stage
    if (block + 1 < num_blocks) {
      LoadKeys<T, Shape>(thread, args, sequence, head, (block + 1) * kKeyBlock,
                         kv_tiles + (block + 1) % 2 * 2 * Shape::kBlockBytes);
    }
    thread.CopyCommit();
    if (!busy) continue;
    if (block == 0) {
      NS_UNROLL
      for (int step = 0; step < Shape::kHeadDim / 16; ++step) {
        thread.LoadMatrices(
            q[step], q_tile + SwizzledOffset<Shape::kPieces>(static_cast<uint32_t>(warp_row + LoadARow(lane)),
                                                             static_cast<uint32_t>(step * 2 + LoadAChunk(lane))));
      }
    }
    const unsigned char* const keys = kv_tiles + block % 2 * 2 * Shape::kBlockBytes;
    const uint32_t left = sequence.num_keys - block * kKeyBlock;
    float scores[kKeyBlock / 8][4] = {};
    Scores<T, Shape>(thread, q, keys, left < kKeyBlock ? static_cast<int>(left) : kKeyBlock, factor, scores);
    Rescale<Shape>(thread, scores, state);
    AddValues<T, Shape>(thread, scores, keys + Shape::kBlockBytes, state);
  }
  if (!busy) return;
  NS_UNROLL
  for (int half = 0; half < 2; ++half) {
    float sum = state.sum[half];
    sum += thread.ShuffleXor(sum, 1);
    sum += thread.ShuffleXor(sum, 2);
    const uint32_t row = query0 + static_cast<uint32_t>(warp_row + AccumulatorRow(lane, half * 2));
    if (row >= sequence.num_rows) continue;
    const float inverse = 1.0f / sum;
    T* out = static_cast<T*>(args.out) + uint64_t{sequence.compact_row + row} * args.out_stride + head * args.head_dim;
    NS_UNROLL
    for (int j = 0; j < Shape::kHeadDim / 8; ++j) {
      const uint32_t column = static_cast<uint32_t>(j * 8 + AccumulatorColumn(lane, 0));
      if (column >= args.head_dim) continue;
      *reinterpret_cast<uint32_t*>(out + column) =
          Pack<T>(state.out[j][half * 2] * inverse, state.out[j][half * 2 + 1] * inverse);
    }
  }
}

// ------------------------------------------------------------------ any format, head sizes up to 128

// One warp per (row, head), 32 keys at a time, f32 throughout. For checking, and for shapes that tensor cores do not
// take. Grid: DivideUp(max_rows, warps of a block) × heads × sequences.
NS_DEVICE void AttentionPlain(const Thread& thread, const AttentionCall& args) {
  const SequenceRows sequence = args.sequences[thread.block_z()];
  const uint32_t head = thread.block_y(), lane = static_cast<uint32_t>(thread.lane());
  const uint32_t row =
      thread.block_x() * static_cast<uint32_t>(thread.num_threads() / 32) + static_cast<uint32_t>(thread.warp());
  if (row >= sequence.num_rows) return;
  const uint32_t width = args.num_heads * args.head_dim;
  const uint64_t row_bytes = uint64_t{2} * width * ElementBytes(args.kv.dtype);
  const uint64_t q = uint64_t{sequence.compact_row + row} * args.q_stride + head * args.head_dim;
  float largest = NegativeInfinity(), sum = 0.0f, out[kPlainHeadDim / 32] = {};
  for (uint32_t first = 0; first < sequence.num_keys; first += 32) {
    const bool inside = first + lane < sequence.num_keys;
    const uint32_t slot = args.slots[sequence.first_slot + (inside ? first + lane : first)];
    const unsigned char* keys = KvRow(args.kv, slot, row_bytes);
    float score = 0.0f;
    for (uint32_t d = 0; d < args.head_dim; ++d) {
      score = Fma(Load(args.dtype, args.q, q + d), Load(args.kv.dtype, keys, head * args.head_dim + d), score);
    }
    score = inside ? score * args.softmax_factor : NegativeInfinity();
    float now = score > largest ? score : largest;
    for (int mask = 16; mask != 0; mask /= 2) {
      const float other = thread.ShuffleXor(now, mask);
      now = other > now ? other : now;
    }
    const float correction = Exp(largest - now), weight = Exp(score - now);
    largest = now;
    sum = sum * correction + WarpSum(thread, weight);
    for (float& value : out) value *= correction;
    for (uint32_t i = 0; i < 32 && first + i < sequence.num_keys; ++i) {
      const float p = thread.Shuffle(weight, static_cast<int>(i));
      const unsigned char* values = KvRow(args.kv, args.slots[sequence.first_slot + first + i], row_bytes);
      NS_UNROLL
      for (uint32_t part = 0; part < kPlainHeadDim / 32; ++part) {
        const uint32_t d = part * 32 + lane;
        if (d < args.head_dim)
          out[part] = Fma(p, Load(args.kv.dtype, values, width + head * args.head_dim + d), out[part]);
      }
    }
  }
  NS_UNROLL
  for (uint32_t part = 0; part < kPlainHeadDim / 32; ++part) {
    const uint32_t d = part * 32 + lane;
    const uint64_t at = uint64_t{sequence.compact_row + row} * args.out_stride + head * args.head_dim + d;
    if (d < args.head_dim) Store(args.dtype, args.out, at, out[part] / sum);
  }
}

// ------------------------------------------------------------------ one large head

// One block per query and head: its scores in shared memory, f32 throughout. For the tokenizer's attention, which has
// few queries and one head as wide as the map. Grid: max_rows × heads × sequences; shared: max_keys + 8 numbers.
NS_DEVICE void AttentionWide(const Thread& thread, const AttentionCall& args) {
  const SequenceRows sequence = args.sequences[thread.block_z()];
  const uint32_t head = thread.block_y(), row = thread.block_x();
  if (row >= sequence.num_rows) return;  // the same for the whole block
  float* const partial = reinterpret_cast<float*>(thread.shared());
  float* const scores = partial + kWideThreads / 32;
  const uint32_t self = static_cast<uint32_t>(thread.index()), lane = static_cast<uint32_t>(thread.lane());
  const uint32_t warp = static_cast<uint32_t>(thread.warp()), width = args.num_heads * args.head_dim;
  const uint64_t row_bytes = uint64_t{2} * width * ElementBytes(args.kv.dtype);
  const uint64_t q = uint64_t{sequence.compact_row + row} * args.q_stride + head * args.head_dim;
  const uint32_t* const slots = args.slots + sequence.first_slot;
  float largest = NegativeInfinity();
  for (uint32_t key = warp; key < sequence.num_keys; key += kWideThreads / 32) {
    const unsigned char* keys = KvRow(args.kv, slots[key], row_bytes);
    float score = 0.0f;
    for (uint32_t d = lane; d < args.head_dim; d += 32) {
      score = Fma(Load(args.dtype, args.q, q + d), Load(args.kv.dtype, keys, head * args.head_dim + d), score);
    }
    score = WarpSum(thread, score) * args.softmax_factor;
    largest = score > largest ? score : largest;
    if (lane == 0) scores[key] = score;
  }
  if (lane == 0) partial[warp] = largest;
  thread.Sync();
  for (uint32_t i = 0; i < kWideThreads / 32; ++i) largest = partial[i] > largest ? partial[i] : largest;
  thread.Sync();
  float sum = 0.0f;
  for (uint32_t key = self; key < sequence.num_keys; key += kWideThreads) {
    scores[key] = Exp(scores[key] - largest);
    sum += scores[key];
  }
  sum = WarpSum(thread, sum);
  if (lane == 0) partial[warp] = sum;
  thread.Sync();
  sum = 0.0f;
  for (uint32_t i = 0; i < kWideThreads / 32; ++i) sum += partial[i];
  for (uint32_t d = self; d < args.head_dim; d += kWideThreads) {
    float out = 0.0f;
    for (uint32_t key = 0; key < sequence.num_keys; ++key) {
      const unsigned char* values = KvRow(args.kv, slots[key], row_bytes);
      out = Fma(scores[key], Load(args.kv.dtype, values, width + head * args.head_dim + d), out);
    }
    const uint64_t at = uint64_t{sequence.compact_row + row} * args.out_stride + head * args.head_dim + d;
    Store(args.dtype, args.out, at, out / sum);
  }
}

}  // namespace nextscale::cuda::NS_SIDE
