#include "native/addon/model_handle.h"

#include <vector>

#include "native/addon/convert.h"
#include "native/addon/generation_handle.h"
#include "native/addon/tokenizer_handle.h"
#include "native/addon/values.h"

namespace nextscale::addon {

Napi::Function ModelHandle::Define(Napi::Env env) {
  return DefineClass(env, kName,
                     {Method<&ModelHandle::Generate>("generate"), Getter<&ModelHandle::Tokenizer>("tokenizer"),
                      Method<&ModelHandle::SetPreviewMatrix>("setPreviewMatrix"), Method<&ModelHandle::Stats>("stats"),
                      Method<&ModelHandle::PeakBytes>("peakBytes"), Method<&ModelHandle::Dispose>("dispose")});
}

Napi::Value ModelHandle::Generate(const Napi::CallbackInfo& info) {
  const ModelConfig& config = target()->engine().config();  // a disposed model says so before anything else
  return GenerationHandle::Start(target(), ToRequest(info[0], config), ToFunction(info[1], "onEvent"));
}

Napi::Value ModelHandle::Tokenizer(const Napi::CallbackInfo&) {
  if (tokenizer_.IsEmpty()) tokenizer_ = Napi::Persistent(TokenizerHandle::New(target()->environment(), target()));
  return tokenizer_.Value();
}

void ModelHandle::SetPreviewMatrix(const Napi::CallbackInfo& info) {
  target()->engine().SetPreviewMatrix(ToFloats(info[0], "matrix"));
}

Napi::Value ModelHandle::Stats(const Napi::CallbackInfo& info) {
  return FromStats(info.Env(), target()->engine().Stats());
}

Napi::Value ModelHandle::PeakBytes(const Napi::CallbackInfo& info) {
  const std::vector<int32_t> depths = ToInt32s(info[0], "depths");
  const size_t sequences = ToSize(info[1], "sequences", size_t{1} << 21);
  return Napi::Number::New(info.Env(), static_cast<double>(target()->engine().PeakBytes(depths, sequences)));
}

Napi::Value ModelHandle::Dispose(const Napi::CallbackInfo& info) {
  if (disposal_.IsEmpty()) disposal_ = Napi::Persistent(Core::Dispose(info.Env(), target()).As<Napi::Object>());
  return disposal_.Value();
}

}  // namespace nextscale::addon
