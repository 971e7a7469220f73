#include "native/addon/convert.h"

#include <cstring>
#include <limits>
#include <string_view>
#include <utility>

#include "native/addon/values.h"
#include "native/base/error.h"

namespace nextscale::addon {
namespace {

constexpr size_t kMaxThreads = 1024;
constexpr size_t kMaxRank = 8;

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

TensorRange ToTensorRange(Napi::Value value) {
  const Napi::Object object = ToObject(value, "tensor");
  TensorRange range;
  range.name = ToText(object.Get("name"), "name of a tensor");
  range.dtype = ToDType(object.Get("dtype"), "dtype of a tensor");
  range.shape = ToSizes(object.Get("shape"), "shape of a tensor", kMaxRank);
  if (const Napi::Value strides = object.Get("strides"); !strides.IsUndefined()) {
    range.strides = ToSizes(strides, "strides of a tensor", kMaxRank);
  }
  range.file = ToSize(object.Get("file"), "file of a tensor", kMaxSafeInteger);
  range.offset = ToSize(object.Get("offset"), "offset of a tensor", kMaxSafeInteger);
  return range;
}

// Times before 1970 are negative. What is no integer is cut off: then it equals no file's.
int64_t ToInt64(Napi::Value value, const char* what) {
  ToNumber(value, what);
  return value.As<Napi::Number>().Int64Value();
}

FileStamp ToFileStamp(Napi::Value value) {
  const Napi::Object object = ToObject(value, "stamp of a file");
  return {.bytes = ToSize(object.Get("bytes"), "bytes of a file", kMaxSafeInteger),
          .seconds = ToInt64(object.Get("seconds"), "seconds of a file"),
          .nanoseconds = ToInt64(object.Get("nanoseconds"), "nanoseconds of a file")};
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

TokenizerConfig ToTokenizerConfig(const Napi::Object& object) {
  const auto size = [&](const char* name) { return ToSize(object.Get(name), name, kMaxSafeInteger); };
  return {.codebook_size = size("codebookSize"),
          .code_dim = size("codeDim"),
          .num_residual_convs = size("numResidualConvs"),
          .residual_mix = static_cast<float>(ToNumber(object.Get("residualMix"), "residualMix")),
          .channels = size("channels"),
          .multipliers = ToSizes(object.Get("multipliers"), "multipliers", 64),
          .num_res_blocks = size("numResBlocks"),
          .sides = ToSizes(object.Get("sides"), "sides", 256)};
}

DeviceSpec ToDeviceSpec(const Napi::Object& spec) {
  DeviceSpec device;
  device.threads = ToThreads(spec.Get("threads"));
  if (const Napi::Value value = spec.Get("cuda"); !value.IsNull()) {
    const Napi::Object cuda = ToObject(value, "cuda");
    device.cuda_library = ToText(cuda.Get("library"), "cuda.library");
    NS_REQUIRE(!device.cuda_library.empty(), ErrorCode::kInvalidArgument, "cuda.library is empty");
    device.cuda_index = ToSize(cuda.Get("index"), "cuda.index", 1024);
    device.dtype = ToDType(cuda.Get("dtype"), "cuda.dtype");
  }
  return device;
}

// Reads the fields of a request from an object that has them under the same names.
class RequestReader {
 public:
  explicit RequestReader(Napi::Value value) : object_(ToObject(value, "request")) {}

  void operator()(const char* name, std::vector<int32_t>& field, const Limits& limits) const {
    const Napi::Value value = object_.Get(name);
    if (!limits.optional || !value.IsNull()) field = ToInt32s(value, name);
  }
  void operator()(const char* name, std::vector<float>& field, const Limits& limits) const {
    const Napi::Value value = object_.Get(name);
    if (!limits.optional || !value.IsNull()) field = ToFloats(value, name);
  }
  void operator()(const char* name, uint64_t& field, const Limits&) const {
    const Napi::Value value = object_.Get(name);
    field = value.IsNumber() ? ToSize(value, name, kMaxSafeInteger) : ToUint64(value, name);
  }
  void operator()(const char* name, uint32_t& field, const Limits&) const {
    field = static_cast<uint32_t>(ToSize(object_.Get(name), name, std::numeric_limits<uint32_t>::max()));
  }
  void operator()(const char* name, float& field, const Limits&) const {
    field = static_cast<float>(ToNumber(object_.Get(name), name));
  }
  void operator()(const char* name, double& field, const Limits&) const { field = ToNumber(object_.Get(name), name); }
  void operator()(const char* name, bool& field, const Limits&) const { field = ToBool(object_.Get(name), name); }
  void operator()(const char* name, Preview& field, const Limits&) const {
    field = ToChoice<Preview>(object_.Get(name), name,
                              {{"none", Preview::kNone}, {"linear", Preview::kLinear}, {"decode", Preview::kDecode}});
  }

 private:
  const Napi::Object object_;
};

}  // namespace

ModelConfig ToConfig(Napi::Value value) {
  const Napi::Object object = ToObject(value, "config");
  const auto size = [&](const char* name) { return ToSize(object.Get(name), name, kMaxSafeInteger); };
  return {.transformer = {.depth = size("depth"),
                          .width = size("width"),
                          .num_heads = size("numHeads"),
                          .mlp_width = size("mlpWidth"),
                          .num_classes = size("numClasses"),
                          .shared_ada = ToBool(object.Get("sharedAda"), "sharedAda"),
                          .l2_norm = ToBool(object.Get("l2Norm"), "l2Norm")},
          .tokenizer = ToTokenizerConfig(object)};
}

Strategy ToStrategy(Napi::Value value) {
  return ToChoice<Strategy>(value, "strategy", {{"even", Strategy::kEven}, {"nested", Strategy::kNested}});
}

TensorSource ToTensorSource(const Napi::Object& spec) {
  TensorSource source;
  const Napi::Array files = ToArray(spec.Get("files"), "files");
  for (uint32_t i = 0; i < files.Length(); ++i) source.files.push_back({ToText(files.Get(i), "name of a file"), {}});
  if (const Napi::Value value = spec.Get("stamps"); !value.IsUndefined()) {
    const Napi::Array stamps = ToArray(value, "stamps");
    RequireCount("stamps", stamps.Length(), files.Length());
    for (uint32_t i = 0; i < stamps.Length(); ++i) source.files[i].stamp = ToFileStamp(stamps.Get(i));
  }
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
  return {.source = ToTensorSource(object),
          .config = ToConfig(object.Get("config")),
          .options = {.kv_bytes = ToSize(object.Get("kvBytes"), "kvBytes", kMaxSafeInteger),
                      .kv_dtype = ToDType(object.Get("kvDtype"), "kvDtype"),
                      .strategy = ToStrategy(object.Get("strategy"))},
          .device = ToDeviceSpec(object)};
}

TokenizerSpec ToTokenizerSpec(Napi::Value value) {
  const Napi::Object object = ToObject(value, "spec");
  return {.source = ToTensorSource(object),
          .config = ToTokenizerConfig(ToObject(object.Get("config"), "config")),
          .device = ToDeviceSpec(object)};
}

Request ToRequest(Napi::Value value, const ModelConfig& config) {
  Request request;
  ForEach(request, config, RequestReader(value));
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

Napi::Object FromEnd(Napi::Env env, const GenerationEnd& end) {
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
  object.Set("jobs", Count(env, stats.jobs.unfinished));
  object.Set("jobParts", Count(env, stats.jobs.parts));
  object.Set("scaleTimes", NewArray<Napi::Float64Array>(env, times));
  return object;
}

}  // namespace nextscale::addon
