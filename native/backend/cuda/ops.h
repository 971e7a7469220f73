// The CUDA backend's ops. Each puts its kernels on a stream and returns; nothing is allocated and nothing waits, so a
// sequence of them can be captured in a graph. Arguments are checked on the host (kInvalidArgument); a launch that fails
// is kInternal with the names of kernel and op.
#pragma once

#include "native/backend/cuda/args.h"

struct CUstream_st;

namespace nextscale::cuda {

using Stream = CUstream_st*;

#define NS_EXPORT __attribute__((visibility("default")))

// Once per device, before any op: raises the kernels' limits of shared memory.
NS_EXPORT void PrepareLinear();
NS_EXPORT void PrepareAttention();
NS_EXPORT void PrepareSample();

// num_multiprocessors: of the device; decides between tile shapes, never the result.
NS_EXPORT void Linear(Stream stream, const LinearArgs& args, uint32_t num_multiprocessors);
NS_EXPORT void SplitHeads(Stream stream, const SplitHeadsArgs& args);
NS_EXPORT void Attention(Stream stream, const AttentionArgs& args);
NS_EXPORT void ModulatedNorm(Stream stream, const ModulatedNormArgs& args);
NS_EXPORT void Sample(Stream stream, const SampleArgs& args);
NS_EXPORT void GatherBicubic(Stream stream, const GatherBicubicArgs& args);
NS_EXPORT void ResidualConv(Stream stream, const ResidualConvArgs& args);
NS_EXPORT void AreaDown(Stream stream, const AreaDownArgs& args);
// workspace: moments_bytes, then gains_bytes of PlanGroupNorm; 16-byte aligned.
NS_EXPORT void GroupNorm(Stream stream, const GroupNormArgs& args, void* workspace);

}  // namespace nextscale::cuda
