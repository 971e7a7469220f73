// Every kernel there is, once: X(name, arguments, threads of a block, least blocks of a multiprocessor, function).
// The library makes __global__ functions of the list (library/*_functions.cu), the twin makes calls (twin/device.h);
// both include the kernels' headers themselves. The rest of the host needs the ids only.
#pragma once

#include <cstdint>

#include "native/backend/cuda/kernels/shapes.h"

// Two blocks of the large tile fit into the shared memory of sm_90 only, where ConvWide takes convolutions: ConvLarge
// need not save registers for a second one.
#define NS_LINEAR_KERNELS_OF(X, T)                                                            \
  X(LinearLarge##T, LinearCall, LargeTile::kThreads, 2, (LinearTile<T, LargeTile, false>))    \
  X(LinearWide##T, LinearCall, LargeTile::kThreads, 2, (LinearWide<T, LargeTile, false>))     \
  X(ConvWide##T, LinearCall, LargeTile::kThreads, 2, (LinearWide<T, LargeTile, true>))        \
  X(LinearSmall##T, LinearCall, SmallTile::kThreads, 2, (LinearTile<T, SmallTile, false>))    \
  X(ConvLarge##T, LinearCall, LargeTile::kThreads, 1, (LinearTile<T, LargeTile, true>))       \
  X(ConvSmall##T, LinearCall, SmallTile::kThreads, 2, (LinearTile<T, SmallTile, true>))       \
  X(LinearNarrow##T, LinearCall, NarrowTile::kThreads, 2, (LinearTile<T, NarrowTile, false>)) \
  X(ConvNarrow##T, LinearCall, NarrowTile::kThreads, 2, (LinearTile<T, NarrowTile, true>))

#define NS_CUDA_LINEAR_KERNELS(X)                           \
  NS_LINEAR_KERNELS_OF(X, BF16)                             \
  NS_LINEAR_KERNELS_OF(X, F16)                              \
  X(LinearPlain, LinearCall, kPlainThreads, 1, LinearPlain) \
  X(SplitHeads, SplitHeadsCall, 256, 1, SplitHeadsWarp)

#define NS_ATTENTION_KERNELS_OF(X, T)                                                          \
  X(AttentionOneWarp64##T, AttentionCall, 32, 1, (AttentionTile<T, AttentionShape<64, 1>>))    \
  X(AttentionFourWarps64##T, AttentionCall, 128, 1, (AttentionTile<T, AttentionShape<64, 4>>)) \
  X(AttentionOneWarp128##T, AttentionCall, 32, 1, (AttentionTile<T, AttentionShape<128, 1>>))  \
  X(AttentionFourWarps128##T, AttentionCall, 128, 1, (AttentionTile<T, AttentionShape<128, 4>>))

#define NS_CUDA_OTHER_KERNELS(X)                                                    \
  NS_ATTENTION_KERNELS_OF(X, BF16)                                                  \
  NS_ATTENTION_KERNELS_OF(X, F16)                                                   \
  X(AttentionPlain, AttentionCall, 128, 1, AttentionPlain)                          \
  X(AttentionWide, AttentionCall, kWideThreads, 1, AttentionWide)                   \
  X(ModulatedNorm512, ModulatedNormCall, 32 * kNormWarps, 1, ModulatedNormRow<4>)   \
  X(ModulatedNorm1024, ModulatedNormCall, 32 * kNormWarps, 1, ModulatedNormRow<8>)  \
  X(ModulatedNorm1536, ModulatedNormCall, 32 * kNormWarps, 1, ModulatedNormRow<12>) \
  X(ModulatedNorm1920, ModulatedNormCall, 32 * kNormWarps, 1, ModulatedNormRow<15>) \
  X(ModulatedNorm2304, ModulatedNormCall, 32 * kNormWarps, 1, ModulatedNormRow<18>) \
  X(ModulatedNormPlain, ModulatedNormCall, 32 * kNormWarps, 1, ModulatedNormPlain)  \
  X(GroupMoments, GroupNormCall, 32 * kGroupNormWarps, 1, GroupMoments)             \
  X(GroupGains, GroupNormCall, 32 * kGroupNormWarps, 1, GroupGains)                 \
  X(NormalizeMap, NormalizeMapCall, kMapThreads, 1, NormalizeMap)                   \
  X(Sample, SampleCall, kSampleThreads, 1, SampleToken)                             \
  X(CrossEntropy, CrossEntropyCall, kLossThreads, 1, CrossEntropy)                  \
  X(Embed, EmbedCall, kMapThreads, 1, Embed)                                        \
  X(Condition, ConditionCall, kMapThreads, 1, Condition)                            \
  X(AddOffset, AddOffsetCall, kMapThreads, 1, AddOffset)                            \
  X(GatherBicubic, GatherBicubicCall, kMapThreads, 1, GatherBicubic)                \
  X(ResidualConv, ResidualConvCall, kMapThreads, 1, ResidualConv)                   \
  X(AreaDown, AreaDownCall, kMapThreads, 1, AreaDown)                               \
  X(NearestCode, NearestCodeCall, kMapThreads, 1, NearestCode)                      \
  X(ImageToMap, ImageToMapCall, kMapThreads, 1, ImageToMap)                         \
  X(MapToImage, MapToImageCall, kMapThreads, 1, MapToImage)

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
