#include "native/backend/cuda/check.h"
#include "native/backend/cuda/ops.h"
#include "native/backend/cuda/plan.h"

namespace nextscale::cuda {
namespace {

using device_side::BF16;
using device_side::F16;
using device_side::Thread;

template <typename T, typename Shape, bool kConv>
__global__ void __launch_bounds__(Shape::kThreads, 2) LinearTileKernel(const __grid_constant__ LinearArgs args) {
  device_side::LinearTile<T, Shape, kConv>(Thread{}, args);
}
template <typename T, typename Shape>
__global__ void __launch_bounds__(Shape::kThreads) LinearFewRowsKernel(const __grid_constant__ LinearArgs args) {
  device_side::LinearFewRows<T, Shape>(Thread{}, args);
}
__global__ void __launch_bounds__(device_side::kPlainThreads) LinearPlainKernel(const __grid_constant__ LinearArgs args) {
  device_side::LinearPlain(Thread{}, args);
}
__global__ void __launch_bounds__(256) SplitHeadsKernel(const __grid_constant__ SplitHeadsArgs args) {
  device_side::SplitHeadsWarp(Thread{}, args);
}

using Kernel = void (*)(const LinearArgs);

template <typename T>
Kernel KernelOf(LinearPath path, bool is_conv) {
  switch (path) {
    case LinearPath::kFewRows:
      return LinearFewRowsKernel<T, FewRowsShape<16>>;
    case LinearPath::kFewRowsHeads:
      return LinearFewRowsKernel<T, FewRowsShape<64>>;
    case LinearPath::kSmallTile:
      return is_conv ? LinearTileKernel<T, SmallTile, true> : LinearTileKernel<T, SmallTile, false>;
    case LinearPath::kLargeTile:
      return is_conv ? LinearTileKernel<T, LargeTile, true> : LinearTileKernel<T, LargeTile, false>;
    case LinearPath::kPlain:
      break;
  }
  return LinearPlainKernel;
}

}  // namespace

void PrepareLinear() {
  for (const bool is_conv : {false, true}) {
    for (const LinearPath path : {LinearPath::kFewRows, LinearPath::kFewRowsHeads, LinearPath::kSmallTile,
                                  LinearPath::kLargeTile}) {
      const int bytes = static_cast<int>(LinearLaunch(LinearArgs{}, path).shared_bytes);
      for (const Kernel kernel : {KernelOf<BF16>(path, is_conv), KernelOf<F16>(path, is_conv)}) {
        Check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
              "raising the shared memory of a linear kernel");
      }
    }
  }
}

void Linear(Stream stream, const LinearArgs& args, uint32_t num_multiprocessors) {
  CheckLinear(args);
  if (args.num_rows == 0) return;
  const LinearPath path = ChooseLinearPath(args, num_multiprocessors);
  const Launch launch = LinearLaunch(args, path);
  NS_REQUIRE(launch.y <= 65535, ErrorCode::kInvalidArgument, "linear: n = ", args.n, " is too large");
  const Kernel kernel = args.dtype == DType::kBF16 ? KernelOf<BF16>(path, args.is_conv) : KernelOf<F16>(path, args.is_conv);
  kernel<<<dim3(launch.x, launch.y), launch.threads, launch.shared_bytes, stream>>>(args);
  CheckLaunch("Linear", args.is_conv ? "conv" : "linear");
}

void SplitHeads(Stream stream, const SplitHeadsArgs& args) {
  if (args.num_rows == 0) return;
  const Launch launch = SplitHeadsLaunch(args);
  SplitHeadsKernel<<<launch.x, launch.threads, 0, stream>>>(args);
  CheckLaunch("SplitHeads", "attention");
}

}  // namespace nextscale::cuda
