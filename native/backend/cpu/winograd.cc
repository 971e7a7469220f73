// 3×3 convolution of stride 1 as F(4×4, 3×3) of Winograd (Lavin and Gray, "Fast algorithms for convolutional neural
// networks", CVPR 2016): out = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A for each tile of 4×4 outputs, 6×6 inputs d and 3×3 weights
// g. Summed over input channels, the element-wise products are 36 small matrix products.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/backend/cpu/winograd.cc"
#include "native/backend/cpu/simd.h"
// Re-includes this file for every target.
#include <hwy/foreach_target.h>

#include <algorithm>

#include "native/backend/cpu/conv_stage-inl.h"
#include "native/backend/cpu/microkernel-inl.h"
#include "native/backend/cpu/winograd.h"
#include "native/base/error.h"

HWY_BEFORE_NAMESPACE();
namespace nextscale {
namespace HWY_NAMESPACE {
namespace {

constexpr size_t kStageChannels = 32;  // of a patch at a time: it stays in the second-level cache

// ------------------------------------------------------------------ the three transforms

// Bᵀ d for six vectors.
HWY_INLINE void InputTransform(DF df, const VF (&d)[6], VF (&t)[6]) {
  const VF two = hn::Set(df, 2.0f), four = hn::Set(df, 4.0f), five = hn::Set(df, 5.0f);
  t[0] = hn::MulAdd(four, d[0], hn::NegMulAdd(five, d[2], d[4]));
  const VF a = hn::NegMulAdd(four, d[2], d[4]), b = hn::NegMulAdd(four, d[1], d[3]);
  t[1] = hn::Add(a, b);
  t[2] = hn::Sub(a, b);
  const VF c = hn::Sub(d[4], d[2]), e = hn::Mul(two, hn::Sub(d[3], d[1]));
  t[3] = hn::Add(c, e);
  t[4] = hn::Sub(c, e);
  t[5] = hn::MulAdd(four, d[1], hn::NegMulAdd(five, d[3], d[5]));
}

// G g for three vectors.
HWY_INLINE void WeightTransform(DF df, VF g0, VF g1, VF g2, VF (&t)[6]) {
  const VF sixth = hn::Set(df, -1.0f / 6), twelfth = hn::Set(df, 1.0f / 12), part = hn::Set(df, 1.0f / 24);
  t[0] = hn::Mul(hn::Set(df, 0.25f), g0);
  const VF even = hn::Mul(sixth, hn::Add(g0, g2)), odd = hn::Mul(sixth, g1);
  t[1] = hn::Add(even, odd);
  t[2] = hn::Sub(even, odd);
  const VF even2 = hn::MulAdd(part, g0, hn::Mul(hn::Set(df, 1.0f / 6), g2)), odd2 = hn::Mul(twelfth, g1);
  t[3] = hn::Add(even2, odd2);
  t[4] = hn::Sub(even2, odd2);
  t[5] = g2;
}

// Aᵀ m for six vectors.
HWY_INLINE void OutputTransform(DF df, const VF (&m)[6], VF (&y)[4]) {
  const VF sum1 = hn::Add(m[1], m[2]), difference1 = hn::Sub(m[1], m[2]);
  const VF sum2 = hn::Add(m[3], m[4]), difference2 = hn::Sub(m[3], m[4]);
  y[0] = hn::Add(m[0], hn::Add(sum1, sum2));
  y[1] = hn::MulAdd(hn::Set(df, 2.0f), difference2, difference1);
  y[2] = hn::MulAdd(hn::Set(df, 4.0f), sum2, sum1);
  y[3] = hn::MulAdd(hn::Set(df, 8.0f), difference2, hn::Add(difference1, m[5]));
}

// ------------------------------------------------------------------ weights

// Channels c0..c1-1 of one panel: packed [tap][cin][kPanel] → u[36][u_plane], rows of kPanel.
template <typename T>
void TransformWeights(const T* HWY_RESTRICT packed, size_t cin, size_t c0, size_t c1, float* HWY_RESTRICT u,
                      size_t u_plane) {
  const DF df;
  for (size_t c = c0; c < c1; ++c) {
    for (size_t half = 0; half < kPanel; half += kLanes) {
      VF columns[6][3], row[6];
      for (size_t x = 0; x < 3; ++x) {
        const auto load = [&](size_t y)
                              HWY_ATTR { return LoadWide(df, packed + ((y * 3 + x) * cin + c) * kPanel + half); };
        WeightTransform(df, load(0), load(1), load(2), row);
        for (size_t i = 0; i < 6; ++i) columns[i][x] = row[i];
      }
      for (size_t i = 0; i < 6; ++i) {
        WeightTransform(df, columns[i][0], columns[i][1], columns[i][2], row);
        for (size_t j = 0; j < 6; ++j) hn::Store(row[j], df, u + (i * 6 + j) * u_plane + c * kPanel + half);
      }
    }
  }
}

void TransformPanel(const PackedConv& weights, size_t panel_index, size_t c0, size_t c1, float* u, size_t u_plane) {
  const size_t offset = panel_index * 9 * weights.cin * kPanel;
  switch (weights.dtype) {
    case DType::kF32:
      return TransformWeights(weights.data.as<float>() + offset, weights.cin, c0, c1, u, u_plane);
    case DType::kF16:
      return TransformWeights(weights.data.as<hwy::float16_t>() + offset, weights.cin, c0, c1, u, u_plane);
    case DType::kBF16:
      return TransformWeights(weights.data.as<hwy::bfloat16_t>() + offset, weights.cin, c0, c1, u, u_plane);
  }
}

// ------------------------------------------------------------------ input

struct Block {
  Block(const WinogradPlan& plan, size_t index)
      : y(index / plan.blocks_x * plan.block_height),
        x(index % plan.blocks_x * plan.block_width),
        height(std::min(plan.block_height, plan.tiles_y - y)),
        width(std::min(plan.block_width, plan.tiles_x - x)) {}
  size_t num_tiles() const { return height * width; }
  size_t y, x, height, width;  // in tiles
};

// One tile, one vector of channels: 6×6 pixels at `from` → 36 positions of v.
HWY_INLINE void TransformTile(const float* HWY_RESTRICT from, size_t row_stride, size_t pixel_stride,
                              float* HWY_RESTRICT v, size_t v_plane) {
  const DF df;
  VF rows[6][6], in[6], out[6];
  for (size_t j = 0; j < 6; ++j) {
    for (size_t i = 0; i < 6; ++i) in[i] = hn::Load(df, from + i * row_stride + j * pixel_stride);
    InputTransform(df, in, out);
    for (size_t i = 0; i < 6; ++i) rows[i][j] = out[i];
  }
  for (size_t i = 0; i < 6; ++i) {
    InputTransform(df, rows[i], out);
    for (size_t j = 0; j < 6; ++j) hn::Store(out[j], df, v + (i * 6 + j) * v_plane);
  }
}

// Channels c0..c1-1 of a block: v[36][v_plane], tiles of v_stride.
void TransformBlock(const ConvArgs& args, const WinogradPlan& plan, const Block& block, size_t c0, size_t c1,
                    float* stage, float* v) {
  Patch patch;
  patch.y0 = static_cast<ptrdiff_t>(4 * block.y) - 1;
  patch.x0 = static_cast<ptrdiff_t>(4 * block.x) - 1;
  patch.height = 4 * block.height + 2;
  patch.width = 4 * block.width + 2;
  for (size_t c = c0; c < c1; c += kStageChannels) {
    patch.c0 = c;
    patch.c1 = std::min(c1, c + kStageChannels);
    StagePatch(args, patch, stage, kStageChannels);
    const size_t row_stride = patch.width * kStageChannels;
    for (size_t tile = 0; tile < block.num_tiles(); ++tile) {
      const float* from = stage + tile / block.width * 4 * row_stride + tile % block.width * 4 * kStageChannels;
      for (size_t i = 0; i < patch.c1 - c; i += kLanes) {
        TransformTile(from + i, row_stride, kStageChannels, v + tile * plan.v_stride + c + i, plan.v_plane);
      }
    }
  }
}

// ------------------------------------------------------------------ products and output

// One tile, one vector of output channels at m (36 planes): output transform, bias, residual, and the pixels inside the
// map.
HWY_INLINE void FinishTile(const ConvArgs& args, size_t y0, size_t x0, size_t column, const float* HWY_RESTRICT m,
                           size_t m_plane) {
  const DF df;
  VF rows[4][6], in[6], out[4];
  for (size_t j = 0; j < 6; ++j) {
    for (size_t i = 0; i < 6; ++i) in[i] = hn::Load(df, m + (i * 6 + j) * m_plane);
    OutputTransform(df, in, out);
    for (size_t i = 0; i < 4; ++i) rows[i][j] = out[i];
  }
  const VF bias = hn::LoadU(df, args.weights->bias.as<float>() + column);
  const size_t width = args.out_width();
  const size_t valid_y = std::min<size_t>(4, args.out_height() - y0), valid_x = std::min<size_t>(4, width - x0);
  for (size_t i = 0; i < valid_y; ++i) {
    OutputTransform(df, rows[i], out);
    const size_t pixel = (y0 + i) * width + x0;
    for (size_t j = 0; j < valid_x; ++j) {
      VF y = hn::Add(out[j], bias);
      if (args.residual != nullptr)
        y = hn::Add(y, hn::LoadU(df, static_cast<const float*>(args.residual) + (pixel + j) * args.residual_stride + column));
      hn::StoreU(y, df, static_cast<float*>(args.out) + (pixel + j) * args.out_stride + column);
    }
  }
}

// One block times one panel of weights.
void MultiplyBlock(const ConvArgs& args, const WinogradPlan& plan, const Block& block, size_t panel_index,
                   const float* v, const float* u, float* m) {
  const EvenTiles groups(block.num_tiles());
  for (size_t position = 0; position < 36; ++position) {
    for (size_t g = 0; g < groups.count; ++g) {
      MultiplyTile(groups.size(g), v + position * plan.v_plane + groups.begin(g) * plan.v_stride, plan.v_stride,
                   u + position * plan.u_plane, args.weights->cin, false,
                   m + position * plan.m_plane + groups.begin(g) * kPanel, kPanel);
    }
  }
  const size_t columns = std::min(kPanel, MapStride(args.weights->cout) - panel_index * kPanel);
  for (size_t tile = 0; tile < block.num_tiles(); ++tile) {
    const size_t y0 = 4 * (block.y + tile / block.width), x0 = 4 * (block.x + tile % block.width);
    for (size_t column = 0; column < columns; column += kLanes) {
      FinishTile(args, y0, x0, panel_index * kPanel + column, m + tile * kPanel + column, plan.m_plane);
    }
  }
}

// ------------------------------------------------------------------ the two orders of work

void ShareWeights(Context& context, const ConvArgs& args, const WinogradPlan& plan) {
  constexpr size_t kChunk = 32;
  const size_t cin = args.weights->cin, num_panels = args.weights->num_panels();
  const size_t num_chunks = (cin + kChunk - 1) / kChunk;
  context.pool().ParallelFor(num_panels * num_chunks, [&](size_t task, size_t) HWY_ATTR {
    const size_t panel = task / num_chunks, c0 = task % num_chunks * kChunk;
    TransformPanel(*args.weights, panel, c0, std::min(cin, c0 + kChunk), args.workspace + panel * plan.u_floats(),
                   plan.u_plane);
  });
  context.pool().ParallelFor(plan.num_blocks(), [&](size_t index, size_t worker) HWY_ATTR {
    const Block block(plan, index);
    float* v = context.scratch<float>(worker);
    float* rest = v + plan.v_floats();  // the staged patch, then the products
    TransformBlock(args, plan, block, 0, cin, rest, v);
    for (size_t panel = 0; panel < num_panels; ++panel) {
      MultiplyBlock(args, plan, block, panel, v, args.workspace + panel * plan.u_floats(), rest);
    }
  });
}

void ShareInput(Context& context, const ConvArgs& args, const WinogradPlan& plan) {
  const size_t cin = args.weights->cin;
  const size_t num_chunks = (cin + kStageChannels - 1) / kStageChannels;
  context.pool().ParallelFor(plan.num_blocks() * num_chunks, [&](size_t task, size_t worker) HWY_ATTR {
    const size_t index = task / num_chunks, c0 = task % num_chunks * kStageChannels;
    TransformBlock(args, plan, Block(plan, index), c0, std::min(cin, c0 + kStageChannels),
                   context.scratch<float>(worker), args.workspace + index * plan.v_floats());
  });
  context.pool().ParallelFor(args.weights->num_panels(), [&](size_t panel, size_t worker) HWY_ATTR {
    float* u = context.scratch<float>(worker);
    TransformPanel(*args.weights, panel, 0, cin, u, plan.u_plane);
    for (size_t index = 0; index < plan.num_blocks(); ++index) {
      MultiplyBlock(args, plan, Block(plan, index), panel, args.workspace + index * plan.v_floats(), u,
                    u + plan.u_floats());
    }
  });
}

WinogradPlan PlanOnTarget(const ConvArgs& args) {
  constexpr size_t kScratchFloats = Context::kScratchBytes / sizeof(float);
  const size_t cin = args.weights->cin;
  WinogradPlan plan;
  plan.tiles_y = (args.out_height() + 3) / 4;
  plan.tiles_x = (args.out_width() + 3) / 4;
  plan.share_input = plan.tiles_y * plan.tiles_x < args.weights->cout;
  plan.v_stride = OddLines(cin);
  plan.u_plane = OddLines(cin * kPanel);
  for (size_t target = 64; target >= 4; target /= 2) {
    // Nearly square blocks: the patch of a block overlaps its neighbours by two pixels on each side.
    const size_t side_y = target >= 64 ? 4 : 2;
    plan.block_height = std::min(plan.tiles_y, side_y);
    plan.block_width = std::min(plan.tiles_x, target / plan.block_height);
    plan.block_height = std::min(plan.tiles_y, std::max(plan.block_height, target / plan.block_width));
    plan.blocks_y = (plan.tiles_y + plan.block_height - 1) / plan.block_height;
    plan.blocks_x = (plan.tiles_x + plan.block_width - 1) / plan.block_width;
    plan.v_plane = OddLines(plan.block_tiles() * plan.v_stride);
    plan.m_plane = OddLines(plan.block_tiles() * kPanel);
    const size_t stage = (4 * plan.block_height + 2) * (4 * plan.block_width + 2) * kStageChannels;
    const size_t products = 36 * plan.m_plane;
    plan.fits = plan.share_input ? std::max(stage, plan.u_floats() + products) <= kScratchFloats
                                 : plan.v_floats() + std::max(stage, products) <= kScratchFloats;
    if (plan.fits) return plan;
  }
  return plan;
}

void WinogradOnTarget(Context& context, const ConvArgs& args, const WinogradPlan& plan) {
  NS_CHECK(args.weights->panel == kPanel && plan.fits);
  return plan.share_input ? ShareInput(context, args, plan) : ShareWeights(context, args, plan);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace nextscale
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nextscale {

HWY_EXPORT(PlanOnTarget);
HWY_EXPORT(WinogradOnTarget);

WinogradPlan PlanWinograd(const ConvArgs& args) { return HWY_DYNAMIC_DISPATCH(PlanOnTarget)(args); }

void RunWinograd(Context& context, const ConvArgs& args, const WinogradPlan& plan) {
  HWY_DYNAMIC_DISPATCH(WinogradOnTarget)(context, args, plan);
}

}  // namespace nextscale
#endif  // HWY_ONCE
