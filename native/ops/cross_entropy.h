// Cross entropy of rows of logits against target codes, and its gradient.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nextscale {

// losses[r] = −Σ_v t[v] · ln softmax(logits[r])[v], t = (1 − smoothing) at the target + smoothing / V everywhere
// (reference: torch.nn.CrossEntropyLoss(label_smoothing)).
// With gradient_factor ≠ 0, in place: logits ← gradient_factor · (softmax(logits) − t).
// A row that holds NaN or infinity gives a loss that is NaN.
struct CrossEntropyArgs {
  float* logits = nullptr;  // [M, stride >= V]
  size_t stride = 0;
  size_t num_rows = 0;
  size_t codebook_size = 0;          // V
  const int32_t* targets = nullptr;  // [M], in [0, V): else the result is undefined, or refused where the host can look
  float* losses = nullptr;           // [M]
  float smoothing = 0.0f;            // [0, 1)
  float gradient_factor = 0.0f;
};

}  // namespace nextscale
