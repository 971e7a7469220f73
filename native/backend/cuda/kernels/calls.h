// Arguments of the CUDA kernels, which host/to_call.h makes of an op's. They mirror native/ops/*.h with two
// differences: pointers are device pointers, and tables that are the host's there (spans, sequences, slots, labels) are
// device memory here. The same structs drive the kernels' twins on the CPU, where the pointers are ordinary ones.
//
// Lists of launches are compared byte for byte (launch.h), so no struct has padding that nobody writes.
#pragma once

#include <cstdint>

#include "native/tensor/dtype.h"

namespace nextscale::cuda {

// A run of compact rows that belong to one sequence, as nextscale::RowSpan. Which span a row is in says a table of its
// own: blocks that the same sequences run share it, and differ in their modulations only.
struct SpanTarget {
  const float* modulation = nullptr;  // null: gate 1
  uint32_t compact_row = 0, x_row = 0;
};
struct RowTables {
  const uint32_t* span_of_row = nullptr;  // [M]
  const SpanTarget* spans = nullptr;
};

// The memory of keys and values. A row is K (C) | V (C). A slot number with kTailBit addresses the tail instead.
inline constexpr uint32_t kTailBit = 0x80000000u;
struct KvMemory {
  unsigned char* pool = nullptr;
  unsigned char* tail = nullptr;
  DType dtype = DType::kF32;
  uint8_t unused[7] = {};
};

enum class LinearEpilogue : int32_t {
  kStore,     // out = y (+ residual map, when given)
  kGelu,      // out = gelu(y), tanh form
  kResidual,  // x[target row] += gate · y; out is x, f32
  kQkv,       // y = q | k | v: L2 norms and head factor when given, q to out, k and v to their slots. head_dim is 64.
};

// Input of a 3×3 convolution as a matrix: row = output pixel, column = tap · cin + channel. Maps are NHWC.
enum class ConvShape : int32_t { kSame, kDown, kUp };  // as nextscale::ConvKind
struct ConvInput {
  ConvShape shape = ConvShape::kSame;
  uint32_t num_images = 1, in_height = 0, in_width = 0;
  uint32_t cin = 0;  // numbers of a pixel: channels and their padding
  uint32_t out_height = 0, out_width = 0;
};

// out = epilogue(a · Wᵀ + bias). Weights [N, K] in the format of a: f32 row-major, halves in tiles (layout.h).
struct LinearCall {
  void* out = nullptr;                  // [M, out_stride]; kResidual: [rows, out_stride]
  const void* a = nullptr;              // [M, a_stride], or a map when is_conv
  const void* weights = nullptr;        // [N, K]; convolution: [cout, 9, cin]
  const float* bias = nullptr;          // [N] or null
  RowTables rows = {};                  // kResidual
  const void* residual = nullptr;       // kStore: map [M, residual_stride] of out_dtype, or null
  const float* head_factor = nullptr;   // kQkv: [H] or null
  const uint32_t* row_slots = nullptr;  // kQkv: [M]: where k and v of a compact row go
  KvMemory kv = {};
  ConvInput conv = {};
  LinearEpilogue epilogue = LinearEpilogue::kStore;
  uint32_t out_stride = 0, a_stride = 0, residual_stride = 0;
  uint32_t num_rows = 0, n = 0, k = 0;
  uint32_t padded_n = 0;  // kStore, kGelu: columns n .. padded_n become zeros (padding of maps); 0: none
  uint32_t gate_offset = 0;
  uint32_t num_heads = 0, head_dim = 0;  // kQkv
  DType dtype = DType::kF32;             // of a and weights
  DType out_dtype = DType::kF32;         // of out (kResidual: f32)
  bool is_conv = false;
  uint8_t unused[5] = {};
};
static_assert(sizeof(LinearCall) == 9 * 8 + sizeof(KvMemory) + sizeof(ConvInput) + 11 * 4 + 8);

// As nextscale::SplitHeads, for head sizes and formats that the fused epilogue does not take: reads qkv, writes q in
// place.
struct SplitHeadsCall {
  void* qkv = nullptr;  // [M, qkv_stride >= 3C]
  const float* head_factor = nullptr;
  const uint32_t* row_slots = nullptr;
  KvMemory kv = {};
  uint32_t qkv_stride = 0, num_rows = 0, num_heads = 0, head_dim = 0;
  DType dtype = DType::kF32;  // of qkv
  uint8_t unused[7] = {};
};

// One sequence's share: queries compact_row .. + num_rows, keys slots[first_slot .. + num_keys) in token order.
struct SequenceRows {
  uint32_t compact_row = 0, num_rows = 0, first_slot = 0, num_keys = 0;
};

struct AttentionCall {
  void* out = nullptr;      // [M, out_stride]
  const void* q = nullptr;  // [M, q_stride]
  const SequenceRows* sequences = nullptr;
  const uint32_t* slots = nullptr;
  KvMemory kv = {};
  uint32_t out_stride = 0, q_stride = 0;
  uint32_t num_heads = 0, head_dim = 0;
  float softmax_factor = 1.0f;
  uint32_t num_sequences = 0, max_rows = 0, max_keys = 0;  // the largest num_rows and num_keys
  DType dtype = DType::kF32;                               // of q and out
  uint8_t unused[7] = {};
};

struct ModulatedNormCall {
  void* out = nullptr;       // [M, out_stride]
  const float* x = nullptr;  // [rows, x_stride]
  RowTables rows = {};
  uint32_t out_stride = 0, x_stride = 0, width = 0, num_rows = 0;
  uint32_t gain_offset = 0, shift_offset = 0;
  DType out_dtype = DType::kF32;
  uint8_t unused[7] = {};
};

// One image's logits and its draw; a launch takes many images of one scale.
struct SampleImage {
  int32_t* tokens = nullptr;      // [L]; −1 where a logit is NaN or infinite
  const float* cond = nullptr;    // [L, stride]
  const float* uncond = nullptr;  // [L, stride] or null
  float* logits_out = nullptr;    // [L, V] or null
  uint64_t seed = 0, image = 0;
  float guidance = 0.0f, top_p = 0.0f;
  uint32_t top_k = 0, scale_index = 0;
};
struct SampleCall {
  const SampleImage* images = nullptr;
  uint32_t num_images = 0, num_tokens = 0, codebook_size = 0, stride = 0;  // V <= kMaxCodebook
};
inline constexpr uint32_t kMaxCodebook = 16384;  // what shared memory holds

// losses[row] = ln Σ exp(logits) − logits[target]; NaN for a row that holds NaN or infinity.
struct CrossEntropyCall {
  const float* logits = nullptr;     // [M, stride]
  const int32_t* targets = nullptr;  // [M]
  float* losses = nullptr;           // [M]
  uint32_t num_rows = 0, stride = 0, codebook_size = 0, unused = 0;
};

// As nextscale::EmbedArgs.
struct EmbedCall {
  float* x = nullptr;
  const float* position = nullptr;
  const float* starts = nullptr;
  const float* start_position = nullptr;
  const int32_t* conditions = nullptr;
  uint32_t stride = 0, width = 0, num_tokens = 0, num_images = 0, num_branches = 1, unused = 0;
};

// As nextscale::ConditionArgs.
struct ConditionCall {
  float* start = nullptr;
  void* vector = nullptr;
  const float* embedding = nullptr;
  const int32_t* rows = nullptr;
  const float* weights = nullptr;
  uint32_t width = 0, num = 0, num_mixed = 1;
  DType vector_dtype = DType::kF32;
  uint8_t unused[3] = {};
};

// As nextscale::AddOffsetArgs.
struct AddOffsetCall {
  float* out = nullptr;
  const float* in = nullptr;
  const float* offset = nullptr;
  uint32_t out_stride = 0, in_stride = 0, num_rows = 0, width = 0;
};

// Codes of a token map, upsampled: out[image][side², E] = bicubic(codebook[tokens]). A token below 0 counts as 0.
struct GatherBicubicCall {
  float* out = nullptr;             // [B, out_side², E]
  const int32_t* tokens = nullptr;  // [B, in_side²]
  const float* codebook = nullptr;  // [V, E]
  uint32_t num_images = 0, in_side = 0, out_side = 0, channels = 0;
};

// f_hat += sign · ((1 − mix) · h + mix · (conv3x3(h) + bias)), all [B, side², E] f32; mix 0: no convolution.
struct ResidualConvCall {
  float* f_hat = nullptr;
  const float* h = nullptr;
  const float* weights = nullptr;  // [E, 3, 3, E]: output channel, tap, input channel
  const float* bias = nullptr;     // [E]
  uint32_t num_images = 0, side = 0, channels = 0;
  float mix = 0.0f, sign = 1.0f;
  uint32_t unused = 0;
};

// out[image][out_side², out_stride] = area average of map [B, in_side², in_stride] f32; columns past channels become
// zeros.
struct AreaDownCall {
  void* out = nullptr;
  const float* in = nullptr;
  uint32_t num_images = 0, in_side = 0, out_side = 0, channels = 0, out_stride = 0, in_stride = 0;
  DType out_dtype = DType::kF32;
  uint8_t unused[7] = {};
};

// As nextscale::NearestCodeArgs.
struct NearestCodeCall {
  int32_t* tokens = nullptr;
  const float* rows = nullptr;
  const float* codebook = nullptr;  // [V, E]
  uint32_t num_rows = 0, stride = 0, codebook_size = 0, dim = 0;
};

// Mean and sum of squared differences of one group in one piece of a map.
struct alignas(8) Moments {
  float mean, squares;
};

// Statistics of GroupNorm as gain and shift per channel of a map; two kernels, the moments in between.
struct GroupNormCall {
  const void* x = nullptr;  // [pixels, x_stride]
  float* gain = nullptr;    // [padded_channels]; the padding is set to 0
  float* shift = nullptr;
  const float* weight = nullptr;
  const float* bias = nullptr;
  Moments* moments = nullptr;  // [pieces, groups]
  uint32_t num_pixels = 0, x_stride = 0, channels = 0, padded_channels = 0, num_groups = 32;
  float eps = 1e-6f;
  DType dtype = DType::kF32;  // of x
  uint8_t unused[7] = {};
};

// out = x · gain + shift, through SiLU when asked for; over whole strides (padding of x is finite, of gain and shift
// 0).
struct NormalizeMapCall {
  void* out = nullptr;
  const void* x = nullptr;
  const float* gain = nullptr;
  const float* shift = nullptr;
  uint32_t num_pixels = 0, width = 0;  // width: channels with their padding
  uint32_t out_stride = 0, x_stride = 0;
  DType dtype = DType::kF32;  // of out and x
  bool silu = false;
  uint8_t unused[6] = {};
};

// map[p, c] = planar[c, p]; columns past channels become zeros.
struct ImageToMapCall {
  void* map = nullptr;
  const float* planar = nullptr;
  uint32_t stride = 0, num_pixels = 0, channels = 0;
  DType dtype = DType::kF32;
  uint8_t unused[3] = {};
};

// As nextscale::MapToImageArgs.
struct MapToImageCall {
  float* planar = nullptr;
  uint8_t* bytes = nullptr;
  const float* map = nullptr;
  uint32_t stride = 0, num_pixels = 0, channels = 0, unused = 0;
};

}  // namespace nextscale::cuda
