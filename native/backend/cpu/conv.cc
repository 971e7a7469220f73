// 3×3 convolutions: packing, the choice of algorithm, and the direct form (an implicit matrix product).
//
// Direct form: a band of the padded input is staged in the workspace; then each task multiplies rows of pixels by one
// panel of weights, tap after tap. Bands bound the workspace, whatever the map.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/backend/cpu/conv.cc"
#include "native/backend/cpu/simd.h"
// Re-includes this file for every target.
#include <hwy/foreach_target.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "native/backend/cpu/conv_stage-inl.h"
#include "native/backend/cpu/kernels.h"
#include "native/backend/cpu/microkernel-inl.h"
#include "native/backend/cpu/winograd.h"
#include "native/base/error.h"
#include "native/ops/check.h"
#include "native/ops/check_map.h"

HWY_BEFORE_NAMESPACE();
namespace nextscale {
namespace HWY_NAMESPACE {
namespace {

size_t ConvPanel() { return kPanel; }

// ------------------------------------------------------------------ packing

// [rows of cout][cin][9] → [9][cin][kPanel] of one panel. The transposition works on small pieces: kPieceChannels · 9 ·
// kPanel numbers.
template <typename Bits>
void PackOnePanel(const TensorView& weights, size_t panel_index, Bits* HWY_RESTRICT panel) {
  constexpr size_t kPieceChannels = 8;
  const size_t cout = weights.shape[0], cin = weights.shape[1];
  const size_t first_row = panel_index * kPanel, num_rows = std::min(kPanel, cout - first_row);
  HWY_ALIGN Bits piece[kPieceChannels * 9 * kPanel];
  for (size_t c = 0; c < cin; c += kPieceChannels) {
    const size_t channels = std::min(kPieceChannels, cin - c);
    PackPanel<Bits>(weights.data + (first_row * cin + c) * 9 * sizeof(Bits), cin * 9, num_rows, channels * 9, kPanel,
                    piece);
    for (size_t i = 0; i < channels; ++i) {
      for (size_t tap = 0; tap < 9; ++tap)
        std::copy_n(piece + (i * 9 + tap) * kPanel, kPanel, panel + (tap * cin + c + i) * kPanel);
    }
  }
}

// True when all `count` numbers are finite.
template <typename Bits>
bool AllFinite(const Bits* numbers, size_t count, Bits infinity) {
  constexpr Bits kMagnitude = std::numeric_limits<Bits>::max() / 2;  // all but the sign
  Bits largest = 0;
  for (size_t i = 0; i < count; ++i) largest = std::max<Bits>(largest, numbers[i] & kMagnitude);
  return largest < infinity;
}

bool PackConvPanels(Context& context, const TensorView& weights, PackedConv& packed) {
  std::atomic<bool> finite{true};
  const size_t panel_size = 9 * packed.cin * kPanel;
  context.pool().ParallelFor(packed.num_panels(), [&](size_t index, size_t) HWY_ATTR {
    bool good = false;
    if (packed.dtype == DType::kF32) {
      uint32_t* panel = packed.data.as<uint32_t>() + index * panel_size;
      PackOnePanel(weights, index, panel);
      good = AllFinite<uint32_t>(panel, panel_size, 0x7F800000u);
    } else {
      uint16_t* panel = packed.data.as<uint16_t>() + index * panel_size;
      PackOnePanel(weights, index, panel);
      good = AllFinite<uint16_t>(panel, panel_size, packed.dtype == DType::kF16 ? 0x7C00 : 0x7F80);
    }
    if (!good) finite.store(false, std::memory_order_relaxed);
  });
  return finite.load();
}

// ------------------------------------------------------------------ direct form

struct DirectPlan {
  size_t step = 1;          // the convolution's stride
  size_t padding = 1;       // rows and columns of zeros before the map
  size_t staged_width = 0;  // pixels
  size_t pixel_stride = 0;  // floats
  size_t band_rows = 0;     // output rows of a band

  size_t staged_rows(size_t rows) const { return step * (rows - 1) + 3; }
  size_t workspace_floats() const { return staged_rows(band_rows) * staged_width * pixel_stride; }
};

DirectPlan PlanDirect(const ConvArgs& args) {
  constexpr size_t kBandFloats = size_t{1} << 20;
  DirectPlan plan;
  plan.step = args.kind == ConvKind::kDown ? 2 : 1;
  plan.padding = args.kind == ConvKind::kDown ? 0 : 1;
  plan.staged_width = plan.step * (args.out_width() - 1) + 3;
  plan.pixel_stride = OddLines(args.weights->cin);
  const size_t row_floats = plan.staged_width * plan.pixel_stride;
  const size_t staged_rows = std::max<size_t>(kBandFloats / row_floats, 3);
  plan.band_rows = std::min(args.out_height(), (staged_rows - 3) / plan.step + 1);
  return plan;
}

// Bias, residual and store of `pixels` outputs of row y from column x0 on.
void FinishPixels(const ConvArgs& args, size_t y, size_t x0, size_t pixels, size_t panel_index, const float* tile) {
  const DF df;
  const size_t first = panel_index * kPanel;
  const size_t columns = std::min(kPanel, MapStride(args.weights->cout) - first);
  const size_t row = y * args.out_width() + x0;
  for (size_t pixel = 0; pixel < pixels; ++pixel, tile += kPanel) {
    for (size_t c = 0; c < columns; c += kLanes) {
      VF sum = hn::Add(hn::Load(df, tile + c), hn::LoadU(df, args.weights->bias.as<float>() + first + c));
      if (args.residual != nullptr)
        sum = hn::Add(sum, hn::LoadU(df, static_cast<const float*>(args.residual) +
                                             (row + pixel) * args.residual_stride + first + c));
      hn::StoreU(sum, df, static_cast<float*>(args.out) + (row + pixel) * args.out_stride + first + c);
    }
  }
}

// Output rows y0..y1-1 (the band starts at row band_y) of one panel.
template <typename T>
void MultiplyRowsOfBand(const ConvArgs& args, const DirectPlan& plan, size_t band_y, size_t y0, size_t y1,
                        size_t panel_index) {
  const size_t cin = args.weights->cin;
  const T* panel = args.weights->data.as<T>() + panel_index * 9 * cin * kPanel;
  const EvenTiles tiles(args.out_width());
  HWY_ALIGN float tile[kMaxTileFloats];
  for (size_t y = y0; y < y1; ++y) {
    for (size_t t = 0; t < tiles.count; ++t) {
      for (size_t tap = 0; tap < 9; ++tap) {
        const size_t row = (y - band_y) * plan.step + tap / 3, column = tiles.begin(t) * plan.step + tap % 3;
        const float* a = args.workspace + (row * plan.staged_width + column) * plan.pixel_stride;
        MultiplyTile(tiles.size(t), a, plan.step * plan.pixel_stride, panel + tap * cin * kPanel, cin, tap > 0, tile,
                     kPanel);
      }
      FinishPixels(args, y, tiles.begin(t), tiles.size(t), panel_index, tile);
    }
  }
}

template <typename T>
void RunDirect(Context& context, const ConvArgs& args) {
  constexpr size_t kTasks = 64;
  const DirectPlan plan = PlanDirect(args);
  const size_t num_panels = args.weights->num_panels();
  for (size_t band_y = 0; band_y < args.out_height(); band_y += plan.band_rows) {
    const size_t rows = std::min(plan.band_rows, args.out_height() - band_y);
    context.pool().ParallelFor(plan.staged_rows(rows), [&](size_t row, size_t) HWY_ATTR {
      Patch patch;
      patch.y0 = static_cast<ptrdiff_t>(band_y * plan.step + row) - static_cast<ptrdiff_t>(plan.padding);
      patch.x0 = -static_cast<ptrdiff_t>(plan.padding);
      patch.height = 1;
      patch.width = plan.staged_width;
      patch.c1 = args.weights->cin;
      StagePatch(args, patch, args.workspace + row * plan.staged_width * plan.pixel_stride, plan.pixel_stride);
    });
    // Few tasks per panel: a panel's weights are read from memory once per task.
    const size_t parts = std::clamp<size_t>(kTasks / num_panels, 1, rows);
    context.pool().ParallelFor(num_panels * parts, [&](size_t task, size_t) HWY_ATTR {
      const size_t part = task % parts;
      MultiplyRowsOfBand<T>(args, plan, band_y, band_y + part * rows / parts, band_y + (part + 1) * rows / parts,
                            task / parts);
    });
  }
}

size_t DirectWorkspace(const ConvArgs& args) { return PlanDirect(args).workspace_floats(); }

void DirectOnTarget(Context& context, const ConvArgs& args) {
  NS_CHECK(args.weights->panel == kPanel);
  switch (args.weights->dtype) {
    case DType::kF32:
      return RunDirect<float>(context, args);
    case DType::kF16:
      return RunDirect<hwy::float16_t>(context, args);
    case DType::kBF16:
      return RunDirect<hwy::bfloat16_t>(context, args);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace nextscale
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nextscale {

HWY_EXPORT(ConvPanel);
HWY_EXPORT(PackConvPanels);
HWY_EXPORT(DirectWorkspace);
HWY_EXPORT(DirectOnTarget);

namespace {

// Whether the Winograd form is expected to be faster: multiplications, and what its transforms cost in the same unit.
bool ChooseWinograd(const ConvArgs& args, const WinogradPlan& plan) {
  if (args.kind == ConvKind::kDown || args.algorithm == ConvAlgorithm::kDirect || !plan.fits) return false;
  if (args.algorithm == ConvAlgorithm::kWinograd) return true;
  const double cin = static_cast<double>(args.weights->cin), cout = static_cast<double>(args.weights->padded_cout());
  const double tiles = static_cast<double>(plan.tiles_y * plan.tiles_x);
  const double direct = 9 * cin * cout * static_cast<double>(args.out_height() * args.out_width());
  const double winograd = 36 * (tiles * cin * cout + 8 * tiles * (cin + cout) + 11 * cin * cout);
  return winograd < direct;
}

}  // namespace

PackedConv PackConv(Context& context, const TensorView& weights, const std::vector<float>& bias, const char* name) {
  CheckPackConv(weights, bias, name);
  for (float value : bias)
    NS_REQUIRE(std::isfinite(value), ErrorCode::kNotFinite, name, ": NaN or infinity in the bias");
  PackedConv packed;
  packed.dtype = weights.dtype;
  packed.cout = weights.shape[0];
  packed.cin = weights.shape[1];
  packed.panel = HWY_DYNAMIC_DISPATCH(ConvPanel)();
  packed.data = Buffer(packed.padded_cout() * 9 * packed.cin * DTypeBytes(packed.dtype));
  packed.bias = Buffer(packed.padded_cout() * sizeof(float));
  std::copy(bias.begin(), bias.end(), packed.bias.as<float>());
  const bool finite = HWY_DYNAMIC_DISPATCH(PackConvPanels)(context, weights, packed);
  NS_REQUIRE(finite, ErrorCode::kNotFinite, name, ": NaN or infinity");
  return packed;
}

size_t ConvWorkspace(const ConvArgs& args) {
  const WinogradPlan plan = PlanWinograd(args);
  return ChooseWinograd(args, plan) ? plan.workspace_floats(args.weights->num_panels())
                                    : HWY_DYNAMIC_DISPATCH(DirectWorkspace)(args);
}

void Conv(Context& context, const ConvArgs& args) {
  CheckConv(args);
  CheckConvWorkspace(args, ConvWorkspace(args));
  CheckFloat(args.in_dtype, "conv: in");
  CheckFloat(args.out_dtype, "conv: out");
  const WinogradPlan plan = PlanWinograd(args);
  if (ChooseWinograd(args, plan)) return RunWinograd(context, args, plan);
  HWY_DYNAMIC_DISPATCH(DirectOnTarget)(context, args);
}

}  // namespace nextscale
#endif  // HWY_ONCE
