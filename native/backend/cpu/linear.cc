// Linear layers: packed weights, tiles of rows, fused epilogues.
//
// Work is cut into tasks of (block of rows) × (group of panels). With many rows a tile of rows meets every panel of the
// group before the next tile starts: the group stays in the second-level cache, the tile in the first, and weights come
// from memory once per block of rows. With few rows weights are what costs: a panel meets every tile before the next
// panel starts, while the next one is prefetched, spread over all tiles.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/backend/cpu/linear.cc"
#include "native/backend/cpu/simd.h"
// Re-includes this file for every target.
#include <hwy/foreach_target.h>

#include <algorithm>
#include <atomic>
#include <bit>

#include "native/backend/cpu/gelu-inl.h"
#include "native/backend/cpu/kernels.h"
#include "native/backend/cpu/microkernel-inl.h"
#include "native/base/error.h"
#include "native/ops/check.h"
#include "native/ops/linear.h"

HWY_BEFORE_NAMESPACE();
namespace nextscale {
namespace HWY_NAMESPACE {
namespace {

size_t PanelWidth() { return kPanel; }

// ------------------------------------------------------------------ packing

// True when any of `count` numbers is NaN or infinite. `infinity`: the format's bits of +infinity.
template <typename Bits>
bool AnyNotFinite(const std::byte* from, size_t count, Bits infinity) {
  const hn::ScalableTag<Bits> d;
  const size_t lanes = hn::Lanes(d);
  constexpr Bits kMagnitude = static_cast<Bits>(~Bits{0}) >> 1;
  const auto magnitude = hn::Set(d, kMagnitude);
  auto largest = hn::Zero(d);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto bits = hn::LoadU(d, reinterpret_cast<const Bits*>(from + i * sizeof(Bits)));
    largest = hn::Max(largest, hn::And(bits, magnitude));
  }
  Bits worst[hn::MaxLanes(d)];
  hn::StoreU(largest, d, worst);
  Bits all = *std::max_element(worst, worst + lanes);
  for (; i < count; ++i) all = std::max(all, static_cast<Bits>(LoadBytes<Bits>(from + i * sizeof(Bits)) & kMagnitude));
  return all >= infinity;
}

// Packs panel `panel_index`; true when all its numbers are finite. Works through k in pieces that stay in the first
// cache.
template <typename Bits>
bool PackOnePanel(const TensorView& weights, size_t panel_index, Bits infinity, PackedMatrix& packed) {
  const size_t k = packed.k, first_row = panel_index * kPanel;
  const size_t num_rows = std::min(kPanel, packed.n - first_row);
  const std::byte* rows = weights.data + first_row * k * sizeof(Bits);
  Bits* panel = packed.data.as<Bits>() + panel_index * k * kPanel;
  bool finite = true;
  constexpr size_t kPiece = 256 / sizeof(Bits);
  for (size_t i = 0; i < k; i += kPiece) {
    const size_t size = std::min(kPiece, k - i);
    for (size_t r = 0; r < num_rows; ++r) {
      finite = finite && !AnyNotFinite<Bits>(rows + (r * k + i) * sizeof(Bits), size, infinity);
    }
    PackPanel<Bits>(rows + i * sizeof(Bits), k, num_rows, size, kPanel, panel + i * kPanel);
  }
  return finite;
}

bool PackPanels(Context& context, const TensorView& weights, PackedMatrix& packed) {
  std::atomic<bool> finite{true};
  const size_t num_panels = (packed.n + kPanel - 1) / kPanel;
  context.pool().ParallelFor(num_panels, [&](size_t panel_index, size_t) {
    bool good = false;
    if (weights.dtype == DType::kF32) {
      good = PackOnePanel<uint32_t>(weights, panel_index, 0x7F800000u, packed);
    } else {
      good = PackOnePanel<uint16_t>(weights, panel_index, weights.dtype == DType::kF16 ? 0x7C00 : 0x7F80, packed);
    }
    if (!good) finite.store(false, std::memory_order_relaxed);
  });
  return finite.load();
}

// ------------------------------------------------------------------ epilogue

template <Epilogue kEpilogue>
HWY_INLINE void FinishVector(DF df, VF y, const float* gate, float* kept, float* out) {
  if constexpr (kEpilogue != Epilogue::kStore) {
    if (kept != nullptr) hn::StoreU(y, df, kept);
  }
  if constexpr (kEpilogue == Epilogue::kGelu) y = Gelu(df, y);
  if constexpr (kEpilogue == Epilogue::kResidual) {
    y = gate == nullptr ? hn::Add(hn::LoadU(df, out), y) : hn::MulAdd(hn::LoadU(df, gate), y, hn::LoadU(df, out));
  }
  hn::StoreU(y, df, out);
}

// Bias, epilogue and store of a tile [num_rows, kPanel] that stands at (first_row, first_column).
template <Epilogue kEpilogue>
void FinishTile(const LinearArgs& args, size_t first_row, size_t num_rows, size_t first_column, const float* tile) {
  const DF df;
  const RowSpan* span = args.spans.data();
  for (size_t row = first_row; row < first_row + num_rows; ++row, tile += kPanel) {
    float* out = static_cast<float*>(args.out) + row * args.out_stride;
    const float* gate = nullptr;
    float* const kept = args.kept == nullptr ? nullptr : args.kept + row * args.kept_stride;
    if constexpr (kEpilogue == Epilogue::kResidual) {
      while (row - span->compact_row >= span->num_rows) ++span;
      out = static_cast<float*>(args.out) + (span->x_row + row - span->compact_row) * args.out_stride;
      if (span->modulation != nullptr) gate = span->modulation + args.gate_offset;
    }
    for (size_t half = 0; half < 2; ++half) {
      const size_t column = first_column + half * kLanes;
      if (column >= args.weights->n) break;
      const size_t valid = std::min(kLanes, args.weights->n - column);
      VF y = hn::LoadU(df, tile + half * kLanes);
      if (valid == kLanes) {
        if (args.bias != nullptr) y = hn::Add(y, hn::LoadU(df, args.bias + column));
        FinishVector<kEpilogue>(df, y, gate == nullptr ? nullptr : gate + column,
                                kept == nullptr ? nullptr : kept + column, out + column);
        continue;
      }
      // The last columns: through padded copies, so that nothing outside the arrays is touched.
      float bias_copy[kLanes] = {}, gate_copy[kLanes] = {}, kept_copy[kLanes], out_copy[kLanes] = {};
      if (args.bias != nullptr) std::copy_n(args.bias + column, valid, bias_copy);
      if (gate != nullptr) std::copy_n(gate + column, valid, gate_copy);
      std::copy_n(out + column, valid, out_copy);
      y = hn::Add(y, hn::LoadU(df, bias_copy));
      FinishVector<kEpilogue>(df, y, gate == nullptr ? nullptr : gate_copy, kept == nullptr ? nullptr : kept_copy,
                              out_copy);
      if (kept != nullptr) std::copy_n(kept_copy, valid, kept + column);
      std::copy_n(out_copy, valid, out + column);
    }
  }
}

// ------------------------------------------------------------------ tasks

constexpr size_t kFewTiles = 4;

struct LinearPlan {
  size_t group = 1;  // panels of a task
  size_t num_groups = 1;
  size_t num_blocks = 1;  // of rows; blocks share the input through the cache
  size_t num_parts = 1;   // of a block, so that every thread has work
};

LinearPlan PlanLinear(const LinearArgs& args, size_t num_threads) {
  constexpr size_t kGroupBytes = size_t{384} << 10;  // leaves room in a 512 KiB or 1 MiB second-level cache
  constexpr size_t kBlockRows = 512;
  constexpr size_t kTasksPerThread = 6;
  const size_t num_panels = (args.weights->n + kPanel - 1) / kPanel;
  LinearPlan plan;
  plan.group = std::clamp<size_t>(kGroupBytes / (args.weights->k * kPanel * sizeof(float)), 1, num_panels);
  plan.num_blocks = (args.num_rows + kBlockRows - 1) / kBlockRows;
  const size_t wanted = num_threads == 1 ? 1 : kTasksPerThread * num_threads;
  const size_t tiles = EvenTiles((args.num_rows + plan.num_blocks - 1) / plan.num_blocks).count;
  for (;; plan.group = (plan.group + 1) / 2) {
    plan.num_groups = (num_panels + plan.group - 1) / plan.group;
    plan.num_parts = std::clamp<size_t>(wanted / (plan.num_groups * plan.num_blocks), 1, tiles);
    if (plan.group == 1 || plan.num_groups * plan.num_blocks * plan.num_parts >= wanted) return plan;
  }
}

template <typename T, Epilogue kEpilogue>
void RunTask(const LinearArgs& args, size_t first_row, size_t last_row, size_t first_panel, size_t last_panel,
             float* scratch) {
  const size_t k = args.weights->k;
  const float* const a = static_cast<const float*>(args.a);
  const T* panels = args.weights->data.as<T>() + first_panel * k * kPanel;
  HWY_ALIGN float tile[kMaxTileFloats];
  const EvenTiles tiles(last_row - first_row);
  const auto multiply = [&](const auto* b, size_t p, size_t t, const std::byte* ahead, size_t ahead_step) HWY_ATTR {
    const size_t row = first_row + tiles.begin(t), rows = tiles.size(t);
    MultiplyTile(rows, a + row * args.a_stride, args.a_stride, b, k, false, tile, kPanel, ahead, ahead_step);
    FinishTile<kEpilogue>(args, row, rows, p * kPanel, tile);
  };
  if (tiles.count <= kFewTiles) {
    const size_t step = kPanel * sizeof(T) / tiles.count, slice = step * k;
    for (size_t p = first_panel; p < last_panel; ++p, panels += k * kPanel) {
      // A single tile reads its panel as one stream: the processor's own prefetcher does better.
      const bool has_next = tiles.count > 1 && p + 1 < last_panel;
      const std::byte* next = has_next ? reinterpret_cast<const std::byte*>(panels + k * kPanel) : nullptr;
      for (size_t t = 0; t < tiles.count; ++t) {
        multiply(panels, p, t, has_next ? next + t * slice : nullptr, has_next ? step : 0);
      }
    }
    return;
  }
  const auto multiply_all = [&](const auto* b) HWY_ATTR {
    for (size_t t = 0; t < tiles.count; ++t) {
      for (size_t p = first_panel; p < last_panel; ++p) multiply(b + (p - first_panel) * k * kPanel, p, t, nullptr, 0);
    }
  };
  if constexpr (!std::is_same_v<T, float>) {
    // Widen once rather than once per tile. Exact either way.
    const size_t count = (last_panel - first_panel) * k * kPanel;
    if (count * sizeof(float) <= Context::kScratchBytes) {
      const DF df;
      for (size_t i = 0; i < count; i += kLanes) hn::Store(LoadWide(df, panels + i), df, scratch + i);
      multiply_all(static_cast<const float*>(scratch));
      return;
    }
  }
  multiply_all(panels);
}

template <typename T, Epilogue kEpilogue>
void RunLinear(Context& context, const LinearArgs& args) {
  const LinearPlan plan = PlanLinear(args, context.pool().size());
  const size_t num_panels = (args.weights->n + kPanel - 1) / kPanel;
  const size_t per_block = plan.num_groups * plan.num_parts;
  const size_t num_row_parts = plan.num_blocks * plan.num_parts;
  context.pool().ParallelFor(plan.num_blocks * per_block, [&](size_t task, size_t worker) {
    const size_t row_part = task / per_block * plan.num_parts + task % plan.num_parts;
    const size_t group = task % per_block / plan.num_parts;
    const size_t first_panel = group * plan.group;
    RunTask<T, kEpilogue>(args, row_part * args.num_rows / num_row_parts,
                          (row_part + 1) * args.num_rows / num_row_parts, first_panel,
                          std::min(num_panels, first_panel + plan.group), context.scratch<float>(worker));
  });
}

template <typename T>
void RunEpilogue(Context& context, const LinearArgs& args) {
  switch (args.epilogue) {
    case Epilogue::kStore:
      return RunLinear<T, Epilogue::kStore>(context, args);
    case Epilogue::kGelu:
      return RunLinear<T, Epilogue::kGelu>(context, args);
    case Epilogue::kResidual:
      return RunLinear<T, Epilogue::kResidual>(context, args);
  }
}

void LinearOnTarget(Context& context, const LinearArgs& args) {
  NS_CHECK(args.weights->panel == kPanel);
  switch (args.weights->dtype) {
    case DType::kF32:
      return RunEpilogue<float>(context, args);
    case DType::kF16:
      return RunEpilogue<hwy::float16_t>(context, args);
    case DType::kBF16:
      return RunEpilogue<hwy::bfloat16_t>(context, args);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace nextscale
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nextscale {

HWY_EXPORT(PanelWidth);
HWY_EXPORT(PackPanels);
HWY_EXPORT(LinearOnTarget);

namespace {

// Index of the first number that is NaN or infinite; only called when there is one.
size_t FirstNotFinite(const TensorView& weights) {
  const size_t size = DTypeBytes(weights.dtype);
  for (size_t i = 0; i < weights.num_elements(); ++i) {
    uint32_t bits = 0;
    std::memcpy(&bits, weights.data + i * size, size);
    const uint32_t infinity = size == 4 ? 0x7F800000u : weights.dtype == DType::kF16 ? 0x7C00u : 0x7F80u;
    if ((bits & (size == 4 ? 0x7FFFFFFFu : 0x7FFFu)) >= infinity) return i;
  }
  return 0;
}

}  // namespace

PackedMatrix PackMatrix(Context& context, const TensorView& weights, const char* name) {
  CheckPackMatrix(weights, name);
  PackedMatrix packed;
  packed.dtype = weights.dtype;
  packed.n = weights.shape[0];
  packed.k = weights.shape[1];
  packed.panel = HWY_DYNAMIC_DISPATCH(PanelWidth)();
  const size_t num_panels = (packed.n + packed.panel - 1) / packed.panel;
  packed.data = Buffer(num_panels * packed.k * packed.panel * DTypeBytes(packed.dtype));
  if (!HWY_DYNAMIC_DISPATCH(PackPanels)(context, weights, packed)) {
    const size_t index = FirstNotFinite(weights);
    throw Error(ErrorCode::kNotFinite,
                Message(name, ": NaN or infinity at [", index / packed.k, ", ", index % packed.k, "]"));
  }
  return packed;
}

void Linear(Context& context, const LinearArgs& args) {
  CheckLinear(args);
  CheckFloat(args.a_dtype, "linear: a");
  CheckFloat(args.out_dtype, "linear: out");
  if (args.num_rows == 0) return;
  HWY_DYNAMIC_DISPATCH(LinearOnTarget)(context, args);
}

}  // namespace nextscale
#endif  // HWY_ONCE
