// Host-side decisions: which kernel takes a call, and with how many blocks. Every function checks its arguments
// (kInvalidArgument), appends to a list of launches, and calls nothing of CUDA: tested without a device.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "native/backend/cuda/host/launch.h"
#include "native/backend/cuda/kernels/kernel_list.h"
#include "native/base/error.h"
#include "native/ops/attention.h"
#include "native/ops/rows.h"

namespace nextscale::cuda {

// What of a device decides between kernels. Never the result.
struct DeviceTraits {
  uint32_t num_multiprocessors = 1;
  bool has_wgmma = false;  // sm_90a, and nobody else
  uint32_t capability = 80;
};

// Rows whose products in `depth` blocks of this width take about a quarter of a second, at a third of what the chip's
// multiprocessors could do at 1.5 GHz. An estimate from the data sheet's numbers: it bounds how long somebody who
// arrives waits for the step under way, and nothing else depends on it.
inline size_t RowsWithin(const DeviceTraits& traits, DType dtype, size_t width, size_t depth) {
  constexpr double kSeconds = 0.25, kHertz = 1.5e9, kShare = 1.0 / 3;
  // Operations of one multiprocessor in one cycle, dense, sums in f32.
  const double tensor_rate = traits.capability >= 90 ? 4096 : traits.capability == 80 ? 2048 : 512;
  const double rate = (dtype == DType::kF32 ? 256 : tensor_rate) * traits.num_multiprocessors * kHertz * kShare;
  const double row = 24.0 * static_cast<double>(width) * static_cast<double>(width) * static_cast<double>(depth);
  return static_cast<size_t>(std::min(kSeconds * rate / row, 1e9));
}

inline bool Aligned(const void* pointer, size_t bytes) { return reinterpret_cast<uintptr_t>(pointer) % bytes == 0; }

// ------------------------------------------------------------------ linear

enum class LinearPath { kPlain, kNarrowTile, kSmallTile, kLargeTile, kWide };

// True when the fused epilogue kQkv takes these arguments; else the caller stores qkv and runs SplitHeads.
inline bool FusesQkv(const LinearCall& args, const SplitHeadsCall& heads) {
  return args.dtype != DType::kF32 && heads.head_dim == 64 && args.n == 3 * heads.num_heads * 64 && args.k % 8 == 0 &&
         args.a_stride % 8 == 0 && args.out_stride % 4 == 0 && Aligned(args.a, 16) && Aligned(args.weights, 16) &&
         Aligned(args.out, 16) && Aligned(heads.kv.pool, 16) && Aligned(heads.kv.tail, 16);
}

inline void CheckCall(const LinearCall& args) {
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
    constexpr uint32_t kSide = 16384;  // coordinates of a doubled map are counted in 16 bits
    NS_REQUIRE(args.conv.in_height < kSide && args.conv.in_width < kSide &&
                   uint64_t{args.conv.num_images} * args.conv.in_height * args.conv.in_width < 0xFFFFFFFFu,
               ErrorCode::kInvalidArgument, "convolution: a map of ", args.conv.in_height, " × ", args.conv.in_width,
               " pixels is too large");
  } else {
    NS_REQUIRE(args.a_stride >= args.k, ErrorCode::kInvalidArgument, "linear: a_stride is ", args.a_stride,
               ", expected at least k = ", args.k);
  }
  if (args.epilogue == LinearEpilogue::kResidual) {
    NS_REQUIRE(args.rows.span_of_row != nullptr && args.rows.spans != nullptr && args.out_dtype == DType::kF32,
               ErrorCode::kInvalidArgument, "linear: the residual epilogue needs row tables and x in f32, found ",
               DTypeName(args.out_dtype));
  }
  if (args.epilogue == LinearEpilogue::kQkv) {
    NS_REQUIRE(
        FusesQkv(args, {.kv = args.kv, .num_heads = args.num_heads, .head_dim = args.head_dim}) &&
            args.row_slots != nullptr && (args.kv.pool != nullptr || args.kv.tail != nullptr),
        ErrorCode::kInvalidArgument,
        "linear: the qkv epilogue needs half precision, heads of 64, n = 3 C, slots and 16-byte alignment; found ",
        DTypeName(args.dtype), ", heads of ", args.head_dim, ", n = ", args.n);
  } else {
    const uint32_t columns = std::max(args.n, args.padded_n);
    NS_REQUIRE(args.epilogue == LinearEpilogue::kResidual || args.out_stride >= columns, ErrorCode::kInvalidArgument,
               "linear: out_stride is ", args.out_stride, ", expected at least ", columns);
  }
}

inline LinearPath ChooseLinearPath(const LinearCall& args, const DeviceTraits& traits) {
  const bool pieces = args.k % 8 == 0 && (args.is_conv ? args.conv.cin % 8 == 0 : args.a_stride % 8 == 0);
  if (args.dtype == DType::kF32 || !pieces || !Aligned(args.a, 16) || !Aligned(args.weights, 16) ||
      !Aligned(args.out, 16)) {
    return LinearPath::kPlain;
  }
  const bool heads = args.epilogue == LinearEpilogue::kQkv;
  const auto tiles = [&](uint32_t rows, uint32_t columns) {
    return uint64_t{DivideUp(args.num_rows, rows)} * DivideUp(args.n, columns);
  };
  if (tiles(LargeTile::kRows, LargeTile::kColumns) < traits.num_multiprocessors) {
    const bool few = tiles(SmallTile::kRows, SmallTile::kColumns) < traits.num_multiprocessors;
    return few && !heads ? LinearPath::kNarrowTile : LinearPath::kSmallTile;
  }
  return traits.has_wgmma ? LinearPath::kWide : LinearPath::kLargeTile;
}

inline LaunchShape LinearShapeOf(const LinearCall& args, LinearPath path) {
  const uint32_t columns = std::max(args.n, args.padded_n);
  switch (path) {
    case LinearPath::kNarrowTile:
      return {DivideUp(args.num_rows, NarrowTile::kRows), DivideUp(columns, NarrowTile::kColumns), 1,
              NarrowTile::kThreads, NarrowTile::kSharedBytes};
    case LinearPath::kSmallTile:
      return {DivideUp(args.num_rows, SmallTile::kRows), DivideUp(columns, SmallTile::kColumns), 1, SmallTile::kThreads,
              SmallTile::kSharedBytes};
    case LinearPath::kLargeTile:
      return {DivideUp(args.num_rows, LargeTile::kRows), DivideUp(columns, LargeTile::kColumns), 1, LargeTile::kThreads,
              LargeTile::kSharedBytes};
    case LinearPath::kWide:
      return {DivideUp(args.num_rows, LargeTile::kRows), DivideUp(columns, LargeTile::kColumns), 1, LargeTile::kThreads,
              kWideSharedBytes};
    case LinearPath::kPlain:
      break;
  }
  constexpr uint32_t kTile = kPlainTile;
  return {DivideUp(args.num_rows, kTile), DivideUp(columns, kTile), 1, kPlainThreads, kPlainSharedBytes};
}

inline KernelId LinearKernelOf(LinearPath path, DType dtype, bool is_conv) {
  const bool bf16 = dtype == DType::kBF16;
  switch (path) {
    case LinearPath::kNarrowTile:
      if (is_conv) return bf16 ? KernelId::kConvNarrowBF16 : KernelId::kConvNarrowF16;
      return bf16 ? KernelId::kLinearNarrowBF16 : KernelId::kLinearNarrowF16;
    case LinearPath::kSmallTile:
      if (is_conv) return bf16 ? KernelId::kConvSmallBF16 : KernelId::kConvSmallF16;
      return bf16 ? KernelId::kLinearSmallBF16 : KernelId::kLinearSmallF16;
    case LinearPath::kLargeTile:
      if (is_conv) return bf16 ? KernelId::kConvLargeBF16 : KernelId::kConvLargeF16;
      return bf16 ? KernelId::kLinearLargeBF16 : KernelId::kLinearLargeF16;
    case LinearPath::kWide:
      if (is_conv) return bf16 ? KernelId::kConvWideBF16 : KernelId::kConvWideF16;
      return bf16 ? KernelId::kLinearWideBF16 : KernelId::kLinearWideF16;
    case LinearPath::kPlain:
      break;
  }
  return KernelId::kLinearPlain;
}

inline void AddLinear(LaunchList& list, const LinearCall& args, const DeviceTraits& traits, const char* op) {
  CheckCall(args);
  const LinearPath path = ChooseLinearPath(args, traits);
  const LaunchShape shape = LinearShapeOf(args, path);
  NS_REQUIRE(shape.y <= 65535, ErrorCode::kInvalidArgument, "linear: n = ", args.n, " is too large");
  if (args.num_rows != 0) list.Add(LinearKernelOf(path, args.dtype, args.is_conv), shape, args, op);
}

inline void AddSplitHeads(LaunchList& list, const SplitHeadsCall& args, const char* op) {
  list.Add(KernelId::kSplitHeads, {DivideUp(args.num_rows * args.num_heads * 3, 8), 1, 1, 256, 0}, args, op);
}

// ------------------------------------------------------------------ attention

enum class AttentionPath { kPlain, kWide, kOneWarp64, kFourWarps64, kOneWarp128, kFourWarps128 };

inline void CheckCall(const AttentionCall& args) {
  NS_REQUIRE(args.head_dim >= 1 && args.head_dim <= kWideHeadDim, ErrorCode::kInvalidArgument,
             "attention: head_dim is ", args.head_dim, ", expected 1..", kWideHeadDim);
  NS_REQUIRE(args.head_dim <= kPlainHeadDim || args.max_keys <= kWideKeys, ErrorCode::kInvalidArgument,
             "attention: ", args.max_keys, " keys for heads of ", args.head_dim, ", expected at most ", kWideKeys);
  NS_REQUIRE(args.num_heads >= 1 && args.num_heads <= 65535 && args.num_sequences <= 65535, ErrorCode::kInvalidArgument,
             "attention: ", args.num_heads, " heads and ", args.num_sequences, " sequences, expected at most 65535");
  const uint32_t width = args.num_heads * args.head_dim;
  NS_REQUIRE(args.q_stride >= width && args.out_stride >= width, ErrorCode::kInvalidArgument, "attention: strides are ",
             args.q_stride, " and ", args.out_stride, ", expected at least ", width);
  NS_REQUIRE(args.q != nullptr && args.out != nullptr && args.sequences != nullptr && args.slots != nullptr,
             ErrorCode::kInvalidArgument, "attention: q, out, sequences and slots must not be null");
}

inline AttentionPath ChooseAttentionPath(const AttentionCall& args) {
  if (args.head_dim > kPlainHeadDim) return AttentionPath::kWide;
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
LaunchShape AttentionTileShape(const AttentionCall& args) {
  return {DivideUp(args.max_rows, Shape::kQueries), args.num_heads, args.num_sequences, Shape::kThreads,
          Shape::kSharedBytes};
}

inline void AddAttention(LaunchList& list, const AttentionCall& args, const char* op) {
  CheckCall(args);
  if (args.num_sequences == 0 || args.max_rows == 0) return;
  const bool bf16 = args.dtype == DType::kBF16;
  const auto add = [&](KernelId kernel, const LaunchShape& shape) { list.Add(kernel, shape, args, op); };
  switch (ChooseAttentionPath(args)) {
    case AttentionPath::kOneWarp64:
      return add(bf16 ? KernelId::kAttentionOneWarp64BF16 : KernelId::kAttentionOneWarp64F16,
                 AttentionTileShape<AttentionShape<64, 1>>(args));
    case AttentionPath::kFourWarps64:
      return add(bf16 ? KernelId::kAttentionFourWarps64BF16 : KernelId::kAttentionFourWarps64F16,
                 AttentionTileShape<AttentionShape<64, 4>>(args));
    case AttentionPath::kOneWarp128:
      return add(bf16 ? KernelId::kAttentionOneWarp128BF16 : KernelId::kAttentionOneWarp128F16,
                 AttentionTileShape<AttentionShape<128, 1>>(args));
    case AttentionPath::kFourWarps128:
      return add(bf16 ? KernelId::kAttentionFourWarps128BF16 : KernelId::kAttentionFourWarps128F16,
                 AttentionTileShape<AttentionShape<128, 4>>(args));
    case AttentionPath::kWide:
      return add(KernelId::kAttentionWide, {args.max_rows, args.num_heads, args.num_sequences, kWideThreads,
                                            (args.max_keys + kWideThreads / 32) * 4});
    case AttentionPath::kPlain:
      return add(KernelId::kAttentionPlain, {DivideUp(args.max_rows, 4), args.num_heads, args.num_sequences, 128, 0});
  }
}

// ------------------------------------------------------------------ everything else

// One thread per number.
inline LaunchShape MapShape(uint64_t num_numbers) {
  NS_REQUIRE(num_numbers < uint64_t{kMapThreads} << 31, ErrorCode::kInvalidArgument, "map of ", num_numbers,
             " numbers is too large");
  return {static_cast<uint32_t>((num_numbers + kMapThreads - 1) / kMapThreads), 1, 1, kMapThreads, 0};
}

// `aligned`: whether all modulations are, to 16 bytes.
inline KernelId ChooseNormKernel(const ModulatedNormCall& args, bool aligned) {
  const uint32_t sizes = args.width | args.x_stride | args.out_stride | args.gain_offset | args.shift_offset;
  if (!aligned || sizes % 4 != 0 || !Aligned(args.x, 16) || !Aligned(args.out, 16))
    return KernelId::kModulatedNormPlain;
  if (args.width <= 512) return KernelId::kModulatedNorm512;
  if (args.width <= 1024) return KernelId::kModulatedNorm1024;
  if (args.width <= 1536) return KernelId::kModulatedNorm1536;
  if (args.width <= 1920) return KernelId::kModulatedNorm1920;
  return args.width <= 2304 ? KernelId::kModulatedNorm2304 : KernelId::kModulatedNormPlain;
}

inline void AddModulatedNorm(LaunchList& list, const ModulatedNormCall& args, bool aligned, const char* op) {
  list.Add(ChooseNormKernel(args, aligned), {DivideUp(args.num_rows, kNormWarps), 1, 1, 32 * kNormWarps, 0}, args, op);
}

inline void CheckCall(const SampleCall& args) {
  NS_REQUIRE(args.codebook_size >= 1 && args.codebook_size <= kMaxCodebook, ErrorCode::kInvalidArgument,
             "sample: codebook size is ", args.codebook_size, ", expected 1..", kMaxCodebook);
  NS_REQUIRE(args.stride >= args.codebook_size, ErrorCode::kInvalidArgument, "sample: stride is ", args.stride,
             ", expected at least ", args.codebook_size);
  NS_REQUIRE(args.images != nullptr && args.num_images <= 65535, ErrorCode::kInvalidArgument,
             "sample: images must not be null, and at most 65535; found ", args.num_images);
}
inline void AddSample(LaunchList& list, const SampleCall& args, const char* op) {
  CheckCall(args);
  list.Add(KernelId::kSample,
           {args.num_tokens, args.num_images, 1, kSampleThreads, SampleSharedBytes(args.codebook_size)}, args, op);
}
inline void AddCrossEntropy(LaunchList& list, const CrossEntropyCall& args, const char* op) {
  list.Add(KernelId::kCrossEntropy, {args.num_rows, 1, 1, kLossThreads, sizeof(LossShared)}, args, op);
}
inline void AddEmbed(LaunchList& list, const EmbedCall& args, const char* op) {
  const uint64_t rows = uint64_t{args.num_images} * args.num_tokens;
  list.Add(KernelId::kEmbed, MapShape(rows * (args.starts != nullptr ? args.num_branches : 1) * args.width), args, op);
}
inline void AddCondition(LaunchList& list, const ConditionCall& args, const char* op) {
  list.Add(KernelId::kCondition, MapShape(uint64_t{args.num} * args.width), args, op);
}
inline void AddAddOffset(LaunchList& list, const AddOffsetCall& args, const char* op) {
  list.Add(KernelId::kAddOffset, MapShape(uint64_t{args.num_rows} * args.width), args, op);
}
inline void AddGatherBicubic(LaunchList& list, const GatherBicubicCall& args, const char* op) {
  list.Add(KernelId::kGatherBicubic,
           MapShape(uint64_t{args.num_images} * args.out_side * args.out_side * args.channels), args, op);
}
inline void AddResidualConv(LaunchList& list, const ResidualConvCall& args, const char* op) {
  list.Add(KernelId::kResidualConv, MapShape(uint64_t{args.num_images} * args.side * args.side * args.channels), args,
           op);
}
inline void AddAreaDown(LaunchList& list, const AreaDownCall& args, const char* op) {
  list.Add(KernelId::kAreaDown, MapShape(uint64_t{args.num_images} * args.out_side * args.out_side * args.out_stride),
           args, op);
}
inline void AddNearestCode(LaunchList& list, const NearestCodeCall& args, const char* op) {
  list.Add(KernelId::kNearestCode, MapShape(uint64_t{args.num_rows} * 32), args, op);
}
inline void AddImageToMap(LaunchList& list, const ImageToMapCall& args, const char* op) {
  list.Add(KernelId::kImageToMap, MapShape(uint64_t{args.num_pixels} * args.stride), args, op);
}
inline void AddMapToImage(LaunchList& list, const MapToImageCall& args, const char* op) {
  list.Add(KernelId::kMapToImage, MapShape(uint64_t{args.num_pixels} * args.channels), args, op);
}

inline uint32_t GroupNormPieces(uint32_t num_pixels) { return DivideUp(num_pixels, kPiecePixels); }
inline void AddGroupNorm(LaunchList& list, const GroupNormCall& args, const char* op) {
  NS_REQUIRE(args.num_groups > 0 && args.channels % args.num_groups == 0, ErrorCode::kInvalidArgument,
             "group norm: ", args.channels, " channels do not divide into ", args.num_groups, " groups");
  if (args.num_pixels == 0) return;
  list.Add(KernelId::kGroupMoments, {GroupNormPieces(args.num_pixels), 1, 1, 32 * kGroupNormWarps, 0}, args, op);
  list.Add(KernelId::kGroupGains, {DivideUp(args.num_groups, kGroupNormWarps), 1, 1, 32 * kGroupNormWarps, 0}, args,
           op);
}
inline void AddNormalizeMap(LaunchList& list, const NormalizeMapCall& args, const char* op) {
  list.Add(KernelId::kNormalizeMap, MapShape(uint64_t{args.num_pixels} * args.width), args, op);
}

// ------------------------------------------------------------------ tables

// Which span each compact row is in, and the spans. Vectors keep their memory from call to call.
struct RowTableData {
  std::vector<uint32_t> span_of_row;
  std::vector<SpanTarget> spans;

  // Modulation pointers are copied as they are (device pointers).
  void Build(std::span<const RowSpan> row_spans, size_t num_rows) {
    span_of_row.clear();
    spans.clear();
    for (const RowSpan& span : row_spans) {
      const size_t covered = span_of_row.size();
      NS_REQUIRE(span.compact_row == covered && span.num_rows <= num_rows - covered, ErrorCode::kInvalidArgument,
                 "row spans: one starts at ", span.compact_row, " with ", span.num_rows, " rows, expected to start at ",
                 covered, " within ", num_rows);
      span_of_row.resize(covered + span.num_rows, static_cast<uint32_t>(spans.size()));
      spans.push_back({span.modulation, static_cast<uint32_t>(span.compact_row), static_cast<uint32_t>(span.x_row)});
    }
    NS_REQUIRE(span_of_row.size() == num_rows, ErrorCode::kInvalidArgument, "row spans cover ", span_of_row.size(),
               " rows, expected ", num_rows);
  }
};

// The tables of one block's attention.
struct AttentionTables {
  std::vector<SequenceRows> sequences;
  std::vector<uint32_t> slots;      // of all keys, sequence after sequence
  std::vector<uint32_t> row_slots;  // [num_rows]: where a compact row's k and v go
  uint32_t max_rows = 0, max_keys = 0;

  // `tail`: the base of all tails; a sequence's own tail lies in it.
  void Build(std::span<const AttentionSequence> all, const std::byte* tail, size_t row_bytes, size_t num_rows) {
    sequences.clear();
    slots.clear();
    row_slots.assign(num_rows, 0);
    max_rows = max_keys = 0;
    for (const AttentionSequence& sequence : all) {
      const KvView& kv = sequence.kv;
      const size_t num_keys = kv.slots.size() + kv.tail_rows, first = slots.size();
      NS_REQUIRE(sequence.num_rows <= num_keys && sequence.compact_row + sequence.num_rows <= num_rows,
                 ErrorCode::kInvalidArgument, "attention: a sequence has ", sequence.num_rows, " rows from ",
                 sequence.compact_row, " and ", num_keys, " keys in a batch of ", num_rows, " rows");
      for (const uint32_t slot : kv.slots) {
        NS_REQUIRE((slot & kTailBit) == 0, ErrorCode::kInvalidArgument, "attention: slot ", slot, " is too large");
        slots.push_back(slot);
      }
      const size_t first_tail = kv.tail_rows == 0 ? 0 : static_cast<size_t>(kv.tail - tail) / row_bytes;
      for (size_t i = 0; i < kv.tail_rows; ++i) slots.push_back(static_cast<uint32_t>(first_tail + i) | kTailBit);
      for (size_t i = 0; i < sequence.num_rows; ++i) {
        row_slots[sequence.compact_row + i] = slots[first + num_keys - sequence.num_rows + i];
      }
      sequences.push_back({static_cast<uint32_t>(sequence.compact_row), static_cast<uint32_t>(sequence.num_rows),
                           static_cast<uint32_t>(first), static_cast<uint32_t>(num_keys)});
      max_rows = std::max(max_rows, static_cast<uint32_t>(sequence.num_rows));
      max_keys = std::max(max_keys, static_cast<uint32_t>(num_keys));
    }
  }
};

}  // namespace nextscale::cuda
