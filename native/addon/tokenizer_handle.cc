#include "native/addon/tokenizer_handle.h"

#include <utility>
#include <vector>

#include "native/addon/values.h"
#include "native/base/error.h"

namespace nextscale::addon {

Napi::Function TokenizerHandle::Define(Napi::Env env) {
  return DefineClass(env, kName,
                     {Method<&TokenizerHandle::Decode>("decode"), Method<&TokenizerHandle::FeatureMap>("featureMap"),
                      Method<&TokenizerHandle::Encode>("encode"), Method<&TokenizerHandle::EncodeTrace>("encodeTrace"),
                      Method<&TokenizerHandle::Dispose>("dispose")});
}

Napi::Value TokenizerHandle::Decode(const Napi::CallbackInfo& info) {
  TokenizerEngine& tokenizer = target()->tokenizer();
  std::vector<int32_t> tokens = ToInt32s(info[0], "tokens");
  const Pictures out =
      ToPictures(info[1], tokens.size() / tokenizer.config().num_tokens() * tokenizer.config().image_numbers());
  return StartJob(info.Env(), target(), {info[1]},
                  [&](Done done) { return tokenizer.Decode(std::move(tokens), out, std::move(done)); });
}

Napi::Value TokenizerHandle::FeatureMap(const Napi::CallbackInfo& info) {
  TokenizerEngine& tokenizer = target()->tokenizer();
  std::vector<int32_t> tokens = ToInt32s(info[0], "tokens");
  float* const f_hats = FloatOutput(
      info[1], "fHats", tokens.size() / tokenizer.config().num_tokens() * tokenizer.config().latent_numbers());
  return StartJob(info.Env(), target(), {info[1]},
                  [&](Done done) { return tokenizer.FeatureMap(std::move(tokens), f_hats, std::move(done)); });
}

Napi::Value TokenizerHandle::Encode(const Napi::CallbackInfo& info) {
  TokenizerEngine& tokenizer = target()->tokenizer();
  std::vector<float> pixels = ToFloats(info[0], "pixels");
  int32_t* const tokens = Int32Output(
      info[1], "tokens", pixels.size() / tokenizer.config().image_numbers() * tokenizer.config().num_tokens());
  return StartJob(info.Env(), target(), {info[1]},
                  [&](Done done) { return tokenizer.Encode(std::move(pixels), tokens, std::move(done)); });
}

Napi::Value TokenizerHandle::EncodeTrace(const Napi::CallbackInfo& info) {
  TokenizerEngine& tokenizer = target()->tokenizer();
  const size_t numbers = tokenizer.config().latent_numbers();
  std::vector<float> pixels = ToFloats(info[0], "pixels");
  float* const f = FloatOutput(info[1], "f", numbers);
  float* const f_hats = FloatOutput(info[2], "fHats", tokenizer.config().num_scales() * numbers);
  return StartJob(info.Env(), target(), {info[1], info[2]},
                  [&](Done done) { return tokenizer.EncodeTrace(std::move(pixels), f, f_hats, std::move(done)); });
}

Napi::Value TokenizerHandle::Dispose(const Napi::CallbackInfo& info) {
  NS_REQUIRE(!target()->is_model(), ErrorCode::kInvalidArgument, "a model's tokenizer is disposed with the model");
  if (disposal_.IsEmpty()) disposal_ = Napi::Persistent(Core::Dispose(info.Env(), target()).As<Napi::Object>());
  return disposal_.Value();
}

}  // namespace nextscale::addon
