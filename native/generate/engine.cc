#include "native/generate/engine.h"

#include <algorithm>
#include <utility>

#include "native/base/error.h"
#include "native/generate/scale_report.h"
#include "native/generate/scheduler.h"
#include "native/generate/step.h"

namespace nextscale {
namespace {

// Rows of one batch: at least one image with both branches.
size_t MaxRows(const ModelConfig& config, const Backend& backend) {
  return std::max(backend.batch_rows(config.transformer.width), 2 * config.side() * config.side());
}

TransformerWeights Load(const ModelConfig& config, const TensorTable& tensors, Backend& backend,
                        const std::function<void(double)>& progress) {
  constexpr double kTokenizerShare = 0.1;  // packed before
  Validate(config);
  const double total = static_cast<double>(TransformerBytes(config, tensors));
  return LoadTransformer(config, tensors, backend, [&](size_t bytes) {
    if (progress) progress(kTokenizerShare + (1 - kTokenizerShare) * static_cast<double>(bytes) / total);
  });
}

}  // namespace

struct Engine::Impl {
  Impl(const ModelConfig& model_config, const TensorTable& tensors, const EngineOptions& options,
       std::unique_ptr<Backend> its_backend, const std::function<void(double)>& progress)
      : config(model_config),
        tokenizer(config.tokenizer, tensors, std::move(its_backend)),
        backend(tokenizer.backend()),
        transformer(backend, config, Load(config, tensors, backend, progress), options.kv_dtype,
                    MaxRows(config, backend)),
        stepper(backend, config, transformer, tokenizer.tokenizer().quantizer()),
        reporter(backend, config),
        scheduler(config, backend.Allocate(options.kv_bytes, "the KV pool"), transformer.kv_row_bytes(),
                  options.strategy, transformer.max_rows(),
                  backend.part_rows(config.transformer.width, config.transformer.depth)) {
    backend.Wait();
    if (progress) progress(1.0);
    tokenizer.runner().Start([this] { return Turn(); }, [this] { EndAll(Closed()); });
  }

  bool Turn() noexcept;
  bool Admit();
  void Begin(const GenerationPtr& generation);
  bool Step();
  void DecodePreview(const GenerationPtr& generation);
  void Deliver(const GenerationPtr& generation);
  void End(const GenerationPtr& generation, GenerationEnd how) noexcept;
  void EndAll(const GenerationEnd& how) noexcept;
  bool RunJob();
  void Wake() { tokenizer.runner().Wake(); }
  float* Latent(const Generation& generation, size_t image) const {
    return generation.engine.f_hat.as<float>() + image * config.tokenizer.latent_numbers();
  }
  static GenerationEnd Closed() { return {Failed(ErrorCode::kDisposed, "the model was closed")}; }

  const ModelConfig config;
  TokenizerEngine tokenizer;  // with the thread and the backend
  Backend& backend;
  Transformer transformer;
  Stepper stepper;
  ScaleReporter reporter;
  Scheduler scheduler;

  // The engine's thread only; kept from turn to turn, so that a turn allocates nothing.
  std::vector<GenerationPtr> started;
  std::vector<Unit> units;
  std::vector<Scheduler::Ended> ended, failed;
  double jobs_debt_ms = 0;
};

// What the thread does again and again. No exception leaves it: what a turn throws ends every generation there is, and
// the thread goes on.
bool Engine::Impl::Turn() noexcept {
  if (scheduler.closed()) return false;  // the runner is about to be
  try {
    const bool any_ended = Admit();
    const size_t num_running = scheduler.num_running();
    if (units.capacity() < num_running) units.reserve(2 * num_running);
    const Clock::time_point begin = Clock::now();
    const bool stepped = Step();
    // A job counts as one more competitor: its next picture comes when the steps have had their share of the time
    // since.
    if (stepped) {
      const auto num_jobs = static_cast<double>(tokenizer.stats().unfinished);
      jobs_debt_ms -= MsSince(begin) * num_jobs / static_cast<double>(num_running);
    }
    const bool worked = (!stepped || jobs_debt_ms <= 0) && RunJob();
    return stepped || worked || any_ended;
  } catch (...) {
    EndAll({FromCurrentException()});
    return true;
  }
}

// Who was refused or cancelled leaves, and who fits begins. Whether anybody left.
bool Engine::Impl::Admit() {
  started.clear();
  ended.clear();
  scheduler.Admit(started, ended);
  const bool any_ended = !ended.empty();
  for (Scheduler::Ended& leaving : ended) End(leaving.generation, std::move(leaving.end));
  for (const GenerationPtr& generation : started) Begin(generation);
  started.clear();  // holds nothing while the engine sleeps
  ended.clear();
  return any_ended;
}

void Engine::Impl::Begin(const GenerationPtr& generation) {
  try {
    if (scheduler.NeedsCalibration(*generation)) scheduler.Calibrate(stepper.MeasureBlock());
    generation->Prepare(backend, transformer.weights(), config);
    reporter.Prepare(*generation);
    scheduler.MakeLease(*generation);
  } catch (...) {
    End(generation, {FromCurrentException()});
  }
}

// A step, from the choice of who takes part to what listeners hear. False when nobody can take part.
bool Engine::Impl::Step() {
  units.clear();
  failed.clear();
  scheduler.Collect(units);  // who, with how many images; a scale that is due begins here, at the depth of its plan
  if (units.empty()) return false;
  const Clock::time_point begin = Clock::now();
  try {
    stepper.Compose(units);
    stepper.Forward();
    stepper.ChooseTokens(units, failed);
    stepper.GrowLatents(units, failed);
    stepper.Settle(units, failed);
    stepper.ShareTime(units, MsSince(begin));
  } catch (...) {  // the batch as a whole: who was in it ends, who waits does not
    const GenerationEnd how{FromCurrentException()};
    for (const Unit& unit : units) End(unit.generation, how);
    units.clear();
    return true;
  }
  scheduler.CountBatch(stepper.num_rows(), MsSince(begin));
  for (Scheduler::Ended& leaving : failed) End(leaving.generation, std::move(leaving.end));
  for (const Unit& unit : units) {
    const GenerationPtr& generation = unit.generation;
    const EngineSide& engine = generation->engine;
    if (!engine.in_scale || engine.scale.images_done < generation->num_images) continue;
    try {
      scheduler.EndScale(*generation);  // its cache is settled, its time is noted for deadlines
      reporter.Fill(*generation);
      if (generation->request.preview == Preview::kDecode) {
        DecodePreview(generation);  // it stands aside; Deliver follows
      } else {
        Deliver(generation);
      }
    } catch (...) {
      End(generation, {FromCurrentException()});
    }
  }
  units.clear();
  return true;
}

// The generation stands aside while its preview is decoded between the steps of the others.
void Engine::Impl::DecodePreview(const GenerationPtr& generation) {
  ScaleResult& result = generation->engine.scale.result;
  result.preview_side = config.tokenizer.image_side();
  result.preview.resize(generation->num_images * config.tokenizer.image_numbers());
  scheduler.Park(*generation);
  Job job;
  job.num_parts = generation->num_images;
  job.run = [this, generation](size_t image, const CancelFlag& cancelled) {
    uint8_t* const pictures = generation->engine.scale.result.preview.data();
    tokenizer.tokenizer().Decode(Latent(*generation, image), image, {.u8 = pictures}, cancelled);
  };
  job.done = [this, generation](Outcome outcome) {
    if (generation->cancelled.IsSet()) return;  // ends at the next turn, or has ended
    if (!outcome.ok) return End(generation, {std::move(outcome)});
    scheduler.Unpark(*generation);
    generation->engine.last_end = Clock::now();
    Deliver(generation);
  };
  job.cancelled = std::shared_ptr<CancelFlag>(generation, &generation->cancelled);
  tokenizer.runner().Add(std::move(job));
}

// The listener hears of a scale; after the last one the generation ends.
void Engine::Impl::Deliver(const GenerationPtr& generation) {
  const bool last = generation->engine.scale.index + 1 == config.num_scales();
  Tell(generation->listener.on_scale, std::move(generation->engine.scale.result));
  if (last) End(generation, GenerationEnd());
}

void Engine::Impl::End(const GenerationPtr& generation, GenerationEnd how) noexcept {
  if (!scheduler.Finish(generation)) return;
  generation->Shrink();
  Tell(generation->listener.on_end, std::move(how));
}

void Engine::Impl::EndAll(const GenerationEnd& how) noexcept {
  for (const GenerationPtr& generation : scheduler.All()) End(generation, how);
}

bool Engine::Impl::RunJob() {
  const Clock::time_point begin = Clock::now();
  if (!tokenizer.runner().RunOne()) return false;
  jobs_debt_ms = MsSince(begin);
  scheduler.CountBusy(jobs_debt_ms);
  return true;
}

Engine::Engine(const ModelConfig& config, const TensorTable& tensors, const EngineOptions& options,
               std::unique_ptr<Backend> backend, const std::function<void(double)>& progress)
    : impl_(std::make_unique<Impl>(config, tensors, options, std::move(backend), progress)) {}

Engine::~Engine() { Close(); }

const ModelConfig& Engine::config() const { return impl_->config; }
TokenizerEngine& Engine::tokenizer() { return impl_->tokenizer; }

uint64_t Engine::Start(Request request, Listener listener) {
  const uint64_t id = impl_->scheduler.Add(std::move(request), std::move(listener));
  impl_->Wake();
  return id;
}

void Engine::SetDepth(uint64_t generation, size_t depth) {
  impl_->scheduler.SetDepth(generation, depth);
  impl_->Wake();  // others may fit now
}

void Engine::Cancel(uint64_t generation) {
  impl_->scheduler.Cancel(generation);
  impl_->Wake();
}

void Engine::Release(uint64_t generation) {
  impl_->scheduler.Release(generation);
  impl_->Wake();
}

EngineStats Engine::Stats() const {
  EngineStats stats = impl_->scheduler.Stats();
  stats.jobs = impl_->tokenizer.stats();
  return stats;
}

size_t Engine::PeakBytes(const std::vector<int32_t>& depths, size_t sequences) const {
  return impl_->scheduler.PeakBytes(depths, sequences);
}

std::shared_ptr<CancelFlag> Engine::DecodeGeneration(uint64_t id, Pictures out, Done done) {
  Impl* const impl = impl_.get();
  GenerationPtr generation = impl->scheduler.Find(id);
  Job job;
  if (generation) {
    job.num_parts = generation->num_images;
    job.cancelled = std::make_shared<CancelFlag>(std::shared_ptr<const CancelFlag>(generation, &generation->cancelled));
  }
  job.run = [impl, generation = std::move(generation), out](size_t image, const CancelFlag& cancelled) {
    NS_REQUIRE(generation && generation->engine.f_hat.data() != nullptr, ErrorCode::kInvalidArgument,
               "there is nothing to decode: the generation has not started or was released");
    impl->tokenizer.tokenizer().Decode(impl->Latent(*generation, image), image, out, cancelled);
  };
  job.done = std::move(done);
  return impl->tokenizer.runner().Add(std::move(job));
}

void Engine::SetPreviewMatrix(std::vector<float> matrix) { impl_->reporter.SetPreviewMatrix(std::move(matrix)); }

void Engine::Close() {
  impl_->scheduler.BeginClose();
  impl_->tokenizer.Close();
}

}  // namespace nextscale
