// Every kernel there is, once: X(name, arguments, threads of a block, least blocks of a multiprocessor, function).
// The library makes __global__ functions of the list (kernels_*.cu), the twin makes calls (twin/device.h); both include
// the kernels' headers themselves. The rest of the host needs the ids only.
#pragma once

#include <cstdint>

#include "native/backend/cuda/launch.h"
#include "native/backend/cuda/shapes.h"

#define NS_LINEAR_KERNELS_OF(X, T)                                                            \
  X(LinearLarge##T, LinearArgs, LargeTile::kThreads, 2, (LinearTile<T, LargeTile, false>))    \
  X(LinearWide##T, LinearArgs, LargeTile::kThreads, 2, (LinearWide<T, LargeTile, false>))     \
  X(ConvWide##T, LinearArgs, LargeTile::kThreads, 2, (LinearWide<T, LargeTile, true>))        \
  X(LinearSmall##T, LinearArgs, SmallTile::kThreads, 2, (LinearTile<T, SmallTile, false>))    \
  X(ConvLarge##T, LinearArgs, LargeTile::kThreads, 2, (LinearTile<T, LargeTile, true>))       \
  X(ConvSmall##T, LinearArgs, SmallTile::kThreads, 2, (LinearTile<T, SmallTile, true>))       \
  X(LinearNarrow##T, LinearArgs, NarrowTile::kThreads, 2, (LinearTile<T, NarrowTile, false>)) \
  X(ConvNarrow##T, LinearArgs, NarrowTile::kThreads, 2, (LinearTile<T, NarrowTile, true>))    \
  X(LinearRows16##T, LinearArgs, 128, 1, (LinearFewRows<T, FewRowsShape<16, 16>>))            \
  X(LinearRows32##T, LinearArgs, 128, 1, (LinearFewRows<T, FewRowsShape<16, 32>>))            \
  X(LinearHeads16##T, LinearArgs, 128, 1, (LinearFewRows<T, FewRowsShape<64, 16>>))           \
  X(LinearHeads32##T, LinearArgs, 128, 1, (LinearFewRows<T, FewRowsShape<64, 32>>))

#define NS_CUDA_LINEAR_KERNELS(X)                           \
  NS_LINEAR_KERNELS_OF(X, BF16)                             \
  NS_LINEAR_KERNELS_OF(X, F16)                              \
  X(LinearPlain, LinearArgs, kPlainThreads, 1, LinearPlain) \
  X(SplitHeads, SplitHeadsArgs, 256, 1, SplitHeadsWarp)

#define NS_ATTENTION_KERNELS_OF(X, T)                                                          \
  X(AttentionOneWarp64##T, AttentionArgs, 32, 1, (AttentionTile<T, AttentionShape<64, 1>>))    \
  X(AttentionFourWarps64##T, AttentionArgs, 128, 1, (AttentionTile<T, AttentionShape<64, 4>>)) \
  X(AttentionOneWarp128##T, AttentionArgs, 32, 1, (AttentionTile<T, AttentionShape<128, 1>>))  \
  X(AttentionFourWarps128##T, AttentionArgs, 128, 1, (AttentionTile<T, AttentionShape<128, 4>>))

#define NS_CUDA_OTHER_KERNELS(X)                                            \
  NS_ATTENTION_KERNELS_OF(X, BF16)                                          \
  NS_ATTENTION_KERNELS_OF(X, F16)                                           \
  X(AttentionPlain, AttentionArgs, 128, 1, AttentionPlain)                  \
  X(AttentionWide, AttentionArgs, kWideThreads, 1, AttentionWide)           \
  X(ModulatedNorm, ModulatedNormArgs, 32 * kNormWarps, 1, ModulatedNormRow) \
  X(GroupMoments, GroupNormArgs, 32 * kGroupNormWarps, 1, GroupMoments)     \
  X(GroupGains, GroupNormArgs, 32, 1, GroupGains)                           \
  X(NormalizeMap, NormalizeMapArgs, kMapThreads, 1, NormalizeMap)           \
  X(Sample, SampleArgs, kSampleThreads, 1, SampleToken)                     \
  X(CrossEntropy, CrossEntropyArgs, kLossThreads, 1, CrossEntropy)          \
  X(Embed, EmbedArgs, kMapThreads, 1, Embed)                                \
  X(LabelCondition, LabelConditionArgs, kMapThreads, 1, LabelCondition)     \
  X(AddOffset, AddOffsetArgs, kMapThreads, 1, AddOffset)                    \
  X(GatherBicubic, GatherBicubicArgs, kMapThreads, 1, GatherBicubic)        \
  X(ResidualConv, ResidualConvArgs, kMapThreads, 1, ResidualConv)           \
  X(AreaDown, AreaDownArgs, kMapThreads, 1, AreaDown)                       \
  X(NearestCode, NearestCodeArgs, kMapThreads, 1, NearestCode)              \
  X(ImageToMap, ImageToMapArgs, kMapThreads, 1, ImageToMap)                 \
  X(MapToImage, MapToImageArgs, kMapThreads, 1, MapToImage)

#define NS_CUDA_KERNELS(X)  \
  NS_CUDA_LINEAR_KERNELS(X) \
  NS_CUDA_OTHER_KERNELS(X)

namespace nextscale::cuda {

enum class KernelId : uint32_t {
#define NS_ID(name, args, threads, blocks, function) k##name,
  NS_CUDA_KERNELS(NS_ID)
#undef NS_ID
      kCount
};

inline constexpr uint32_t kNumKernels = static_cast<uint32_t>(KernelId::kCount);

// For messages.
constexpr const char* KernelName(KernelId id) {
  constexpr const char* kNames[] = {
#define NS_NAME(name, args, threads, blocks, function) #name,
      NS_CUDA_KERNELS(NS_NAME)
#undef NS_NAME
  };
  return static_cast<uint32_t>(id) < kNumKernels ? kNames[static_cast<uint32_t>(id)] : "unknown";
}

}  // namespace nextscale::cuda
