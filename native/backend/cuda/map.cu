#include "native/backend/cuda/check.h"
#include "native/backend/cuda/ops.h"
#include "native/backend/cuda/plan.h"

namespace nextscale::cuda {
namespace {

using device_side::Thread;

__global__ void __launch_bounds__(kMapThreads) GatherBicubicKernel(const __grid_constant__ GatherBicubicArgs args) {
  device_side::GatherBicubic(Thread{}, args);
}
__global__ void __launch_bounds__(kMapThreads) ResidualConvKernel(const __grid_constant__ ResidualConvArgs args) {
  device_side::ResidualConv(Thread{}, args);
}
__global__ void __launch_bounds__(kMapThreads) AreaDownKernel(const __grid_constant__ AreaDownArgs args) {
  device_side::AreaDown(Thread{}, args);
}

}  // namespace

void GatherBicubic(Stream stream, const GatherBicubicArgs& args) {
  const Launch launch = MapLaunch(uint64_t{args.num_images} * args.out_side * args.out_side * args.channels);
  if (launch.x == 0) return;
  GatherBicubicKernel<<<launch.x, launch.threads, 0, stream>>>(args);
  CheckLaunch("GatherBicubic", "latent");
}

void ResidualConv(Stream stream, const ResidualConvArgs& args) {
  const Launch launch = MapLaunch(uint64_t{args.num_images} * args.side * args.side * args.channels);
  if (launch.x == 0) return;
  ResidualConvKernel<<<launch.x, launch.threads, 0, stream>>>(args);
  CheckLaunch("ResidualConv", "latent");
}

void AreaDown(Stream stream, const AreaDownArgs& args) {
  const Launch launch = MapLaunch(uint64_t{args.num_images} * args.out_side * args.out_side * args.channels);
  if (launch.x == 0) return;
  AreaDownKernel<<<launch.x, launch.threads, 0, stream>>>(args);
  CheckLaunch("AreaDown", "latent");
}

}  // namespace nextscale::cuda
