// What a generation tells its listener.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "native/base/outcome.h"

namespace nextscale {

enum class DepthReason { kPlan, kSet, kDeadline, kLate };

struct ScaleResult {
  size_t index = 0, side = 0, depth = 0;
  DepthReason reason = DepthReason::kPlan;
  double elapsed_ms = 0;         // since the generation began to run
  double scale_ms = 0;           // of the steps in which this scale had rows; what is left of elapsed_ms was waiting
  std::vector<int32_t> tokens;   // [labels, side²]
  std::vector<uint8_t> preview;  // [labels, preview_side, preview_side, 3] or empty
  size_t preview_side = 0;
  std::vector<float> losses;  // [labels, side²], nats, or empty
  // capture only:
  std::vector<float> logits, f_hat, next_input, hidden;
};

// How a generation ended; a refusal of the KV pool comes with its figures.
struct GenerationEnd : Outcome {
  size_t needed_bytes = 0, available_bytes = 0, deepest_fit = 0;  // kPoolExhausted
};

// The same for a call that answers by throwing.
class PoolError : public Error {
 public:
  explicit PoolError(GenerationEnd refusal) : Error(refusal.code, refusal.message), refusal_(std::move(refusal)) {}
  const GenerationEnd& refusal() const { return refusal_; }

 private:
  GenerationEnd refusal_;
};

struct Listener {
  std::function<void(ScaleResult)> on_scale;
  std::function<void(GenerationEnd)> on_end;  // exactly once, last
};

}  // namespace nextscale
