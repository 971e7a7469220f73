// Guidance, top-k, top-p, softmax and one draw per token, in the reference's order (sample_with_top_k_top_p_).
#pragma once

#include <cstddef>
#include <cstdint>

namespace nextscale {

constexpr size_t kMaxSampledCodes = size_t{1} << 18;  // V at most

// For each of L tokens of one image:
//   logits = (1 + guidance) · cond − guidance · uncond
//   top-k (0 = off, else 1..V): values below the k-th largest are removed; ties with it stay
//   top-p (0 = off, or >= 1 = off): in ascending order, values whose cumulative softmax (over what is left) is <= 1 − p
//   are
//          removed; the largest always stays
//   token = −1 when a logit is NaN or infinite, else
//           inverse CDF of softmax(left) in index order at UniformDraw(seed, image, scale, token); with top_k = 1, the
//           first arg max
struct SampleArgs {
  int32_t* tokens = nullptr;      // [L]
  const float* cond = nullptr;    // [L, stride >= V]
  const float* uncond = nullptr;  // [L, stride] or null (guidance 0)
  size_t stride = 0;
  size_t num_tokens = 0;     // L
  size_t codebook_size = 0;  // V
  float guidance = 0.0f;     // t of this scale
  size_t top_k = 0;
  float top_p = 0.0f;
  uint64_t seed = 0, image = 0;
  uint32_t scale_index = 0;
  float* logits_out = nullptr;  // [L, V] after guidance, before the filters, or null
};

}  // namespace nextscale
