#include "native/addon/open_model.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "native/addon/convert.h"
#include "native/addon/core.h"
#include "native/addon/model_handle.h"
#include "native/addon/tensor_files.h"
#include "native/addon/tokenizer_handle.h"
#include "native/addon/values.h"
#include "native/backend/cpu/cpu_backend.h"
#include "native/backend/cuda/host/cuda_backend.h"
#include "native/backend/cuda/host/kernel_library.h"

namespace nextscale::addon {
namespace {

// Reports progress in whole percents, and stops the loading when nobody is left to hear of it.
class Progress {
 public:
  Progress(std::shared_ptr<Mailbox> mailbox, uint64_t operation)
      : mailbox_(std::move(mailbox)), operation_(operation) {}

  void operator()(double fraction) {
    NS_REQUIRE(!mailbox_->closed(), ErrorCode::kAborted, "the environment ended while a model was opened");
    const int percent = static_cast<int>(fraction * 100);
    if (percent == last_percent_) return;
    last_percent_ = percent;
    mailbox_->Post([operation = operation_, fraction](Napi::Env env, Environment& environment) {
      if (const Operation* load = environment.Find(operation)) load->callback.Call({Napi::Number::New(env, fraction)});
    });
  }

 private:
  std::shared_ptr<Mailbox> mailbox_;
  uint64_t operation_;
  int last_percent_ = -1;
};

std::unique_ptr<Backend> MakeBackend(const DeviceSpec& device) {
  if (device.cuda_library.empty()) return MakeCpuBackend(device.threads);
  return cuda::MakeCudaBackend(cuda::Library::Open(device.cuda_library)->OpenDevice(device.cuda_index), device.dtype);
}

}  // namespace

Napi::Value OpenModel(const Napi::CallbackInfo& info) {
  return Translated(info.Env(), [&]() -> Napi::Value {
    const auto spec = std::make_shared<const ModelSpec>(ToModelSpec(info[0]));
    const std::shared_ptr<Environment> environment = Environment::Of(info.Env());
    Operation operation{
        .callback = Napi::Persistent(ToFunction(info[1], "onProgress")), .deferred = {}, .kept = {}, .holds = {}};
    const auto load = [spec, mailbox = environment->mailbox()](uint64_t id) {
      Validate(spec->config);
      Progress progress(mailbox, id);
      return TensorFiles(spec->source).Use([&](const TensorTable& tensors) {
        return std::make_unique<Engine>(spec->config, tensors, spec->options, MakeBackend(spec->device),
                                        [&](double fraction) { progress(fraction); });
      });
    };
    return environment->Await(info.Env(), std::move(operation), load,
                              [](Napi::Env env, std::unique_ptr<Engine> engine) -> Napi::Value {
                                const std::shared_ptr<Environment> owner = Environment::Of(env);
                                return ModelHandle::New(*owner, std::make_shared<Core>(owner, std::move(engine)));
                              });
  });
}

Napi::Value OpenTokenizer(const Napi::CallbackInfo& info) {
  return Translated(info.Env(), [&]() -> Napi::Value {
    const auto spec = std::make_shared<const TokenizerSpec>(ToTokenizerSpec(info[0]));
    const auto load = [spec](uint64_t) {
      auto engine = TensorFiles(spec->source).Use([&](const TensorTable& tensors) {
        return std::make_unique<TokenizerEngine>(spec->config, tensors, MakeBackend(spec->device));
      });
      engine->Start();
      return engine;
    };
    return Environment::Of(info.Env())
        ->Await(info.Env(), {}, load, [](Napi::Env env, std::unique_ptr<TokenizerEngine> engine) -> Napi::Value {
          const std::shared_ptr<Environment> owner = Environment::Of(env);
          return TokenizerHandle::New(*owner, std::make_shared<Core>(owner, std::move(engine)));
        });
  });
}

}  // namespace nextscale::addon
