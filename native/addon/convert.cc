#include "native/addon/convert.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

#include "native/addon/values.h"
#include "native/base/error.h"

namespace nextscale::addon {
namespace {

constexpr size_t kMaxThreads = 1024;
constexpr size_t kMaxRank = 8;
constexpr size_t kMaxImages = size_t{1} << 20;

// One of a few words.
template <typename Value, size_t kCount>
Value ToChoice(Napi::Value value, const char* what, const std::pair<std::string_view, Value> (&choices)[kCount]) {
  const std::string text = ToText(value, what);
  for (const auto& [word, choice] : choices) {
    if (text == word) return choice;
  }
  std::string words;
  for (const auto& [word, choice] : choices) words += (words.empty() ? "\"" : ", \"") + std::string(word) + "\"";
  throw Error(ErrorCode::kInvalidArgument, Message(what, " is \"", text, "\"; expected one of ", words));
}

DType ToDType(Napi::Value value, const char* what) {
  return ToChoice<DType>(value, what, {{"f32", DType::kF32}, {"f16", DType::kF16}, {"bf16", DType::kBF16}});
}

void RequireAllIn(const char* what, const std::vector<int32_t>& values, int64_t low, int64_t high) {
  for (size_t i = 0; i < values.size(); ++i) {
    NS_REQUIRE(values[i] >= low && values[i] <= high, ErrorCode::kInvalidArgument, what, "[", i, "] is ", values[i],
               "; expected ", low, " to ", high);
  }
}

TensorRange ToTensorRange(Napi::Value value) {
  const Napi::Object object = ToObject(value, "tensor");
  TensorRange range;
  range.name = ToText(object.Get("name"), "name of a tensor");
  range.dtype = ToDType(object.Get("dtype"), "dtype of a tensor");
  range.shape = ToSizes(object.Get("shape"), "shape of a tensor", kMaxRank);
  range.file = ToSize(object.Get("file"), "file of a tensor", kMaxSafeInteger);
  range.offset = ToSize(object.Get("offset"), "offset of a tensor", kMaxSafeInteger);
  return range;
}

std::string_view ReasonName(DepthReason reason) {
  switch (reason) {
    case DepthReason::kPlan:
      return "plan";
    case DepthReason::kSet:
      return "set";
    case DepthReason::kDeadline:
      return "deadline";
    case DepthReason::kLate:
      return "late";
  }
  return "plan";
}

template <typename Array, typename Element>
Array NewArray(Napi::Env env, const std::vector<Element>& values) {
  Array array = Array::New(env, values.size());
  if (!values.empty()) std::memcpy(array.Data(), values.data(), values.size() * sizeof(Element));
  return array;
}

// Captured tensors are null when nothing was captured.
Napi::Value FloatsOrNull(Napi::Env env, const std::vector<float>& values) {
  if (values.empty()) return env.Null();
  return NewArray<Napi::Float32Array>(env, values);
}

Napi::Value BytesOrNull(Napi::Env env, const std::vector<uint8_t>& values) {
  if (values.empty()) return env.Null();
  Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(env, values.size());
  std::memcpy(buffer.Data(), values.data(), values.size());
  return Napi::Uint8Array::New(env, values.size(), buffer, 0, napi_uint8_clamped_array);
}

Napi::Number Count(Napi::Env env, size_t value) { return Napi::Number::New(env, static_cast<double>(value)); }

}  // namespace

ModelConfig ToConfig(Napi::Value value) {
  const Napi::Object object = ToObject(value, "config");
  const auto size = [&](const char* name) { return ToSize(object.Get(name), name, kMaxSafeInteger); };
  ModelConfig config;
  config.transformer.depth = size("depth");
  config.transformer.width = size("width");
  config.transformer.num_heads = size("numHeads");
  config.transformer.mlp_width = size("mlpWidth");
  config.transformer.num_classes = size("numClasses");
  config.transformer.shared_ada = ToBool(object.Get("sharedAda"), "sharedAda");
  config.transformer.l2_norm = ToBool(object.Get("l2Norm"), "l2Norm");
  config.tokenizer.codebook_size = size("codebookSize");
  config.tokenizer.code_dim = size("codeDim");
  config.tokenizer.num_residual_convs = size("numResidualConvs");
  config.tokenizer.residual_mix = static_cast<float>(ToNumber(object.Get("residualMix"), "residualMix"));
  config.tokenizer.channels = size("channels");
  config.tokenizer.multipliers = ToSizes(object.Get("multipliers"), "multipliers", 64);
  config.tokenizer.num_res_blocks = size("numResBlocks");
  config.tokenizer.sides = ToSizes(object.Get("sides"), "sides", 256);
  return config;
}

void RequireDepths(const char* what, const std::vector<int32_t>& depths, const ModelConfig& config) {
  const auto full_depth = static_cast<int64_t>(config.transformer.depth);
  RequireAllIn(what, depths, std::min<int64_t>(2, full_depth), full_depth);
}

Strategy ToStrategy(Napi::Value value) {
  return ToChoice<Strategy>(value, "strategy", {{"even", Strategy::kEven}, {"nested", Strategy::kNested}});
}

TensorSource ToTensorSource(const Napi::Object& spec) {
  TensorSource source;
  const Napi::Array files = ToArray(spec.Get("files"), "files");
  for (uint32_t i = 0; i < files.Length(); ++i) source.files.push_back(ToText(files.Get(i), "name of a file"));
  const Napi::Array tensors = ToArray(spec.Get("tensors"), "tensors");
  for (uint32_t i = 0; i < tensors.Length(); ++i) {
    const Napi::HandleScope scope(spec.Env());
    source.tensors.push_back(ToTensorRange(tensors.Get(i)));
  }
  return source;
}

size_t ToThreads(Napi::Value value) {
  const size_t threads = ToSize(value, "threads", kMaxThreads);
  NS_REQUIRE(threads >= 1, ErrorCode::kInvalidArgument, "threads is 0; expected 1 to ", kMaxThreads);
  return threads;
}

ModelSpec ToModelSpec(Napi::Value value) {
  const Napi::Object object = ToObject(value, "spec");
  ModelSpec spec;
  spec.source = ToTensorSource(object);
  spec.config = ToConfig(object.Get("config"));
  spec.threads = ToThreads(object.Get("threads"));
  spec.options.kv_bytes = ToSize(object.Get("kvBytes"), "kvBytes", kMaxSafeInteger);
  spec.options.kv_dtype = ToDType(object.Get("kvDtype"), "kvDtype");
  spec.options.strategy = ToStrategy(object.Get("strategy"));
  if (const Napi::Value cuda = object.Get("cuda"); !cuda.IsNull()) {
    const Napi::Object device = ToObject(cuda, "cuda");
    spec.cuda_library = ToText(device.Get("library"), "cuda.library");
    NS_REQUIRE(!spec.cuda_library.empty(), ErrorCode::kInvalidArgument, "cuda.library is empty");
    spec.cuda_device = ToSize(device.Get("index"), "cuda.index", 1024);
    spec.dtype = ToDType(device.Get("dtype"), "cuda.dtype");
  }
  return spec;
}

Request ToRequest(Napi::Value value, const ModelConfig& config) {
  const Napi::Object object = ToObject(value, "request");
  Request request;
  request.labels = ToInt32s(object.Get("labels"), "labels");
  NS_REQUIRE(!request.labels.empty() && request.labels.size() <= kMaxImages, ErrorCode::kInvalidArgument, "labels has ",
             request.labels.size(), " elements; expected 1 to ", kMaxImages);
  RequireAllIn("labels", request.labels, 0, static_cast<int64_t>(config.transformer.num_classes));
  request.seed = ToSeed(object.Get("seed"));
  request.first_image = ToSize(object.Get("firstImage"), "firstImage", kMaxSafeInteger);
  request.guidance = ToFloats(object.Get("guidance"), "guidance");
  RequireCount("guidance", request.guidance.size(), config.num_scales());
  request.top_k = ToSize(object.Get("topK"), "topK", config.tokenizer.codebook_size);
  request.top_p = static_cast<float>(ToNumber(object.Get("topP"), "topP"));
  NS_REQUIRE(request.top_p >= 0, ErrorCode::kInvalidArgument, "topP is ", request.top_p, "; expected 0 or more");
  request.depths = ToInt32s(object.Get("depths"), "depths");
  RequireCount("depths", request.depths.size(), config.num_scales());
  RequireDepths("depths", request.depths, config);
  request.deadline_ms = ToNumber(object.Get("deadlineMs"), "deadlineMs");
  NS_REQUIRE(request.deadline_ms >= 0, ErrorCode::kInvalidArgument, "deadlineMs is ", request.deadline_ms,
             "; expected 0 or more");
  request.deadline_depths = ToInt32s(object.Get("deadlineDepths"), "deadlineDepths");
  RequireDepths("deadlineDepths", request.deadline_depths, config);
  request.keep_dropped_cache = ToBool(object.Get("keepDroppedCache"), "keepDroppedCache");
  request.wait = ToBool(object.Get("wait"), "wait");
  request.preview =
      ToChoice<Preview>(object.Get("preview"), "preview",
                        {{"none", Preview::kNone}, {"linear", Preview::kLinear}, {"decode", Preview::kDecode}});
  const Napi::Value forced = object.Get("forcedTokens");
  if (!forced.IsNull()) {
    request.forced_tokens = ToInt32s(forced, "forcedTokens");
    RequireCount("forcedTokens", request.forced_tokens.size(), request.labels.size() * config.num_tokens());
    RequireAllIn("forcedTokens", request.forced_tokens, 0, static_cast<int64_t>(config.tokenizer.codebook_size) - 1);
  }
  request.losses = ToBool(object.Get("losses"), "losses");
  request.capture = ToBool(object.Get("capture"), "capture");
  return request;
}

Napi::Object FromScale(Napi::Env env, const ScaleResult& scale) {
  Napi::Object event = Napi::Object::New(env);
  event.Set("type", "scale");
  event.Set("index", Count(env, scale.index));
  event.Set("side", Count(env, scale.side));
  event.Set("depth", Count(env, scale.depth));
  event.Set("reason", std::string(ReasonName(scale.reason)));
  event.Set("elapsedMs", scale.elapsed_ms);
  event.Set("scaleMs", scale.scale_ms);
  event.Set("tokens", NewArray<Napi::Int32Array>(env, scale.tokens));
  event.Set("losses", FloatsOrNull(env, scale.losses));
  event.Set("preview", BytesOrNull(env, scale.preview));
  event.Set("previewSide", Count(env, scale.preview_side));
  event.Set("logits", FloatsOrNull(env, scale.logits));
  event.Set("fHat", FloatsOrNull(env, scale.f_hat));
  event.Set("nextInput", FloatsOrNull(env, scale.next_input));
  event.Set("hidden", FloatsOrNull(env, scale.hidden));
  return event;
}

Napi::Object FromEnd(Napi::Env env, const EndResult& end) {
  Napi::Object event = Napi::Object::New(env);
  event.Set("type", "end");
  event.Set("code", end.ok ? env.Null() : Napi::String::New(env, std::string(CodeName(end.code))));
  event.Set("message", end.message);
  event.Set("neededBytes", Count(env, end.needed_bytes));
  event.Set("availableBytes", Count(env, end.available_bytes));
  event.Set("deepestFit", Count(env, end.deepest_fit));
  return event;
}

Napi::Object FromStats(Napi::Env env, const EngineStats& stats) {
  Napi::Array generations = Napi::Array::New(env);
  for (const PoolStats::PerGeneration& generation : stats.pool.generations) {
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("id", Count(env, generation.id));
    entry.Set("usedBytes", Count(env, generation.used_bytes));
    entry.Set("reservedBytes", Count(env, generation.reserved_bytes));
    generations.Set(generations.Length(), entry);
  }
  Napi::Object pool = Napi::Object::New(env);
  pool.Set("capacityBytes", Count(env, stats.pool.capacity_bytes));
  pool.Set("usedBytes", Count(env, stats.pool.used_bytes));
  pool.Set("peakBytes", Count(env, stats.pool.peak_bytes));
  pool.Set("reservedBytes", Count(env, stats.pool.reserved_bytes));
  pool.Set("generations", generations);

  std::vector<double> times;
  for (const ScaleTime& time : stats.scale_times) {
    times.insert(times.end(), {static_cast<double>(time.scale_index), static_cast<double>(time.depth),
                               static_cast<double>(time.rows), time.ms});
  }
  Napi::Object object = Napi::Object::New(env);
  object.Set("pool", pool);
  object.Set("running", Count(env, stats.running));
  object.Set("waiting", Count(env, stats.waiting));
  object.Set("steps", Count(env, stats.steps));
  object.Set("tokens", Count(env, stats.tokens));
  object.Set("busyMs", stats.busy_ms);
  object.Set("maxBatchRows", Count(env, stats.max_batch_rows));
  object.Set("scaleTimes", NewArray<Napi::Float64Array>(env, times));
  return object;
}

}  // namespace nextscale::addon
