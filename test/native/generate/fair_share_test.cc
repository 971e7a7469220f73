// The order of service, in work units instead of time: nobody starves, nobody waits much longer than it takes alone,
// and a short generation does not feel how long the others are.
#include "native/generate/fair_share.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>

namespace nextscale {
namespace {

constexpr size_t kNoLimit = size_t{1} << 30;  // rows of a batch
constexpr size_t kPartRows = 1024;            // of the CPU; a GPU's are 32 times as many
const std::vector<size_t> kDigits = {1, 4, 9, 16, 36, 64}, kVar256 = {1, 4, 9, 16, 25, 36, 64, 100, 169, 256};

struct Job {
  size_t num_images = 1;
  std::vector<size_t> depths;  // of every scale
  double arrival = 0;
  // What became of it.
  double begin = -1, end = -1;
  double waited = 0;           // work of steps without it
  double longest_gap = 0;      // of them in a row
  size_t num_competitors = 0;  // most at once, itself included
  // State.
  FairShare::Account account;
  size_t scale_index = 0, images_begun = 0;
  double gap = 0;
};

// An engine whose steps take their work.
class Machine {
 public:
  Machine(std::vector<size_t> tokens, size_t max_rows, size_t part_rows = kPartRows)
      : tokens_(std::move(tokens)), max_rows_(max_rows), part_rows_(part_rows), share_(part_rows) {}

  // Runs until every job has ended. `on_step` sees the candidates as they were composed.
  template <typename OnStep>
  void Run(std::vector<Job>& jobs, const OnStep& on_step) {
    size_t left = jobs.size();
    double now = 0;
    while (left != 0) {
      Gather(jobs, now);
      if (candidates_.empty()) {
        now = NextArrival(jobs);
        continue;
      }
      share_.Compose(candidates_, max_rows_);
      const double work = Work();
      on_step(candidates_, work);
      share_.Book(candidates_);
      now += work;
      for (size_t i = 0; i < ready_.size(); ++i) left -= Advance(*ready_[i], candidates_[i], work, now) ? 1 : 0;
    }
  }
  void Run(std::vector<Job>& jobs) {
    Run(jobs, [](const auto&, double) {});
  }
  double TimeAlone(const Job& job) const {
    std::vector<Job> alone(1);
    alone[0].num_images = job.num_images;
    alone[0].depths = job.depths;
    Machine(tokens_, max_rows_, part_rows_).Run(alone);
    return alone[0].end;
  }

 private:
  void Gather(std::vector<Job>& jobs, double now) {
    candidates_.clear();
    ready_.clear();
    for (Job& job : jobs) {
      if (job.end >= 0 || job.arrival > now) continue;
      if (job.begin < 0) {
        job.begin = now;
        share_.Join(job.account);
      }
      const size_t rows = 2 * tokens_[job.scale_index];
      candidates_.push_back({&job.account, rows, job.depths[job.scale_index], job.num_images - job.images_begun, 0});
      ready_.push_back(&job);
    }
    for (Job* job : ready_) job->num_competitors = std::max(job->num_competitors, ready_.size());
  }
  static double NextArrival(const std::vector<Job>& jobs) {
    double next = 1e300;
    for (const Job& job : jobs) next = job.end >= 0 ? next : std::min(next, job.arrival);
    return next;
  }
  double Work() const {  // the fixed part is shared
    double fixed = 0, rows = 0;
    for (const FairShare::Candidate& candidate : candidates_) {
      if (candidate.granted == 0) continue;
      const double depth = static_cast<double>(candidate.depth) + 1;
      fixed = std::max(fixed, depth * FairShare::kFixedRows);
      rows += depth * static_cast<double>(candidate.granted * candidate.image_rows);
    }
    return fixed + rows;
  }
  bool Advance(Job& job, const FairShare::Candidate& candidate, double work, double now) const {
    if (candidate.granted == 0) {
      job.waited += work;
      job.longest_gap = std::max(job.longest_gap, job.gap += work);
      return false;
    }
    job.gap = 0;
    job.images_begun += candidate.granted;
    EXPECT_LE(job.images_begun, job.num_images);
    if (job.images_begun < job.num_images) return false;
    job.images_begun = 0;
    if (++job.scale_index < tokens_.size()) return false;
    job.end = now;
    return true;
  }

  const std::vector<size_t> tokens_;
  const size_t max_rows_, part_rows_;
  FairShare share_;
  std::vector<FairShare::Candidate> candidates_;
  std::vector<Job*> ready_;
};

Job Uniform(size_t num_images, size_t depth, size_t num_scales, double arrival = 0) {
  Job job;
  job.num_images = num_images;
  job.depths.assign(num_scales, depth);
  job.arrival = arrival;
  return job;
}

std::vector<Job> RandomJobs(std::mt19937_64& random, size_t count, size_t full_depth, size_t num_scales,
                            double mean_gap) {
  std::vector<Job> jobs;
  double arrival = 0;
  for (size_t i = 0; i < count; ++i) {
    const size_t bridge = random() % (num_scales + 1), subnet = 2 + random() % (full_depth - 1);
    Job job = Uniform(random() % 3 == 0 ? 1 + random() % 16 : 1, subnet, num_scales, arrival);
    std::fill_n(job.depths.begin(), bridge, full_depth);
    jobs.push_back(job);
    arrival += std::exponential_distribution<double>(1 / mean_gap)(random);
  }
  return jobs;
}

TEST(FairShare, EveryStepServesSomebodyWithinTheRows) {
  std::mt19937_64 random(1);
  for (const size_t max_rows : {size_t{512}, size_t{600}, size_t{2048}, kNoLimit}) {
    std::vector<Job> jobs = RandomJobs(random, 60, 16, kVar256.size(), 2e4);
    Machine machine(kVar256, max_rows);
    machine.Run(jobs, [&](std::span<const FairShare::Candidate> candidates, double) {
      size_t rows = 0;
      for (const FairShare::Candidate& candidate : candidates) {
        EXPECT_LE(candidate.granted, candidate.num_images);
        rows += candidate.granted * candidate.image_rows;
      }
      EXPECT_GT(rows, 0u);
      EXPECT_LE(rows, max_rows);
    });
  }
}

// The two promises, under bursts and under load that comes and goes, from much too much work to almost none.
TEST(FairShare, WaitingAndLatencyAreBounded) {
  std::mt19937_64 random(2);
  double worst_wait = 0, worst_latency = 0;
  for (int round = 0; round < 120; ++round) {
    const std::vector<size_t>& tokens = round % 2 == 0 ? kDigits : kVar256;
    const size_t part_rows = round < 60 ? kPartRows : 32 * kPartRows;
    const size_t full_depth = round % 2 == 0 ? 8 : 16;
    const double gap = std::vector<double>{0, 3e3, 3e4, 3e5}[static_cast<size_t>(round) % 4];
    std::vector<Job> jobs = gap == 0 ? RandomJobs(random, 2 + random() % 30, full_depth, tokens.size(), 1)
                                     : RandomJobs(random, 80, full_depth, tokens.size(), gap);
    Machine machine(tokens, kNoLimit, part_rows);
    machine.Run(jobs);
    for (const Job& job : jobs) {
      const double alone = machine.TimeAlone(job), n = static_cast<double>(job.num_competitors);
      // To the unit: what the rule says. One scale in parts costs a little more than whole, hence not `alone`.
      EXPECT_LE(job.waited, FairShare::kWaitLimit * job.account.served);
      EXPECT_EQ(job.waited, job.account.waited);
      worst_wait = std::max(worst_wait, job.waited / alone);
      worst_latency = std::max(worst_latency, (job.end - job.begin) / (n * alone));
    }
  }
  EXPECT_LE(worst_wait, 1.5);
  EXPECT_GT(worst_wait, 0.5);  // the loads are heavy enough to tell
  EXPECT_LE(worst_latency, 3.0);
}

// Where a batch cannot hold an image of everybody, turns are taken; the gap between two services of the same one is
// bounded by the number of competitors and the size of its own part, however many come after it.
TEST(FairShare, NobodyStarvesBesideAnEndlessStreamOfSmallOnes) {
  for (const size_t max_rows : {size_t{512}, size_t{1024}, kNoLimit}) {
    std::vector<Job> jobs = {Uniform(4, 16, kVar256.size())};
    for (size_t i = 0; i < 3000; ++i) jobs.push_back(Uniform(1, 2, kVar256.size(), 5000.0 * static_cast<double>(i)));
    Machine machine(kVar256, max_rows);
    machine.Run(jobs);
    const double n = static_cast<double>(jobs[0].num_competitors), largest_part = 17.0 * (16 + 512);
    EXPECT_LT(jobs[0].end, jobs.back().begin);  // it ended while they still came
    EXPECT_LE(jobs[0].longest_gap, 2 * n * largest_part);
    EXPECT_LE(jobs[0].end - jobs[0].begin, 2 * n * machine.TimeAlone(jobs[0]));
  }
}

TEST(FairShare, AShortOneDoesNotFeelHowLongTheOthersAre) {
  std::vector<double> worst;
  for (const size_t num_images : {4, 16, 64, 256}) {
    std::vector<Job> long_ones(3, Uniform(num_images, 16, kVar256.size()));
    std::vector<Job> undisturbed = long_ones;
    Machine(kVar256, 8192).Run(undisturbed);
    worst.push_back(0);
    for (int i = 0; i < 50; ++i) {
      std::vector<Job> jobs = long_ones;
      jobs.push_back(Uniform(1, 2, kVar256.size(), undisturbed[0].end * i / 50));
      Machine machine(kVar256, 8192);
      machine.Run(jobs);
      const double latency = jobs.back().end - jobs.back().arrival;  // the step that is under way included
      worst.back() = std::max(worst.back(), latency / machine.TimeAlone(jobs.back()));
    }
    EXPECT_LE(worst.back(), 3 * 4.0) << num_images;
  }
  EXPECT_LE(worst.back(), 1.3 * worst[1]);
}

TEST(FairShare, EqualsShareEveryStep) {
  std::vector<Job> jobs(16, Uniform(1, 16, kVar256.size()));
  for (size_t i = 1; i < jobs.size(); ++i) jobs[i].arrival = 1;  // the first one has begun
  size_t num_steps = 0;
  Machine machine(kVar256, 8192);
  machine.Run(jobs, [&](std::span<const FairShare::Candidate>, double) { ++num_steps; });
  EXPECT_LE(num_steps, kVar256.size() + 1);
  for (const Job& job : jobs) EXPECT_LE(job.waited, 0.1 * machine.TimeAlone(job));
}

TEST(FairShare, AloneAScaleRunsInPartsThatAreWorthIt) {
  std::vector<Job> jobs = {Uniform(6, 16, kVar256.size())};
  std::vector<size_t> parts;
  Machine(kVar256, 8192).Run(jobs, [&](std::span<const FairShare::Candidate> candidates, double) {
    parts.push_back(candidates[0].granted);
  });
  EXPECT_EQ(parts, (std::vector<size_t>{6, 6, 6, 6, 6, 6, 6, 5, 1, 3, 3, 2, 2, 2}));
  // Where larger parts are worth it, 64 images are one.
  jobs = {Uniform(64, 30, kVar256.size())};
  parts.clear();
  Machine(kVar256, 32768, 32768).Run(jobs, [&](std::span<const FairShare::Candidate> candidates, double) {
    parts.push_back(candidates[0].granted);
  });
  EXPECT_EQ(parts, std::vector<size_t>(kVar256.size(), 64));
}

TEST(FairShare, BeingAwayEarnsNoCredit) {
  FairShare share(kPartRows);
  FairShare::Account busy, away;
  std::vector<FairShare::Candidate> one = {{&busy, 512, 16, 1, 0}};
  share.Join(busy);
  share.Join(away);
  for (int i = 0; i < 100; ++i) {
    share.Compose(one, 8192);
    share.Book(one);
  }
  share.Join(away);
  EXPECT_EQ(away.tag, share.clock());
  EXPECT_GE(away.tag, 99 * FairShare::Cost(one[0], 1));
  // Beside the busy one, it is not served a hundred times in a row.
  std::vector<FairShare::Candidate> both = {{&busy, 512, 16, 1, 0}, {&away, 512, 16, 1, 0}};
  share.Compose(both, 8192);
  EXPECT_EQ(both[0].granted, 1u);
  EXPECT_EQ(both[1].granted, 1u);
}

}  // namespace
}  // namespace nextscale
