// JavaScript objects <-> the core's structs, field by field as lib/native/contract.ts has them.
#pragma once

#include <napi.h>

#include <cstdint>
#include <string>
#include <vector>

#include "native/addon/tensor_files.h"
#include "native/generate/engine.h"
#include "native/model/config.h"

namespace nextscale::addon {

struct ModelSpec {
  TensorSource source;
  ModelConfig config;
  EngineOptions options;
  size_t threads = 1;
  // Empty: the CPU.
  std::string cuda_library;
  size_t cuda_device = 0;
  DType dtype = DType::kF32;  // of weights and activations on CUDA
};

ModelSpec ToModelSpec(Napi::Value value);
TensorSource ToTensorSource(const Napi::Object& spec);  // `files` and `tensors`
ModelConfig ToConfig(Napi::Value value);
size_t ToThreads(Napi::Value value);

// Also checks the lengths and ranges that the engine indexes with; throws Error(kInvalidArgument).
Request ToRequest(Napi::Value value, const ModelConfig& config);

// Every element must be a depth that the model has; throws Error(kInvalidArgument).
void RequireDepths(const char* what, const std::vector<int32_t>& depths, const ModelConfig& config);
Strategy ToStrategy(Napi::Value value);

Napi::Object FromScale(Napi::Env env, const ScaleResult& scale);
Napi::Object FromEnd(Napi::Env env, const EndResult& end);
Napi::Object FromStats(Napi::Env env, const EngineStats& stats);

}  // namespace nextscale::addon
