// Linear layers and 3×3 convolutions on tensor cores.
//
// Every output element is one chain of products over 16 numbers of k in ascending order, in all tile shapes and with
// the same roles of the operands, so a row's result does not depend on the batch that it is in.
#pragma once

#include "native/backend/cuda/kernels/thread.h"

namespace nextscale::cuda::NS_SIDE {

// 0.5 y (1 + tanh(u)) = y / (1 + e^(−2u)), u = √(2/π) (y + 0.044715 y³). Products and sums are written out, here and in
// all epilogues: what the compiler fuses must not depend on the kernel around it, for a row's bytes must not.
NS_DEVICE float Gelu(float y) {
  const float u = Multiply(0.7978845608028654f, Fma(0.044715f, Multiply(Multiply(y, y), y), y));
  return y / (1.0f + Exp(Multiply(-2.0f, u)));
}

// ------------------------------------------------------------------ epilogue

// The padding of a map is stored with it, as zeros.
NS_DEVICE uint32_t StoredColumns(const LinearCall& args) { return args.padded_n > args.n ? args.padded_n : args.n; }

NS_DEVICE float AddGated(float x, const float* gate, float y) { return gate == nullptr ? x + y : Fma(*gate, y, x); }

// One result: y is the product with its bias, and 0 in the padding.
NS_DEVICE void StoreColumn(const LinearCall& args, uint32_t row, uint32_t column, float y) {
  if (args.epilogue == LinearEpilogue::kResidual) {
    const SpanTarget target = TargetOf(args.rows, row);
    float* x = static_cast<float*>(args.out) + uint64_t{RowInX(target, row)} * args.out_stride + column;
    *x = AddGated(*x, target.modulation == nullptr ? nullptr : target.modulation + args.gate_offset + column, y);
    return;
  }
  if (args.epilogue == LinearEpilogue::kGelu) y = Gelu(y);
  if (args.residual != nullptr && column < args.n) {
    y += Load(args.out_dtype, args.residual, uint64_t{row} * args.residual_stride + column);
  }
  Store(args.out_dtype, args.out, uint64_t{row} * args.out_stride + column, y);
}

// Results [kRows][kStride] f32 in shared memory. Every thread has four columns and some rows of them.
template <int kRows, int kColumns, int kStride, int kThreads>
struct StagedTile {
  static constexpr int kQuads = kColumns / 4, kStep = kThreads / kQuads;  // from one row of a thread to its next
  static constexpr int kAtOnce = 4;                                       // rows whose loads are on their way together
  static_assert(kThreads % kQuads == 0 && kRows % (kStep * kAtOnce) == 0);

  const float* staged;
  uint32_t first_row, first_column;  // of this thread, in the tile
  uint32_t row0, column;             // of the tile; of this thread
  uint32_t columns_left;             // of the matrix, from `column` on
  float bias[4];

  NS_DEVICE StagedTile(const Thread& thread, const LinearCall& args, const float* its_staged, uint32_t its_row0,
                       uint32_t column0)
      : staged(its_staged),
        first_row(static_cast<uint32_t>(thread.index() / kQuads)),
        first_column(static_cast<uint32_t>(thread.index() % kQuads) * 4),
        row0(its_row0),
        column(column0 + first_column),
        columns_left(column < args.n ? args.n - column : 0),
        bias{} {
    if (args.bias == nullptr) return;
    NS_UNROLL
    for (uint32_t i = 0; i < 4; ++i) bias[i] = i < columns_left ? args.bias[column + i] : 0.0f;
  }
  // Row of the tile of round i from `round` on.
  NS_DEVICE uint32_t Row(int round, int i) const { return first_row + static_cast<uint32_t>((round + i) * kStep); }
  NS_DEVICE void Read(uint32_t row, float (&y)[4]) const {
    const Float4 sums = Load4(staged + row * kStride + first_column);
    NS_UNROLL
    for (uint32_t i = 0; i < 4; ++i) y[i] = i < columns_left ? sums.x[i] + bias[i] : 0.0f;
  }
  NS_DEVICE float At(uint32_t row, uint32_t i) const {
    const float sum = staged[row * kStride + first_column + i];
    return i >= columns_left ? 0.0f : sum + (i == 0 ? bias[0] : i == 1 ? bias[1] : i == 2 ? bias[2] : bias[3]);
  }
};

// Column by column: the edges of a matrix, and strides that wide accesses do not take.
template <typename Tile>
NS_DEVICE void StoreColumns(const LinearCall& args, const Tile& tile, int num_rounds, uint32_t num_columns) {
  NS_UNROLL_BY(1)
  for (int round = 0; round < num_rounds; ++round) {
    const uint32_t in_tile = tile.Row(round, 0), row = tile.row0 + in_tile;
    if (row >= args.num_rows) continue;
    NS_UNROLL_BY(1)
    for (uint32_t e = 0; e < 4 && tile.column + e < num_columns; ++e) {
      StoreColumn(args, row, tile.column + e, tile.At(in_tile, e));
    }
  }
}

// out = y or gelu(y), plus the residual map where there is one.
template <bool kGelu, typename Tile>
NS_DEVICE void StoreMap(const LinearCall& args, const Tile& tile, int num_rounds) {
  if (tile.column >= StoredColumns(args)) return;
  const bool wide = tile.column + 3 < StoredColumns(args) && args.out_stride % 4 == 0 &&
                    (args.residual == nullptr || (tile.columns_left >= 4 && args.residual_stride % 4 == 0 &&
                                                  IsAligned(args.residual, 4 * ElementBytes(args.out_dtype))));
  if (!wide) return StoreColumns(args, tile, num_rounds, StoredColumns(args));
  NS_UNROLL_BY(1)
  for (int round = 0; round < num_rounds; round += Tile::kAtOnce) {
    float added[Tile::kAtOnce][4] = {};
    if (args.residual != nullptr) {
      NS_UNROLL
      for (int i = 0; i < Tile::kAtOnce; ++i) {
        const uint32_t row = tile.row0 + tile.Row(round, i);
        if (row < args.num_rows) {
          Load4(args.out_dtype, args.residual, uint64_t{row} * args.residual_stride + tile.column, added[i]);
        }
      }
    }
    NS_UNROLL
    for (int i = 0; i < Tile::kAtOnce; ++i) {
      const uint32_t in_tile = tile.Row(round, i), row = tile.row0 + in_tile;
      if (row >= args.num_rows) continue;
      float y[4];
      tile.Read(in_tile, y);
      NS_UNROLL
      for (int e = 0; e < 4; ++e) {
        if constexpr (kGelu) y[e] = Gelu(y[e]);
        if (args.residual != nullptr) y[e] += added[i][e];
      }
      Store4(args.out_dtype, args.out, uint64_t{row} * args.out_stride + tile.column, y);
    }
  }
}

// x[target row] += gate · y
template <typename Tile>
NS_DEVICE void AddToRows(const LinearCall& args, const Tile& tile, int num_rounds) {
  if (tile.columns_left == 0) return;
  if (tile.columns_left < 4 || args.out_stride % 4 != 0) return StoreColumns(args, tile, num_rounds, args.n);
  NS_UNROLL_BY(1)
  for (int round = 0; round < num_rounds; round += Tile::kAtOnce) {
    SpanTarget targets[Tile::kAtOnce];
    NS_UNROLL
    for (int i = 0; i < Tile::kAtOnce; ++i) {
      const uint32_t row = tile.row0 + tile.Row(round, i);
      targets[i] = TargetOf(args.rows, row < args.num_rows ? row : args.num_rows - 1);
    }
    Float4 x[Tile::kAtOnce], gates[Tile::kAtOnce];
    NS_UNROLL
    for (int i = 0; i < Tile::kAtOnce; ++i) {
      const uint32_t row = tile.row0 + tile.Row(round, i);
      if (row < args.num_rows) {
        x[i] = Load4(static_cast<const float*>(args.out) + uint64_t{RowInX(targets[i], row)} * args.out_stride +
                     tile.column);
        if (targets[i].modulation != nullptr) {
          const float* const gate = targets[i].modulation + args.gate_offset + tile.column;
          gates[i] = IsAligned(gate, 16) ? Load4(gate) : Float4{{gate[0], gate[1], gate[2], gate[3]}};
        }
      }
    }
    NS_UNROLL
    for (int i = 0; i < Tile::kAtOnce; ++i) {
      const uint32_t in_tile = tile.Row(round, i), row = tile.row0 + in_tile;
      if (row >= args.num_rows) continue;
      float y[4];
      tile.Read(in_tile, y);
      NS_UNROLL
      for (int e = 0; e < 4; ++e) {
        y[e] = AddGated(x[i].x[e], targets[i].modulation == nullptr ? nullptr : &gates[i].x[e], y[e]);
      }
      Store4(DType::kF32, args.out, uint64_t{RowInX(targets[i], row)} * args.out_stride + tile.column, y);
    }
  }
}

// q, k and v of four columns; the sixteen lanes of a head hold its 64 columns. Every lane of the warp calls it.
NS_DEVICE void StoreQkv(const Thread& thread, const LinearCall& args, bool inside, uint32_t row, uint32_t column,
                        float (&y)[4]) {
  const uint32_t width = args.num_heads * args.head_dim;
  const uint32_t part = column / width, within = column % width;  // 0: q, 1: k, 2: v
  if (args.head_factor != nullptr) {
    float squares = Fma(y[3], y[3], Fma(y[2], y[2], Fma(y[1], y[1], Multiply(y[0], y[0]))));
    for (int mask = 8; mask != 0; mask /= 2) squares += thread.ShuffleXor(squares, mask);
    if (inside && part != 2) {
      const float norm = SquareRoot(squares);
      const float factor =
          (part == 0 ? args.head_factor[within / args.head_dim] : 1.0f) / (norm > 1e-12f ? norm : 1e-12f);
      for (float& value : y) value = Multiply(value, factor);
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

// The tile → memory. All threads of the block call it.
template <int kRows, int kColumns, int kStride, int kThreads>
NS_DEVICE void StoreTile(const Thread& thread, const LinearCall& args, const float* staged, uint32_t row0,
                         uint32_t column0) {
  using Tile = StagedTile<kRows, kColumns, kStride, kThreads>;
  const Tile tile(thread, args, staged, row0, column0);
  constexpr int kRounds = kRows / Tile::kStep;
  switch (args.epilogue) {
    case LinearEpilogue::kStore:
      return StoreMap<false>(args, tile, kRounds);
    case LinearEpilogue::kGelu:
      return StoreMap<true>(args, tile, kRounds);
    case LinearEpilogue::kResidual:
      return AddToRows(args, tile, kRounds);
    case LinearEpilogue::kQkv:
      if constexpr (kColumns % 64 == 0) {
        NS_UNROLL_BY(1)
        for (int round = 0; round < kRounds; ++round) {
          const uint32_t in_tile = tile.Row(round, 0), row = row0 + in_tile;
          float y[4];
          tile.Read(in_tile, y);
          StoreQkv(thread, args, row < args.num_rows && tile.columns_left != 0, row, tile.column, y);
        }
      }
      return;
  }
}

// ------------------------------------------------------------------ many rows

// The rows of a tile that one thread copies, stage after stage: always the same ones, and the same 16 bytes of each
// stage's 128. So what a row is (of a convolution: which pixel) is found once, and the tap and channel of the next
// stage by going on from the last.
template <typename T, typename Shape, bool kConv>
class InputRows {
 public:
  NS_DEVICE InputRows(const Thread& thread, const LinearCall& args, uint32_t row0)
      : k_(static_cast<uint32_t>(thread.index() % kPieces) * 8) {
    if constexpr (kConv) {
      tap_ = k_ / args.conv.cin;
      channel_ = k_ % args.conv.cin;
    }
    Place<0>(thread, args, row0);
  }

  // Starts the copies of the next stage.
  NS_DEVICE void Load(const Thread& thread, const LinearCall& args, unsigned char* stage) {
    Copy<0>(thread, args, stage, static_cast<int>(tap_ / 3), static_cast<int>(tap_ % 3));
    k_ += kTileK;
    if constexpr (kConv) {
      channel_ += kTileK;
      while (channel_ >= args.conv.cin) {
        channel_ -= args.conv.cin;
        ++tap_;
      }
    }
  }

 private:
  static constexpr int kPieces = kTileK / 8, kRounds = Shape::kRows * kPieces / Shape::kThreads;

  NS_DEVICE static uint32_t InTile(const Thread& thread, int i) {
    return static_cast<uint32_t>((thread.index() + i * Shape::kThreads) / kPieces);
  }

  // Round i and those after it: by templates and not by a loop, so that arrays are registers from the start.
  template <int i>
  NS_DEVICE void Place(const Thread& thread, const LinearCall& args, uint32_t row0) {
    const uint32_t row = row0 + InTile(thread, i);
    const bool inside = row < args.num_rows;
    if constexpr (kConv) {
      const ConvInput& conv = args.conv;
      const uint32_t per_image = conv.out_height * conv.out_width, image = row / per_image, rest = row % per_image;
      const int y = static_cast<int>(rest / conv.out_width), x = static_cast<int>(rest % conv.out_width);
      const bool down = conv.shape == ConvShape::kDown;  // stride 2, padding below and to the right only
      const int first_y = down ? 2 * y : y - 1, first_x = down ? 2 * x : x - 1;
      places_[i] = static_cast<int>(static_cast<uint32_t>(first_y) << 16) | (first_x & 0xFFFF);
      images_[i] = inside ? image * conv.in_height * conv.in_width : kNowhere;
    } else {
      rows_[i] = inside ? static_cast<const T*>(args.a) + uint64_t{row} * args.a_stride : nullptr;
    }
    if constexpr (i + 1 < kRounds) Place<i + 1>(thread, args, row0);
  }
  template <int i>
  NS_DEVICE void Copy(const Thread& thread, const LinearCall& args, unsigned char* stage, int dy, int dx) {
    const T* from = static_cast<const T*>(args.a);
    bool inside = k_ < args.k;
    if constexpr (kConv) {
      const ConvInput& conv = args.conv;
      const uint32_t up = conv.shape == ConvShape::kUp ? 1 : 0;  // coordinates are those of the doubled map
      const uint32_t y = static_cast<uint32_t>((places_[i] >> 16) + dy);
      const uint32_t x = static_cast<uint32_t>(static_cast<int16_t>(places_[i]) + dx);
      inside = inside && images_[i] != kNowhere && y < conv.in_height << up && x < conv.in_width << up;
      const uint32_t pixel = images_[i] + (y >> up) * conv.in_width + (x >> up);
      if (inside) from += uint64_t{pixel} * conv.cin + channel_;
    } else {
      inside = inside && rows_[i] != nullptr;
      if (inside) from = rows_[i] + k_;
    }
    const uint32_t piece = static_cast<uint32_t>(thread.index() % kPieces);
    thread.CopyAsync(stage + SwizzledOffset<kPieces>(InTile(thread, i), piece), from, inside);
    if constexpr (i + 1 < kRounds) Copy<i + 1>(thread, args, stage, dy, dx);
  }

  static constexpr uint32_t kNowhere = 0xFFFFFFFFu;

  const T* rows_[kRounds];    // null: no such row
  uint32_t images_[kRounds];  // convolution: the first pixel of the row's image
  int places_[kRounds];       // and y << 16 | x of its first tap
  uint32_t k_, tap_ = 0, channel_ = 0;
};

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
  InputRows<T, Shape, kConv> rows(thread, args, row0);
  const auto load = [&](uint32_t step) NS_INLINED {  // one after the other
    if (step < num_steps) {
      unsigned char* const stage = shared + step % Shape::kStages * Shape::kStageBytes;
      rows.Load(thread, args, stage);
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
      for (int e = 0; e < 4; e += 2) {
        const int row = warp_row + i * 16 + AccumulatorRow(thread.lane(), e);
        const int column = warp_column + j * 8 + AccumulatorColumn(thread.lane(), e);
        Store2(staged + row * Shape::kStagedStride + column, sums[i][j][e], sums[i][j][e + 1]);
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
  InputRows<T, Shape, kConv> rows(thread, args, row0);
  const auto load = [&](uint32_t step) NS_INLINED {  // one after the other
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
      rows.Load(thread, args, stage);
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
  for (int i = 0; i < 64; i += 2) {
    const int row = warp_row + AccumulatorRow(thread.lane(), i % 4);
    Store2(staged + row * Shape::kStagedStride + i / 4 * 8 + AccumulatorColumn(thread.lane(), i % 4), sums[i],
           sums[i + 1]);
  }
  thread.Sync();
  StoreTile<Shape::kRows, Shape::kColumns, Shape::kStagedStride, Shape::kThreads>(thread, args, staged, row0, column0);
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
      const float bias = args.bias != nullptr && column < args.n ? args.bias[column] : 0.0f;
      StoreColumn(args, row, column, column < args.n ? sums[i][j] + bias : 0.0f);
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
