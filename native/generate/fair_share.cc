#include "native/generate/fair_share.h"

#include <algorithm>
#include <limits>

namespace nextscale {

double FairShare::Cost(const Candidate& candidate, size_t num_images) {
  const double rows = static_cast<double>(num_images * candidate.image_rows);
  return (static_cast<double>(candidate.depth) + 1) * (kFixedRows + rows);
}

void FairShare::Join(Account& account) const { account.tag = std::max(account.tag, clock_); }

void FairShare::Reserve(size_t num_candidates) {
  if (num_candidates > order_.capacity()) order_.reserve(2 * num_candidates);
}

void FairShare::Compose(std::span<Candidate> candidates, size_t max_rows) {
  constexpr double kNever = std::numeric_limits<double>::infinity();
  // How far others may go: the least patient one's limit; for itself, that of the next.
  double least = kNever, second = kNever;
  size_t least_index = 0;
  order_.clear();
  for (size_t i = 0; i < candidates.size(); ++i) {
    candidates[i].granted = 0;
    const Account& account = *candidates[i].account;
    const double one = Cost(candidates[i], 1), patience = account.tag + kPatience * one;
    if (patience < least) {
      second = least;
      least = patience;
      least_index = i;
    } else {
      second = std::min(second, patience);
    }
    order_.push_back({i, account.tag + one});
  }
  std::sort(order_.begin(), order_.end(), [](const Place& a, const Place& b) {
    return a.finish != b.finish ? a.finish < b.finish : a.index < b.index;
  });
  size_t room = max_rows;
  const auto grant = [&](Candidate& candidate, size_t num_images) {
    candidate.granted = std::min(num_images, room / candidate.image_rows);
    room -= candidate.granted * candidate.image_rows;
    return candidate.granted != 0;
  };
  for (const Place& place : order_) {
    const double limit = place.index == least_index ? second : least;
    grant(candidates[place.index], FairPart(candidates[place.index], limit));
  }
  // Who would have waited too long after this step takes part after all; that makes the step longer.
  for (bool changed = true; changed;) {
    changed = false;
    const double work = StepWork(candidates);
    for (const Place& place : order_) {
      Candidate& candidate = candidates[place.index];
      const Account& account = *candidate.account;
      if (candidate.granted != 0 || account.waited + work <= kWaitLimit * account.served) continue;
      changed |= grant(candidate, 1);
    }
  }
}

size_t FairShare::FairPart(const Candidate& candidate, double limit) const {
  const size_t most = std::min(candidate.num_images, std::max<size_t>(1, part_rows_ / candidate.image_rows));
  const double spare = limit - candidate.account->tag - Cost(candidate, 0);
  const double image_cost = Cost(candidate, 1) - Cost(candidate, 0);
  if (spare >= image_cost * static_cast<double>(most)) return most;
  return spare > 0 ? static_cast<size_t>(spare / image_cost) : 0;
}

double FairShare::StepWork(std::span<const Candidate> candidates) {
  double fixed = 0, rows = 0;
  for (const Candidate& candidate : candidates) {
    if (candidate.granted == 0) continue;
    fixed = std::max(fixed, Cost(candidate, 0));
    rows += Cost(candidate, candidate.granted) - Cost(candidate, 0);
  }
  return fixed + rows;
}

void FairShare::Book(std::span<const Candidate> candidates) {
  if (candidates.empty()) return;
  const double work = StepWork(candidates);
  double smallest_tag = std::numeric_limits<double>::infinity();
  for (const Candidate& candidate : candidates) {
    Account& account = *candidate.account;
    if (candidate.granted == 0) {
      account.waited += work;
    } else {
      const double cost = Cost(candidate, candidate.granted);
      account.tag += cost;
      account.served += cost;
    }
    smallest_tag = std::min(smallest_tag, account.tag);
  }
  clock_ = std::max(clock_, smallest_tag);
}

}  // namespace nextscale
