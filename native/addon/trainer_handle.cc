#include "native/addon/trainer_handle.h"

#include <string_view>
#include <utility>
#include <vector>

#include "native/addon/convert.h"
#include "native/addon/tensor_files.h"
#include "native/addon/values.h"
#include "native/backend/cpu/cpu_backend.h"

namespace nextscale::addon {
namespace {

constexpr size_t kMaxMicroBatch = 65536;

struct TrainerSpec {
  TensorSource source;
  ModelConfig config;
  TrainerOptions options;
  size_t threads = 1;
};

// What memory depends on.
void ReadShape(const Napi::Object& object, TrainerSpec& spec) {
  spec.config = ToConfig(object.Get("config"));
  spec.threads = ToThreads(object.Get("threads"));
  spec.options.micro_batch = ToSize(object.Get("microBatch"), "microBatch", kMaxMicroBatch);
  NS_REQUIRE(spec.options.micro_batch >= 1, ErrorCode::kInvalidArgument, "microBatch is 0; expected 1 to ",
             kMaxMicroBatch);
  spec.options.checkpointing = ToBool(object.Get("checkpointing"), "checkpointing");
  spec.options.average = ToBool(object.Get("average"), "average");
}

TrainerSpec ToTrainerSpec(Napi::Value value) {
  const Napi::Object object = ToObject(value, "spec");
  TrainerSpec spec;
  ReadShape(object, spec);
  spec.source = ToTensorSource(object);
  spec.options.strategy = ToStrategy(object.Get("strategy"));
  const Napi::Value seed = object.Get("initialSeed");
  if (!seed.IsNull()) spec.options.initial_seed = ToUint64(seed, "initialSeed");
  return spec;
}

TrainerArray ToTrainerArray(Napi::Value value) {
  constexpr std::pair<std::string_view, TrainerArray> kArrays[] = {{"weights", TrainerArray::kWeights},
                                                                   {"gradient", TrainerArray::kGradient},
                                                                   {"mean", TrainerArray::kMean},
                                                                   {"variance", TrainerArray::kVariance},
                                                                   {"average", TrainerArray::kAverage}};
  const std::string text = ToText(value, "array");
  for (const auto& [name, array] : kArrays) {
    if (text == name) return array;
  }
  throw Error(
      ErrorCode::kInvalidArgument,
      Message("array is \"", text, "\"; expected \"weights\", \"gradient\", \"mean\", \"variance\" or \"average\""));
}

// A step's input, owned: the work runs while JavaScript goes on.
struct OwnedInput {
  std::vector<int32_t> tokens, labels, depths;
  TrainInput view() const { return {.tokens = tokens, .labels = labels, .depths = depths}; }
};

OwnedInput ToInput(Napi::Value tokens, Napi::Value labels, Napi::Value depths) {
  return {
      .tokens = ToInt32s(tokens, "tokens"), .labels = ToInt32s(labels, "labels"), .depths = ToInt32s(depths, "depths")};
}

double Fraction(const Napi::Object& object, const char* name, double most) {
  const double value = ToNumber(object.Get(name), name);
  NS_REQUIRE(value >= 0 && value <= most, ErrorCode::kInvalidArgument, name, " is ", value, "; expected 0 to ", most);
  return value;
}

StepOptions ToStepOptions(const Napi::Object& object) {
  constexpr double kMost = 1e6;
  StepOptions step;
  step.label_smoothing = static_cast<float>(Fraction(object, "labelSmoothing", 0.999));
  step.learning_rate = Fraction(object, "learningRate", kMost);
  step.beta1 = Fraction(object, "beta1", 1 - 1e-9);
  step.beta2 = Fraction(object, "beta2", 1 - 1e-9);
  step.epsilon = Fraction(object, "epsilon", kMost);
  step.weight_decay = Fraction(object, "weightDecay", kMost);
  step.decay_all = ToBool(object.Get("decayAll"), "decayAll");
  step.clip_norm = Fraction(object, "clipNorm", 1e30);
  step.average_decay = Fraction(object, "averageDecay", 1.0);
  step.update = ToBool(object.Get("update"), "update");
  return step;
}

Napi::Value FromStep(Napi::Env env, const StepResult& step) {
  Napi::Object object = Napi::Object::New(env);
  auto per_scale = Napi::Float64Array::New(env, step.loss_per_scale.size());
  std::copy(step.loss_per_scale.begin(), step.loss_per_scale.end(), per_scale.Data());
  object.Set("loss", step.loss);
  object.Set("lossPerScale", per_scale);
  object.Set("gradientNorm", step.gradient_norm);
  object.Set("ms", step.ms);
  return object;
}

// The result of work that only fills arrays.
struct Nothing {};
Napi::Value FromNothing(Napi::Env env, Nothing) { return env.Undefined(); }

}  // namespace

Napi::Value OpenTrainer(const Napi::CallbackInfo& info) {
  return Translated(info.Env(), [&]() -> Napi::Value {
    const auto spec = std::make_shared<const TrainerSpec>(ToTrainerSpec(info[0]));
    const auto open = [spec](uint64_t) {
      return TensorFiles(spec->source).Use([&](const TensorTable& tensors) {
        return std::make_shared<Trainer>(std::make_unique<CpuBackend>(spec->threads), spec->config, tensors,
                                         spec->options);
      });
    };
    return Environment::Of(info.Env())
        ->Await(info.Env(), {}, open, [](Napi::Env env, std::shared_ptr<Trainer> trainer) -> Napi::Value {
          return TrainerHandle::New(*Environment::Of(env), std::move(trainer));
        });
  });
}

Napi::Value JsTrainerBytes(const Napi::CallbackInfo& info) {
  return Translated(info.Env(), [&] {
    TrainerSpec spec;
    ReadShape(ToObject(info[0], "spec"), spec);
    const size_t bytes = TrainerBytes(spec.config, spec.options) + CpuBackend::OwnBytes(spec.threads);
    return Napi::Number::New(info.Env(), static_cast<double>(bytes));
  });
}

Napi::Function TrainerHandle::Define(Napi::Env env) {
  return DefineClass(
      env, kName,
      {Getter<&TrainerHandle::Parameters>("parameters"), Getter<&TrainerHandle::MemoryBytes>("memoryBytes"),
       Property<&TrainerHandle::Steps, &TrainerHandle::SetSteps>("steps"), Method<&TrainerHandle::Step>("step"),
       Method<&TrainerHandle::Evaluate>("evaluate"), Method<&TrainerHandle::Logits>("logits"),
       Method<&TrainerHandle::Read>("read"), Method<&TrainerHandle::Write>("write"),
       Method<&TrainerHandle::Dispose>("dispose")});
}

TrainerHandle::TrainerHandle(const Napi::CallbackInfo& info) : Handle(info), environment_(Environment::Of(info.Env())) {
  environment_->trainers.insert(target().get());
}

TrainerHandle::~TrainerHandle() { environment_->trainers.erase(target().get()); }

Trainer& TrainerHandle::trainer() const {
  NS_REQUIRE(target() != nullptr, ErrorCode::kDisposed, "the trainer was disposed");
  return *target();
}

Trainer& TrainerHandle::IdleTrainer() const {
  Trainer& idle = trainer();
  NS_REQUIRE(!*busy_, ErrorCode::kInvalidArgument, "the trainer is busy; expected one call at a time");
  return idle;
}

template <typename Work, typename Finish>
Napi::Value TrainerHandle::Start(Napi::Env env, Napi::Value kept, Work work, Finish finish) {
  *busy_ = true;
  Operation operation;  // it leaves when the call is over, however it ends
  operation.holds = std::shared_ptr<bool>(busy_.get(), [busy = busy_](bool*) { *busy = false; });
  operation.kept.push_back(Napi::Persistent(Value()));  // the handle itself: it must outlive the call
  if (kept.IsObject()) operation.kept.push_back(Napi::Persistent(kept.As<Napi::Object>()));
  return environment_->Await(
      env, std::move(operation), [work = std::move(work), trainer = target()](uint64_t) { return work(*trainer); },
      std::move(finish));
}

Napi::Value TrainerHandle::Parameters(const Napi::CallbackInfo& info) {
  Napi::Array list = Napi::Array::New(info.Env());
  for (const Parameter& parameter : trainer().layout().all()) {
    Napi::Object entry = Napi::Object::New(info.Env());
    Napi::Array shape = Napi::Array::New(info.Env());
    for (const size_t side : parameter.shape)
      shape.Set(shape.Length(), Napi::Number::New(info.Env(), static_cast<double>(side)));
    entry.Set("name", parameter.name);
    entry.Set("shape", shape);
    entry.Set("decay", parameter.decay);
    list.Set(list.Length(), entry);
  }
  return list;
}

Napi::Value TrainerHandle::MemoryBytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(trainer().memory_bytes()));
}

Napi::Value TrainerHandle::Steps(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(trainer().steps()));
}

void TrainerHandle::SetSteps(const Napi::Value& value) {
  IdleTrainer().set_steps(ToSize(value, "steps", kMaxSafeInteger));
}

Napi::Value TrainerHandle::Step(const Napi::CallbackInfo& info) {
  IdleTrainer();
  const Napi::Object object = ToObject(info[0], "step");
  auto input =
      std::make_shared<const OwnedInput>(ToInput(object.Get("tokens"), object.Get("labels"), object.Get("depths")));
  return Start(
      info.Env(), info.Env().Undefined(),
      [input, options = ToStepOptions(object)](Trainer& trainer) { return trainer.Step(input->view(), options); },
      FromStep);
}

Napi::Value TrainerHandle::Evaluate(const Napi::CallbackInfo& info) {
  IdleTrainer();
  auto input = std::make_shared<const OwnedInput>(ToInput(info[0], info[1], info[2]));
  const bool average = ToBool(info[3], "average");
  float* const losses = FloatOutput(info[4], "losses", input->tokens.size());
  return Start(
      info.Env(), info[4],
      [input, average, losses](Trainer& trainer) {
        trainer.Evaluate(input->view(), average, losses);
        return Nothing();
      },
      FromNothing);
}

Napi::Value TrainerHandle::Logits(const Napi::CallbackInfo& info) {
  Trainer& idle = IdleTrainer();
  auto input = std::make_shared<const OwnedInput>(ToInput(info[0], info[1], info[2]));
  float* const logits = FloatOutput(info[3], "logits", input->tokens.size() * idle.config().tokenizer.codebook_size);
  return Start(
      info.Env(), info[3],
      [input, logits](Trainer& trainer) {
        trainer.Logits(input->view(), logits);
        return Nothing();
      },
      FromNothing);
}

void TrainerHandle::Read(const Napi::CallbackInfo& info) {
  const TrainerArray array = ToTrainerArray(info[0]);
  const Parameter& parameter = IdleTrainer().layout().Find(ToText(info[1], "name"));
  trainer().Read(array, parameter.name, {FloatOutput(info[2], "out", parameter.count), parameter.count});
}

void TrainerHandle::Write(const Napi::CallbackInfo& info) {
  const TrainerArray array = ToTrainerArray(info[0]);
  const std::string name = ToText(info[1], "name");
  IdleTrainer().Write(array, name, ToFloats(info[2], "values"));
}

Napi::Value TrainerHandle::Dispose(const Napi::CallbackInfo& info) {
  const auto deferred = Napi::Promise::Deferred::New(info.Env());
  if (target() == nullptr) {
    deferred.Resolve(info.Env().Undefined());
    return deferred.Promise();
  }
  target()->Stop();
  environment_->trainers.erase(target().get());
  // The call in flight, if any, holds it too; whoever is last frees it, away from this thread.
  const uint64_t id = environment_->Begin({.callback = {}, .deferred = deferred, .kept = {}, .holds = {}});
  environment_->RunInBackground([done = environment_->SettleLater(id), last = TakeTarget()]() mutable {
    last->Wait();
    last.reset();
    done(Outcome{});
  });
  return deferred.Promise();
}

}  // namespace nextscale::addon
