#include "native/addon/cpu_info.h"

#include <cstdint>
#include <string>

// Before Highway's own headers: it says which targets are compiled.
#include "native/backend/cpu/simd.h"

namespace nextscale::addon {
namespace {

Napi::Array SupportedTargets(Napi::Env env) {
  Napi::Array names = Napi::Array::New(env);
  // The best target has the lowest bit.
  for (int64_t left = hwy::SupportedTargets() & HWY_TARGETS; left != 0; left &= left - 1) {
    names.Set(names.Length(), Napi::String::New(env, hwy::TargetName(left & -left)));
  }
  return names;
}

}  // namespace

Napi::Value CpuInfo(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Object result = Napi::Object::New(env);
  result.Set("target", Napi::String::New(env, std::string(SimdTargetName())));
  result.Set("supported", SupportedTargets(env));
  return result;
}

}  // namespace nextscale::addon
