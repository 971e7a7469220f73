// Linear layers and 3×3 convolutions on tensor cores.
//
// Every output element is one chain of m16n8k16 products over k in ascending order, in all tile shapes, so a row's
// result does not depend on the batch that it is in. (LinearFewRows has the operands' roles exchanged; that the
// hardware then rounds alike is checked by a device test, not assumed elsewhere.)
#pragma once

#include "native/backend/cuda/kernels/thread.h"

namespace nextscale::cuda::NS_SIDE {

// 0.5 y (1 + tanh(u)) = y / (1 + e^(−2u)), u = √(2/π) (y + 0.044715 y³)
NS_DEVICE float Gelu(float y) {
  const float u = 0.7978845608028654f * (y + 0.044715f * y * y * y);
  return y / (1.0f + Exp(-2.0f * u));
}

// ------------------------------------------------------------------ epilogue

// q, k and v of four columns; the sixteen lanes of a head hold its 64 columns. Every lane of the warp calls it.
NS_DEVICE void StoreQkv(const Thread& thread, const LinearCall& args, bool inside, uint32_t row, uint32_t column,
                        float (&y)[4]) {
  const uint32_t width = args.num_heads * args.head_dim;
  const uint32_t part = column / width, within = column % width;  // 0: q, 1: k, 2: v
  if (args.head_factor != nullptr) {
    float squares = y[0] * y[0] + y[1] * y[1] + y[2] * y[2] + y[3] * y[3];
    for (int mask = 8; mask != 0; mask /= 2) squares += thread.ShuffleXor(squares, mask);
    if (inside && part != 2) {
      const float norm = SquareRoot(squares);
      const float factor =
          (part == 0 ? args.head_factor[within / args.head_dim] : 1.0f) / (norm > 1e-12f ? norm : 1e-12f);
      for (float& value : y) value *= factor;
    }
  }
  if (!inside) return;
  if (part == 0) {
    Store4(args.out_dtype, args.out, uint64_t{row} * args.out_stride + within, y);
    return;
  }
  const uint64_t row_bytes = uint64_t{2} * width * ElementBytes(args.kv.dtype);
  Store4(args.kv.dtype, KvRow(args.kv, args.row_slots[row], row_bytes), (part - 1) * width + within, y);
}

// The padding of a map is stored with it, as zeros.
NS_DEVICE uint32_t StoredColumns(const LinearCall& args) { return args.padded_n > args.n ? args.padded_n : args.n; }

NS_DEVICE void StoreColumn(const LinearCall& args, uint32_t row, uint32_t column, float y) {
  if (args.epilogue == LinearEpilogue::kResidual) {
    const SpanTarget target = TargetOf(args.rows, row);
    float* x = static_cast<float*>(args.out) + uint64_t{RowInX(target, row)} * args.out_stride + column;
    *x += target.modulation == nullptr ? y : target.modulation[args.gate_offset + column] * y;
    return;
  }
  if (args.epilogue == LinearEpilogue::kGelu) y = Gelu(y);
  if (args.residual != nullptr) {
    y += Load(args.out_dtype, args.residual, uint64_t{row} * args.residual_stride + column);
  }
  Store(args.out_dtype, args.out, uint64_t{row} * args.out_stride + column, y);
}

// Results [kRows][kStride] f32 in shared memory → memory. All threads of the block call it.
template <int kRows, int kColumns, int kStride, int kThreads>
NS_DEVICE void StoreTile(const Thread& thread, const LinearCall& args, const float* staged, uint32_t row0,
                         uint32_t column0) {
  constexpr int kQuads = kColumns / 4;
  constexpr int kRounds = (kRows * kQuads + kThreads - 1) / kThreads;
  for (int index = thread.index(); index < kRounds * kThreads; index += kThreads) {
    const int row = index / kQuads, quad = index % kQuads;
    const uint32_t at_row = row0 + static_cast<uint32_t>(row), column = column0 + static_cast<uint32_t>(quad) * 4;
    const bool inside = row < kRows && at_row < args.num_rows && column < StoredColumns(args);
    float y[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (inside) {
      for (uint32_t i = 0; i < 4; ++i) {
        if (column + i >= args.n) continue;
        y[i] = staged[row * kStride + quad * 4 + static_cast<int>(i)];
        if (args.bias != nullptr) y[i] += args.bias[column + i];
      }
    }
    if (args.epilogue == LinearEpilogue::kQkv) {
      StoreQkv(thread, args, inside, at_row, column, y);
      continue;
    }
    if (!inside) continue;
    const bool plain = args.epilogue != LinearEpilogue::kResidual && args.residual == nullptr;
    if (plain && column + 3 < StoredColumns(args) && args.out_stride % 4 == 0) {
      if (args.epilogue == LinearEpilogue::kGelu) {
        for (float& value : y) value = Gelu(value);
      }
      Store4(args.out_dtype, args.out, uint64_t{at_row} * args.out_stride + column, y);
      continue;
    }
    for (uint32_t i = 0; i < 4; ++i) {
      if (column + i < StoredColumns(args)) StoreColumn(args, at_row, column + i, y[i]);
    }
  }
}

// ------------------------------------------------------------------ many rows

// Where 8 numbers of row `row` of a from column k on stand; null outside.
template <typename T, bool kConv>
NS_DEVICE const T* InputPiece(const LinearCall& args, uint32_t row, uint32_t k) {
  if (row >= args.num_rows || k >= args.k) return nullptr;
  const T* a = static_cast<const T*>(args.a);
  if constexpr (kConv) {
    const uint64_t offset = ConvOffset(args.conv, row, k / args.conv.cin, k % args.conv.cin);
    return offset == kOutside ? nullptr : a + offset;
  }
  return a + uint64_t{row} * args.a_stride + k;
}

// Starts the copies of one stage's rows of a, 128 bytes each.
template <typename T, typename Shape, bool kConv>
NS_DEVICE void LoadInput(const Thread& thread, const LinearCall& args, unsigned char* stage, uint32_t row0,
                         uint32_t k0) {
  constexpr int kPieces = kTileK / 8;
  NS_UNROLL
  for (int i = 0; i < Shape::kRows * kPieces / Shape::kThreads; ++i) {
    const int index = thread.index() + i * Shape::kThreads;
    const uint32_t row = static_cast<uint32_t>(index / kPieces), piece = static_cast<uint32_t>(index % kPieces);
    const T* from = InputPiece<T, kConv>(args, row0 + row, k0 + piece * 8);
    thread.CopyAsync(stage + SwizzledOffset<kPieces>(row, piece), from == nullptr ? args.a : from, from != nullptr);
  }
}

// Starts the copies of one stage's tiles of the weights, which stand in the stage as they do in memory.
template <typename Shape>
NS_DEVICE void LoadWeights(const Thread& thread, const LinearCall& args, unsigned char* stage, uint32_t column0,
                           uint32_t step) {
  constexpr uint32_t kColumns =
      Shape::kColumns < kWeightTile ? Shape::kColumns : kWeightTile;  // that are one straight line
  constexpr int kTilePieces = kColumns * kTileK * 2 / 16;
  static_assert(kTilePieces % Shape::kThreads == 0 && kTileK == kWeightTile);
  unsigned char* to = stage + Shape::kRows * kTileK * 2 + thread.index() * 16;
  for (uint32_t column = column0; column < column0 + Shape::kColumns; column += kColumns) {
    const bool inside = column < args.n;
    const unsigned char* from = static_cast<const unsigned char*>(args.weights) + thread.index() * 16;
    if (inside) from += WeightPiece(column, step * kTileK, args.k);
    NS_UNROLL
    for (int i = 0; i < kTilePieces / Shape::kThreads; ++i) {
      thread.CopyAsync(to, from + i * Shape::kThreads * 16, inside);
      to += Shape::kThreads * 16;
    }
  }
}

// One warp's products of one stage.
template <typename T, typename Shape>
NS_DEVICE void MultiplyStage(const Thread& thread, const unsigned char* stage, int warp_row, int warp_column,
                             float (&sums)[Shape::kWarpRows / 16][Shape::kWarpColumns / 8][4]) {
  constexpr int kPieces = kTileK / 8;
  const unsigned char* const weights = stage + Shape::kRows * kTileK * 2;
  const int lane = thread.lane();
  NS_UNROLL
  for (int step = 0; step < kTileK / 16; ++step) {
    uint32_t a[Shape::kWarpRows / 16][4], b[Shape::kWarpColumns / 16][4];
    NS_UNROLL
    for (int i = 0; i < Shape::kWarpRows / 16; ++i) {
      const int row = warp_row + i * 16 + LoadARow(lane), piece = step * 2 + LoadAChunk(lane);
      thread.LoadMatrices(a[i],
                          stage + SwizzledOffset<kPieces>(static_cast<uint32_t>(row), static_cast<uint32_t>(piece)));
    }
    NS_UNROLL
    for (int j = 0; j < Shape::kWarpColumns / 16; ++j) {
      const int row = warp_column + j * 16 + LoadBRow(lane), piece = step * 2 + LoadBChunk(lane);
      thread.LoadMatrices(b[j],
                          weights + SwizzledOffset<kPieces>(static_cast<uint32_t>(row), static_cast<uint32_t>(piece)));
    }
    NS_UNROLL
    for (int i = 0; i < Shape::kWarpRows / 16; ++i) {
      NS_UNROLL
      for (int j = 0; j < Shape::kWarpColumns / 8; ++j) {
        thread.Mma(T{}, sums[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
      }
    }
  }
}

// Needs k and a_stride (convolution: cin) in multiples of 8 and 16-byte aligned a and weights. Grid: row tiles × column
// tiles.
template <typename T, typename Shape, bool kConv>
NS_DEVICE void LinearTile(const Thread& thread, const LinearCall& args) {
  const uint32_t row0 = thread.block_x() * Shape::kRows, column0 = thread.block_y() * Shape::kColumns;
  const int warp_row = thread.warp() % Shape::kWarpsDown * Shape::kWarpRows;
  const int warp_column = thread.warp() / Shape::kWarpsDown * Shape::kWarpColumns;
  const uint32_t num_steps = DivideUp(args.k, kTileK);
  unsigned char* const shared = thread.shared();
  const auto load = [&](uint32_t step) {
    if (step < num_steps) {
      unsigned char* const stage = shared + step % Shape::kStages * Shape::kStageBytes;
      LoadInput<T, Shape, kConv>(thread, args, stage, row0, step * kTileK);
      LoadWeights<Shape>(thread, args, stage, column0, step);
    }
    thread.CopyCommit();  // an empty group, too: CopyWait counts
  };

  float sums[Shape::kWarpRows / 16][Shape::kWarpColumns / 8][4] = {};
  for (uint32_t step = 0; step < Shape::kStages - 1; ++step) load(step);
  for (uint32_t step = 0; step < num_steps; ++step) {
    thread.template CopyWait<Shape::kStages - 2>();
    thread.Sync();  // this step's stage has arrived, and everyone is done with the one that is filled next
    load(step + Shape::kStages - 1);
    MultiplyStage<T, Shape>(thread, shared + step % Shape::kStages * Shape::kStageBytes, warp_row, warp_column, sums);
  }
  thread.template CopyWait<0>();
  thread.Sync();

  float* const staged = reinterpret_cast<float*>(shared);
  NS_UNROLL
  for (int i = 0; i < Shape::kWarpRows / 16; ++i) {
    NS_UNROLL
    for (int j = 0; j < Shape::kWarpColumns / 8; ++j) {
      NS_UNROLL
      for (int e = 0; e < 4; ++e) {
        const int row = warp_row + i * 16 + AccumulatorRow(thread.lane(), e);
        const int column = warp_column + j * 8 + AccumulatorColumn(thread.lane(), e);
        staged[row * Shape::kStagedStride + column] = sums[i][j][e];
      }
    }
  }
  thread.Sync();
  StoreTile<Shape::kRows, Shape::kColumns, Shape::kStagedStride, Shape::kThreads>(thread, args, staged, row0, column0);
}

// The same tile by wgmma, for sm_90a: two warpgroups, each 64 × 128 outputs. One thread asks the bulk copy engine for a
// stage's tiles of the weights, all copy rows of a; the products of a stage run while the copies of a later one are
// under way. Needs and grid: as LinearTile.
template <typename T, typename Shape, bool kConv>
NS_DEVICE void LinearWide(const Thread& thread, const LinearCall& args) {
  static_assert(Shape::kRows == 128 && Shape::kColumns == 128 && Shape::kThreads == 256 &&
                Shape::kStageBytes % 1024 == 0);
  const uint32_t row0 = thread.block_x() * Shape::kRows, column0 = thread.block_y() * Shape::kColumns;
  const int warp_row = thread.warp() * 16;  // warps 0..3: the first 64 rows
  const uint32_t num_steps = DivideUp(args.k, kTileK);
  const uint32_t first_tile = column0 / kWeightTile, last_tile = WeightTiles(args.n);
  unsigned char* const shared = thread.shared();
  uint64_t* const arrived = reinterpret_cast<uint64_t*>(shared + Shape::kStages * Shape::kStageBytes);
  if (thread.index() == 0) {
    for (int i = 0; i < Shape::kStages; ++i) thread.BarrierInit(arrived + i);
  }
  thread.Sync();
  const auto load = [&](uint32_t step) {
    if (step < num_steps) {
      unsigned char* const stage = shared + step % Shape::kStages * Shape::kStageBytes;
      if (thread.index() == 0) {
        uint64_t* const barrier = arrived + step % Shape::kStages;
        const bool two = first_tile + 1 < last_tile;  // else the last columns of the stage are never stored
        thread.BarrierExpect(barrier, first_tile >= last_tile ? 0 : two ? 2 * kWeightTileBytes : kWeightTileBytes);
        for (uint32_t i = 0; i < 2 && first_tile + i < last_tile; ++i) {
          const uint64_t tile = uint64_t{first_tile + i} * num_steps + step;
          thread.CopyBulk(stage + Shape::kRows * kTileK * 2 + i * kWeightTileBytes,
                          static_cast<const unsigned char*>(args.weights) + tile * kWeightTileBytes, kWeightTileBytes,
                          barrier);
        }
      }
      LoadInput<T, Shape, kConv>(thread, args, stage, row0, step * kTileK);
    }
    thread.CopyCommit();
  };

  float sums[64] = {};
  for (uint32_t step = 0; step < Shape::kStages - 1; ++step) load(step);
  for (uint32_t step = 0; step < num_steps; ++step) {
    thread.template CopyWait<Shape::kStages - 2>();
    thread.FenceForWgmma();
    thread.BarrierWait(arrived + step % Shape::kStages, step / Shape::kStages % 2);
    thread.WgmmaWait(sums);  // of the step before: the stage that it read is filled next
    thread.Sync();
    const unsigned char* const stage = shared + step % Shape::kStages * Shape::kStageBytes;
    const uint64_t a = thread.TileDescriptor(stage + warp_row / 64 * 64 * kTileK * 2);
    const uint64_t weights = thread.TileDescriptor(stage + Shape::kRows * kTileK * 2);
    thread.WgmmaBegin();
    NS_UNROLL
    for (uint64_t i = 0; i < kTileK / 16; ++i) thread.Wgmma(T{}, sums, a + 2 * i, weights + 2 * i);
    thread.WgmmaCommit();
    load(step + Shape::kStages - 1);
  }
  thread.WgmmaWait(sums);
  thread.template CopyWait<0>();
  thread.Sync();

  float* const staged = reinterpret_cast<float*>(shared);
  NS_UNROLL
  for (int i = 0; i < 64; ++i) {
    const int row = warp_row + AccumulatorRow(thread.lane(), i % 4);
    staged[row * Shape::kStagedStride + i / 4 * 8 + AccumulatorColumn(thread.lane(), i % 4)] = sums[i];
  }
  thread.Sync();
  StoreTile<Shape::kRows, Shape::kColumns, Shape::kStagedStride, Shape::kThreads>(thread, args, staged, row0, column0);
}

// ------------------------------------------------------------------ few rows

// Up to 16 or 32 rows: the weights are the first operand (16 of their rows at a time), the rows of a the second (8 at a
// time), and deep staging keeps the memory busy. 16 columns: each warp has 8 rows of a; 64: each has 16 of the columns.
// Needs what LinearTile needs. Grid: column tiles.
template <typename T, typename Shape>
NS_DEVICE void LinearFewRows(const Thread& thread, const LinearCall& args) {
  constexpr int kPieces = Shape::kK / 8;
  constexpr int kTiles = Shape::kColumns == 16 ? 1 : Shape::kRows / 8;  // tiles of 8 rows of a that a warp has
  const uint32_t column0 = thread.block_x() * Shape::kColumns;
  const uint32_t num_steps = DivideUp(args.k, Shape::kK);
  unsigned char* const shared = thread.shared();
  const auto load = [&](uint32_t step) {
    unsigned char* const stage = shared + step % Shape::kStages * Shape::kStageBytes;
    for (int index = thread.index(); step < num_steps && index < (Shape::kColumns + Shape::kRows) * kPieces;
         index += Shape::kThreads) {
      const uint32_t row = static_cast<uint32_t>(index / kPieces), piece = static_cast<uint32_t>(index % kPieces);
      const uint32_t k = step * Shape::kK + piece * 8;
      const bool is_weight = row < Shape::kColumns;
      const uint32_t at = is_weight ? column0 + row : row - Shape::kColumns;
      const bool inside = k < args.k && at < (is_weight ? args.n : args.num_rows);
      const unsigned char* from = static_cast<const unsigned char*>(is_weight ? args.weights : args.a);
      if (inside) from += is_weight ? WeightPiece(at, k, args.k) : (uint64_t{at} * args.a_stride + k) * 2;
      thread.CopyAsync(stage + SwizzledOffset<kPieces>(row, piece), from, inside);
    }
    thread.CopyCommit();
  };

  const int warp = thread.warp(), lane = thread.lane();
  const bool busy = kTiles > 1 || warp < Shape::kRows / 8;
  const int weight_row = kTiles > 1 ? warp * 16 : 0;
  const int first_tile = kTiles > 1 ? 0 : warp;
  float sums[kTiles][4] = {};
  for (uint32_t step = 0; step < Shape::kStages - 1; ++step) load(step);
  for (uint32_t step = 0; step < num_steps; ++step) {
    thread.template CopyWait<Shape::kStages - 2>();
    thread.Sync();
    load(step + Shape::kStages - 1);
    const unsigned char* const stage = shared + step % Shape::kStages * Shape::kStageBytes;
    if (!busy) continue;
    NS_UNROLL
    for (int i = 0; i < Shape::kK / 16; ++i) {
      uint32_t w[4];
      thread.LoadMatrices(w, stage + SwizzledOffset<kPieces>(static_cast<uint32_t>(weight_row + LoadARow(lane)),
                                                             static_cast<uint32_t>(i * 2 + LoadAChunk(lane))));
      NS_UNROLL
      for (int tile = 0; tile < kTiles; tile += 2) {
        const int row = Shape::kColumns + (first_tile + tile) / 2 * 16 + LoadBRow(lane);
        uint32_t a[4];
        thread.LoadMatrices(a, stage + SwizzledOffset<kPieces>(static_cast<uint32_t>(row),
                                                               static_cast<uint32_t>(i * 2 + LoadBChunk(lane))));
        if constexpr (kTiles > 1) {
          thread.Mma(T{}, sums[tile], w, a[0], a[1]);
          thread.Mma(T{}, sums[tile + 1], w, a[2], a[3]);
        } else {
          const bool second = first_tile % 2 != 0;
          thread.Mma(T{}, sums[0], w, second ? a[2] : a[0], second ? a[3] : a[1]);
        }
      }
    }
  }
  thread.template CopyWait<0>();
  thread.Sync();

  float* const staged = reinterpret_cast<float*>(shared);
  if (busy) {
    NS_UNROLL
    for (int tile = 0; tile < kTiles; ++tile) {
      NS_UNROLL
      for (int e = 0; e < 4; ++e) {  // transposed: the result's rows are the weights'
        const int row = (first_tile + tile) * 8 + AccumulatorColumn(lane, e);
        staged[row * Shape::kStagedStride + weight_row + AccumulatorRow(lane, e)] = sums[tile][e];
      }
    }
  }
  thread.Sync();
  StoreTile<Shape::kRows, Shape::kColumns, Shape::kStagedStride, Shape::kThreads>(thread, args, staged, 0, column0);
}

// ------------------------------------------------------------------ any shape, any format

// One chain of fused multiply-adds in f32 per output, over k in ascending order: equal to the CPU's bit for bit where
// the formats are. For checking, and for shapes that the tensor cores' path does not take. Grid: row tiles × column
// tiles.
NS_DEVICE void LinearPlain(const Thread& thread, const LinearCall& args) {
  constexpr int kStride = kPlainTile + 4;
  float* const a_tile = reinterpret_cast<float*>(thread.shared());  // [kPlainK][kStride]
  float* const w_tile = a_tile + kPlainK * kStride;
  const uint32_t row0 = thread.block_x() * kPlainTile, column0 = thread.block_y() * kPlainTile;
  const int down = thread.index() / 16, across = thread.index() % 16;
  float sums[4][4] = {};
  for (uint32_t k0 = 0; k0 < args.k; k0 += kPlainK) {
    for (int i = thread.index(); i < kPlainTile * kPlainK; i += kPlainThreads) {
      const int row = i / kPlainK, within = i % kPlainK;
      const uint32_t k = k0 + static_cast<uint32_t>(within);
      const uint32_t at_row = row0 + static_cast<uint32_t>(row), column = column0 + static_cast<uint32_t>(row);
      float a = 0.0f, w = 0.0f;
      if (k < args.k && at_row < args.num_rows) {
        const uint64_t at = !args.is_conv ? uint64_t{at_row} * args.a_stride + k
                                          : ConvOffset(args.conv, at_row, k / args.conv.cin, k % args.conv.cin);
        if (at != kOutside) a = Load(args.dtype, args.a, at);
      }
      if (k < args.k && column < args.n) {
        w = Load(
            args.dtype, args.weights,
            args.dtype == DType::kF32 ? uint64_t{column} * args.k + k : WeightPiece(column, k, args.k) / 2 + k % 8);
      }
      a_tile[within * kStride + row] = a;
      w_tile[within * kStride + row] = w;
    }
    thread.Sync();
    const int depth = args.k - k0 < kPlainK ? static_cast<int>(args.k - k0) : kPlainK;
    for (int k = 0; k < depth; ++k) {
      NS_UNROLL
      for (int i = 0; i < 4; ++i) {
        NS_UNROLL
        for (int j = 0; j < 4; ++j) {
          sums[i][j] = Fma(a_tile[k * kStride + down * 4 + i], w_tile[k * kStride + across * 4 + j], sums[i][j]);
        }
      }
    }
    thread.Sync();
  }
  NS_UNROLL
  for (int i = 0; i < 4; ++i) {
    NS_UNROLL
    for (int j = 0; j < 4; ++j) {
      const uint32_t row = row0 + static_cast<uint32_t>(down * 4 + i);
      const uint32_t column = column0 + static_cast<uint32_t>(across * 4 + j);
      if (row >= args.num_rows || column >= StoredColumns(args)) continue;
      StoreColumn(args, row, column, sums[i][j] + (args.bias != nullptr && column < args.n ? args.bias[column] : 0.0f));
    }
  }
}

// SplitHeads on its own. One warp per (row, head, part); grid: DivideUp(M · H · 3, warps of a block).
NS_DEVICE void SplitHeadsWarp(const Thread& thread, const SplitHeadsCall& args) {
  const uint32_t work =
      thread.block_x() * static_cast<uint32_t>(thread.num_threads() / 32) + static_cast<uint32_t>(thread.warp());
  const uint32_t part = work % 3, head = work / 3 % args.num_heads, row = work / 3 / args.num_heads;
  if (row >= args.num_rows) return;
  const uint32_t width = args.num_heads * args.head_dim, lane = static_cast<uint32_t>(thread.lane());
  const uint64_t from = uint64_t{row} * args.qkv_stride + part * width + head * args.head_dim;
  float factor = 1.0f;
  if (args.head_factor != nullptr && part != 2) {
    float squares = 0.0f;
    for (uint32_t d = lane; d < args.head_dim; d += 32) {
      const float value = Load(args.dtype, args.qkv, from + d);
      squares += value * value;
    }
    const float norm = SquareRoot(WarpSum(thread, squares));
    factor = (part == 0 ? args.head_factor[head] : 1.0f) / (norm > 1e-12f ? norm : 1e-12f);
  }
  const uint64_t row_bytes = uint64_t{2} * width * ElementBytes(args.kv.dtype);
  for (uint32_t d = lane; d < args.head_dim; d += 32) {
    const float value = factor * Load(args.dtype, args.qkv, from + d);
    if (part == 0)
      Store(args.dtype, args.qkv, from + d, value);
    else
      Store(args.kv.dtype, KvRow(args.kv, args.row_slots[row], row_bytes),
            (part - 1) * width + head * args.head_dim + d, value);
  }
}

}  // namespace nextscale::cuda::NS_SIDE
