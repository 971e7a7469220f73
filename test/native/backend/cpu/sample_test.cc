#include "native/ops/sample.h"

#include <algorithm>
#include <filesystem>
#include <limits>
#include <numeric>

#include "native/backend/cpu/kernels.h"
#include "native/base/error.h"
#include "native/base/rng.h"
#include "native/io/safetensors.h"
#include "test/native/backend/cpu/kernel_test.h"

namespace nextscale {
namespace {

using test::ForEachTarget;
using test::Random;

// The reference's filter, literally: sort everything.
std::vector<double> Reference(std::vector<float> logits, size_t top_k, double top_p) {
  const size_t count = logits.size();
  if (top_k != 0) {
    std::vector<float> sorted = logits;
    std::sort(sorted.begin(), sorted.end(), std::greater<float>());
    for (float& logit : logits) {
      if (logit < sorted[top_k - 1]) logit = -std::numeric_limits<float>::infinity();
    }
  }
  const float largest = *std::max_element(logits.begin(), logits.end());
  std::vector<double> weights(count);
  double sum = 0.0;
  for (size_t i = 0; i < count; ++i)
    sum += weights[i] = std::exp(static_cast<double>(logits[i]) - static_cast<double>(largest));
  if (top_p > 0.0 && top_p < 1.0) {
    std::vector<size_t> order(count);
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return logits[a] < logits[b]; });
    double below = 0.0, left = sum;
    for (size_t i = 0; i + 1 < count; ++i) {
      const double weight = weights[order[i]];
      below += weight;
      if (below / sum > 1.0 - top_p) break;
      left -= weight;
      weights[order[i]] = 0.0;
    }
    sum = left;
  }
  for (double& weight : weights) weight /= sum;
  return weights;
}

void ExpectSame(const std::vector<float>& found, const std::vector<double>& expected) {
  for (size_t i = 0; i < found.size(); ++i) {
    ASSERT_NEAR(found[i], expected[i], 2e-6) << "at " << i;
    ASSERT_EQ(found[i] == 0.0f, expected[i] == 0.0) << "at " << i;
  }
}

TEST(FilterProbabilities, MatchesSorting) {
  ForEachTarget([] {
    Context context(1);
    Random random(4);
    for (int trial = 0; trial < 300; ++trial) {
      const size_t count = random.Index(1, trial % 10 == 0 ? 4096 : 90);
      std::vector<float> logits = random.Floats(count, 6.0f);
      if (trial % 3 == 0) {
        for (float& logit : logits) logit = std::round(logit * 2.0f) / 2.0f;  // ties
      }
      const size_t top_k = trial % 4 == 0 ? 0 : random.Index(1, count);
      const float top_p = std::array{0.0f, 0.9f, 0.37f, 1e-6f, 1.0f, 1.5f}[static_cast<size_t>(trial) % 6];
      const std::vector<double> expected = Reference(logits, top_k, static_cast<double>(top_p));
      FilterProbabilities(context, logits.data(), count, top_k, top_p);
      ASSERT_NO_FATAL_FAILURE(ExpectSame(logits, expected))
          << "trial " << trial << " top_k " << top_k << " top_p " << top_p;
    }
  });
}

TEST(FilterProbabilities, MatchesRecordedReference) {
  const std::filesystem::path root = std::filesystem::path(NEXTSCALE_SOURCE_DIR);
  const SafetensorsFile file((root / "test/golden/tiny/expected.safetensors").string());
  ForEachTarget([&] {
    Context context(1);
    size_t num_cases = 0;
    for (const SafetensorsEntry& entry : file.header().entries) {
      size_t top_k = 0;
      float top_p = 0.0f;
      const size_t slash = entry.name.find('/');
      if (entry.name.rfind("filter", 0) != 0 ||
          std::sscanf(entry.name.c_str() + slash, "/k%zu_p%f", &top_k, &top_p) != 2)
        continue;
      ++num_cases;
      std::vector<float> logits = file.Floats(entry.name.substr(0, slash) + "/logits");
      const std::vector<float> expected = file.Floats(entry.name);
      ASSERT_EQ(logits.size(), size_t{2 * 5 * 64});
      for (size_t row = 0; row < 10; ++row) FilterProbabilities(context, &logits[row * 64], 64, top_k, top_p);
      for (size_t i = 0; i < logits.size(); ++i) {
        ASSERT_NEAR(logits[i], expected[i], 1e-6) << entry.name;
        ASSERT_EQ(logits[i] == 0.0f, expected[i] == 0.0f) << entry.name;
      }
    }
    EXPECT_EQ(num_cases, 8u);
  });
}

struct Tokens {
  SampleArgs args;
  std::vector<float> cond, uncond;
  std::vector<int32_t> tokens;

  Tokens(size_t num_tokens, size_t codebook_size, uint64_t seed, bool guided) {
    Random random(seed);
    args.stride = codebook_size + 3;
    cond = random.Floats(num_tokens * args.stride, 4.0f);
    if (guided) uncond = random.Floats(num_tokens * args.stride, 4.0f);
    tokens.assign(num_tokens, -1);
    args.num_tokens = num_tokens;
    args.codebook_size = codebook_size;
    args.seed = seed;
    args.image = 5;
    args.scale_index = 2;
  }
  void Run(Context& context) {
    args.cond = cond.data();
    args.uncond = uncond.empty() ? nullptr : uncond.data();
    args.tokens = tokens.data();
    Sample(context, args);
  }
};

TEST(Sample, DrawsByInverseDistributionInIndexOrder) {
  ForEachTarget([] {
    Context context(3);
    for (int trial = 0; trial < 12; ++trial) {
      Tokens t(40, 101, static_cast<uint64_t>(trial), trial % 2 == 0);
      t.args.guidance = trial % 2 == 0 ? 1.3f : 0.0f;
      t.args.top_k = trial % 3 == 0 ? 0 : 30;
      t.args.top_p = trial % 4 == 0 ? 0.0f : 0.8f;
      std::vector<float> logits(40 * 101);
      t.args.logits_out = logits.data();
      t.Run(context);
      for (size_t token = 0; token < 40; ++token) {
        std::vector<float> row(101);
        for (size_t i = 0; i < 101; ++i) {
          const double g = static_cast<double>(t.args.guidance), c = static_cast<double>(t.cond[token * 104 + i]);
          const double u = t.uncond.empty() ? 0.0 : static_cast<double>(t.uncond[token * 104 + i]);
          row[i] = logits[token * 101 + i];
          ASSERT_NEAR(row[i], (1.0 + g) * c - g * u, 4e-6);
        }
        const std::vector<double> probabilities = Reference(row, t.args.top_k, static_cast<double>(t.args.top_p));
        const double u = UniformDraw(t.args.seed, 5, 2, static_cast<uint32_t>(token));
        // The token's own interval of the cumulative distribution holds u.
        const auto drawn = static_cast<size_t>(t.tokens[token]);
        double below = 0.0;
        for (size_t i = 0; i < drawn; ++i) below += probabilities[i];
        ASSERT_GT(probabilities[drawn], 0.0);
        ASSERT_LE(below, u + 1e-6);
        ASSERT_GE(below + probabilities[drawn], u - 1e-6);
      }
    }
  });
}

TEST(Sample, FrequenciesMatchProbabilities) {
  // 2^16 draws from one distribution; chi-square with 19 degrees of freedom exceeds 43.8 once in a thousand honest
  // runs, and the draws are a fixed function of the seed.
  constexpr size_t kDraws = 65536, kSize = 24;
  Context context(2);
  Random random(8);
  const std::vector<float> logits = random.Floats(kSize, 1.5f);
  Tokens t(kDraws, kSize, 77, false);
  t.args.stride = kSize;
  t.cond.clear();
  for (size_t i = 0; i < kDraws; ++i) t.cond.insert(t.cond.end(), logits.begin(), logits.end());
  t.args.top_k = 20;
  t.Run(context);
  const std::vector<double> probabilities = Reference(logits, 20, 0.0);
  std::vector<double> counts(kSize, 0.0);
  for (const int32_t token : t.tokens) counts[static_cast<size_t>(token)] += 1.0;
  double chi_square = 0.0;
  size_t categories = 0;
  for (size_t i = 0; i < kSize; ++i) {
    if (probabilities[i] == 0.0) {
      EXPECT_EQ(counts[i], 0.0);
      continue;
    }
    ++categories;
    chi_square += std::pow(counts[i] - kDraws * probabilities[i], 2) / (kDraws * probabilities[i]);
  }
  EXPECT_EQ(categories, 20u);
  EXPECT_LT(chi_square, 43.8);
}

TEST(Sample, TopOneIsTheFirstLargest) {
  ForEachTarget([] {
    Context context(1);
    Tokens t(3, 50, 1, false);
    t.cond[10] = t.cond[20] = t.cond[49] = 9.0f;
    t.args.top_k = 1;
    t.args.top_p = 0.5f;
    t.Run(context);
    EXPECT_EQ(t.tokens[0], 10);
    for (size_t token = 1; token < 3; ++token) {
      const float* row = &t.cond[token * 53];
      EXPECT_EQ(t.tokens[token], std::max_element(row, row + 50) - row);
    }
  });
}

TEST(Sample, TokenDoesNotDependOnOthers) {
  ForEachTarget([] {
    Context one(1), three(3);
    Tokens t(33, 200, 5, true);
    t.args.guidance = 2.0f;
    t.args.top_k = 60;
    t.args.top_p = 0.9f;
    t.Run(three);
    const std::vector<int32_t> tokens = t.tokens;
    t.args.num_tokens = 9;
    std::fill(t.cond.begin() + 9 * 203, t.cond.end(), 0.0f);
    t.Run(one);
    EXPECT_TRUE(std::equal(tokens.begin(), tokens.begin() + 9, t.tokens.begin()));
    t.args.seed = 6;
    t.Run(one);
    EXPECT_FALSE(std::equal(tokens.begin(), tokens.begin() + 9, t.tokens.begin()));
  });
}

TEST(Sample, MarksTokensWhoseLogitsAreNotFinite) {
  ForEachTarget([] {
    Context context(2);
    for (const float bad :
         {std::nanf(""), std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()}) {
      for (const size_t at : {size_t{0}, size_t{30}, size_t{36}, size_t{5 * 40 + 7}}) {
        for (const bool in_uncond : {false, true}) {
          Tokens t(8, 37, 1, true);
          t.args.guidance = 1.0f;
          (in_uncond ? t.uncond : t.cond)[at] = bad;
          t.tokens.assign(t.tokens.size(), 7);
          t.Run(context);
          const size_t bad_token = at / t.args.stride;
          for (size_t i = 0; i < t.tokens.size(); ++i) EXPECT_EQ(t.tokens[i] == -1, i == bad_token) << at;
        }
      }
    }
    Tokens padding(8, 37, 1, false);
    padding.cond[38] = std::nanf("");  // between two rows: not a logit
    padding.Run(context);
    for (const int32_t token : padding.tokens) EXPECT_GE(token, 0);
  });
}

TEST(Sample, RefusesBadArguments) {
  Context context(1);
  const auto refused = [&](auto change) {
    Tokens t(4, 16, 1, true);
    change(t);
    EXPECT_THROW(t.Run(context), Error);
  };
  refused([](Tokens& t) { t.args.top_k = 17; });
  refused([](Tokens& t) { t.args.top_p = -0.1f; });
  refused([](Tokens& t) { t.args.top_p = std::nanf(""); });
  refused([](Tokens& t) { t.args.stride = 15; });
  refused([](Tokens& t) { t.args.guidance = std::nanf(""); });
  refused([](Tokens& t) { t.args.guidance = 1.0f, t.uncond.clear(); });
}

}  // namespace
}  // namespace nextscale
