// JavaScript objects <-> the core's structs, field by field as lib/native/contract.ts has them.
#pragma once

#include <napi.h>

#include <cstddef>
#include <string>

#include "native/addon/tensor_files.h"
#include "native/generate/engine.h"
#include "native/model/config.h"

namespace nextscale::addon {

// What a model or a tokenizer runs on.
struct DeviceSpec {
  size_t threads = 1;
  // Empty: the CPU.
  std::string cuda_library;
  size_t cuda_index = 0;
  DType dtype = DType::kF32;  // of weights and activations on CUDA
};

struct ModelSpec {
  TensorSource source;
  ModelConfig config;
  EngineOptions options;
  DeviceSpec device;
};

struct TokenizerSpec {
  TensorSource source;
  TokenizerConfig config;
  DeviceSpec device;
};

ModelSpec ToModelSpec(Napi::Value value);
TokenizerSpec ToTokenizerSpec(Napi::Value value);
TensorSource ToTensorSource(const Napi::Object& spec);  // `files` and `tensors`
ModelConfig ToConfig(Napi::Value value);
size_t ToThreads(Napi::Value value);
Strategy ToStrategy(Napi::Value value);

// Field by field (ForEach); whether the values make sense the engine says.
Request ToRequest(Napi::Value value, const ModelConfig& config);

Napi::Object FromScale(Napi::Env env, const ScaleResult& scale);
Napi::Object FromEnd(Napi::Env env, const GenerationEnd& end);
Napi::Object FromStats(Napi::Env env, const EngineStats& stats);

}  // namespace nextscale::addon
