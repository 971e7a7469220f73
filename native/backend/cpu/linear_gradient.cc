// Packing weights that change, and their gradient: dW += dyᵀ · a by the microkernel of all matrix products.
//
// Rows are cut into pieces. Of each piece, dy is packed transposed (a row per output) and `a` in panels, once, by all
// threads; then each task owns a block of dW and adds piece after piece to it.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/backend/cpu/linear_gradient.cc"
#include "native/backend/cpu/simd.h"
// Re-includes this file for every target.
#include <hwy/foreach_target.h>

#include <algorithm>
#include <cstring>

#include "native/backend/cpu/microkernel-inl.h"
#include "native/ops/check_gradient.h"
#include "native/ops/linear_gradient.h"

#ifndef NEXTSCALE_BACKEND_CPU_LINEAR_GRADIENT_CC_
#define NEXTSCALE_BACKEND_CPU_LINEAR_GRADIENT_CC_
namespace nextscale {
namespace {

constexpr size_t kPiece = 256;               // rows: a panel of a piece stays in the first or second cache
constexpr size_t kPieceStride = kPiece + 16; // rows of dyᵀ must not compete for the same cache lines
constexpr size_t kMaxPanel = 32;             // of any target

constexpr size_t RoundUp(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace
}  // namespace nextscale
#endif  // NEXTSCALE_BACKEND_CPU_LINEAR_GRADIENT_CC_

HWY_BEFORE_NAMESPACE();
namespace nextscale {
namespace HWY_NAMESPACE {
namespace {

static_assert(kPanel <= kMaxPanel);

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

struct PackedPieces {
  explicit PackedPieces(const WeightGradientArgs& args)
      : num_pieces((args.num_rows + kPiece - 1) / kPiece),
        num_panels((args.k + kPanel - 1) / kPanel),
        n(args.n),
        dy(args.workspace),
        a(dy + num_pieces * n * kPieceStride) {}
  float* Dy(size_t piece, size_t row) const { return dy + (piece * n + row) * kPieceStride; }
  float* A(size_t piece, size_t panel) const { return a + (piece * num_panels + panel) * kPiece * kPanel; }

  size_t num_pieces, num_panels, n;
  float* dy;  // [pieces, N, kPieceStride]
  float* a;   // [pieces, panels, kPiece, kPanel]
};

void PackPieces(Context& context, const WeightGradientArgs& args, const PackedPieces& packed) {
  constexpr size_t kColumns = 64;  // of dy: columns that a task transposes
  const size_t num_columns = (args.n + kColumns - 1) / kColumns;
  const size_t tasks_per_piece = num_columns + packed.num_panels;
  context.pool().ParallelFor(packed.num_pieces * tasks_per_piece, [&](size_t task, size_t) {
    const size_t piece = task / tasks_per_piece, part = task % tasks_per_piece;
    const size_t first_row = piece * kPiece, num_rows = std::min(kPiece, args.num_rows - first_row);
    if (part < num_columns) {
      const size_t first = part * kColumns;
      PackPanel(reinterpret_cast<const std::byte*>(args.dy + first_row * args.dy_stride + first), args.dy_stride,
                num_rows, std::min(kColumns, args.n - first), kPieceStride,
                reinterpret_cast<uint32_t*>(packed.Dy(piece, first)));
      return;
    }
    const size_t panel = part - num_columns, first = panel * kPanel, count = std::min(kPanel, args.k - first);
    float* to = packed.A(piece, panel);
    for (size_t row = 0; row < num_rows; ++row, to += kPanel) {
      std::memcpy(to, args.a + (first_row + row) * args.a_stride + first, count * sizeof(float));
      std::fill(to + count, to + kPanel, 0.0f);
    }
  });
}

// dW[row .. row + rows, one panel] += one piece.
void AddTile(const WeightGradientArgs& args, const PackedPieces& packed, size_t piece, size_t panel, size_t row,
             size_t rows) {
  const size_t num_rows = std::min(kPiece, args.num_rows - piece * kPiece);
  const size_t column = panel * kPanel, count = std::min(kPanel, args.k - column);
  float* const out = args.dweights + row * args.k + column;
  const float* const dy = packed.Dy(piece, row);
  const float* const a = packed.A(piece, panel);
  if (count == kPanel) {
    MultiplyTile<float>(rows, dy, kPieceStride, a, num_rows, true, out, args.k);
    return;
  }
  HWY_ALIGN float tile[kMaxTileFloats] = {};
  for (size_t r = 0; r < rows; ++r) std::memcpy(tile + r * kPanel, out + r * args.k, count * sizeof(float));
  MultiplyTile<float>(rows, dy, kPieceStride, a, num_rows, true, tile, kPanel);
  for (size_t r = 0; r < rows; ++r) std::memcpy(out + r * args.k, tile + r * kPanel, count * sizeof(float));
}

void AddBias(const WeightGradientArgs& args, const PackedPieces& packed, size_t first, size_t end) {
  const DF df;
  for (size_t piece = 0; piece < packed.num_pieces; ++piece) {
    // What lies beyond the rows of a piece is zero, up to a whole vector.
    const size_t num_rows = std::min(kPiece, args.num_rows - piece * kPiece);
    for (size_t row = first; row < end; ++row) {
      const float* const dy = packed.Dy(piece, row);
      VF sum = hn::Zero(df);
      for (size_t r = 0; r < num_rows; r += kLanes) sum = hn::Add(sum, hn::LoadU(df, dy + r));
      args.dbias[row] += hn::GetLane(hn::SumOfLanes(df, sum));
    }
  }
}

void WeightGradientOnTarget(Context& context, const WeightGradientArgs& args) {
  const PackedPieces packed(args);
  PackPieces(context, args, packed);
  constexpr size_t kBlockTiles = 6, kGroupPanels = 2;
  const EvenTiles tiles(args.n);
  const size_t num_blocks = (tiles.count + kBlockTiles - 1) / kBlockTiles;
  const size_t num_groups = (packed.num_panels + kGroupPanels - 1) / kGroupPanels;
  context.pool().ParallelFor(num_blocks * num_groups, [&](size_t task, size_t) {
    const size_t first_tile = task / num_groups * kBlockTiles, group = task % num_groups;
    const size_t end_tile = std::min(tiles.count, first_tile + kBlockTiles);
    const size_t end_panel = std::min(packed.num_panels, (group + 1) * kGroupPanels);
    for (size_t piece = 0; piece < packed.num_pieces; ++piece) {
      for (size_t panel = group * kGroupPanels; panel < end_panel; ++panel) {
        for (size_t tile = first_tile; tile < end_tile; ++tile) {
          AddTile(args, packed, piece, panel, tiles.begin(tile), tiles.size(tile));
        }
      }
    }
    if (group == 0 && args.dbias != nullptr) {
      AddBias(args, packed, tiles.begin(first_tile), tiles.begin(end_tile - 1) + tiles.size(end_tile - 1));
    }
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
  packed.data = Buffer(RoundUp(n, packed.panel) * k * sizeof(float));
  return packed;
}

void Repack(Context& context, const float* weights, PackedMatrix& packed) {
  HWY_DYNAMIC_DISPATCH(RepackOnTarget)(context, weights, packed);
}

void RepackTransposed(Context& context, const float* weights, PackedMatrix& packed) {
  HWY_DYNAMIC_DISPATCH(RepackTransposedOnTarget)(context, weights, packed);
}

size_t WeightGradientWorkspace(size_t num_rows, size_t n, size_t k) {
  const size_t num_pieces = (num_rows + kPiece - 1) / kPiece;
  return num_pieces * (n * kPieceStride + RoundUp(k, kMaxPanel) * kPiece);
}

void WeightGradient(Context& context, const WeightGradientArgs& args) {
  CheckWeightGradient(args);
  HWY_DYNAMIC_DISPATCH(WeightGradientOnTarget)(context, args);
}

}  // namespace nextscale
#endif  // HWY_ONCE
