// Depth as a policy: what a scale costs on this machine, and the deepest depth that still meets a deadline.
//
// Costs are measured: the share of every step that a generation's scale took, as exponential averages per (scale,
// depth, rows). What was never measured is taken from the nearest measured depth of that scale, else from a straight
// line through two timed runs of a linear layer (Calibrate), times what all measured scales took over what the line
// says of them; so the first run of a model has an estimate, which its own first scales and every other run improve.
// Not synchronised: the scheduler calls it under its lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "native/generate/results.h"
#include "native/generate/stats.h"
#include "native/tokenizer/scale_schedule.h"

namespace nextscale {

// What one block costs for a batch of so many rows.
struct BlockCost {
  double fixed_ms = 0, row_ms = 0;
};

class DepthPolicy {
 public:
  DepthPolicy(const ScaleSchedule& schedule, size_t full_depth);

  bool calibrated() const { return calibrated_; }
  void Calibrate(const BlockCost& cost);

  void Record(size_t scale_index, size_t depth, size_t rows, double ms);
  double Predict(size_t scale_index, size_t depth, size_t rows) const;
  std::vector<ScaleTime> Times() const;

  struct Question {
    size_t scale_index = 0;
    std::span<const size_t> ceilings;  // the plan: greatest depth of every scale
    std::span<const int32_t> allowed;  // depths to choose from below the ceiling, ascending
    size_t sequences = 0;
    double remaining_ms = 0;    // until the deadline
    double load = 1;            // wall time per measured cost: what others in the batch add
    size_t previous_depth = 0;  // of the scale before, 0 = none
  };
  struct Choice {
    size_t depth;
    DepthReason reason;  // kPlan (the ceiling), kDeadline (lower) or kLate (even the shallowest is too slow)
  };
  // The deepest depth with which this and all later scales are predicted to end in time. The first scales, together at
  // most 15 % of the tokens, are where depth matters most and costs least: there, later scales are assumed at the
  // shallowest depth. A rise needs 10 % to spare, so that noise does not make the depth flutter.
  Choice Choose(const Question& question) const;

 private:
  struct Entry {
    size_t rows = 0;  // 0: empty
    double ms = 0;
  };
  static constexpr size_t kEntries = 4;  // row counts remembered per scale and depth; the oldest gives way
  Entry* Entries(size_t scale_index, size_t depth) {
    return entries_.data() + (scale_index * (full_depth_ + 1) + depth) * kEntries;
  }
  const Entry* Find(size_t scale_index, size_t depth, size_t rows) const;
  double Model(size_t depth, size_t rows) const;
  void Compare(size_t depth, size_t rows, double ms);
  double PredictRest(const Question& question, size_t depth) const;

  std::vector<size_t> tokens_;
  size_t full_depth_;
  size_t num_early_ = 0;        // scales that together have at most 15 % of the tokens
  std::vector<Entry> entries_;  // [scale, depth, kEntries]
  bool calibrated_ = false;
  BlockCost cost_;
  double measured_ms_ = 0, modelled_ms_ = 0;  // of the same scales; older ones count less
};

}  // namespace nextscale
