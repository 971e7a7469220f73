#include "native/addon/open_model.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "native/addon/convert.h"
#include "native/addon/environment.h"
#include "native/addon/error_map.h"
#include "native/addon/model_handle.h"
#include "native/addon/tensor_files.h"
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

std::unique_ptr<Backend> MakeBackend(const ModelSpec& spec) {
  if (spec.cuda_library.empty()) return MakeCpuBackend(spec.threads);
  return cuda::MakeCudaBackend(cuda::Library::Open(spec.cuda_library)->OpenDevice(spec.cuda_device), spec.dtype);
}

std::unique_ptr<Engine> Load(const ModelSpec& spec, Progress& progress) {
  Validate(spec.config);
  TensorFiles source = OpenTensorFiles(spec.source);
  return std::make_unique<Engine>(spec.config, std::move(source.tensors), spec.options, MakeBackend(spec), source.files,
                                  [&](double done) { progress(done); });
}

void LoadAndPost(const std::shared_ptr<Mailbox>& mailbox, uint64_t operation, const ModelSpec& spec) {
  // Holds the engine on its way: if the environment ends first, the engine dies with the dropped task.
  const auto loaded = std::make_shared<std::unique_ptr<Engine>>();
  EndResult result;
  try {
    Progress progress(mailbox, operation);
    *loaded = Load(spec, progress);
  } catch (...) {
    result = CurrentFailure();
  }
  mailbox->Post([operation, loaded, result, config = spec.config](Napi::Env env, Environment& environment) {
    const Operation load = environment.Take(operation);
    if (!result.ok) {
      load.deferred->Reject(ToJsError(env, result).Value());
      return;
    }
    load.deferred->Resolve(
        ModelHandle::Wrap(std::make_shared<ModelCore>(Environment::Of(env), std::move(*loaded), config)));
  });
}

}  // namespace

Napi::Value OpenModel(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Translated(env, [&]() -> Napi::Value {
    auto spec = std::make_shared<ModelSpec>(ToModelSpec(info[0]));
    Napi::FunctionReference on_progress = Napi::Persistent(ToFunction(info[1], "onProgress"));
    const std::shared_ptr<Environment> environment = Environment::Of(env);
    const auto deferred = Napi::Promise::Deferred::New(env);
    const uint64_t operation =
        environment->Begin({.callback = std::move(on_progress), .deferred = deferred, .kept = {}, .core = nullptr});
    try {
      environment->RunInBackground(
          [mailbox = environment->mailbox(), operation, spec] { LoadAndPost(mailbox, operation, *spec); });
    } catch (...) {
      environment->Take(operation);
      throw;
    }
    return deferred.Promise();
  });
}

}  // namespace nextscale::addon
