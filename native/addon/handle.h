// What every class that JavaScript sees has in common: it is made by us only, and whatever one of its methods throws
// becomes a JavaScript error.
#pragma once

#include <napi.h>

#include <memory>
#include <type_traits>
#include <utility>

#include "native/addon/environment.h"
#include "native/addon/error_map.h"

namespace nextscale::addon {

// Target: what a Class stands for, held by it.
template <typename Class, typename Target>
class Handle : public Napi::ObjectWrap<Class> {
 public:
  static Napi::Object New(Environment& environment, std::shared_ptr<Target> target) {
    environment.under_construction = std::move(target);
    return environment.Constructor(Class::kName).New({});
  }

 protected:
  explicit Handle(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<Class>(info),
        target_(
            std::static_pointer_cast<Target>(std::exchange(Environment::Of(info.Env())->under_construction, nullptr))) {
    if (target_ == nullptr)
      throw Napi::TypeError::New(info.Env(), std::string(Class::kName) + " cannot be constructed");
  }

  template <auto kMethod>
  static Napi::ClassPropertyDescriptor<Class> Method(const char* name) {
    return Napi::ObjectWrap<Class>::InstanceMethod(name, &Handle::template Guarded<kMethod>);
  }
  template <auto kGetter>
  static Napi::ClassPropertyDescriptor<Class> Getter(const char* name) {
    return Napi::ObjectWrap<Class>::InstanceAccessor(name, &Handle::template Guarded<kGetter>, nullptr);
  }
  template <auto kGetter, auto kSetter>
  static Napi::ClassPropertyDescriptor<Class> Property(const char* name) {
    return Napi::ObjectWrap<Class>::InstanceAccessor(name, &Handle::template Guarded<kGetter>,
                                                     &Handle::template GuardedSetter<kSetter>);
  }

  const std::shared_ptr<Target>& target() const { return target_; }
  std::shared_ptr<Target> TakeTarget() { return std::move(target_); }

 private:
  template <auto kMethod>
  Napi::Value Guarded(const Napi::CallbackInfo& info) {
    return Translated(info.Env(), [&]() -> Napi::Value {
      Class& self = static_cast<Class&>(*this);
      if constexpr (std::is_void_v<decltype((self.*kMethod)(info))>) {
        (self.*kMethod)(info);
        return info.Env().Undefined();
      } else {
        return (self.*kMethod)(info);
      }
    });
  }
  template <auto kSetter>
  void GuardedSetter(const Napi::CallbackInfo& info, const Napi::Value& value) {
    Translated(info.Env(), [&] { (static_cast<Class&>(*this).*kSetter)(value); });
  }

  std::shared_ptr<Target> target_;
};

}  // namespace nextscale::addon
