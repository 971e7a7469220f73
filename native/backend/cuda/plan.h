// Host-side decisions: which kernel takes a call, with how many blocks, and the per-row tables that kernels read.
// No CUDA calls: tested without a device. Inline, so that the same functions serve the library and the twins.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "native/backend/cuda/attention_kernel.h"
#include "native/backend/cuda/linear_kernel.h"
#include "native/backend/cuda/map_kernel.h"
#include "native/backend/cuda/norm_kernel.h"
#include "native/backend/cuda/sample_kernel.h"
#include "native/base/error.h"
#include "native/ops/attention.h"
#include "native/ops/rows.h"

namespace nextscale::cuda {

struct Launch {
  uint32_t x = 1, y = 1, z = 1;  // blocks
  uint32_t threads = 0, shared_bytes = 0;
};

enum class LinearPath { kPlain, kFewRows, kFewRowsHeads, kSmallTile, kLargeTile };


inline bool Aligned(const void* pointer, size_t bytes) { return reinterpret_cast<uintptr_t>(pointer) % bytes == 0; }

// True when the fused epilogue kQkv takes these arguments; else the caller stores qkv and runs SplitHeads.
inline bool FusesQkv(const LinearArgs& args) {
  return args.dtype != DType::kF32 && args.head_dim == 64 && args.n == 3 * args.num_heads * 64 && args.k % 8 == 0 &&
         args.a_stride % 8 == 0 && args.out_stride % 4 == 0 && Aligned(args.a, 16) && Aligned(args.weights, 16) &&
         Aligned(args.out, 16) && Aligned(args.kv.pool, 16) && Aligned(args.kv.tail, 16);
}

// The Check functions throw kInvalidArgument for arguments that no kernel takes.
inline void CheckLinear(const LinearArgs& args) {
  NS_REQUIRE(args.out != nullptr && args.a != nullptr && args.weights != nullptr, ErrorCode::kInvalidArgument,
             "linear: out, a and weights must not be null");
  NS_REQUIRE(args.n > 0 && args.k > 0, ErrorCode::kInvalidArgument, "linear: n is ", args.n, " and k ", args.k,
             ", expected at least 1");
  if (args.is_conv) {
    NS_REQUIRE(args.k == 9 * args.conv.cin, ErrorCode::kInvalidArgument, "convolution: k is ", args.k,
               ", expected 9 · ", args.conv.cin);
    const uint64_t pixels = uint64_t{args.conv.num_images} * args.conv.out_height * args.conv.out_width;
    NS_REQUIRE(args.num_rows == pixels, ErrorCode::kInvalidArgument, "convolution: num_rows is ", args.num_rows,
               ", expected ", pixels);
  } else {
    NS_REQUIRE(args.a_stride >= args.k, ErrorCode::kInvalidArgument, "linear: a_stride is ", args.a_stride,
               ", expected at least k = ", args.k);
  }
  if (args.epilogue == LinearEpilogue::kResidual) {
    NS_REQUIRE(args.targets != nullptr && args.out_dtype == DType::kF32, ErrorCode::kInvalidArgument,
               "linear: the residual epilogue needs targets and x in f32, found ", DTypeName(args.out_dtype));
  }
  if (args.epilogue == LinearEpilogue::kQkv) {
    NS_REQUIRE(FusesQkv(args) && args.row_slots != nullptr && args.kv.pool != nullptr, ErrorCode::kInvalidArgument,
               "linear: the qkv epilogue needs half precision, heads of 64, n = 3 C, slots and 16-byte alignment; found ",
               DTypeName(args.dtype), ", heads of ", args.head_dim, ", n = ", args.n);
  } else {
    NS_REQUIRE(args.epilogue == LinearEpilogue::kResidual || args.out_stride >= args.n, ErrorCode::kInvalidArgument,
               "linear: out_stride is ", args.out_stride, ", expected at least n = ", args.n);
  }
}

inline LinearPath ChooseLinearPath(const LinearArgs& args, uint32_t num_multiprocessors) {
  const bool pieces = args.k % 8 == 0 && (args.is_conv ? args.conv.cin % 8 == 0 : args.a_stride % 8 == 0);
  if (args.dtype == DType::kF32 || !pieces || !Aligned(args.a, 16) || !Aligned(args.weights, 16) ||
      !Aligned(args.out, 16)) {
    return LinearPath::kPlain;
  }
  if (args.num_rows <= 16 && !args.is_conv) {
    return args.epilogue == LinearEpilogue::kQkv ? LinearPath::kFewRowsHeads : LinearPath::kFewRows;
  }
  const uint64_t large = uint64_t{DivideUp(args.num_rows, LargeTile::kRows)} * DivideUp(args.n, LargeTile::kColumns);
  return large >= num_multiprocessors ? LinearPath::kLargeTile : LinearPath::kSmallTile;
}

inline Launch LinearLaunch(const LinearArgs& args, LinearPath path) {
  switch (path) {
    case LinearPath::kFewRows:
      return {DivideUp(args.n, 16), 1, 1, FewRowsShape<16>::kThreads, FewRowsShape<16>::kSharedBytes};
    case LinearPath::kFewRowsHeads:
      return {DivideUp(args.n, 64), 1, 1, FewRowsShape<64>::kThreads, FewRowsShape<64>::kSharedBytes};
    case LinearPath::kSmallTile:
      return {DivideUp(args.num_rows, SmallTile::kRows), DivideUp(args.n, SmallTile::kColumns), 1, SmallTile::kThreads,
              SmallTile::kSharedBytes};
    case LinearPath::kLargeTile:
      return {DivideUp(args.num_rows, LargeTile::kRows), DivideUp(args.n, LargeTile::kColumns), 1, LargeTile::kThreads,
              LargeTile::kSharedBytes};
    case LinearPath::kPlain:
      break;
  }
  constexpr uint32_t kTile = NS_SIDE::kPlainTile;
  return {DivideUp(args.num_rows, kTile), DivideUp(args.n, kTile), 1, NS_SIDE::kPlainThreads, NS_SIDE::kPlainSharedBytes};
}

inline void CheckAttention(const AttentionArgs& args) {
  NS_REQUIRE(args.head_dim >= 1 && args.head_dim <= NS_SIDE::kPlainHeadDim, ErrorCode::kInvalidArgument,
             "attention: head_dim is ", args.head_dim, ", expected 1..", NS_SIDE::kPlainHeadDim);
  NS_REQUIRE(args.num_heads >= 1 && args.num_heads <= 65535 && args.num_sequences <= 65535, ErrorCode::kInvalidArgument,
             "attention: ", args.num_heads, " heads and ", args.num_sequences, " sequences, expected at most 65535");
  const uint32_t width = args.num_heads * args.head_dim;
  NS_REQUIRE(args.q_stride >= width && args.out_stride >= width, ErrorCode::kInvalidArgument, "attention: strides are ",
             args.q_stride, " and ", args.out_stride, ", expected at least ", width);
  NS_REQUIRE(args.q != nullptr && args.out != nullptr && args.sequences != nullptr && args.slots != nullptr,
             ErrorCode::kInvalidArgument, "attention: q, out, sequences and slots must not be null");
}

enum class AttentionPath { kPlain, kOneWarp64, kFourWarps64, kOneWarp128, kFourWarps128 };

inline AttentionPath ChooseAttentionPath(const AttentionArgs& args) {
  if (args.dtype == DType::kF32 || args.kv.dtype != args.dtype || args.head_dim % 8 != 0 || args.q_stride % 8 != 0 ||
      args.out_stride % 8 != 0 || !Aligned(args.q, 16) || !Aligned(args.out, 16) || !Aligned(args.kv.pool, 16) ||
      !Aligned(args.kv.tail, 16)) {
    return AttentionPath::kPlain;
  }
  const bool one = args.max_rows <= 16;
  if (args.head_dim <= 64) return one ? AttentionPath::kOneWarp64 : AttentionPath::kFourWarps64;
  return one ? AttentionPath::kOneWarp128 : AttentionPath::kFourWarps128;
}

template <typename Shape>
Launch AttentionShapeLaunch(const AttentionArgs& args) {
  return {DivideUp(args.max_rows, Shape::kQueries), args.num_heads, args.num_sequences, Shape::kThreads,
          Shape::kSharedBytes};
}

inline Launch AttentionLaunch(const AttentionArgs& args, AttentionPath path) {
  switch (path) {
    case AttentionPath::kOneWarp64:
      return AttentionShapeLaunch<AttentionShape<64, 1>>(args);
    case AttentionPath::kFourWarps64:
      return AttentionShapeLaunch<AttentionShape<64, 4>>(args);
    case AttentionPath::kOneWarp128:
      return AttentionShapeLaunch<AttentionShape<128, 1>>(args);
    case AttentionPath::kFourWarps128:
      return AttentionShapeLaunch<AttentionShape<128, 4>>(args);
    case AttentionPath::kPlain:
      break;
  }
  return {DivideUp(args.max_rows, 4), args.num_heads, args.num_sequences, 128, 0};
}

inline Launch SplitHeadsLaunch(const SplitHeadsArgs& args) {
  return {DivideUp(args.num_rows * args.num_heads * 3, 8), 1, 1, 256, 0};
}
inline Launch ModulatedNormLaunch(const ModulatedNormArgs& args) {
  return {DivideUp(args.num_rows, kNormWarps), 1, 1, 32 * kNormWarps, 0};
}

inline void CheckSample(const SampleArgs& args) {
  NS_REQUIRE(args.codebook_size >= 1 && args.codebook_size <= kMaxCodebook, ErrorCode::kInvalidArgument,
             "sample: codebook size is ", args.codebook_size, ", expected 1..", kMaxCodebook);
  NS_REQUIRE(args.stride >= args.codebook_size, ErrorCode::kInvalidArgument, "sample: stride is ", args.stride,
             ", expected at least ", args.codebook_size);
  NS_REQUIRE(args.images != nullptr && args.not_finite != nullptr && args.num_images <= 65535,
             ErrorCode::kInvalidArgument, "sample: images and not_finite must not be null, images at most 65535");
}
inline Launch SampleLaunch(const SampleArgs& args) {
  return {args.num_tokens, args.num_images, 1, kSampleThreads, SampleSharedBytes(args.codebook_size)};
}

// One thread per number.
inline Launch MapLaunch(uint64_t num_numbers) {
  NS_REQUIRE(num_numbers < uint64_t{kMapThreads} << 31, ErrorCode::kInvalidArgument, "map of ", num_numbers,
             " numbers is too large");
  return {static_cast<uint32_t>((num_numbers + kMapThreads - 1) / kMapThreads), 1, 1, kMapThreads, 0};
}

struct GroupNormLaunches {
  Launch moments, gains, apply;
  size_t moments_bytes = 0, gains_bytes = 0;  // of workspace
};

inline GroupNormLaunches PlanGroupNorm(const GroupNormArgs& args) {
  NS_REQUIRE(args.num_groups > 0 && args.channels % args.num_groups == 0, ErrorCode::kInvalidArgument, "group norm: ",
             args.channels, " channels do not divide into ", args.num_groups, " groups");
  const uint32_t pieces = DivideUp(args.num_pixels, kPiecePixels);
  GroupNormLaunches plan;
  plan.moments = {pieces, args.num_images, 1, 32 * kGroupNormWarps, 0};
  plan.gains = {args.num_images, 1, 1, 32, 0};
  plan.apply = MapLaunch(uint64_t{args.num_images} * args.num_pixels * args.channels);
  plan.moments_bytes = size_t{args.num_images} * pieces * args.num_groups * sizeof(Moments);
  plan.gains_bytes = size_t{args.num_images} * 2 * args.channels * sizeof(float);
  return plan;
}

// One entry per compact row 0..num_rows-1; modulation pointers are copied as they are (device pointers).
inline std::vector<RowTarget> ExpandSpans(std::span<const RowSpan> spans, size_t num_rows) {
  std::vector<RowTarget> targets(num_rows);
  size_t covered = 0;
  for (const RowSpan& span : spans) {
    NS_REQUIRE(span.compact_row == covered && span.num_rows <= num_rows - covered, ErrorCode::kInvalidArgument,
               "row spans: one starts at ", span.compact_row, " with ", span.num_rows, " rows, expected to start at ",
               covered, " within ", num_rows);
    for (size_t i = 0; i < span.num_rows; ++i) {
      targets[covered + i] = {span.modulation, static_cast<uint32_t>(span.x_row + i), 0};
    }
    covered += span.num_rows;
  }
  NS_REQUIRE(covered == num_rows, ErrorCode::kInvalidArgument, "row spans cover ", covered, " rows, expected ", num_rows);
  return targets;
}

// The tables of one block's attention. `tail`: the base of all tails; a sequence's own tail lies in it.
struct AttentionTables {
  std::vector<SequenceRows> sequences;
  std::vector<uint32_t> slots;      // of all keys, sequence after sequence
  std::vector<uint32_t> row_slots;  // [num_rows]: where a compact row's k and v go
  uint32_t max_rows = 0;
};

inline AttentionTables BuildAttentionTables(std::span<const AttentionSequence> sequences, const std::byte* tail,
                                            size_t row_bytes, size_t num_rows) {
  AttentionTables tables;
  tables.row_slots.assign(num_rows, 0);
  for (const AttentionSequence& sequence : sequences) {
    const KvView& kv = sequence.kv;
    const size_t num_keys = kv.slots.size() + kv.tail_rows, first = tables.slots.size();
    NS_REQUIRE(sequence.num_rows <= num_keys && sequence.compact_row + sequence.num_rows <= num_rows,
               ErrorCode::kInvalidArgument, "attention: a sequence has ", sequence.num_rows, " rows from ",
               sequence.compact_row, " and ", num_keys, " keys in a batch of ", num_rows, " rows");
    for (const uint32_t slot : kv.slots) {
      NS_REQUIRE((slot & kTailBit) == 0, ErrorCode::kInvalidArgument, "attention: slot ", slot, " is too large");
      tables.slots.push_back(slot);
    }
    const size_t first_tail = kv.tail_rows == 0 ? 0 : static_cast<size_t>(kv.tail - tail) / row_bytes;
    for (size_t i = 0; i < kv.tail_rows; ++i) tables.slots.push_back(static_cast<uint32_t>(first_tail + i) | kTailBit);
    for (size_t i = 0; i < sequence.num_rows; ++i) {
      tables.row_slots[sequence.compact_row + i] = tables.slots[first + num_keys - sequence.num_rows + i];
    }
    tables.sequences.push_back({static_cast<uint32_t>(sequence.compact_row), static_cast<uint32_t>(sequence.num_rows),
                                static_cast<uint32_t>(first), static_cast<uint32_t>(num_keys)});
    tables.max_rows = std::max(tables.max_rows, static_cast<uint32_t>(sequence.num_rows));
  }
  return tables;
}

}  // namespace nextscale::cuda
