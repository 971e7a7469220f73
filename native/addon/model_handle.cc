#include "native/addon/model_handle.h"

#include <utility>

#include "native/addon/convert.h"
#include "native/addon/error_map.h"
#include "native/addon/generation_handle.h"
#include "native/addon/values.h"

namespace nextscale::addon {
namespace {

// How many whole items of `size` elements an array holds, at least one.
size_t NumItems(const char* what, size_t elements, size_t size) {
  NS_REQUIRE(elements != 0 && elements % size == 0, ErrorCode::kInvalidArgument, what, " has ", elements,
             " elements; expected a multiple of ", size);
  return elements / size;
}

size_t ImageElements(const ModelConfig& config) { return config.tokenizer.image_numbers(); }

}  // namespace

Napi::Function ModelHandle::Define(Napi::Env env) {
  return DefineClass(
      env, "NativeModel",
      {InstanceMethod<&ModelHandle::Generate>("generate"), InstanceMethod<&ModelHandle::Decode>("decode"),
       InstanceMethod<&ModelHandle::Encode>("encode"), InstanceMethod<&ModelHandle::EncodeTrace>("encodeTrace"),
       InstanceMethod<&ModelHandle::SetPreviewMatrix>("setPreviewMatrix"), InstanceMethod<&ModelHandle::Stats>("stats"),
       InstanceMethod<&ModelHandle::PeakBytes>("peakBytes"), InstanceMethod<&ModelHandle::Dispose>("dispose")});
}

Napi::Object ModelHandle::Wrap(std::shared_ptr<ModelCore> core) {
  Environment& environment = core->environment();
  environment.under_construction = std::move(core);
  return environment.model_class.New({});
}

ModelHandle::ModelHandle(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<ModelHandle>(info),
      core_(std::exchange(Environment::Of(info.Env())->under_construction, nullptr)) {
  if (core_ == nullptr) throw Napi::TypeError::New(info.Env(), "a model is made by openModel()");
}

Napi::Value ModelHandle::Generate(const Napi::CallbackInfo& info) {
  return Translated(info.Env(), [&] {
    core_->engine();  // a disposed model says so before anything else
    Request request = ToRequest(info[0], core_->config());
    return GenerationHandle::Start(core_, std::move(request), ToFunction(info[1], "onEvent"));
  });
}

Napi::Value ModelHandle::Decode(const Napi::CallbackInfo& info) {
  return Translated(info.Env(), [&] {
    Engine& engine = core_->engine();
    std::vector<int32_t> tokens = ToInt32s(info[0], "tokens");
    const size_t count = NumItems("tokens", tokens.size(), core_->config().num_tokens());
    for (const int32_t token : tokens) {
      NS_REQUIRE(token >= 0 && static_cast<size_t>(token) < core_->config().tokenizer.codebook_size,
                 ErrorCode::kInvalidArgument, "token ", token, " is out of range; the codebook has ",
                 core_->config().tokenizer.codebook_size, " entries");
    }
    const ImageOutput out = ToImageOutput(info[1], count * ImageElements(core_->config()));
    return StartJob(info.Env(), core_, {info[1]},
                    [&](Done done) { engine.Decode(std::move(tokens), count, out.u8, out.f32, std::move(done)); });
  });
}

Napi::Value ModelHandle::Encode(const Napi::CallbackInfo& info) {
  return Translated(info.Env(), [&] {
    Engine& engine = core_->engine();
    std::vector<float> pixels = ToFloats(info[0], "pixels");
    const size_t count = NumItems("pixels", pixels.size(), ImageElements(core_->config()));
    int32_t* tokens = Int32Output(info[1], "tokens", count * core_->config().num_tokens());
    return StartJob(info.Env(), core_, {info[1]},
                    [&](Done done) { engine.Encode(std::move(pixels), count, tokens, std::move(done)); });
  });
}

Napi::Value ModelHandle::EncodeTrace(const Napi::CallbackInfo& info) {
  return Translated(info.Env(), [&] {
    Engine& engine = core_->engine();
    const ModelConfig& config = core_->config();
    const size_t map = config.tokenizer.code_dim * config.side() * config.side();
    std::vector<float> pixels = ToFloats(info[0], "pixels");
    NS_REQUIRE(pixels.size() == ImageElements(config), ErrorCode::kInvalidArgument, "pixels has ", pixels.size(),
               " elements; expected one image of ", ImageElements(config));
    float* f = FloatOutput(info[1], "f", map);
    float* f_hats = FloatOutput(info[2], "fHats", config.num_scales() * map);
    return StartJob(info.Env(), core_, {info[1], info[2]},
                    [&](Done done) { engine.EncodeTrace(std::move(pixels), f, f_hats, std::move(done)); });
  });
}

void ModelHandle::SetPreviewMatrix(const Napi::CallbackInfo& info) {
  Translated(info.Env(), [&] {
    std::vector<float> matrix = ToFloats(info[0], "matrix");
    const size_t expected = 3 * (core_->config().tokenizer.code_dim + 1);
    NS_REQUIRE(matrix.size() == expected, ErrorCode::kInvalidArgument, "matrix has ", matrix.size(),
               " elements; expected ", expected);
    core_->engine().SetPreviewMatrix(std::move(matrix));
  });
}

Napi::Value ModelHandle::Stats(const Napi::CallbackInfo& info) {
  return Translated(info.Env(), [&] { return FromStats(info.Env(), core_->engine().Stats()); });
}

Napi::Value ModelHandle::PeakBytes(const Napi::CallbackInfo& info) {
  return Translated(info.Env(), [&] {
    const std::vector<int32_t> depths = ToInt32s(info[0], "depths");
    RequireDepths("depths", depths, core_->config());
    const size_t sequences = ToSize(info[1], "sequences", size_t{1} << 21);
    return Napi::Number::New(info.Env(), static_cast<double>(core_->engine().PeakBytes(depths, sequences)));
  });
}

Napi::Value ModelHandle::Dispose(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Translated(env, [&]() -> Napi::Value {
    if (!disposal_.IsEmpty()) return disposal_.Value();
    Environment& environment = core_->environment();
    const auto deferred = Napi::Promise::Deferred::New(env);
    disposal_ = Napi::Persistent(deferred.Promise().As<Napi::Object>());
    const uint64_t operation = environment.Begin({.callback = {}, .deferred = deferred, .kept = {}, .core = core_});
    environment.CloseInBackground(core_->TakeEngine(), environment.SettleLater(operation));
    return deferred.Promise();
  });
}

}  // namespace nextscale::addon
