// Packing weights that change, and their gradient: dW += dyᵀ · a, a sum of outer products of rows.
//
// Both operands are read as they lie: a row of dy gives the numbers that are broadcast, a row of `a` the vectors, so
// nothing is packed or transposed. A task owns a block of dW and walks over the rows in pieces that stay in the
// second-level cache; what the next piece needs, and dW itself, is prefetched a little at every step.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/backend/cpu/linear_gradient.cc"
#include "native/backend/cpu/simd.h"
// Re-includes this file for every target.
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "native/backend/cpu/kernels.h"
#include "native/backend/cpu/microkernel-inl.h"
#include "native/ops/check_gradient.h"
#include "native/ops/linear_gradient.h"

HWY_BEFORE_NAMESPACE();
namespace nextscale {
namespace HWY_NAMESPACE {
namespace {

size_t GradientPanelWidth() { return kPanel; }

void RepackOnTarget(Context& context, const float* weights, PackedMatrix& packed) {
  const size_t k = packed.k;
  context.pool().ParallelFor((packed.n + kPanel - 1) / kPanel, [&](size_t panel, size_t) {
    const size_t first = panel * kPanel, num_rows = std::min(kPanel, packed.n - first);
    uint32_t* const to = packed.data.as<uint32_t>() + panel * k * kPanel;
    constexpr size_t kStep = 64;  // columns that stay in the first cache
    for (size_t i = 0; i < k; i += kStep) {
      PackPanel(reinterpret_cast<const std::byte*>(weights + first * k + i), k, num_rows, std::min(kStep, k - i),
                kPanel, to + i * kPanel);
    }
  });
}

void RepackTransposedOnTarget(Context& context, const float* weights, PackedMatrix& packed) {
  context.pool().ParallelFor((packed.n + kPanel - 1) / kPanel, [&](size_t panel, size_t) {
    const size_t first = panel * kPanel, count = std::min(kPanel, packed.n - first);
    float* to = packed.data.as<float>() + panel * packed.k * kPanel;
    for (size_t i = 0; i < packed.k; ++i, to += kPanel) {
      std::memcpy(to, weights + i * packed.n + first, count * sizeof(float));
      std::fill(to + count, to + kPanel, 0.0f);
    }
  });
}

// ------------------------------------------------------------------ gradient

// The outer-product twin of MultiplyTile: sum[j · kPanel + c] += Σ_r dy[r · dy_stride + j] · a[r · a_stride + c],
// j < number of kRow, c < kPanel, r ascending. At every r one line at ahead + r · ahead_stride is prefetched.
struct TileOperands {
  const float* dy;
  size_t dy_stride;
  const float* a;
  size_t a_stride;
  size_t num_rows;
  const float* ahead;
  size_t ahead_stride;
};

template <size_t... kRow>
HWY_INLINE void AddRows(std::index_sequence<kRow...>, const TileOperands& operands, float* HWY_RESTRICT sum) {
  const DF df;
  VF sum0[sizeof...(kRow)], sum1[sizeof...(kRow)];
  ((sum0[kRow] = hn::LoadU(df, sum + kRow * kPanel), sum1[kRow] = hn::LoadU(df, sum + kRow * kPanel + kLanes)), ...);
  const float* HWY_RESTRICT dy = operands.dy;
  const float* HWY_RESTRICT a = operands.a;
  const float* ahead = operands.ahead;
  const size_t dy_stride = operands.dy_stride, a_stride = operands.a_stride, ahead_stride = operands.ahead_stride;
  for (size_t r = 0; r < operands.num_rows; ++r, dy += dy_stride, a += a_stride, ahead += ahead_stride) {
    hwy::Prefetch(ahead);
    const VF a0 = hn::LoadU(df, a), a1 = hn::LoadU(df, a + kLanes);
    VF x;
    ((x = hn::Set(df, dy[kRow]), sum0[kRow] = hn::MulAdd(x, a0, sum0[kRow]),
      sum1[kRow] = hn::MulAdd(x, a1, sum1[kRow])),
     ...);
  }
  ((hn::StoreU(sum0[kRow], df, sum + kRow * kPanel), hn::StoreU(sum1[kRow], df, sum + kRow * kPanel + kLanes)), ...);
}

template <size_t kRows>
HWY_NOINLINE void AddFixed(const TileOperands& operands, float* sum) {
  AddRows(std::make_index_sequence<kRows>(), operands, sum);
}

template <size_t... kRow>
constexpr auto AddTable(std::index_sequence<kRow...>) {
  return std::array{&AddFixed<kRow + 1>...};
}

constexpr size_t kPieceRows = 128;
constexpr size_t kBlockTiles = 224 / kTileRows, kBlockPanels = 128 / kPanel;  // at most, of dW: rows and columns

// How dW is cut into blocks, so that every thread has work. The result does not depend on it.
struct GradientPlan {
  GradientPlan(const WeightGradientArgs& args, size_t num_threads)
      : tiles(args.n),
        num_panels((args.k + kPanel - 1) / kPanel),
        block_tiles(kBlockTiles),
        block_panels(kBlockPanels) {
    constexpr size_t kTasksPerThread = 6;
    const size_t wanted = num_threads == 1 ? 1 : kTasksPerThread * num_threads;
    while (num_tasks() < wanted && block_tiles > 2) {
      if (block_panels * kPanel >= block_tiles * kTileRows && block_panels > 1) {
        block_panels = (block_panels + 1) / 2;
      } else {
        block_tiles = (block_tiles + 1) / 2;
      }
    }
  }
  size_t num_columns() const { return (num_panels + block_panels - 1) / block_panels; }
  size_t num_tasks() const { return (tiles.count + block_tiles - 1) / block_tiles * num_columns(); }

  EvenTiles tiles;  // of the rows of dW
  size_t num_panels;
  size_t block_tiles, block_panels;
};

// One block of dW: tiles [first_tile, end_tile) × panels [first_panel, end_panel).
class GradientBlock {
 public:
  GradientBlock(const WeightGradientArgs& args, const GradientPlan& plan, size_t task, float* scratch)
      : args_(args),
        tiles_(plan.tiles),
        first_tile_(task / plan.num_columns() * plan.block_tiles),
        end_tile_(std::min(tiles_.count, first_tile_ + plan.block_tiles)),
        first_panel_(task % plan.num_columns() * plan.block_panels),
        end_panel_(std::min(plan.num_panels, first_panel_ + plan.block_panels)),
        edge_(scratch),
        sums_(scratch + kPieceRows * kPanel) {}

  void Run() {
    const size_t num_tiles = end_tile_ - first_tile_;
    std::fill_n(sums_, num_tiles * (end_panel_ - first_panel_) * kMaxTileFloats, 0.0f);
    for (size_t row = 0; row < args_.num_rows; row += kPieceRows) {
      for (size_t panel = first_panel_; panel < end_panel_; ++panel) AddPanel(row, panel);
    }
    for (size_t tile = first_tile_; tile < end_tile_; ++tile) {
      for (size_t panel = first_panel_; panel < end_panel_; ++panel) Finish(tile, panel);
    }
  }

 private:
  float* Sum(size_t tile, size_t panel) const {
    return sums_ + ((panel - first_panel_) * (end_tile_ - first_tile_) + tile - first_tile_) * kMaxTileFloats;
  }
  float* Weights(size_t row, size_t panel) const { return args_.dweights + row * args_.k + panel * kPanel; }

  // Adds the piece of rows that starts at `row` to every tile of a panel.
  void AddPanel(size_t row, size_t panel) {
    static constexpr auto kTable = AddTable(std::make_index_sequence<kTileRows>());
    const size_t num_rows = std::min(kPieceRows, args_.num_rows - row);
    const float* const dy = args_.dy + row * args_.dy_stride;
    TileOperands operands{
        nullptr, args_.dy_stride, args_.a + row * args_.a_stride + panel * kPanel, args_.a_stride, num_rows, sums_, 0};
    if (args_.k - panel * kPanel < kPanel) CopyEdge(operands, args_.k - panel * kPanel);
    for (size_t tile = first_tile_; tile < end_tile_; ++tile) {
      operands.dy = dy + tiles_.begin(tile);
      LookAhead(operands, row, panel, tile);
      kTable[tiles_.size(tile) - 1](operands, Sum(tile, panel));
    }
  }

  // What a tile prefetches: its share of the next piece, or in the last piece the tile of dW that Finish will meet.
  void LookAhead(TileOperands& operands, size_t row, size_t panel, size_t tile) const {
    const size_t next = row + kPieceRows;
    operands.ahead = sums_;
    operands.ahead_stride = 0;
    if (next >= args_.num_rows) {
      for (size_t r = tiles_.begin(tile); r < tiles_.begin(tile) + tiles_.size(tile); ++r) {
        hwy::Prefetch(Weights(r, panel));
        hwy::Prefetch(Weights(r, panel) + std::min(kLanes, args_.k - 1 - panel * kPanel));
      }
    } else if (next + kPieceRows > args_.num_rows) {
      return;  // shorter than this piece
    } else if (tile - first_tile_ < 2) {
      const size_t column = panel * kPanel + (tile - first_tile_) * kLanes;
      operands.ahead = args_.a + next * args_.a_stride + std::min(args_.k - 1, column);
      operands.ahead_stride = args_.a_stride;
    } else if (panel + 1 == end_panel_) {
      operands.ahead = args_.dy + next * args_.dy_stride + tiles_.begin(tile);
      operands.ahead_stride = args_.dy_stride;
    }
  }

  // The last columns of `a`, through a padded copy: nothing outside the matrix is read.
  void CopyEdge(TileOperands& operands, size_t count) {
    for (size_t r = 0; r < operands.num_rows; ++r) {
      std::memcpy(edge_ + r * kPanel, operands.a + r * operands.a_stride, count * sizeof(float));
      std::fill(edge_ + r * kPanel + count, edge_ + (r + 1) * kPanel, 0.0f);
    }
    operands.a = edge_;
    operands.a_stride = kPanel;
  }

  // dW += sum.
  void Finish(size_t tile, size_t panel) {
    const DF df;
    const size_t count = std::min(kPanel, args_.k - panel * kPanel);
    const float* sum = Sum(tile, panel);
    for (size_t r = 0; r < tiles_.size(tile); ++r, sum += kPanel) {
      float* const out = Weights(tiles_.begin(tile) + r, panel);
      size_t c = 0;
      for (; c + kLanes <= count; c += kLanes) {
        hn::StoreU(hn::Add(hn::LoadU(df, out + c), hn::LoadU(df, sum + c)), df, out + c);
      }
      for (; c < count; ++c) out[c] += sum[c];
    }
  }

  const WeightGradientArgs& args_;
  const EvenTiles tiles_;
  const size_t first_tile_, end_tile_, first_panel_, end_panel_;
  float* const edge_;  // [kPieceRows, kPanel]
  float* const sums_;  // [panels, tiles, kTileRows, kPanel]
};

constexpr size_t kBiasColumns = 256;

void AddBias(const WeightGradientArgs& args, size_t first) {
  const DF df;
  const size_t count = std::min(kBiasColumns, args.n - first);
  HWY_ALIGN float sums[kBiasColumns] = {};
  for (size_t r = 0; r < args.num_rows; ++r) {
    const float* const dy = args.dy + r * args.dy_stride + first;
    size_t c = 0;
    for (; c + kLanes <= count; c += kLanes) {
      hn::Store(hn::Add(hn::Load(df, sums + c), hn::LoadU(df, dy + c)), df, sums + c);
    }
    for (; c < count; ++c) sums[c] += dy[c];
  }
  for (size_t c = 0; c < count; ++c) args.dbias[first + c] += sums[c];
}

void WeightGradientOnTarget(Context& context, const WeightGradientArgs& args) {
  static_assert((kBlockTiles * kBlockPanels * kMaxTileFloats + kPieceRows * kPanel) * sizeof(float) <=
                Context::kScratchBytes);
  const GradientPlan plan(args, context.pool().size());
  const size_t num_blocks = plan.num_tasks();
  const size_t num_biases = args.dbias == nullptr ? 0 : (args.n + kBiasColumns - 1) / kBiasColumns;
  context.pool().ParallelFor(num_blocks + num_biases, [&](size_t task, size_t worker) {
    if (task >= num_blocks) return AddBias(args, (task - num_blocks) * kBiasColumns);
    GradientBlock(args, plan, task, context.scratch<float>(worker)).Run();
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace nextscale
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nextscale {

HWY_EXPORT(GradientPanelWidth);
HWY_EXPORT(RepackOnTarget);
HWY_EXPORT(RepackTransposedOnTarget);
HWY_EXPORT(WeightGradientOnTarget);

PackedMatrix MakePackedMatrix(size_t n, size_t k) {
  PackedMatrix packed;
  packed.n = n;
  packed.k = k;
  packed.panel = HWY_DYNAMIC_DISPATCH(GradientPanelWidth)();
  packed.data = Buffer((n + packed.panel - 1) / packed.panel * packed.panel * k * sizeof(float));
  return packed;
}

void Repack(Context& context, const float* weights, PackedMatrix& packed) {
  CheckRepack(weights, packed, HWY_DYNAMIC_DISPATCH(GradientPanelWidth)());
  HWY_DYNAMIC_DISPATCH(RepackOnTarget)(context, weights, packed);
}

void RepackTransposed(Context& context, const float* weights, PackedMatrix& packed) {
  CheckRepack(weights, packed, HWY_DYNAMIC_DISPATCH(GradientPanelWidth)());
  HWY_DYNAMIC_DISPATCH(RepackTransposedOnTarget)(context, weights, packed);
}

void WeightGradient(Context& context, const WeightGradientArgs& args) {
  CheckWeightGradient(args);
  if (args.num_rows == 0) return;
  HWY_DYNAMIC_DISPATCH(WeightGradientOnTarget)(context, args);
}

}  // namespace nextscale
#endif  // HWY_ONCE
