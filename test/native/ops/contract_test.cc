// Every backend refuses a call that breaks an op's contract, for every op, before it does any work.
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <map>
#include <regex>
#include <set>
#include <string>

#include "native/backend/cpu/cpu_backend.h"
#include "native/backend/cuda/host/cuda_backend.h"
#include "native/base/error.h"
#include "test/native/backend/cuda/host/scripted_device.h"

namespace nextscale {
namespace {

// Sizes without the arrays that they speak of, or arguments that contradict each other; by the op's name.
const std::map<std::string, std::function<void(Backend&)>>& Violations() {
  static const std::map<std::string, std::function<void(Backend&)>> violations = {
      {"PackMatrix", [](Backend& b) { b.PackMatrix({}, "x"); }},
      {"PackConv", [](Backend& b) { b.PackConv({}, {}, "x", ConvUse::kMap); }},
      {"MakeCodebook", [](Backend& b) { b.MakeCodebook({1.0f}, 2, 3); }},
      {"Linear", [](Backend& b) { b.Linear({.num_rows = 1}); }},
      {"ModulatedNorm", [](Backend& b) { b.ModulatedNorm({}); }},
      {"Qkv",
       [](Backend& b) {
         PackedMatrix weights;
         weights.dtype = b.activation_dtype();
         weights.n = 3, weights.k = 1, weights.panel = 1;
         weights.data = b.Allocate(64, "a test");
         const Buffer qkv = b.Allocate(64, "a test"), other = b.Allocate(64, "a test");
         b.Qkv({.out = other.data(), .out_stride = 3, .weights = &weights},
               {.qkv = qkv.data(), .qkv_stride = 3, .num_heads = 1, .head_dim = 1});
       }},
      {"Attention", [](Backend& b) { b.Attention({.num_heads = 1, .head_dim = 2000}); }},
      {"Embed", [](Backend& b) { b.Embed({.width = 1, .num_tokens = 1, .num_images = 1}); }},
      {"Condition", [](Backend& b) { b.Condition({.width = 1}); }},
      {"AddOffset", [](Backend& b) { b.AddOffset({.num_rows = 1, .width = 1}); }},
      {"Sample",
       [](Backend& b) {
         const SampleArgs bad{.num_tokens = 1, .codebook_size = 1};
         b.Sample({&bad, 1});
       }},
      {"CrossEntropy", [](Backend& b) { b.CrossEntropy({.stride = 4, .num_rows = 1, .codebook_size = 8}); }},
      {"AddCodes", [](Backend& b) { b.AddCodes({}); }},
      {"AreaDown", [](Backend& b) { b.AreaDown({}); }},
      {"NearestCode", [](Backend& b) { b.NearestCode({}); }},
      {"Conv", [](Backend& b) { b.Conv({}); }},
      {"GroupNorm", [](Backend& b) { b.GroupNorm({}); }},
      {"NormalizeMap", [](Backend& b) { b.NormalizeMap({.num_pixels = 1, .channels = 1}); }},
      {"ImageToMap", [](Backend& b) { b.ImageToMap({.num_pixels = 1, .channels = 1}); }},
      {"MapToImage", [](Backend& b) { b.MapToImage({.num_pixels = 1, .channels = 1}); }},
  };
  return violations;
}

const std::map<std::string, std::function<void(TrainingBackend&)>>& TrainingViolations() {
  static const std::map<std::string, std::function<void(TrainingBackend&)>> violations = {
      {"Repack",
       [](TrainingBackend& b) {
         PackedMatrix matrix;
         b.Repack(nullptr, matrix);
       }},
      {"RepackTransposed",
       [](TrainingBackend& b) {
         PackedMatrix matrix;
         b.RepackTransposed(nullptr, matrix);
       }},
      {"Modulate", [](TrainingBackend& b) { b.Modulate({}); }},
      {"ModulatedNormGradient", [](TrainingBackend& b) { b.ModulatedNormGradient({}); }},
      {"GatedResidualGradient", [](TrainingBackend& b) { b.GatedResidualGradient({}); }},
      {"SplitHeadsGradient", [](TrainingBackend& b) { b.SplitHeadsGradient({}); }},
      {"AttentionGradient", [](TrainingBackend& b) { b.AttentionGradient({}); }},
      {"GeluGradient", [](TrainingBackend& b) { b.GeluGradient({.num_rows = 1, .width = 1}); }},
      {"WeightGradient", [](TrainingBackend& b) { b.WeightGradient({}); }},
      {"EmbedGradient", [](TrainingBackend& b) { b.EmbedGradient({}); }},
      {"ConditionGradient", [](TrainingBackend& b) { b.ConditionGradient({}); }},
      {"HeadFactors", [](TrainingBackend& b) { b.HeadFactors({}); }},
      {"HeadFactorsGradient", [](TrainingBackend& b) { b.HeadFactorsGradient({}); }},
      {"SquaredNorm", [](TrainingBackend& b) { b.SquaredNorm(nullptr, 1); }},
      {"AdamW", [](TrainingBackend& b) { b.AdamW({.count = 1}); }},
  };
  return violations;
}

// The virtual functions of an interface that compute, as its header lists them.
std::set<std::string> OpsOf(const std::string& header) {
  std::ifstream file(std::string(NEXTSCALE_SOURCE_DIR) + "/native/ops/" + header);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  const std::regex op("virtual (void|double|PackedMatrix|PackedConv|Codebook) (\\w+)\\(");
  const std::set<std::string> none = {"Upload", "Download", "Copy", "Clear", "Section", "Wait", "MakePackedMatrix"};
  std::set<std::string> names;
  for (std::sregex_iterator at(text.begin(), text.end(), op), end; at != end; ++at) {
    if (!none.contains((*at)[2])) names.insert((*at)[2]);
  }
  return names;
}

template <typename Map>
std::set<std::string> Names(const Map& map) {
  std::set<std::string> names;
  for (const auto& [name, call] : map) names.insert(name);
  return names;
}

template <typename AnyBackend, typename Map>
void ExpectRefusals(AnyBackend& backend, const Map& violations) {
  for (const auto& [name, call] : violations) {
    try {
      call(backend);
      ADD_FAILURE() << backend.name() << " takes a " << name << " that breaks the contract";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << backend.name() << ": " << name << ": " << error.what();
    }
  }
}

TEST(Contract, EveryOpHasAViolation) {
  EXPECT_EQ(Names(Violations()), OpsOf("backend.h"));
  EXPECT_EQ(Names(TrainingViolations()), OpsOf("training_backend.h"));
}

TEST(Contract, TheCpuRefusesEveryViolation) {
  CpuBackend backend(1);
  ExpectRefusals<Backend>(backend, Violations());
  ExpectRefusals<TrainingBackend>(backend, TrainingViolations());
}

TEST(Contract, CudaRefusesEveryViolationAndLaunchesNothing) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const auto script = std::make_shared<cuda::Script>();
    size_t launches = 0;
    script->on_launch = [&](const cuda::Launch&, const std::byte*) { ++launches; };
    const auto backend = cuda::MakeCudaBackend(std::make_unique<cuda::ScriptedDevice>(script), dtype);
    ExpectRefusals(*backend, Violations());
    backend->Wait();
    EXPECT_EQ(launches, 0u);
  }
}

}  // namespace
}  // namespace nextscale
