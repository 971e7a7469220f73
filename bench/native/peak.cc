#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/native/peak.cc"
#include "native/backend/cpu/simd.h"
// Re-includes this file for every target.
#include <hwy/foreach_target.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <utility>
#include <vector>

#include "bench/native/peak.h"
#include "native/backend/cpu/kernels.h"
#include "native/backend/cpu/simd-inl.h"
#include "native/ops/linear.h"
#include "native/tensor/buffer.h"

HWY_BEFORE_NAMESPACE();
namespace nextscale::bench {
namespace HWY_NAMESPACE {
namespace {

using namespace nextscale::HWY_NAMESPACE;  // NOLINT: the vector helpers of this target

// 12 chains hide the latency of any current core (2 units × 4 to 5 cycles) and fit 16 registers.
constexpr size_t kChains = 12;

template <size_t... kChain>
float Chains(std::index_sequence<kChain...>, size_t count, float factor) {
  const DF df;
  // Different numbers in every chain, or the compiler would see that all are the same.
  VF sum[kChains] = {hn::Set(df, factor * static_cast<float>(kChain))...};
  const VF x = hn::Set(df, factor);
  for (size_t i = 0; i < count; ++i) ((sum[kChain] = hn::MulAdd(x, sum[kChain], x)), ...);
  VF total = hn::Zero(df);
  ((total = hn::Add(total, sum[kChain])), ...);
  return hn::GetLane(hn::SumOfLanes(df, total));
}

// Runs `count` × kChains multiply-adds; returns how many floating-point operations that was.
double MultiplyAdds(size_t count, float factor, float* result) {
  *result = Chains(std::make_index_sequence<kChains>(), count, factor);
  return 2.0 * static_cast<double>(count * kChains * kLanes);
}

float ReadAll(const float* from, size_t count) {
  const DF df;
  VF sum[4] = {hn::Zero(df), hn::Zero(df), hn::Zero(df), hn::Zero(df)};
  for (size_t i = 0; i + 4 * kLanes <= count; i += 4 * kLanes) {
    for (size_t j = 0; j < 4; ++j) sum[j] = hn::Add(sum[j], hn::LoadU(df, from + i + j * kLanes));
  }
  return hn::GetLane(hn::SumOfLanes(df, hn::Add(hn::Add(sum[0], sum[1]), hn::Add(sum[2], sum[3]))));
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace nextscale::bench
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nextscale::bench {

HWY_EXPORT(MultiplyAdds);
HWY_EXPORT(ReadAll);

namespace {

// Seconds of the fastest of `repeats` runs.
template <typename Body>
double Fastest(int repeats, const Body& body) {
  double best = 1e300;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    body();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

}  // namespace

double PeakGflops(ThreadPool& pool, int repeats) {
  constexpr size_t kCount = 200000;
  std::atomic<float> sink{0.0f};  // keeps the work alive
  std::atomic<double> operations{0.0};
  const double seconds = Fastest(repeats, [&] {
    operations = 0.0;
    pool.ParallelFor(pool.size() * 4, [&](size_t, size_t) {
      float result = 0.0f;
      operations.fetch_add(HWY_DYNAMIC_DISPATCH(MultiplyAdds)(kCount, 0.25f, &result));
      sink.store(result);
    });
  });
  return operations.load() / seconds * 1e-9;
}

double ReadGigabytesPerSecond(ThreadPool& pool, int repeats) {
  constexpr size_t kPiece = size_t{1} << 18, kPieces = 1024;  // 1 GiB in pieces of 1 MiB
  const Buffer buffer(kPiece * kPieces * sizeof(float));
  std::atomic<float> sink{0.0f};
  pool.ParallelFor(kPieces,
                   [&](size_t piece, size_t) { std::fill_n(buffer.as<float>() + piece * kPiece, kPiece, 1.0f); });
  const double seconds = Fastest(repeats, [&] {
    pool.ParallelFor(kPieces, [&](size_t piece, size_t) {
      sink.store(HWY_DYNAMIC_DISPATCH(ReadAll)(buffer.as<float>() + piece * kPiece, kPiece));
    });
  });
  return static_cast<double>(buffer.bytes()) / seconds * 1e-9;
}

double GemmGflops(Context& context, int repeats) {
  constexpr size_t kRows = 672, kK = 1024, kN = 2048;
  const std::vector<float> weights(kN * kK, 0.01f), a(kRows * (kK + 16), 0.5f);
  std::vector<float> out(kRows * (kN + 16));
  const TensorView view{reinterpret_cast<const std::byte*>(weights.data()), DType::kF32, {kN, kK}};
  const PackedMatrix packed = PackMatrix(context, view, "peak");
  LinearArgs args;
  args.out = out.data();
  args.out_stride = kN + 16;
  args.a = a.data();
  args.a_stride = kK + 16;
  args.num_rows = kRows;
  args.weights = &packed;
  return 2e-9 * kRows * kK * kN / Fastest(repeats, [&] { Linear(context, args); });
}

}  // namespace nextscale::bench
#endif  // HWY_ONCE
