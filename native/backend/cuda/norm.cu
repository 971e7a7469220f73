#include "native/backend/cuda/check.h"
#include "native/backend/cuda/ops.h"
#include "native/backend/cuda/plan.h"

namespace nextscale::cuda {
namespace {

using device_side::Thread;

__global__ void __launch_bounds__(32 * kNormWarps) ModulatedNormKernel(const __grid_constant__ ModulatedNormArgs args) {
  device_side::ModulatedNormRow(Thread{}, args);
}
__global__ void __launch_bounds__(32 * kGroupNormWarps)
    GroupMomentsKernel(const __grid_constant__ GroupNormArgs args, Moments* moments) {
  device_side::GroupMoments(Thread{}, args, moments);
}
__global__ void GroupGainsKernel(const __grid_constant__ GroupNormArgs args, const Moments* moments, float* gains) {
  device_side::GroupGains(Thread{}, args, moments, gains);
}
__global__ void __launch_bounds__(kMapThreads)
    NormalizeMapKernel(const __grid_constant__ GroupNormArgs args, const float* gains) {
  device_side::NormalizeMap(Thread{}, args, gains);
}

}  // namespace

void ModulatedNorm(Stream stream, const ModulatedNormArgs& args) {
  if (args.num_rows == 0) return;
  const Launch launch = ModulatedNormLaunch(args);
  ModulatedNormKernel<<<launch.x, launch.threads, 0, stream>>>(args);
  CheckLaunch("ModulatedNorm", "norm");
}

void GroupNorm(Stream stream, const GroupNormArgs& args, void* workspace) {
  const GroupNormLaunches plan = PlanGroupNorm(args);
  if (args.num_images == 0 || args.num_pixels == 0) return;
  auto* const moments = static_cast<Moments*>(workspace);
  auto* const gains = reinterpret_cast<float*>(static_cast<unsigned char*>(workspace) + plan.moments_bytes);
  GroupMomentsKernel<<<dim3(plan.moments.x, plan.moments.y), plan.moments.threads, 0, stream>>>(args, moments);
  CheckLaunch("GroupMoments", "group norm");
  GroupGainsKernel<<<plan.gains.x, plan.gains.threads, 0, stream>>>(args, moments, gains);
  CheckLaunch("GroupGains", "group norm");
  NormalizeMapKernel<<<plan.apply.x, plan.apply.threads, 0, stream>>>(args, gains);
  CheckLaunch("NormalizeMap", "group norm");
}

}  // namespace nextscale::cuda
