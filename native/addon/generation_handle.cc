#include "native/addon/generation_handle.h"

#include <utility>

#include "native/addon/convert.h"
#include "native/addon/values.h"
#include "native/base/error.h"

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
  listener.on_end = [mailbox, operation](GenerationEnd end) {
    mailbox->Post([operation, end = std::move(end)](Napi::Env env, Environment& environment) {
      const Operation generation = environment.Take(operation);
      generation.callback.Call({FromEnd(env, end)});
    });
  };
  return listener;
}

}  // namespace

Napi::Function GenerationHandle::Define(Napi::Env env) {
  return DefineClass(env, kName,
                     {Getter<&GenerationHandle::Id>("id"), Method<&GenerationHandle::SetDepth>("setDepth"),
                      Method<&GenerationHandle::Cancel>("cancel"), Method<&GenerationHandle::Decode>("decode")});
}

Napi::Value GenerationHandle::Start(const std::shared_ptr<Core>& core, Request request, Napi::Function on_event) {
  Environment& environment = core->environment();
  const Napi::Object object = New(environment, core);
  GenerationHandle& handle = *Unwrap(object);
  handle.num_images_ = request.num_images();
  environment.BeginWith(
      {.callback = Napi::Persistent(on_event), .deferred = {}, .kept = {}, .holds = core}, [&](uint64_t operation) {
        handle.id_ = core->engine().Start(std::move(request), ForwardTo(environment.mailbox(), operation));
      });
  return object;
}

GenerationHandle::~GenerationHandle() {
  if (id_ != 0 && !target()->disposed()) target()->engine().Release(id_);
}

Napi::Value GenerationHandle::Id(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(id_));
}

void GenerationHandle::SetDepth(const Napi::CallbackInfo& info) {
  Engine& engine = target()->engine();
  engine.SetDepth(id_, ToSize(info[0], "depth", engine.config().transformer.depth));
}

void GenerationHandle::Cancel(const Napi::CallbackInfo&) {
  if (!target()->disposed()) target()->engine().Cancel(id_);
}

Napi::Value GenerationHandle::Decode(const Napi::CallbackInfo& info) {
  Engine& engine = target()->engine();
  const Pictures out = ToPictures(info[0], num_images_ * engine.config().tokenizer.image_numbers());
  // The handle is kept too: dropping it would release what is decoded.
  return StartJob(info.Env(), target(), {info[0], info.This()},
                  [&](Done done) { return engine.DecodeGeneration(id_, out, std::move(done)); });
}

}  // namespace nextscale::addon
