// The engine over the CUDA backend over the kernels' twins: the whole path of a model on a device but for the
// instructions themselves. The CPU's backend, which is held to the golden data, says what is right. What can be asked
// of a device is asked of a real one, too, where NEXTSCALE_CUDA_LIBRARY and a driver are.
#if defined(__linux__) && !defined(__SANITIZE_THREAD__)
#include <algorithm>
#include <cmath>
#include <string>

#include "native/backend/cuda/host/cuda_backend.h"
#include "native/backend/cuda/twin/device.h"
#include "test/native/backend/cuda/library/test_library.h"
#include "test/native/generate/engine_harness.h"

namespace nextscale::cuda {
namespace {

constexpr size_t kPoolBytes = size_t{8} << 20;

std::unique_ptr<Engine> MakeEngine(TestModel& model, DType dtype, std::unique_ptr<Device> device,
                                   size_t pool_bytes = kPoolBytes) {
  EngineOptions options;
  options.kv_bytes = pool_bytes;
  options.kv_dtype = dtype;
  return std::make_unique<Engine>(model.config, model.tensors, options, MakeCudaBackend(std::move(device), dtype),
                                  nullptr);
}

struct TwinEngine {
  explicit TwinEngine(TestModel& model, DType dtype = DType::kF32, std::shared_ptr<TwinControl> its_control = nullptr,
                      size_t pool_bytes = kPoolBytes)
      : control(its_control ? std::move(its_control) : std::make_shared<TwinControl>()),
        engine(MakeEngine(model, dtype, std::make_unique<TwinDevice>(control), pool_bytes)) {}
  std::shared_ptr<TwinControl> control;
  std::unique_ptr<Engine> engine;
};

ModelConfig HeadsOf64() {
  ModelConfig config = TestModel::SmallConfig();
  config.transformer = {.depth = 4, .width = 128, .num_heads = 2, .mlp_width = 160, .num_classes = 5};
  return config;
}
ModelConfig Shared() {
  ModelConfig config = TestModel::SmallConfig();
  config.transformer.shared_ada = true;
  config.transformer.l2_norm = false;
  return config;
}

std::vector<int32_t> Tokens(Engine& engine, const Request& request) {
  Recording recording;
  const uint64_t id = engine.Start(request, recording.MakeListener());
  const GenerationEnd end = recording.Wait();
  EXPECT_TRUE(end.ok) << end.message;
  engine.Release(id);
  return recording.tokens();
}

double RelativeError(const std::vector<float>& found, const std::vector<float>& expected) {
  EXPECT_EQ(found.size(), expected.size());
  double error = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    error += std::pow(static_cast<double>(found[i]) - static_cast<double>(expected[i]), 2);
    norm += std::pow(static_cast<double>(expected[i]), 2);
  }
  return std::sqrt(error / norm);
}

// On the twin, and on a real device.
class CudaEngineOn : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (GetParam() == std::string("Device")) library_ = test::TestLibrary(&reason_);
    if (!reason_.empty()) GTEST_SKIP() << reason_;
  }
  std::unique_ptr<Engine> OnDevice(TestModel& model, DType dtype = DType::kF32) {
    if (library_ != nullptr) return MakeEngine(model, dtype, library_->OpenDevice(0));
    return MakeEngine(model, dtype, std::make_unique<TwinDevice>(std::make_shared<TwinControl>()));
  }

 private:
  std::shared_ptr<Library> library_;
  std::string reason_;
};
INSTANTIATE_TEST_SUITE_P(Any, CudaEngineOn, ::testing::Values("Twin", "Device"),
                         [](const auto& info) { return std::string(info.param); });

// f32 is exact enough for equal tokens; depths change, the guidance comes and goes, some draw and some take the
// largest.
TEST_P(CudaEngineOn, DrawsWhatTheCpuDraws) {
  TestModel model;
  const auto cpu = Open(model);
  const auto engine = OnDevice(model);
  for (const Request& request : Mix(21, 8)) {
    EXPECT_EQ(Tokens(*engine, request), Tokens(*cpu, request));
  }
}

TEST_P(CudaEngineOn, SharedModulationsWithoutHeadNorm) {
  TestModel model(Shared());
  const auto cpu = Open(model);
  const auto engine = OnDevice(model);
  const Request request = Simple({1, 3}, 5, {6, 6, 3, 2});
  EXPECT_EQ(Tokens(*engine, request), Tokens(*cpu, request));
}

// Generations at once, at different scales and depths: the tokens of each are those that it draws alone.
TEST_P(CudaEngineOn, TokensDoNotDependOnCompany) {
  TestModel model;
  const auto engine = OnDevice(model);
  const std::vector<Request> mix = Mix(3, 6);
  std::vector<std::vector<int32_t>> alone;
  for (const Request& request : mix) alone.push_back(Tokens(*engine, request));
  std::vector<Recording> recordings(mix.size());
  for (size_t i = 0; i < mix.size(); ++i) engine->Start(mix[i], recordings[i].MakeListener());
  for (size_t i = 0; i < mix.size(); ++i) {
    ASSERT_TRUE(recordings[i].Wait().ok);
    EXPECT_EQ(recordings[i].tokens(), alone[i]) << i;
  }
  EXPECT_EQ(engine->Stats().pool.used_bytes, 0u);
}

// Teacher forcing records every intermediate; bounds are relative to the CPU's f32.
struct Bound {
  DType dtype;
  double logits, losses;
};
TEST_P(CudaEngineOn, IntermediatesAreTheCpus) {
  for (const ModelConfig& config : {TestModel::SmallConfig(), HeadsOf64()}) {
    TestModel model(config);
    const auto cpu = Open(model);
    const int32_t depth = static_cast<int32_t>(config.transformer.depth);
    Request request = Simple({2, 4}, 1, {depth, depth, depth - 1, 2}, 0.0f);
    request.given_tokens = Tokens(*cpu, request);
    std::vector<int32_t> by_image(request.given_tokens.size());  // [scale][image] → [image][scale]
    for (size_t k = 0, offset = 0; k < kScales; ++k) {
      const size_t tokens = config.tokenizer.sides[k] * config.tokenizer.sides[k];
      for (size_t image = 0; image < 2; ++image) {
        std::copy_n(request.given_tokens.begin() + static_cast<ptrdiff_t>(2 * offset + image * tokens), tokens,
                    by_image.begin() + static_cast<ptrdiff_t>(image * kTokens + offset));
      }
      offset += tokens;
    }
    request.given_tokens = by_image;
    request.capture = request.losses = true;
    Recording expected;
    cpu->Start(request, expected.MakeListener());
    ASSERT_TRUE(expected.Wait().ok);
    for (const Bound& bound :
         {Bound{DType::kF32, 1e-5, 1e-5}, Bound{DType::kF16, 4e-3, 4e-3}, Bound{DType::kBF16, 3e-2, 3e-2}}) {
      SCOPED_TRACE(Message(DTypeName(bound.dtype), ", width ", config.transformer.width));
      const auto engine = OnDevice(model, bound.dtype);
      Recording found;
      engine->Start(request, found.MakeListener());
      const GenerationEnd end = found.Wait();
      ASSERT_TRUE(end.ok) << end.message;
      const auto scales = found.scales(), right = expected.scales();
      for (size_t k = 0; k < kScales; ++k) {
        EXPECT_LE(RelativeError(scales[k].logits, right[k].logits), bound.logits) << k;
        EXPECT_LE(RelativeError(scales[k].hidden, right[k].hidden), bound.logits) << k;
        EXPECT_LE(RelativeError(scales[k].losses, right[k].losses), bound.losses) << k;
        EXPECT_LE(RelativeError(scales[k].f_hat, right[k].f_hat), 1e-5) << k;
        if (k + 1 < kScales) {
          EXPECT_LE(RelativeError(scales[k].next_input, right[k].next_input), bound.logits) << k;
        }
      }
    }
  }
}

TEST_P(CudaEngineOn, EncodesAndDecodes) {
  TestModel model;
  const auto cpu = Open(model);
  std::vector<float> pixels(300), expected(300), found(300);
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<float>(std::sin(0.7 * static_cast<double>(i)));
  std::vector<int32_t> right(kTokens), tokens(kTokens);
  std::vector<uint8_t> bytes(300);
  Recording a, b;
  cpu->tokenizer().Encode(pixels, right.data(), a.MakeDone());
  ASSERT_TRUE(a.Wait().ok);
  cpu->tokenizer().Decode(right, {nullptr, expected.data()}, b.MakeDone());
  ASSERT_TRUE(b.Wait().ok);
  for (const auto& [dtype, tolerance] : {std::pair{DType::kF32, 1e-5}, {DType::kF16, 1e-2}, {DType::kBF16, 6e-2}}) {
    SCOPED_TRACE(DTypeName(dtype));
    const auto engine = OnDevice(model, dtype);
    Recording encoded, decoded, small;
    engine->tokenizer().Encode(pixels, tokens.data(), encoded.MakeDone());
    ASSERT_TRUE(encoded.Wait().ok) << encoded.Wait().message;
    if (dtype == DType::kF32) {
      EXPECT_EQ(tokens, right);
    }
    engine->tokenizer().Decode(right, {nullptr, found.data()}, decoded.MakeDone());
    ASSERT_TRUE(decoded.Wait().ok) << decoded.Wait().message;
    EXPECT_LE(RelativeError(found, expected), tolerance);
    engine->tokenizer().Decode(right, {bytes.data(), nullptr}, small.MakeDone());
    ASSERT_TRUE(small.Wait().ok);
    for (size_t i = 0; i < bytes.size(); ++i) {
      ASSERT_EQ(bytes[i], static_cast<uint8_t>(found[i % 3 * 100 + i / 3] * 255.0f + 0.5f)) << i;
    }
  }
}

TEST_P(CudaEngineOn, PreviewsAndDepthSwitchesInTheMiddle) {
  TestModel model;
  const auto cpu = Open(model);
  const auto engine = OnDevice(model);
  std::vector<float> matrix(15, 0.1f);
  Request request = Simple({1, 2}, 7);
  request.preview = Preview::kLinear;
  const auto run = [&](Engine& engine) {
    engine.SetPreviewMatrix(matrix);
    Recording recording;
    Gate gate;
    const uint64_t id = engine.Start(request, recording.MakeListener([&](const ScaleResult& scale) {
      if (scale.index == 1) gate.Enter();
    }));
    gate.AwaitEntered();
    engine.SetDepth(id, 3);
    gate.Open();
    EXPECT_TRUE(recording.Wait().ok);
    return recording.scales();
  };
  const auto expected = run(*cpu), found = run(*engine);
  ASSERT_EQ(found.size(), kScales);
  for (size_t k = 0; k < kScales; ++k) {
    EXPECT_EQ(found[k].depth, expected[k].depth);
    EXPECT_EQ(found[k].tokens, expected[k].tokens);
    ASSERT_EQ(found[k].preview.size(), expected[k].preview.size());
    for (size_t i = 0; i < found[k].preview.size(); ++i) {
      ASSERT_NEAR(found[k].preview[i], expected[k].preview[i], 1) << k;
    }
  }
}

// A plan that has run before costs nothing but its graphs: no memory, no new graph, the same copies each time.
TEST(CudaEngine, SteadyStateMakesNothing) {
  TestModel model;
  TwinEngine twin(model);
  const Request deep = Simple({1}, 7, {6, 6, 4, 4}), shallow = Simple({1}, 7, {6, 6, 2, 2});
  for (int i = 0; i < 3; ++i) Tokens(*twin.engine, deep), Tokens(*twin.engine, shallow);
  const TwinControl before = *twin.control;
  EXPECT_GT(before.graphs_made, 4u);
  for (int i = 0; i < 5; ++i) Tokens(*twin.engine, deep), Tokens(*twin.engine, shallow);
  const TwinControl& after = *twin.control;
  EXPECT_EQ(after.num_allocations, before.num_allocations);
  EXPECT_EQ(after.bytes, before.bytes);
  EXPECT_EQ(after.graphs_made, before.graphs_made);
  EXPECT_GT(after.graphs_run, before.graphs_run + 10 * 4);
}

TEST(CudaEngine, LogitsThatAreNotFiniteEndOneGeneration) {
  TestModel model;
  model.Values("var.class_emb.weight")[3 * 24] = 1e38f;  // label 3
  TwinEngine twin(model);
  Recording bad, good;
  twin.engine->Start(Simple({3}, 1), bad.MakeListener());
  twin.engine->Start(Simple({1}, 1), good.MakeListener());
  EXPECT_EQ(bad.Wait().code, ErrorCode::kNotFinite) << bad.Wait().message;
  EXPECT_TRUE(good.Wait().ok);
}

TEST(CudaEngine, CancellationGivesEverythingBack) {
  TestModel model;
  TwinEngine twin(model);
  Recording recording;
  Gate gate;
  const uint64_t id = twin.engine->Start(Simple({1, 2}, 3), recording.MakeListener([&](const ScaleResult& scale) {
    if (scale.index == 1) gate.Enter();
  }));
  gate.AwaitEntered();
  twin.engine->Cancel(id);
  gate.Open();
  EXPECT_EQ(recording.Wait().code, ErrorCode::kAborted);
  EXPECT_EQ(twin.engine->Stats().pool.used_bytes, 0u);
  Tokens(*twin.engine, Simple({1}, 3));
}

// ------------------------------------------------------------------ failures

ErrorCode CodeOf(const auto& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_FALSE(std::string(error.what()).empty());
    return error.code();
  }
  return ErrorCode::kInternal;
}

TEST(CudaEngine, OutOfMemoryAtLoadIsTypedAndLeavesNothingBehind) {
  TestModel model;
  size_t needed = 0;
  {
    TwinEngine twin(model);
    needed = twin.control->most_bytes;
  }
  for (const size_t limit : {size_t{1}, needed / 3, needed - 1}) {
    const auto control = std::make_shared<TwinControl>();
    control->memory_limit = limit;
    EXPECT_EQ(CodeOf([&] { TwinEngine twin(model, DType::kF32, control); }), ErrorCode::kOutOfMemory) << limit;
    EXPECT_EQ(control->bytes, 0u) << limit;
  }
  const auto control = std::make_shared<TwinControl>();
  control->memory_limit = needed;
  TwinEngine twin(model, DType::kF32, control);
}

TEST(CudaEngine, OutOfMemoryAtAdmissionEndsThatGenerationAlone) {
  TestModel model;
  const auto control = std::make_shared<TwinControl>();
  TwinEngine twin(model, DType::kF32, control);
  const std::vector<int32_t> expected = Tokens(*twin.engine, Simple({1}, 3));
  control->memory_limit = control->bytes + (16 << 10);
  Recording large;
  twin.engine->Start(Simple(std::vector<int32_t>(30, 2), 3), large.MakeListener());
  EXPECT_EQ(large.Wait().code, ErrorCode::kOutOfMemory) << large.Wait().message;
  EXPECT_NE(large.Wait().message.find("generation"), std::string::npos) << large.Wait().message;
  EXPECT_EQ(Tokens(*twin.engine, Simple({1}, 3)), expected);
}

// Whatever launch fails: every generation ends with the kernel's and the op's names, later ones too, and another engine
// on another device is none the worse.
TEST(CudaEngine, AFailureOnTheDeviceEndsThisModelAlone) {
  TestModel model;
  TwinEngine other(model);
  size_t loaded = 0, done = 0;
  {
    TwinEngine counting(model);
    loaded = counting.control->launches;
    Tokens(*counting.engine, Simple({1}, 3));
    done = counting.control->launches;
  }
  for (size_t at = loaded; at < done; at += (done - loaded) / 7) {
    const auto control = std::make_shared<TwinControl>();
    control->fail_at_launch = at;
    TwinEngine twin(model, DType::kF32, control);
    Recording first, second;
    twin.engine->Start(Simple({1}, 3), first.MakeListener());
    const GenerationEnd end = first.Wait();
    ASSERT_EQ(end.code, ErrorCode::kDeviceLost) << at;
    EXPECT_NE(end.message.find("kernel"), std::string::npos) << end.message;
    EXPECT_NE(end.message.find(" of "), std::string::npos) << end.message;
    twin.engine->Start(Simple({2}, 3), second.MakeListener());
    EXPECT_EQ(second.Wait().code, ErrorCode::kDeviceLost);
  }
  Tokens(*other.engine, Simple({1}, 3));
}

TEST(CudaEngine, WeightsThatDoNotFitAreNamed) {
  TestModel model;
  model.Values("var.blocks.2.ffn.fc1.weight")[7] = 1e6f;  // more than f16 holds
  std::string message;
  try {
    TwinEngine twin(model, DType::kF16);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotFinite);
    message = error.what();
  }
  EXPECT_NE(message.find("var.blocks.2.ffn.fc1.weight"), std::string::npos) << message;
  EXPECT_NE(message.find("[0, 7]"), std::string::npos) << message;
  TwinEngine bf16(model, DType::kBF16);
}

}  // namespace
}  // namespace nextscale::cuda

#endif  // __linux__
