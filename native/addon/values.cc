#include "native/addon/values.h"

#include <algorithm>
#include <type_traits>

#include "native/base/error.h"

namespace nextscale::addon {
namespace {

[[noreturn]] void ThrowType(Napi::Env env, const char* what, const char* expected) {
  throw Napi::TypeError::New(env, Message(what, " must be ", expected));
}

template <typename Array>
Array ToTyped(Napi::Value value, const char* what, napi_typedarray_type type, const char* expected) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type)
    ThrowType(value.Env(), what, expected);
  return value.As<Array>();
}

template <typename Array>
auto Copy(const Array& array) {
  using Element = std::remove_pointer_t<decltype(array.Data())>;
  return array.ElementLength() == 0
             ? std::vector<std::remove_const_t<Element>>()
             : std::vector<std::remove_const_t<Element>>(array.Data(), array.Data() + array.ElementLength());
}

}  // namespace

Napi::Object ToObject(Napi::Value value, const char* what) {
  if (!value.IsObject()) ThrowType(value.Env(), what, "an object");
  return value.As<Napi::Object>();
}

double ToNumber(Napi::Value value, const char* what) {
  if (!value.IsNumber()) ThrowType(value.Env(), what, "a number");
  return value.As<Napi::Number>().DoubleValue();
}

bool ToBool(Napi::Value value, const char* what) {
  if (!value.IsBoolean()) ThrowType(value.Env(), what, "true or false");
  return value.As<Napi::Boolean>().Value();
}

std::string ToText(Napi::Value value, const char* what) {
  if (!value.IsString()) ThrowType(value.Env(), what, "a string");
  return value.As<Napi::String>().Utf8Value();
}

Napi::Array ToArray(Napi::Value value, const char* what) {
  if (!value.IsArray()) ThrowType(value.Env(), what, "an array");
  return value.As<Napi::Array>();
}

size_t ToSize(Napi::Value value, const char* what, size_t most) {
  const double number = ToNumber(value, what);
  // Written so that NaN fails, and so that the cast below is defined.
  const bool fits = number >= 0 && number <= static_cast<double>(std::min(most, kMaxSafeInteger));
  NS_REQUIRE(fits && static_cast<double>(static_cast<size_t>(number)) == number, ErrorCode::kInvalidArgument, what,
             " is ", number, "; expected an integer from 0 to ", most);
  return static_cast<size_t>(number);
}

Napi::Function ToFunction(Napi::Value value, const char* what) {
  if (!value.IsFunction()) ThrowType(value.Env(), what, "a function");
  return value.As<Napi::Function>();
}

std::vector<int32_t> ToInt32s(Napi::Value value, const char* what) {
  return Copy(ToTyped<Napi::Int32Array>(value, what, napi_int32_array, "an Int32Array"));
}

std::vector<float> ToFloats(Napi::Value value, const char* what) {
  return Copy(ToTyped<Napi::Float32Array>(value, what, napi_float32_array, "a Float32Array"));
}

int32_t* Int32Output(Napi::Value value, const char* what, size_t count) {
  auto array = ToTyped<Napi::Int32Array>(value, what, napi_int32_array, "an Int32Array");
  RequireCount(what, array.ElementLength(), count);
  return array.Data();
}

float* FloatOutput(Napi::Value value, const char* what, size_t count) {
  auto array = ToTyped<Napi::Float32Array>(value, what, napi_float32_array, "a Float32Array");
  RequireCount(what, array.ElementLength(), count);
  return array.Data();
}

Pictures ToPictures(Napi::Value value, size_t count) {
  if (value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_float32_array) {
    return {.u8 = nullptr, .f32 = FloatOutput(value, "out", count)};
  }
  auto bytes =
      ToTyped<Napi::Uint8Array>(value, "out", napi_uint8_clamped_array, "a Uint8ClampedArray or a Float32Array");
  RequireCount("out", bytes.ElementLength(), count);
  return {.u8 = bytes.Data(), .f32 = nullptr};
}

uint64_t ToUint64(Napi::Value value, const char* what) {
  if (!value.IsBigInt()) ThrowType(value.Env(), what, "a bigint");
  bool lossless = false;
  const uint64_t number = value.As<Napi::BigInt>().Uint64Value(&lossless);
  NS_REQUIRE(lossless, ErrorCode::kInvalidArgument, what, " is out of range; expected 0 to 2^64 - 1");
  return number;
}

std::vector<size_t> ToSizes(Napi::Value value, const char* what, size_t most_elements) {
  const Napi::Array array = ToArray(value, what);
  NS_REQUIRE(array.Length() <= most_elements, ErrorCode::kInvalidArgument, what, " has ", array.Length(),
             " elements; expected at most ", most_elements);
  std::vector<size_t> sizes;
  for (uint32_t i = 0; i < array.Length(); ++i) sizes.push_back(ToSize(array.Get(i), what, kMaxSafeInteger));
  return sizes;
}

void RequireCount(const char* what, size_t found, size_t expected) {
  NS_REQUIRE(found == expected, ErrorCode::kInvalidArgument, what, " has ", found, " elements; expected ", expected);
}

}  // namespace nextscale::addon
