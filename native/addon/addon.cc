// What the addon exports: NativeAddon of lib/native/contract.ts.
#include <napi.h>

#include <algorithm>
#include <vector>

#include "native/addon/convert.h"
#include "native/addon/cpu_info.h"
#include "native/addon/cuda_probe.h"
#include "native/addon/environment.h"
#include "native/addon/error_map.h"
#include "native/addon/generation_handle.h"
#include "native/addon/model_handle.h"
#include "native/addon/open_model.h"
#include "native/addon/tokenizer_handle.h"
#include "native/addon/trainer_handle.h"
#include "native/addon/values.h"
#include "native/backend/cpu/kernels.h"
#include "native/model/subnet.h"

namespace nextscale::addon {
namespace {

constexpr size_t kMaxDepth = 256;
constexpr size_t kMaxCodebook = size_t{1} << 20;

Napi::Value JsSubnetBlocks(const Napi::CallbackInfo& info) {
  return Translated(info.Env(), [&] {
    const size_t full_depth = ToSize(info[0], "fullDepth", kMaxDepth), depth = ToSize(info[1], "depth", kMaxDepth);
    const std::vector<uint32_t> blocks = SubnetBlocks(full_depth, depth, ToStrategy(info[2]));
    auto array = Napi::Int32Array::New(info.Env(), blocks.size());
    std::copy(blocks.begin(), blocks.end(), array.Data());
    return array;
  });
}

Napi::Value JsFilterProbabilities(const Napi::CallbackInfo& info) {
  return Translated(info.Env(), [&] {
    std::vector<float> logits = ToFloats(info[0], "logits");
    NS_REQUIRE(!logits.empty() && logits.size() <= kMaxCodebook, ErrorCode::kInvalidArgument, "logits has ",
               logits.size(), " elements; expected 1 to ", kMaxCodebook);
    const size_t top_k = ToSize(info[1], "topK", logits.size());
    const auto top_p = static_cast<float>(ToNumber(info[2], "topP"));
    Context context(1);
    FilterProbabilities(context, logits.data(), logits.size(), top_k, top_p);
    auto array = Napi::Float32Array::New(info.Env(), logits.size());
    std::copy(logits.begin(), logits.end(), array.Data());
    return array;
  });
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  Environment::Install(env);
  const std::shared_ptr<Environment> environment = Environment::Of(env);
  environment->Define(ModelHandle::kName, ModelHandle::Define(env));
  environment->Define(TokenizerHandle::kName, TokenizerHandle::Define(env));
  environment->Define(GenerationHandle::kName, GenerationHandle::Define(env));
  environment->Define(TrainerHandle::kName, TrainerHandle::Define(env));
  exports.Set("version", NEXTSCALE_VERSION);
  exports.Set("cpuInfo", Napi::Function::New(env, CpuInfo, "cpuInfo"));
  exports.Set("probeCuda", Napi::Function::New(env, ProbeCuda, "probeCuda"));
  exports.Set("openModel", Napi::Function::New(env, OpenModel, "openModel"));
  exports.Set("openTokenizer", Napi::Function::New(env, OpenTokenizer, "openTokenizer"));
  exports.Set("openTrainer", Napi::Function::New(env, OpenTrainer, "openTrainer"));
  exports.Set("trainerBytes", Napi::Function::New(env, JsTrainerBytes, "trainerBytes"));
  exports.Set("subnetBlocks", Napi::Function::New(env, JsSubnetBlocks, "subnetBlocks"));
  exports.Set("filterProbabilities", Napi::Function::New(env, JsFilterProbabilities, "filterProbabilities"));
  return exports;
}

}  // namespace

NODE_API_MODULE(nextscale, Init)

}  // namespace nextscale::addon
