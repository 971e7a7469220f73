#include "native/addon/generation_handle.h"

#include <utility>

#include "native/addon/convert.h"
#include "native/addon/error_map.h"
#include "native/addon/values.h"

namespace nextscale::addon {
namespace {

Listener ForwardTo(std::shared_ptr<Mailbox> mailbox, uint64_t operation) {
  Listener listener;
  listener.on_scale = [mailbox, operation](ScaleResult scale) {
    mailbox->Post([operation, scale = std::move(scale)](Napi::Env env, Environment& environment) {
      const Operation* generation = environment.Find(operation);
      if (generation != nullptr) generation->callback.Call({FromScale(env, scale)});
    });
  };
  listener.on_end = [mailbox, operation](EndResult end) {
    mailbox->Post([operation, end = std::move(end)](Napi::Env env, Environment& environment) {
      const Operation generation = environment.Take(operation);
      generation.callback.Call({FromEnd(env, end)});
    });
  };
  return listener;
}

}  // namespace

Napi::Function GenerationHandle::Define(Napi::Env env) {
  return DefineClass(
      env, "NativeGeneration",
      {InstanceAccessor<&GenerationHandle::Id>("id"), InstanceMethod<&GenerationHandle::SetDepth>("setDepth"),
       InstanceMethod<&GenerationHandle::Cancel>("cancel"), InstanceMethod<&GenerationHandle::Decode>("decode")});
}

Napi::Value GenerationHandle::Start(const std::shared_ptr<ModelCore>& core, Request request, Napi::Function on_event) {
  Environment& environment = core->environment();
  environment.under_construction = core;
  const Napi::Object object = environment.generation_class.New({});
  GenerationHandle& handle = *Unwrap(object);
  handle.num_images_ = request.labels.size();
  const uint64_t operation =
      environment.Begin({.callback = Napi::Persistent(on_event), .deferred = {}, .kept = {}, .core = core});
  try {
    handle.id_ = core->engine().Start(std::move(request), ForwardTo(environment.mailbox(), operation));
  } catch (...) {
    environment.Take(operation);
    throw;
  }
  handle.core_ = core;
  return object;
}

GenerationHandle::GenerationHandle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<GenerationHandle>(info) {
  const std::shared_ptr<ModelCore> core = std::exchange(Environment::Of(info.Env())->under_construction, nullptr);
  if (core == nullptr) throw Napi::TypeError::New(info.Env(), "a generation is made by generate()");
}

GenerationHandle::~GenerationHandle() {
  if (core_ != nullptr && !core_->disposed()) core_->engine().Release(id_);
}

Napi::Value GenerationHandle::Id(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(id_));
}

void GenerationHandle::SetDepth(const Napi::CallbackInfo& info) {
  Translated(info.Env(), [&] {
    NS_CHECK(core_ != nullptr);
    core_->engine().SetDepth(id_, ToSize(info[0], "depth", core_->config().transformer.depth));
  });
}

void GenerationHandle::Cancel(const Napi::CallbackInfo& info) {
  Translated(info.Env(), [&] {
    if (core_ != nullptr && !core_->disposed()) core_->engine().Cancel(id_);
  });
}

Napi::Value GenerationHandle::Decode(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Translated(env, [&]() -> Napi::Value {
    NS_CHECK(core_ != nullptr);
    Engine& engine = core_->engine();
    const size_t side = core_->config().tokenizer.image_side();
    const ImageOutput out = ToImageOutput(info[0], num_images_ * side * side * 3);
    // The handle is kept too: dropping it would release what is decoded.
    return StartJob(env, core_, {info[0], info.This()},
                    [&](Done done) { engine.DecodeGeneration(id_, out.u8, out.f32, std::move(done)); });
  });
}

}  // namespace nextscale::addon
