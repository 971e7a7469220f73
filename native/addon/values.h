// Single JavaScript values, checked: a wrong type throws a TypeError that names the argument or field, a value out of
// range throws Error(kInvalidArgument). Nothing here trusts that lib/ has checked it.
#pragma once

#include <napi.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "native/tokenizer/tokenizer.h"

namespace nextscale::addon {

constexpr size_t kMaxSafeInteger = (size_t{1} << 53) - 1;

Napi::Object ToObject(Napi::Value value, const char* what);
Napi::Array ToArray(Napi::Value value, const char* what);
Napi::Function ToFunction(Napi::Value value, const char* what);
std::string ToText(Napi::Value value, const char* what);
bool ToBool(Napi::Value value, const char* what);
double ToNumber(Napi::Value value, const char* what);
size_t ToSize(Napi::Value value, const char* what, size_t most);  // an integer in [0, most]
std::vector<size_t> ToSizes(Napi::Value value, const char* what, size_t most_elements);
uint64_t ToUint64(Napi::Value value, const char* what);  // a bigint in [0, 2^64)

// Copies of typed arrays.
std::vector<int32_t> ToInt32s(Napi::Value value, const char* what);
std::vector<float> ToFloats(Napi::Value value, const char* what);

// The elements of a caller's array, which the engine fills: valid while a reference keeps the array alive.
// Throws Error(kInvalidArgument) unless it has exactly `count` elements.
int32_t* Int32Output(Napi::Value value, const char* what, size_t count);
float* FloatOutput(Napi::Value value, const char* what, size_t count);
Pictures ToPictures(Napi::Value value, size_t count);  // a Uint8ClampedArray or a Float32Array

void RequireCount(const char* what, size_t found, size_t expected);

}  // namespace nextscale::addon
