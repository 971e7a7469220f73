// Which kernel takes a call, what is refused, and how weights are packed.
#include "native/backend/cuda/host/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "native/backend/cuda/host/convert.h"

namespace nextscale::cuda {
namespace {

// Each number of packed weights is where a kernel looks for it, and the padding is zeros.
TEST(CudaPlan, PacksWeights) {
  for (const auto& [n, k] : {std::pair<uint32_t, uint32_t>{1, 1}, {64, 64}, {65, 72}, {130, 200}, {3, 61}}) {
    std::vector<uint16_t> rows(size_t{n} * k), tiles(WeightBytes(n, k, DType::kF16) / 2, 0xFFFF);
    for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<uint16_t>(i % 65535 + 1);
    for (uint32_t first = 0; first < n; first += kWeightTile) {
      PackTiles(reinterpret_cast<const std::byte*>(rows.data() + size_t{first} * k), std::min(kWeightTile, n - first),
                k, reinterpret_cast<std::byte*>(tiles.data()) + WeightPiece(first, 0, k));
    }
    for (uint32_t column = 0; column < WeightTiles(n) * kWeightTile; ++column) {
      for (uint32_t i = 0; i < WeightTiles(k) * kWeightTile; ++i) {
        const uint16_t expected = column < n && i < k ? rows[size_t{column} * k + i] : 0;
        ASSERT_EQ(tiles[WeightPiece(column, i, k) / 2 + i % 8], expected) << column << ", " << i;
      }
    }
  }
}

TEST(CudaPlan, ChoosesPaths) {
  alignas(16) unsigned char memory[16];
  LinearCall args;
  args.dtype = DType::kBF16;
  args.out = memory;
  args.a = args.weights = memory;
  args.num_rows = 16;
  args.n = args.out_stride = 1920;
  args.k = args.a_stride = 1920;
  EXPECT_EQ(ChooseLinearPath(args, {132}), LinearPath::kNarrowTile);
  args.epilogue = LinearEpilogue::kQkv;
  EXPECT_EQ(ChooseLinearPath(args, {132}), LinearPath::kSmallTile);  // whole heads
  args.epilogue = LinearEpilogue::kStore;
  args.num_rows = 256;
  EXPECT_EQ(ChooseLinearPath(args, {132}), LinearPath::kNarrowTile);  // 4 · 30 small tiles
  args.num_rows = 257;
  EXPECT_EQ(ChooseLinearPath(args, {132}), LinearPath::kSmallTile);
  args.num_rows = 128 * 9;
  EXPECT_EQ(ChooseLinearPath(args, {132}), LinearPath::kLargeTile);  // 9 · 15 tiles
  EXPECT_EQ(ChooseLinearPath(args, {132, true}), LinearPath::kWide);
  EXPECT_EQ(ChooseLinearPath(args, {132, false}), LinearPath::kLargeTile);  // wgmma is not there any more
  args.a_stride = 1921;
  EXPECT_EQ(ChooseLinearPath(args, {132}), LinearPath::kPlain);
  args.a_stride = 1920;
  args.dtype = DType::kF32;
  EXPECT_EQ(ChooseLinearPath(args, {132}), LinearPath::kPlain);
}

TEST(CudaPlan, RefusesWhatNoKernelTakes) {
  const auto code = [](const auto& f) {
    try {
      f();
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::kAborted;
  };
  alignas(16) unsigned char memory[16];
  LinearCall args;
  args.out = memory;
  args.a = args.weights = memory;
  args.num_rows = 1;
  args.n = args.k = args.a_stride = args.out_stride = 8;
  EXPECT_NO_THROW(CheckCall(args));
  args.a_stride = 7;
  EXPECT_EQ(code([&] { CheckCall(args); }), ErrorCode::kInvalidArgument);
  args.a_stride = 8;
  args.epilogue = LinearEpilogue::kResidual;
  EXPECT_EQ(code([&] { CheckCall(args); }), ErrorCode::kInvalidArgument);
  args.epilogue = LinearEpilogue::kQkv;
  EXPECT_EQ(code([&] { CheckCall(args); }), ErrorCode::kInvalidArgument);
  AttentionCall attention;
  attention.head_dim = 1025;
  EXPECT_EQ(code([&] { CheckCall(attention); }), ErrorCode::kInvalidArgument);
  SampleCall sample;
  sample.codebook_size = kMaxCodebook + 1;
  EXPECT_EQ(code([&] { CheckCall(sample); }), ErrorCode::kInvalidArgument);
  const std::vector<RowSpan> gap = {{0, 0, 2, nullptr}, {3, 2, 1, nullptr}};
  RowTableData rows;
  EXPECT_EQ(code([&] { rows.Build(gap, 4); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code([&] { rows.Build(std::span(gap).first(1), 3); }), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace nextscale::cuda
