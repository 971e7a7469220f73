// The trainer against the recorded reference: losses, every gradient at full depth and for a subnet, AdamW steps.
#include "native/train/trainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "native/backend/cpu/cpu_backend.h"
#include "native/base/error.h"
#include "native/io/safetensors.h"
#include "test/native/generate/engine_harness.h"

namespace nextscale {
namespace {

struct GoldenCase {
  std::string name, variable;
  ModelConfig config;
  std::vector<int32_t> subnet_depths;
  Strategy strategy = Strategy::kEven;
};

void PrintTo(const GoldenCase& golden, std::ostream* out) { *out << golden.name; }

GoldenCase TinyCase() {
  GoldenCase golden{"tiny", "NEXTSCALE_GOLDEN_TINY_SAFETENSORS", {}, {6, 6, 6, 3, 3, 3}};
  golden.config.transformer = {.depth = 6, .width = 96, .num_heads = 3, .mlp_width = 384, .num_classes = 10};
  golden.config.tokenizer = {.codebook_size = 64,
                             .code_dim = 8,
                             .num_residual_convs = 4,
                             .channels = 32,
                             .multipliers = {1, 1, 2},
                             .num_res_blocks = 1,
                             .sides = {1, 2, 3, 4, 6, 8}};
  return golden;
}

GoldenCase TinySharedCase() {
  GoldenCase golden{"tiny-shared", "NEXTSCALE_GOLDEN_TINY_SHARED_SAFETENSORS", {}, {5, 5, 3}};
  golden.config.transformer = {.depth = 5,
                               .width = 40,
                               .num_heads = 5,
                               .mlp_width = 160,
                               .num_classes = 3,
                               .shared_ada = true,
                               .l2_norm = false};
  golden.config.tokenizer = {.codebook_size = 50,
                             .code_dim = 6,
                             .num_residual_convs = 1,
                             .channels = 32,
                             .multipliers = {1, 2},
                             .num_res_blocks = 1,
                             .sides = {1, 2, 4}};
  return golden;
}

// ‖a − b‖ and ‖b‖
struct Distance {
  double difference = 0, norm = 0;
};

Distance Between(const std::vector<float>& a, const std::vector<float>& b) {
  Distance distance;
  for (size_t i = 0; i < a.size(); ++i) {
    distance.difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
    distance.norm += std::pow(static_cast<double>(b[i]), 2);
  }
  distance.difference = std::sqrt(distance.difference);
  distance.norm = std::sqrt(distance.norm);
  return distance;
}

class TrainerGoldenTest : public testing::TestWithParam<GoldenCase> {
 protected:
  static constexpr size_t kImages = 2;

  void SetUp() override {
    const char* path = std::getenv(GetParam().variable.c_str());
    if (path == nullptr) GTEST_SKIP() << GetParam().variable << " is not set";
    weights_ = std::make_unique<SafetensorsFile>(path);
    const char* folder = std::getenv("NEXTSCALE_GOLDEN_DIR");
    expected_ = std::make_unique<SafetensorsFile>(std::string(folder != nullptr ? folder : "test/golden") + "/" +
                                                  GetParam().name + "/expected.safetensors");
    full_depths_.assign(config().num_scales(), static_cast<int32_t>(config().transformer.depth));
    labels_ = expected_->Integers("teacher/labels");
    tokens_.resize(kImages * config().num_tokens());
    size_t offset = 0;
    for (size_t k = 0; k < config().num_scales(); ++k) {
      const std::vector<int32_t> part = expected_->Integers("encode/" + std::to_string(k) + "/idx");
      const size_t count = part.size() / kImages;
      for (size_t i = 0; i < part.size(); ++i)
        tokens_[i / count * config().num_tokens() + offset + i % count] = part[i];
      offset += count;
    }
  }

  const ModelConfig& config() const { return GetParam().config; }
  TrainInput Input(const std::vector<int32_t>& depths) const {
    return {.tokens = tokens_, .labels = labels_, .depths = depths};
  }
  Trainer Make(const TrainerOptions& options, size_t num_threads = 2) const {
    return Trainer(std::make_unique<CpuBackend>(num_threads), config(), weights_->table(), options);
  }

  void ExpectGradients(const Trainer& trainer, const std::string& group) {
    size_t compared = 0;
    for (const SafetensorsEntry& entry : expected_->header().entries) {
      const bool strided = entry.name.starts_with(group + "_s17/");
      if (!strided && !entry.name.starts_with(group + "/")) continue;
      const std::string name = entry.name.substr(entry.name.find('/') + 1);
      std::vector<float> found(trainer.layout().Find(name).count);
      trainer.Read(TrainerArray::kGradient, name, found);
      if (strided) {
        std::vector<float> sampled;
        for (size_t i = 0; i < found.size(); i += 17) sampled.push_back(found[i]);
        found = sampled;
      }
      const std::vector<float> wanted = expected_->Floats(entry.name);
      ASSERT_EQ(found.size(), wanted.size()) << name;
      const Distance distance = Between(found, wanted);
      EXPECT_LE(distance.difference, 1e-4 * distance.norm + 1e-9) << entry.name;
      ++compared;
    }
    EXPECT_EQ(compared, trainer.layout().all().size());
  }

  void ExpectLosses(const StepResult& result, const std::string& group) {
    EXPECT_NEAR(result.loss, expected_->Floats(group + "/loss")[0], 2e-5);
    const std::vector<float> per_scale = expected_->Floats(group + "/loss_per_scale");
    for (size_t k = 0; k < per_scale.size(); ++k) EXPECT_NEAR(result.loss_per_scale[k], per_scale[k], 2e-5) << k;
  }

  std::unique_ptr<SafetensorsFile> weights_, expected_;
  std::vector<int32_t> labels_, tokens_, full_depths_;
};

TEST_P(TrainerGoldenTest, LogitsAndLosses) {
  Trainer trainer = Make({.micro_batch = 2});
  for (const auto& [group, depths] : {std::pair{std::string("teacher"), full_depths_},
                                      std::pair{std::string("teacher_sub"), GetParam().subnet_depths}}) {
    const std::vector<float> wanted = expected_->Floats(group + "/logits");
    std::vector<float> logits(wanted.size());
    trainer.Logits(Input(depths), logits.data());
    for (size_t i = 0; i < wanted.size(); ++i) ASSERT_NEAR(logits[i], wanted[i], 2e-4) << group << " " << i;
  }
  const std::vector<float> wanted = expected_->Floats("teacher/loss_per_token");
  std::vector<float> losses(wanted.size());
  trainer.Evaluate(Input(full_depths_), /*average=*/false, losses.data());
  for (size_t i = 0; i < wanted.size(); ++i) ASSERT_NEAR(losses[i], wanted[i], 1e-4) << i;
}

TEST_P(TrainerGoldenTest, GradientsOfEveryParameter) {
  for (const bool checkpointing : {false, true}) {
    for (const size_t micro_batch : {size_t{1}, size_t{2}, size_t{5}}) {
      SCOPED_TRACE(testing::Message() << "checkpointing " << checkpointing << ", micro batch " << micro_batch);
      Trainer trainer = Make({.micro_batch = micro_batch, .checkpointing = checkpointing});
      const StepOptions gradients_only{.update = false};
      ExpectLosses(trainer.Step(Input(GetParam().subnet_depths), gradients_only), "teacher_sub");
      ExpectGradients(trainer, "grads_sub");
      ExpectLosses(trainer.Step(Input(full_depths_), gradients_only), "teacher");
      ExpectGradients(trainer, "grads");
    }
  }
}

TEST_P(TrainerGoldenTest, SameBitsAtAnyThreadCount) {
  std::vector<std::vector<float>> first;
  for (const size_t threads : {1, 2, 3}) {
    Trainer trainer = Make({.micro_batch = 2}, threads);
    for (int step = 0; step < 2; ++step) trainer.Step(Input(GetParam().subnet_depths), {.learning_rate = 1e-3});
    std::vector<std::vector<float>> weights;
    for (const Parameter& parameter : trainer.layout().all()) {
      weights.emplace_back(parameter.count);
      trainer.Read(TrainerArray::kWeights, parameter.name, weights.back());
    }
    if (first.empty()) first = weights;
    EXPECT_EQ(weights, first) << threads;
  }
}

using TrainerAdamWTest = TrainerGoldenTest;

TEST_P(TrainerAdamWTest, ThreeSteps) {
  for (const bool decay_all : {true, false}) {
    const std::string group = decay_all ? "adamw" : "adamw_groups";
    SCOPED_TRACE(group);
    Trainer trainer = Make({.micro_batch = 2});
    const StepOptions step{.learning_rate = 1e-3, .weight_decay = 0.05, .decay_all = decay_all};
    std::vector<float> losses;
    for (int i = 0; i < 3; ++i) losses.push_back(static_cast<float>(trainer.Step(Input(full_depths_), step).loss));
    losses.push_back(static_cast<float>(trainer.Step(Input(full_depths_), {.update = false}).loss));
    const std::vector<float> wanted_losses = expected_->Floats(group + "/loss");
    for (size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(losses[i], wanted_losses[i], 1e-4) << i;
    size_t compared = 0;
    for (const Parameter& parameter : trainer.layout().all()) {
      const std::string name = group + "/" + parameter.name;
      const auto& entries = expected_->header().entries;
      if (std::none_of(entries.begin(), entries.end(), [&](const auto& entry) { return entry.name == name; })) continue;
      const std::vector<float> wanted = expected_->Floats(name);
      std::vector<float> found(parameter.count);
      trainer.Read(TrainerArray::kWeights, parameter.name, found);
      for (size_t i = 0; i < wanted.size(); ++i) ASSERT_NEAR(found[i], wanted[i], 2e-5) << name << " " << i;
      ++compared;
    }
    EXPECT_EQ(compared, 5u);
    EXPECT_EQ(trainer.steps(), 3u);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, TrainerGoldenTest, testing::Values(TinyCase(), TinySharedCase()),
                         [](const auto& info) { return info.param.name == "tiny" ? "Tiny" : "TinyShared"; });

// Recorded for this model only.
INSTANTIATE_TEST_SUITE_P(Tiny, TrainerAdamWTest, testing::Values(TinyCase()));

// A small model with random weights, and images of random tokens.
class TrainerTest : public testing::Test {
 protected:
  TrainerTest() {
    std::mt19937 random(5);
    for (size_t i = 0; i < 3 * model_.config.num_tokens(); ++i) {
      tokens_.push_back(static_cast<int32_t>(random() % model_.config.tokenizer.codebook_size));
    }
  }
  TrainInput Input(const std::vector<int32_t>& depths) const {
    return {.tokens = tokens_, .labels = labels_, .depths = depths};
  }
  static std::vector<float> Read(const Trainer& trainer, TrainerArray array, const std::string& name) {
    std::vector<float> values(trainer.layout().Find(name).count);
    trainer.Read(array, name, values);
    return values;
  }
  static void ExpectError(ErrorCode code, const std::string& part, const std::function<void()>& call) {
    try {
      call();
      FAIL() << "nothing was thrown; expected " << part;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }

  TestModel model_;
  std::vector<int32_t> tokens_, labels_ = {0, 5, 2};
  const std::vector<int32_t> full_ = {6, 6, 6, 6}, subnet_ = {2, 2, 2, 2};
};

// Training and generation run one forward: with the same tokens, conditions and depths, the same bits.
TEST_F(TrainerTest, LogitsAreThoseOfAGeneration) {
  const auto engine = Open(model_, 2);
  Trainer trainer(std::make_unique<CpuBackend>(3), model_.config, model_.tensors, {.micro_batch = 2});
  const size_t codes = model_.config.tokenizer.codebook_size;
  for (const std::vector<int32_t>& depths : {full_, subnet_, {6, 6, 3, 2}}) {
    std::vector<float> logits(tokens_.size() * codes);
    trainer.Logits(Input(depths), logits.data());
    Request request = Simple(labels_, 1, depths, 0.0f);
    request.given_tokens = tokens_;
    request.capture = true;
    Recording recording;
    engine->Start(request, recording.MakeListener());
    ASSERT_TRUE(recording.Wait().ok) << recording.Wait().message;
    size_t offset = 0;  // of the scale, in numbers of one image
    for (const ScaleResult& scale : recording.scales()) {
      const size_t numbers = scale.logits.size() / labels_.size();
      for (size_t i = 0; i < scale.logits.size(); ++i) {
        const size_t at = i / numbers * (kTokens * codes) + offset + i % numbers;
        ASSERT_EQ(scale.logits[i], logits[at]) << "scale " << scale.index << ", number " << i;
      }
      offset += numbers;
    }
    EXPECT_EQ(offset, kTokens * codes);
  }
}

TEST_F(TrainerTest, BlocksThatNeverRanAreLeftAlone) {
  Trainer trainer(std::make_unique<CpuBackend>(1), model_.config, model_.tensors, {.micro_batch = 3});
  const StepOptions step{.learning_rate = 1e-2, .weight_decay = 0.1, .decay_all = true};
  trainer.Step(Input(full_), step);  // moments are no longer zero
  const auto idle = Read(trainer, TrainerArray::kWeights, "blocks.2.ffn.fc1.weight");
  const auto idle_mean = Read(trainer, TrainerArray::kMean, "blocks.2.ffn.fc1.weight");
  const auto busy = Read(trainer, TrainerArray::kWeights, "blocks.5.ffn.fc1.weight");
  trainer.Step(Input(subnet_), step);
  EXPECT_EQ(Read(trainer, TrainerArray::kWeights, "blocks.2.ffn.fc1.weight"), idle);
  EXPECT_EQ(Read(trainer, TrainerArray::kMean, "blocks.2.ffn.fc1.weight"), idle_mean);
  EXPECT_NE(Read(trainer, TrainerArray::kWeights, "blocks.5.ffn.fc1.weight"), busy);
}

TEST_F(TrainerTest, ClippingScalesTheWholeGradient) {
  Trainer plain(std::make_unique<CpuBackend>(1), model_.config, model_.tensors, {.micro_batch = 3}),
      clipped(std::make_unique<CpuBackend>(1), model_.config, model_.tensors, {.micro_batch = 3});
  const double norm = plain.Step(Input(full_), {.learning_rate = 1e-3}).gradient_norm;
  clipped.Step(Input(full_), {.learning_rate = 1e-3, .clip_norm = norm / 4});
  const auto a = Read(plain, TrainerArray::kMean, "head.weight"), b = Read(clipped, TrainerArray::kMean, "head.weight");
  for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], 4 * b[i], 1e-6 * std::abs(a[i]) + 1e-9);
}

TEST_F(TrainerTest, AverageFollowsTheWeights) {
  Trainer trainer(std::make_unique<CpuBackend>(1), model_.config, model_.tensors, {.micro_batch = 3, .average = true});
  const auto before = Read(trainer, TrainerArray::kAverage, "head.weight");
  EXPECT_EQ(before, Read(trainer, TrainerArray::kWeights, "head.weight"));
  trainer.Step(Input(full_), {.learning_rate = 1e-2, .average_decay = 0.75});
  const auto weights = Read(trainer, TrainerArray::kWeights, "head.weight");
  const auto average = Read(trainer, TrainerArray::kAverage, "head.weight");
  for (size_t i = 0; i < weights.size(); ++i) ASSERT_NEAR(average[i], 0.75 * before[i] + 0.25 * weights[i], 1e-6);
  std::vector<float> of_weights(tokens_.size()), of_average(tokens_.size());
  trainer.Evaluate(Input(full_), false, of_weights.data());
  trainer.Evaluate(Input(full_), true, of_average.data());
  EXPECT_NE(of_weights, of_average);
}

TEST_F(TrainerTest, NotFiniteStopsBeforeTheUpdate) {
  Trainer trainer(std::make_unique<CpuBackend>(1), model_.config, model_.tensors, {.micro_batch = 3});
  auto bias = Read(trainer, TrainerArray::kWeights, "head.bias");
  bias[3] = std::numeric_limits<float>::quiet_NaN();
  trainer.Write(TrainerArray::kWeights, "head.bias", bias);
  const auto before = Read(trainer, TrainerArray::kWeights, "head.weight");
  ExpectError(ErrorCode::kNotFinite, "the loss of scale 0 of image 0",
              [&] { trainer.Step(Input(full_), {.learning_rate = 1e-3}); });
  EXPECT_EQ(Read(trainer, TrainerArray::kWeights, "head.weight"), before);
  EXPECT_EQ(trainer.steps(), 0u);
}

TEST_F(TrainerTest, RefusesBadInput) {
  Trainer trainer(std::make_unique<CpuBackend>(1), model_.config, model_.tensors, {.micro_batch = 2});
  const auto refuse = [&](const std::string& part, const TrainInput& input) {
    ExpectError(ErrorCode::kInvalidArgument, part, [&] { trainer.Step(input, {}); });
  };
  refuse("no images", {.tokens = {}, .labels = {}, .depths = full_});
  refuse("tokens has", {.tokens = std::span(tokens_).first(5), .labels = labels_, .depths = full_});
  refuse("depths has 3", {.tokens = tokens_, .labels = labels_, .depths = std::span(full_).first(3)});
  const std::vector<int32_t> deep = {6, 6, 6, 7}, shallow = {6, 6, 6, 1};
  refuse("depths[3] is 7; expected 2 to 6", Input(deep));
  refuse("depths[3] is 1; expected 2 to 6", Input(shallow));
  labels_[1] = 6;
  refuse("labels[1] is 6; expected 0 to 5", Input(full_));
  labels_[1] = 5;
  tokens_[7] = 32;
  refuse("tokens[7] is 32; expected 0 to 31", Input(full_));
  std::vector<float> few(3);
  ExpectError(ErrorCode::kInvalidArgument, "found room for 3",
              [&] { trainer.Read(TrainerArray::kWeights, "head.bias", few); });
  ExpectError(ErrorCode::kInvalidArgument, "no parameter \"nose\"",
              [&] { trainer.Read(TrainerArray::kWeights, "nose", few); });
  ExpectError(ErrorCode::kInvalidArgument, "keeps no average", [&] {
    std::vector<float> bias(32);
    trainer.Read(TrainerArray::kAverage, "head.bias", bias);
  });
}

// A CPU that says that it lacks one op.
class LackingBackend final : public CpuBackend {
 public:
  explicit LackingBackend(TrainingOp missing) : CpuBackend(1), missing_(missing) {}
  bool Supports(TrainingOp op) const override { return op != missing_; }

 private:
  TrainingOp missing_;
};

TEST_F(TrainerTest, ADeviceThatLacksAnOpIsRefusedByItsName) {
  for (size_t i = 0; i < kTrainingOpNames.size(); ++i) {
    ExpectError(ErrorCode::kInvalidArgument,
                "the device cpu cannot train: it has no " + std::string(kTrainingOpNames[i]), [&] {
                  Trainer trainer(std::make_unique<LackingBackend>(static_cast<TrainingOp>(i)), model_.config,
                                  model_.tensors, {});
                });
  }
}

TEST_F(TrainerTest, StopEndsTheCall) {
  Trainer trainer(std::make_unique<CpuBackend>(1), model_.config, model_.tensors, {.micro_batch = 3});
  trainer.Stop();
  ExpectError(ErrorCode::kAborted, "stopped", [&] { trainer.Step(Input(full_), {}); });
}

TEST_F(TrainerTest, InitialisesAsTheReferenceDoes) {
  Trainer trainer(std::make_unique<CpuBackend>(1), model_.config, model_.tensors,
                  {.micro_batch = 3, .initial_seed = 7});
  const double width = static_cast<double>(model_.config.transformer.width), deviation = std::sqrt(1 / (3 * width));
  const auto qkv = Read(trainer, TrainerArray::kWeights, "blocks.0.attn.mat_qkv.weight");
  double square = 0, largest = 0;
  for (const float value : qkv) {
    square += value * value;
    largest = std::max(largest, std::abs(static_cast<double>(value)));
  }
  EXPECT_LE(largest, 2 * deviation * 1.0001);
  EXPECT_NEAR(std::sqrt(square / static_cast<double>(qkv.size())), 0.8796 * deviation, 0.05 * deviation);
  for (const float value : Read(trainer, TrainerArray::kWeights, "blocks.3.attn.scale_mul_1H11")) {
    EXPECT_FLOAT_EQ(value, std::log(4.0f));
  }
  // The gates start near zero, so that every block starts as the identity: the loss is near ln V.
  const double loss = trainer.Step(Input(full_), {.update = false}).loss;
  EXPECT_NEAR(loss, std::log(static_cast<double>(model_.config.tokenizer.codebook_size)), 0.05);
  Trainer same(std::make_unique<CpuBackend>(1), model_.config, model_.tensors, {.micro_batch = 3, .initial_seed = 7});
  EXPECT_EQ(Read(same, TrainerArray::kWeights, "head.weight"), Read(trainer, TrainerArray::kWeights, "head.weight"));
}

}  // namespace
}  // namespace nextscale
