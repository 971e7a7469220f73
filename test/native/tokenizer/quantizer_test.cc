// What the golden models do not reach: every count of residual convolutions, refusals.
#include "native/tokenizer/quantizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <list>
#include <string>
#include <vector>

#include "native/backend/cpu/cpu_backend.h"
#include "native/base/error.h"

namespace nextscale {
namespace {

// A tokenizer of one-dimensional zero codes whose residual convolution i is the constant i + 1: f_hat tells which one
// ran.
class ConstantTokenizer {
 public:
  ConstantTokenizer(size_t num_scales, size_t num_residual_convs, float weight = 0.0f) {
    config = {.codebook_size = 2,
              .code_dim = 1,
              .num_residual_convs = num_residual_convs,
              .residual_mix = 0.5f,
              .channels = 32,
              .multipliers = {1},
              .num_res_blocks = 1,
              .sides = {}};
    for (size_t side = 1; side <= num_scales; ++side) config.sides.push_back(side);
    Add("vae.quantize.embedding.weight", {2, 1}, {0.0f, 0.0f});
    for (size_t i = 0; i < (num_residual_convs == 0 ? num_scales : num_residual_convs); ++i) {
      std::string name = "vae.quantize.quant_resi.";
      name += num_residual_convs == 0   ? std::to_string(i)
              : num_residual_convs == 1 ? "qresi"
                                        : "qresi_ls." + std::to_string(i);
      Add(name + ".weight", {1, 1, 3, 3}, std::vector<float>(9, weight));
      Add(name + ".bias", {1}, {static_cast<float>(i + 1)});
    }
  }
  void Add(const std::string& name, std::vector<size_t> shape, std::vector<float> values) {
    values_.push_back(std::move(values));
    TensorView view;
    view.data = reinterpret_cast<const std::byte*>(values_.back().data());
    view.shape = std::move(shape);
    tensors.Add(name, view);
  }
  TokenizerConfig config;
  TensorTable tensors;

 private:
  std::list<std::vector<float>> values_;
};

struct Choice {
  size_t num_scales, num_residual_convs;
  std::vector<size_t> expected;  // of each scale; from numpy.linspace and argmin in double precision
};

TEST(QuantizerTest, ResidualConvOfEveryScale) {
  for (const Choice& choice :
       {Choice{7, 4, {0, 0, 1, 2, 2, 3, 3}},  // exactly between two ticks at scale 3
        Choice{10, 4, {0, 0, 1, 1, 1, 2, 2, 3, 3, 3}}, Choice{10, 3, {0, 0, 0, 0, 1, 1, 1, 2, 2, 2}},
        Choice{6, 0, {0, 1, 2, 3, 4, 5}}, Choice{4, 0, {0, 1, 2, 3}}, Choice{9, 2, {0, 0, 0, 0, 0, 1, 1, 1, 1}},
        Choice{13, 5, {0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4}}, Choice{3, 8, {0, 3, 7}}, Choice{3, 1, {0, 0, 0}},
        Choice{1, 4, {0}}}) {
    SCOPED_TRACE(Message(choice.num_scales, " scales, ", choice.num_residual_convs, " convolutions"));
    const ConstantTokenizer tokenizer(choice.num_scales, choice.num_residual_convs);
    CpuBackend backend(1);
    Quantizer quantizer(backend, tokenizer.config, tokenizer.tensors);
    const std::vector<int32_t> tokens(choice.num_scales * choice.num_scales);
    for (size_t k = 0; k < choice.num_scales; ++k) {
      std::vector<float> f_hat(tokens.size());
      quantizer.AddScale(k, tokens.data(), f_hat.data());
      EXPECT_EQ(f_hat[0], 0.5f * static_cast<float>(choice.expected[k] + 1)) << "scale " << k;
    }
  }
}

// With no mixing the reference has no residual convolutions at all.
TEST(QuantizerTest, WithoutResidualConvs) {
  ConstantTokenizer tokenizer(2, 4);
  tokenizer.config.residual_mix = 0.0f;
  TensorTable only_codes;
  const std::vector<float> codes = {0.0f, 3.0f};
  TensorView view;
  view.data = reinterpret_cast<const std::byte*>(codes.data());
  view.shape = {2, 1};
  only_codes.Add("vae.quantize.embedding.weight", view);
  CpuBackend backend(1);
  Quantizer quantizer(backend, tokenizer.config, only_codes);
  std::vector<float> f_hat(4, 1.0f);
  const std::vector<int32_t> tokens = {1, 0, 0, 1};
  quantizer.AddScale(1, tokens.data(), f_hat.data());
  EXPECT_EQ(f_hat, (std::vector<float>{4, 1, 1, 4}));
}

ErrorCode CodeOf(const auto& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::kInternal;
}

TEST(QuantizerTest, Refuses) {
  const ConstantTokenizer tokenizer(3, 4);
  CpuBackend backend(1);
  Quantizer quantizer(backend, tokenizer.config, tokenizer.tensors);
  std::vector<float> f_hat(9);
  for (const int32_t token : {2, 3, std::numeric_limits<int32_t>::max()}) {
    EXPECT_EQ(CodeOf([&] { quantizer.AddScale(0, &token, f_hat.data()); }), ErrorCode::kInvalidArgument) << token;
  }
  EXPECT_EQ(CodeOf([&] {
              const ConstantTokenizer other(3, 1);  // other names
              Quantizer(backend, tokenizer.config, other.tensors);
            }),
            ErrorCode::kInvalidCheckpoint);
  EXPECT_EQ(CodeOf([&] {
              const ConstantTokenizer bad(3, 4, std::nanf(""));
              Quantizer(backend, bad.config, bad.tensors);
            }),
            ErrorCode::kNotFinite);
}

}  // namespace
}  // namespace nextscale
