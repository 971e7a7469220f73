// Which generations take part in the next step, and with how many of their images: start-to-finish fair queueing.
//
// Work is counted, not timed, so the order is the same on every machine: a part of a generation (some images of one
// scale) costs (depth + 1) · (kFixedRows + rows); the fixed rows stand for what a step costs however few rows it has.
// Every generation has a service tag: the work that it was given, counted from the clock at its arrival. The clock is
// the least tag of those that are ready, so who arrives stands beside the one that is furthest behind.
//
// A generation takes part with as many images as keep its tag, after the step, within the patience of every other one:
// the other's tag plus kPatience times the cost of one of its images. So, while a generation of work w runs, each other
// one is given little more than w, whatever its size: in all at most about kPatience · n · w. A large generation's
// scale is advanced in parts beside small ones, what is cheap (all images of an early scale) goes whole, equals share
// steps.
//
// A step that would leave somebody waiting, in all, for more than kWaitLimit times the work it was given takes one of
// its images along. So nobody waits (for steps without a row of it) longer than kWaitLimit times what it takes alone,
// as long as a batch has room for one image of everybody; beyond that, turns are taken.
//
// No part is larger than part_rows (or one image), which the backend says: it would be no faster, or who arrives would
// wait too long for the step under way.
//
// Knows nothing of clocks, locks or pools. One thread at a time.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace nextscale {

class FairShare {
 public:
  static constexpr double kFixedRows = 16, kPatience = 1.5, kWaitLimit = 1;

  explicit FairShare(size_t part_rows) : part_rows_(part_rows) {}

  // What a generation has had, in work.
  struct Account {
    double tag = 0;
    double served = 0, waited = 0;  // since it arrived: its own work; steps without it while it was ready
  };

  struct Candidate {
    Account* account = nullptr;
    size_t image_rows = 0;  // of one image at the scale it stands before or in
    size_t depth = 0;       // of that scale
    size_t num_images = 0;  // that have not begun that scale; at least 1
    size_t granted = 0;     // set by Compose: images that take part
  };

  // Work of `num_images` images in one step.
  static double Cost(const Candidate& candidate, size_t num_images);

  // A generation becomes ready: it arrives, or comes back from waiting for something else (which earns no credit).
  void Join(Account& account) const;
  // So that Compose allocates nothing for so many candidates.
  void Reserve(size_t num_candidates);
  // Sets `granted` of every candidate: at least one image takes part, rows are at most max_rows (at least
  // any candidate's image_rows). The order of candidates breaks ties.
  void Compose(std::span<Candidate> candidates, size_t max_rows);
  // Books the step that was composed; depths may have been lowered since.
  void Book(std::span<const Candidate> candidates);

  double clock() const { return clock_; }

 private:
  struct Place {
    size_t index;
    double finish;  // tag after one more image
  };
  // Images that keep the tag within the limit.
  size_t FairPart(const Candidate& candidate, double limit) const;
  // Of the step that was composed.
  static double StepWork(std::span<const Candidate> candidates);

  const size_t part_rows_;
  double clock_ = 0;
  std::vector<Place> order_;
};

}  // namespace nextscale
