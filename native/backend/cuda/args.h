// Arguments of the CUDA kernels. They mirror native/ops/{linear,norm,attention,sample,conv,resample}.h with three
// differences: pointers are device pointers, spans of rows are expanded to one entry per row (plan.h does it on the host),
// and activations may be stored in half precision. The same structs drive the kernels' twins on the CPU, where the
// pointers are ordinary ones.
#pragma once

#include <cstdint>

#include "native/tensor/dtype.h"

namespace nextscale::cuda {

// What a compact row is in x: its row there and its sequence's modulation vector (null: gate 1).
struct RowTarget {
  const float* modulation = nullptr;
  uint32_t x_row = 0;
  uint32_t unused = 0;
};

// The memory of keys and values. A row is K (C) | V (C). A slot number with kTailBit addresses the tail instead.
inline constexpr uint32_t kTailBit = 0x80000000u;
struct KvMemory {
  DType dtype = DType::kF32;
  unsigned char* pool = nullptr;
  unsigned char* tail = nullptr;
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
  uint32_t num_images = 1, in_height = 0, in_width = 0, cin = 0;
  uint32_t out_height = 0, out_width = 0;
};

// out = epilogue(a · Wᵀ + bias). Weights [N, K] row-major, in the format of a.
struct LinearArgs {
  DType dtype = DType::kF32;      // of a and weights
  DType out_dtype = DType::kF32;  // of out (kResidual: f32)
  void* out = nullptr;            // [M, out_stride]; kResidual: [rows, out_stride]
  const void* a = nullptr;        // [M, a_stride], or a map when is_conv
  const void* weights = nullptr;  // [N, K]; convolution: [cout, 9, cin]
  const float* bias = nullptr;    // [N] or null
  uint32_t out_stride = 0, a_stride = 0;
  uint32_t num_rows = 0, n = 0, k = 0;
  LinearEpilogue epilogue = LinearEpilogue::kStore;
  const RowTarget* targets = nullptr;  // [M], kResidual
  uint32_t gate_offset = 0;
  const void* residual = nullptr;  // kStore: map [M, residual_stride] of out_dtype, or null
  uint32_t residual_stride = 0;
  uint32_t num_heads = 0, head_dim = 0;  // kQkv
  const float* head_factor = nullptr;    // [H] or null
  const uint32_t* row_slots = nullptr;   // [M]: where k and v of a compact row go
  KvMemory kv;
  bool is_conv = false;
  ConvInput conv;
};

// As nextscale::SplitHeads, for head sizes and formats that the fused epilogue does not take: reads qkv, writes q in place.
struct SplitHeadsArgs {
  DType dtype = DType::kF32;  // of qkv
  void* qkv = nullptr;        // [M, qkv_stride >= 3C]
  uint32_t qkv_stride = 0, num_rows = 0, num_heads = 0, head_dim = 0;
  const float* head_factor = nullptr;
  const uint32_t* row_slots = nullptr;
  KvMemory kv;
};

// One sequence's share: queries compact_row .. + num_rows, keys slots[first_slot .. + num_keys) in token order.
struct SequenceRows {
  uint32_t compact_row = 0, num_rows = 0, first_slot = 0, num_keys = 0;
};

struct AttentionArgs {
  DType dtype = DType::kF32;  // of q and out
  void* out = nullptr;        // [M, out_stride]
  const void* q = nullptr;    // [M, q_stride]
  uint32_t out_stride = 0, q_stride = 0;
  uint32_t num_heads = 0, head_dim = 0;
  float softmax_factor = 1.0f;
  const SequenceRows* sequences = nullptr;
  uint32_t num_sequences = 0, max_rows = 0;  // max_rows: the largest num_rows
  const uint32_t* slots = nullptr;
  KvMemory kv;
};

struct ModulatedNormArgs {
  DType out_dtype = DType::kF32;
  void* out = nullptr;       // [M, out_stride]
  const float* x = nullptr;  // [rows, x_stride]
  uint32_t out_stride = 0, x_stride = 0, width = 0, num_rows = 0;
  const RowTarget* targets = nullptr;  // [M]
  uint32_t gain_offset = 0, shift_offset = 0;
};

// One image's logits and its draw; a launch takes many images of one scale.
struct SampleImage {
  int32_t* tokens = nullptr;      // [L]
  const float* cond = nullptr;    // [L, stride]
  const float* uncond = nullptr;  // [L, stride] or null
  float* logits_out = nullptr;    // [L, V] or null
  uint64_t seed = 0, image = 0;
  float guidance = 0.0f, top_p = 0.0f;
  uint32_t top_k = 0, scale_index = 0;
};
struct SampleArgs {
  const SampleImage* images = nullptr;
  uint32_t num_images = 0, num_tokens = 0, codebook_size = 0, stride = 0;  // V <= kMaxCodebook
  uint32_t* not_finite = nullptr;  // set to 1 when any logit is NaN or infinite; that token's draw is not written
};
inline constexpr uint32_t kMaxCodebook = 16384;  // what shared memory holds

// Codes of a token map, upsampled: out[image][side², E] = bicubic(codebook[tokens]).
struct GatherBicubicArgs {
  float* out = nullptr;  // [B, out_side², E]
  const int32_t* tokens = nullptr;  // [B, in_side²]
  const float* codebook = nullptr;  // [V, E]
  uint32_t num_images = 0, in_side = 0, out_side = 0, channels = 0;
};

// f_hat += (1 − mix) · h + mix · (conv3x3(h) + bias), all [B, side², E] f32; mix 0: no convolution.
struct ResidualConvArgs {
  float* f_hat = nullptr;
  const float* h = nullptr;
  const float* weights = nullptr;  // [E, 3, 3, E]: output channel, tap, input channel
  const float* bias = nullptr;     // [E]
  uint32_t num_images = 0, side = 0, channels = 0;
  float mix = 0.0f;
};

// out[image][out_side², out_stride] = area average of map [B, in_side², channels] f32.
struct AreaDownArgs {
  DType out_dtype = DType::kF32;
  void* out = nullptr;
  const float* in = nullptr;
  uint32_t num_images = 0, in_side = 0, out_side = 0, channels = 0, out_stride = 0;
};

// Statistics of GroupNorm as gain and shift per image and channel, then silu(x · gain + shift).
struct GroupNormArgs {
  DType dtype = DType::kF32;  // of x and out
  void* out = nullptr;        // [B, pixels, channels]
  const void* x = nullptr;
  uint32_t num_images = 0, num_pixels = 0, channels = 0, num_groups = 32;
  const float* weight = nullptr;
  const float* bias = nullptr;
  float eps = 1e-6f;
  bool silu = true;
};

}  // namespace nextscale::cuda
