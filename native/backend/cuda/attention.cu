#include "native/backend/cuda/check.h"
#include "native/backend/cuda/ops.h"
#include "native/backend/cuda/plan.h"

namespace nextscale::cuda {
namespace {

using device_side::BF16;
using device_side::F16;
using device_side::Thread;

template <typename T, typename Shape>
__global__ void __launch_bounds__(Shape::kThreads) AttentionKernel(const __grid_constant__ AttentionArgs args) {
  device_side::AttentionTile<T, Shape>(Thread{}, args);
}
__global__ void __launch_bounds__(128) AttentionPlainKernel(const __grid_constant__ AttentionArgs args) {
  device_side::AttentionPlain(Thread{}, args);
}

using Kernel = void (*)(const AttentionArgs);

template <typename T>
Kernel KernelOf(AttentionPath path) {
  switch (path) {
    case AttentionPath::kOneWarp64:
      return AttentionKernel<T, AttentionShape<64, 1>>;
    case AttentionPath::kFourWarps64:
      return AttentionKernel<T, AttentionShape<64, 4>>;
    case AttentionPath::kOneWarp128:
      return AttentionKernel<T, AttentionShape<128, 1>>;
    case AttentionPath::kFourWarps128:
      return AttentionKernel<T, AttentionShape<128, 4>>;
    case AttentionPath::kPlain:
      break;
  }
  return AttentionPlainKernel;
}

}  // namespace

void PrepareAttention() {
  for (const AttentionPath path : {AttentionPath::kOneWarp64, AttentionPath::kFourWarps64, AttentionPath::kOneWarp128,
                                   AttentionPath::kFourWarps128}) {
    const int bytes = static_cast<int>(AttentionLaunch(AttentionArgs{}, path).shared_bytes);
    for (const Kernel kernel : {KernelOf<BF16>(path), KernelOf<F16>(path)}) {
      Check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
            "raising the shared memory of an attention kernel");
    }
  }
}

void Attention(Stream stream, const AttentionArgs& args) {
  CheckAttention(args);
  if (args.num_sequences == 0 || args.max_rows == 0) return;
  const AttentionPath path = ChooseAttentionPath(args);
  const Launch launch = AttentionLaunch(args, path);
  const Kernel kernel = args.dtype == DType::kBF16 ? KernelOf<BF16>(path) : KernelOf<F16>(path);
  kernel<<<dim3(launch.x, launch.y, launch.z), launch.threads, launch.shared_bytes, stream>>>(args);
  CheckLaunch("Attention", "attention");
}

}  // namespace nextscale::cuda
