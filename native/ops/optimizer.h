// AdamW over a run of parameters.
#pragma once

#include <cstddef>

namespace nextscale {

// One step (Loshchilov and Hutter, "Decoupled weight decay regularization", as torch.optim.AdamW computes it):
//   g = gradient_factor · gradient;  w ← w · (1 − learning_rate · weight_decay)
//   m ← β1 m + (1 − β1) g;  v ← β2 v + (1 − β2) g²
//   w ← w − learning_rate / correction1 · m / (√v / √correction2 + epsilon),  correction_i = 1 − β_i^t
// and, with `average`: average ← average_decay · average + (1 − average_decay) · w.
struct AdamWArgs {
  float* weights = nullptr;  // [count]
  const float* gradient = nullptr;
  float* mean = nullptr;      // m
  float* variance = nullptr;  // v
  float* average = nullptr;   // or null
  size_t count = 0;
  double gradient_factor = 1.0;  // of clipping
  double learning_rate = 0.0;
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double weight_decay = 0.0;
  double correction1 = 1.0, correction2 = 1.0;
  double average_decay = 0.0;
};

}  // namespace nextscale
