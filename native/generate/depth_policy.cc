#include "native/generate/depth_policy.h"

#include <algorithm>

namespace nextscale {
namespace {

constexpr double kEarlyShare = 0.15;
constexpr double kNewShare = 0.3;  // of a new measurement in an average
constexpr double kFade = 0.95;     // of what was measured before, in the comparison with the line
constexpr double kRiseMargin = 0.9;
constexpr double kHeadBlocks = 1;  // head, draw and latent, in blocks

}  // namespace

DepthPolicy::DepthPolicy(const ScaleSchedule& schedule, size_t full_depth)
    : tokens_(schedule.tokens), full_depth_(full_depth), entries_(tokens_.size() * (full_depth + 1) * kEntries) {
  size_t prefix = 0;
  for (size_t tokens : tokens_) {
    prefix += tokens;
    if (static_cast<double>(prefix) > kEarlyShare * static_cast<double>(schedule.num_tokens)) break;
    ++num_early_;
  }
}

void DepthPolicy::Calibrate(const BlockCost& cost) {
  cost_ = cost;
  calibrated_ = true;
  for (const ScaleTime& time : Times()) Compare(time.depth, time.rows, time.ms);
}

double DepthPolicy::Model(size_t depth, size_t rows) const {
  return (static_cast<double>(depth) + kHeadBlocks) * (cost_.fixed_ms + cost_.row_ms * static_cast<double>(rows));
}

// By sums, so that large scales, which decide whether a deadline is met, count by their size.
void DepthPolicy::Compare(size_t depth, size_t rows, double ms) {
  measured_ms_ = kFade * measured_ms_ + ms;
  modelled_ms_ = kFade * modelled_ms_ + Model(depth, rows);
}

const DepthPolicy::Entry* DepthPolicy::Find(size_t scale_index, size_t depth, size_t rows) const {
  const Entry* entries = const_cast<DepthPolicy*>(this)->Entries(scale_index, depth);
  for (size_t i = 0; i < kEntries; ++i) {
    if (entries[i].rows == rows) return entries + i;
  }
  return nullptr;
}

void DepthPolicy::Record(size_t scale_index, size_t depth, size_t rows, double ms) {
  if (calibrated_) Compare(depth, rows, ms);
  Entry* entries = Entries(scale_index, depth);
  Entry entry{rows, ms};
  size_t place = 0;  // of the same row count, else of the oldest; newer ones stand in front
  while (place + 1 < kEntries && entries[place].rows != rows) ++place;
  if (entries[place].rows == rows) entry.ms = entries[place].ms + kNewShare * (ms - entries[place].ms);
  std::move_backward(entries, entries + place, entries + place + 1);
  entries[0] = entry;
}

double DepthPolicy::Predict(size_t scale_index, size_t depth, size_t rows) const {
  for (size_t distance = 0; distance <= full_depth_; ++distance) {
    for (size_t other : {depth + distance, depth - distance}) {  // the second wraps below 0 and is then out of range
      if (other > full_depth_) continue;
      const Entry* entry = Find(scale_index, other, rows);
      const double ratio = (static_cast<double>(depth) + kHeadBlocks) / (static_cast<double>(other) + kHeadBlocks);
      if (entry != nullptr) return entry->ms * ratio;
    }
  }
  return Model(depth, rows) * (modelled_ms_ > 0 ? measured_ms_ / modelled_ms_ : 1);
}

std::vector<ScaleTime> DepthPolicy::Times() const {
  std::vector<ScaleTime> times;
  for (size_t i = 0; i < entries_.size(); ++i) {
    const size_t place = i / kEntries;
    if (entries_[i].rows == 0) continue;
    times.push_back({place / (full_depth_ + 1), place % (full_depth_ + 1), entries_[i].rows, entries_[i].ms});
  }
  return times;
}

double DepthPolicy::PredictRest(const Question& question, size_t depth) const {
  const bool early = question.scale_index < num_early_;
  const size_t shallowest = question.allowed.empty() ? depth : static_cast<size_t>(question.allowed.front());
  double total = 0;
  for (size_t scale_index = question.scale_index; scale_index < tokens_.size(); ++scale_index) {
    const size_t later = early && scale_index >= num_early_ ? shallowest : depth;
    total += Predict(scale_index, std::min(later, question.ceilings[scale_index]),
                     question.sequences * tokens_[scale_index]);
  }
  return total * question.load;
}

DepthPolicy::Choice DepthPolicy::Choose(const Question& question) const {
  const size_t ceiling = question.ceilings[question.scale_index];
  const auto fits = [&](size_t depth) {
    const bool rises =
        question.previous_depth != 0 && depth > question.previous_depth && question.scale_index > num_early_;
    return PredictRest(question, depth) <= question.remaining_ms * (rises ? kRiseMargin : 1);
  };
  if (fits(ceiling)) return {ceiling, DepthReason::kPlan};
  size_t shallowest = ceiling;
  for (size_t i = question.allowed.size(); i-- > 0;) {
    const size_t depth = static_cast<size_t>(question.allowed[i]);
    if (depth >= ceiling) continue;
    if (fits(depth)) return {depth, DepthReason::kDeadline};
    shallowest = depth;
  }
  return {shallowest, DepthReason::kLate};
}

}  // namespace nextscale
