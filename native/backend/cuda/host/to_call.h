// Arguments of ops (native/ops) → arguments of kernels (kernels/calls.h). All sizes pass here, and nowhere else: a
// kernel counts in 32 bits. Tables that are the host's in an op are passed beside it, as they stand on the device.
#pragma once

#include "native/backend/cuda/kernels/calls.h"
#include "native/base/error.h"
#include "native/ops/backend.h"

namespace nextscale::cuda {

// A size as kernels take it. Throws kInvalidArgument where it does not fit.
class Narrow {
 public:
  explicit Narrow(const char* op) : op_(op) {}
  uint32_t operator()(size_t size) const {
    NS_REQUIRE(size <= 0xFFFFFFFFu, ErrorCode::kInvalidArgument, op_, ": ", size,
               " rows, columns or numbers are more than 32 bits count");
    return static_cast<uint32_t>(size);
  }

 private:
  const char* op_;
};

// Epilogue kStore or kGelu; the caller adds what the others need.
inline LinearCall ToCall(const LinearArgs& args) {
  const Narrow size("linear");
  return {.out = args.out,
          .a = args.a,
          .weights = args.weights->data.data(),
          .bias = args.bias,
          .epilogue = args.epilogue == Epilogue::kGelu ? LinearEpilogue::kGelu : LinearEpilogue::kStore,
          .out_stride = size(args.out_stride),
          .a_stride = size(args.a_stride),
          .num_rows = size(args.num_rows),
          .n = size(args.weights->n),
          .k = size(args.weights->k),
          .gate_offset = size(args.gate_offset),
          .dtype = args.a_dtype,
          .out_dtype = args.out_dtype};
}

// `in`: the map that is read, normalised already.
inline LinearCall ToCall(const ConvArgs& args, const void* in) {
  const Narrow size("conv");
  const uint32_t cin = size(MapStride(args.weights->cin));
  return {.out = args.out,
          .a = in,
          .weights = args.weights->data.data(),
          .bias = args.weights->bias.as<float>(),
          .residual = args.residual,
          .conv = {.shape = args.kind == ConvKind::kUp     ? ConvShape::kUp
                            : args.kind == ConvKind::kDown ? ConvShape::kDown
                                                           : ConvShape::kSame,
                   .in_height = size(args.in_height),
                   .in_width = size(args.in_width),
                   .cin = cin,
                   .out_height = size(args.out_height()),
                   .out_width = size(args.out_width())},
          .out_stride = size(args.out_stride),
          .residual_stride = size(args.residual_stride),
          .num_rows = size(args.out_height() * args.out_width()),
          .n = size(args.weights->cout),
          .k = size(size_t{9} * cin),
          .padded_n = size(MapStride(args.weights->cout)),
          .dtype = args.in_dtype,
          .out_dtype = args.out_dtype,
          .is_conv = true};
}

// The group norm and SiLU in front of a convolution.
inline NormalizeMapCall ToNormalizeCall(const ConvArgs& args) {
  const Narrow size("conv");
  const uint32_t stride = size(args.in_stride);
  return {.out = args.workspace,
          .x = args.in,
          .gain = args.gain,
          .shift = args.shift,
          .num_pixels = size(args.in_height * args.in_width),
          .width = stride,
          .out_stride = stride,
          .x_stride = stride,
          .dtype = args.in_dtype,
          .silu = true};
}

inline SplitHeadsCall ToCall(const SplitHeadsArgs& args, size_t num_rows, const uint32_t* row_slots,
                             const KvMemory& kv) {
  const Narrow size("split heads");
  return {.qkv = args.qkv,
          .head_factor = args.head_factor,
          .row_slots = row_slots,
          .kv = kv,
          .qkv_stride = size(args.qkv_stride),
          .num_rows = size(num_rows),
          .num_heads = size(args.num_heads),
          .head_dim = size(args.head_dim),
          .dtype = args.dtype};
}

// Without its tables.
inline AttentionCall ToCall(const AttentionArgs& args) {
  const Narrow size("attention");
  return {.out = args.out,
          .q = args.q,
          .out_stride = size(args.out_stride),
          .q_stride = size(args.q_stride),
          .num_heads = size(args.num_heads),
          .head_dim = size(args.head_dim),
          .softmax_factor = args.softmax_factor,
          .num_sequences = size(args.sequences.size()),
          .dtype = args.dtype};
}

inline ModulatedNormCall ToCall(const ModulatedNormArgs& args, size_t num_rows, const RowTables& rows) {
  const Narrow size("norm");
  return {.out = args.out,
          .x = args.x,
          .rows = rows,
          .out_stride = size(args.out_stride),
          .x_stride = size(args.x_stride),
          .width = size(args.width),
          .num_rows = size(num_rows),
          .gain_offset = size(args.gain_offset),
          .shift_offset = size(args.shift_offset),
          .out_dtype = args.out_dtype};
}

inline SampleImage ToCall(const SampleArgs& args) {
  return {.tokens = args.tokens,
          .cond = args.cond,
          .uncond = args.uncond,
          .logits_out = args.logits_out,
          .seed = args.seed,
          .image = args.image,
          .guidance = args.guidance,
          .top_p = args.top_p,
          .top_k = Narrow("sample")(args.top_k),
          .scale_index = args.scale_index};
}

// Of images whose shapes are all like `args`.
inline SampleCall ToCall(const SampleArgs& args, const SampleImage* images, size_t num_images) {
  const Narrow size("sample");
  return {.images = images,
          .num_images = size(num_images),
          .num_tokens = size(args.num_tokens),
          .codebook_size = size(args.codebook_size),
          .stride = size(args.stride)};
}

inline CrossEntropyCall ToCall(const CrossEntropyArgs& args) {
  const Narrow size("cross entropy");
  return {.logits = args.logits,
          .targets = args.targets,
          .losses = args.losses,
          .num_rows = size(args.num_rows),
          .stride = size(args.stride),
          .codebook_size = size(args.codebook_size)};
}

inline EmbedCall ToCall(const EmbedArgs& args, const int32_t* conditions) {
  const Narrow size("embed");
  return {.x = args.x,
          .position = args.position,
          .starts = args.starts,
          .start_position = args.start_position,
          .conditions = conditions,
          .stride = size(args.stride),
          .width = size(args.width),
          .num_tokens = size(args.num_tokens),
          .num_images = size(args.num_images),
          .num_branches = size(args.num_branches)};
}

inline ConditionCall ToCall(const ConditionArgs& args, const int32_t* rows, const float* weights) {
  const Narrow size("condition");
  return {.start = args.start,
          .vector = args.vector,
          .embedding = args.embedding,
          .rows = rows,
          .weights = weights,
          .width = size(args.width),
          .num = size(args.num()),
          .num_mixed = size(args.num_mixed),
          .vector_dtype = args.vector_dtype};
}

inline AddOffsetCall ToCall(const AddOffsetArgs& args) {
  const Narrow size("add offset");
  return {.out = args.out,
          .in = args.in,
          .offset = args.offset,
          .out_stride = size(args.out_stride),
          .in_stride = size(args.in_stride),
          .num_rows = size(args.num_rows),
          .width = size(args.width)};
}

inline GatherBicubicCall ToGatherCall(const AddCodesArgs& args) {
  const Narrow size("add codes");
  return {.out = args.workspace,
          .tokens = args.tokens,
          .codebook = args.codebook->rows.as<float>(),
          .num_images = size(args.num_images),
          .in_side = size(args.in_side),
          .out_side = size(args.side),
          .channels = size(args.codebook->dim)};
}

inline ResidualConvCall ToResidualConvCall(const AddCodesArgs& args) {
  const Narrow size("add codes");
  const PackedConv* const conv = args.residual_conv;
  return {.f_hat = args.f,
          .h = args.workspace,
          .weights = conv == nullptr ? nullptr : conv->data.as<float>(),
          .bias = conv == nullptr ? nullptr : conv->bias.as<float>(),
          .num_images = size(args.num_images),
          .side = size(args.side),
          .channels = size(args.codebook->dim),
          .mix = conv == nullptr ? 0.0f : args.mix,
          .sign = args.sign};
}

inline AreaDownCall ToCall(const AreaDownArgs& args) {
  const Narrow size("area");
  return {.out = args.out,
          .in = args.in,
          .num_images = size(args.num_images),
          .in_side = size(args.in_side),
          .out_side = size(args.out_side),
          .channels = size(args.channels),
          .out_stride = size(args.out_stride),
          .in_stride = size(args.in_stride),
          .out_dtype = args.out_dtype};
}

inline NearestCodeCall ToCall(const NearestCodeArgs& args) {
  const Narrow size("nearest code");
  return {.tokens = args.tokens,
          .rows = args.rows,
          .codebook = args.codebook->rows.as<float>(),
          .num_rows = size(args.num_rows),
          .stride = size(args.stride),
          .codebook_size = size(args.codebook->size),
          .dim = size(args.codebook->dim)};
}

inline GroupNormCall ToCall(const GroupNormArgs& args) {
  const Narrow size("group norm");
  return {.x = args.x,
          .gain = args.gain,
          .shift = args.shift,
          .weight = args.weight,
          .bias = args.bias,
          .moments = reinterpret_cast<Moments*>(args.workspace),
          .num_pixels = size(args.num_pixels),
          .x_stride = size(args.x_stride),
          .channels = size(args.channels),
          .padded_channels = size(MapStride(args.channels)),
          .num_groups = size(args.num_groups),
          .eps = static_cast<float>(args.eps),
          .dtype = args.dtype};
}

inline NormalizeMapCall ToCall(const NormalizeMapArgs& args) {
  const Narrow size("normalize map");
  return {.out = args.out,
          .x = args.x,
          .gain = args.gain,
          .shift = args.shift,
          .num_pixels = size(args.num_pixels),
          .width = size(MapStride(args.channels)),
          .out_stride = size(args.out_stride),
          .x_stride = size(args.x_stride),
          .dtype = args.dtype};
}

inline ImageToMapCall ToCall(const ImageToMapArgs& args) {
  const Narrow size("image to map");
  return {.map = args.map,
          .planar = args.planar,
          .stride = size(args.stride),
          .num_pixels = size(args.num_pixels),
          .channels = size(args.channels),
          .dtype = args.dtype};
}

inline MapToImageCall ToCall(const MapToImageArgs& args) {
  const Narrow size("map to image");
  return {.planar = args.planar,
          .bytes = args.bytes,
          .map = args.map,
          .stride = size(args.stride),
          .num_pixels = size(args.num_pixels),
          .channels = size(args.channels)};
}

}  // namespace nextscale::cuda
