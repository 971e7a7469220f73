// Guidance, filters and draws.
#include <algorithm>
#include <numeric>

#include "native/base/rng.h"
#include "test/native/ops/op_cases.h"

namespace nextscale::test {

// The distribution that one row is drawn from, by sorting (reference: sample_with_top_k_top_p_).
static std::vector<double> Distribution(std::vector<float> logits, size_t top_k, double top_p) {
  const size_t count = logits.size();
  if (top_k != 0) {
    std::vector<float> sorted = logits;
    std::sort(sorted.begin(), sorted.end(), std::greater<float>());
    for (float& logit : logits) logit = logit < sorted[top_k - 1] ? -INFINITY : logit;
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
    double below = 0.0;
    for (size_t i = 0; i + 1 < count; ++i) {
      below += weights[order[i]];
      if (below / sum > 1.0 - top_p) break;
      weights[order[i]] = 0.0;
    }
  }
  sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (double& weight : weights) weight /= sum;
  return weights;
}

struct SampleShape {
  size_t num_tokens, codebook_size, top_k;
  float top_p;
  bool guided, ties;
};

// Every token is the inverse of the cumulative distribution at its uniform number; a neighbour is right only when the
// number lies within rounding of the border between the two.
static void CheckSample(Bench& bench, const SampleShape& shape, uint64_t seed) {
  Backend& backend = bench.At(DType::kF32);
  const auto& [num_tokens, codebook_size, top_k, top_p, guided, ties] = shape;
  Random random(seed);
  Table table(backend);
  const size_t stride = codebook_size + 3;
  std::vector<std::vector<float>> conds, unconds;
  std::vector<SampleArgs> images(2);
  for (SampleArgs& image : images) {
    std::vector<float> cond = random.Floats(num_tokens * stride, 6.0f);
    const std::vector<float> uncond = random.Floats(num_tokens * stride, ties ? 0.0f : 4.0f);
    if (ties) {
      for (float& logit : cond) logit = std::round(logit) / 2.0f;
    }
    image.tokens = table.Put(std::vector<int32_t>(num_tokens, -1));
    image.cond = table.Put(cond);
    image.uncond = guided ? table.Put(uncond) : nullptr;
    image.stride = stride;
    image.num_tokens = num_tokens;
    image.codebook_size = codebook_size;
    image.guidance = guided ? 1.25f : 0.0f;
    image.top_k = top_k;
    image.top_p = top_p;
    image.seed = random.Bits();
    image.image = random.Bits();
    image.scale_index = static_cast<uint32_t>(random.Index(0, 9));
    image.logits_out = table.Put(std::vector<float>(num_tokens * codebook_size, NAN));
    conds.push_back(cond);
    unconds.push_back(uncond);
  }
  backend.Sample(images);
  for (size_t b = 0; b < images.size(); ++b) {
    const std::vector<int32_t> tokens = table.Take(images[b].tokens, num_tokens);
    const std::vector<float> logits = table.Take(images[b].logits_out, num_tokens * codebook_size);
    for (size_t t = 0; t < num_tokens; ++t) {
      const std::vector<float> row(&logits[t * codebook_size], &logits[t * codebook_size] + codebook_size);
      for (size_t i = 0; i < codebook_size; ++i) {
        const volatile float left = 2.25f * conds[b][t * stride + i], right = 1.25f * unconds[b][t * stride + i];
        const float expected = guided ? left - right : conds[b][t * stride + i];
        const float bound = bench.promises().separate_rounding ? 0.0f : 0x1p-23f * (std::fabs(left) + std::fabs(right));
        ASSERT_NEAR(row[i], expected, bound);
      }
      ASSERT_GE(tokens[t], 0);
      ASSERT_LT(tokens[t], static_cast<int32_t>(codebook_size));
      if (top_k == 1) {
        ASSERT_EQ(tokens[t], std::max_element(row.begin(), row.end()) - row.begin());
        continue;
      }
      const std::vector<double> weights = Distribution(row, top_k, static_cast<double>(top_p));
      const double u = UniformDraw(images[b].seed, images[b].image, images[b].scale_index, static_cast<uint32_t>(t));
      const auto token = static_cast<size_t>(tokens[t]);
      const double below = std::accumulate(weights.begin(), weights.begin() + tokens[t], 0.0);
      ASSERT_GT(weights[token], 0.0) << "a token that was removed; top_k " << top_k << " top_p " << top_p;
      ASSERT_GE(u, below - 1e-6) << "top_k " << top_k << " top_p " << top_p << " seed " << seed;
      ASSERT_LE(u, below + weights[token] + 1e-6) << "top_k " << top_k << " top_p " << top_p << " seed " << seed;
    }
  }
}

static void CheckNotFinite(Backend& backend, float value) {
  Table table(backend);
  std::vector<float> logits(3 * 70, 0.5f);
  logits[70 + 69] = value;
  SampleArgs args;
  args.tokens = table.Put(std::vector<int32_t>(3, 7));
  args.cond = table.Put(logits);
  args.stride = args.codebook_size = 70;
  args.num_tokens = 3;
  backend.Sample(std::span(&args, 1));
  const std::vector<int32_t> tokens = table.Take(args.tokens, 3);
  EXPECT_GE(tokens[0], 0);
  EXPECT_EQ(tokens[1], -1);
  EXPECT_GE(tokens[2], 0);
}

void SampleSuite(Bench& bench, size_t num_trials) {
  Random random(9);
  Backend& backend = bench.At(DType::kF32);
  for (uint64_t trial = 0; trial < num_trials; ++trial) {
    const size_t size = trial % 10 == 0 ? 4096 : random.Index(2, 700);
    const size_t top_k = trial % 4 == 0 ? 0 : trial % 9 == 1 ? 1 : random.Index(2, size);
    const float top_p = std::vector<float>{0.0f, 0.9f, 0.37f, 1e-6f, 1.0f, 0.96f, 1e-20f}[trial % 7];
    ASSERT_NO_FATAL_FAILURE(CheckSample(bench, {3, size, top_k, top_p, trial % 3 != 0, trial % 3 == 2}, trial));
  }
  CheckNotFinite(backend, NAN);
  CheckNotFinite(backend, -INFINITY);
}

}  // namespace nextscale::test
