#include "native/generate/engine.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "native/generate/jobs.h"
#include "native/generate/outcome.h"
#include "native/generate/scheduler.h"
#include "native/generate/step.h"
#include "native/tokenizer/preview.h"
#include "native/tokenizer/tokenizer.h"

namespace nextscale {
namespace {

// Rows of one batch: at least one image with both branches.
size_t MaxRows(const ModelConfig& config, const Backend& backend) {
  return std::max(backend.batch_rows(config.transformer.width), 2 * config.side() * config.side());
}

// A tokenizer may come alone: then the engine encodes and decodes, and nothing can be started.
bool HasTransformer(const TensorTable& tensors) { return tensors.HasAny("var."); }

TransformerWeights Load(const ModelConfig& config, const TensorTable& tensors, Backend& backend,
                        const std::function<void(double)>& progress) {
  constexpr double kTransformerShare = 0.9;  // the rest is the tokenizer's
  Validate(config);
  if (!HasTransformer(tensors)) return {};
  const double total = static_cast<double>(TransformerBytes(config, tensors));
  return LoadTransformer(config, tensors, backend, [&](size_t bytes) {
    if (progress) progress(kTransformerShare * static_cast<double>(bytes) / total);
  });
}

}  // namespace

struct Engine::Impl {
  Impl(const ModelConfig& model_config, TensorTable tensors, const EngineOptions& options,
       std::unique_ptr<Backend> its_backend, std::shared_ptr<const void> files_alive,
       const std::function<void(double)>& progress)
      : config(model_config),
        backend(std::move(its_backend)),
        has_transformer(HasTransformer(tensors)),
        transformer(*backend, config, Load(config, tensors, *backend, progress), options.kv_dtype,
                    has_transformer ? MaxRows(config, *backend) : 0),
        tokenizer(*backend, config.tokenizer, std::move(tensors), std::move(files_alive)),
        stepper(*backend, config, transformer, tokenizer.quantizer()),
        scheduler(config, backend->Allocate(options.kv_bytes, "the KV pool"), transformer.kv_row_bytes(),
                  options.strategy, transformer.max_rows(),
                  backend->part_rows(config.transformer.width, config.transformer.depth)) {
    backend->Wait();
    if (progress) progress(1.0);
    thread = std::thread([this] { Loop(); });
  }

  void Loop() noexcept;
  bool Turn();
  bool RunJob();
  void Start(const GenerationPtr& generation);
  bool Step();
  void EndScale(const GenerationPtr& generation);
  void DecodePreview(const GenerationPtr& generation);
  void Deliver(const GenerationPtr& generation);
  void End(const GenerationPtr& generation, EndResult result) noexcept;
  void AddJob(Job job);
  void Shut() noexcept;
  std::function<bool()> Cancelled(GenerationPtr generation) {
    return [this, generation = std::move(generation)] {
      return scheduler.closed() || (generation && generation->cancelled.load(std::memory_order_relaxed));
    };
  }
  float* Latent(const Generation& generation, size_t image) const {
    return generation.f_hat.as<float>() + image * LatentSize();
  }
  size_t LatentSize() const { return config.tokenizer.latent_numbers(); }
  // f_hat of all images, on the host. Their place was made at the start.
  const float* ReadLatents(const Generation& generation) {
    backend->Download(latents.data(), Latent(generation, 0), generation.num_images * LatentSize() * sizeof(float));
    backend->Wait();
    return latents.data();
  }

  const ModelConfig config;
  const std::unique_ptr<Backend> backend;  // outlives all that holds its memory
  const bool has_transformer;
  Transformer transformer;
  Tokenizer tokenizer;
  Stepper stepper;
  Scheduler scheduler;
  JobQueue jobs;

  std::mutex preview_mutex;
  std::shared_ptr<const std::vector<float>> preview_matrix;

  // Engine thread only; kept from turn to turn, so that a turn allocates nothing.
  std::vector<GenerationPtr> started;
  std::vector<Unit> units;
  std::vector<Scheduler::Ended> ended, failed;
  std::vector<float> latents;
  double jobs_debt_ms = 0;

  std::mutex close_mutex;
  std::thread thread;
};

// The engine thread. No exception leaves it: what a turn throws ends every generation there is, and the thread goes on.
void Engine::Impl::Loop() noexcept {
  while (!scheduler.closed()) {
    const uint64_t epoch = scheduler.epoch();
    try {
      if (!Turn()) scheduler.WaitBeyond(epoch);
    } catch (...) {
      const EndResult result = FromCurrentException();
      for (const GenerationPtr& generation : scheduler.All()) End(generation, result);
    }
  }
  Shut();
}

bool Engine::Impl::Turn() {
  started.clear();
  ended.clear();
  scheduler.Admit(started, ended);
  const bool any_ended = !ended.empty();
  for (Scheduler::Ended& end : ended) End(end.generation, std::move(end.result));
  for (const GenerationPtr& generation : started) Start(generation);
  started.clear();  // holds nothing while the engine sleeps
  ended.clear();
  const size_t num_running = scheduler.num_running();
  if (units.capacity() < num_running) units.reserve(2 * num_running);
  const Clock::time_point begin = Clock::now();
  const bool stepped = Step();
  // A job counts as one more competitor: its next image comes when the steps have had their share of the time since.
  if (stepped) jobs_debt_ms -= MsSince(begin) * static_cast<double>(jobs.size()) / static_cast<double>(num_running);
  const bool worked = (!stepped || jobs_debt_ms <= 0) && RunJob();
  return stepped || worked || any_ended;
}

bool Engine::Impl::RunJob() {
  const Clock::time_point begin = Clock::now();
  if (!jobs.RunOne()) return false;
  jobs_debt_ms = MsSince(begin);
  scheduler.CountBusy(jobs_debt_ms);
  return true;
}

void Engine::Impl::Start(const GenerationPtr& generation) {
  try {
    if (scheduler.NeedsCalibration(*generation)) scheduler.Calibrate(stepper.MeasureBlock());
    generation->Prepare(*backend, transformer.weights(), config);
    const Request& request = generation->request;
    if (request.preview == Preview::kLinear || request.capture) {
      latents.resize(std::max(latents.size(), generation->num_images * LatentSize()));
    }
    scheduler.MakeLease(*generation);
  } catch (...) {
    End(generation, FromCurrentException());
  }
}

bool Engine::Impl::Step() {
  units.clear();
  failed.clear();
  scheduler.Collect(units);
  if (units.empty()) return false;
  const Clock::time_point begin = Clock::now();
  try {
    stepper.Run(units, failed);
  } catch (...) {  // the batch as a whole: who was in it ends, who waits does not
    const EndResult result = FromCurrentException();
    for (const Unit& unit : units) End(unit.generation, result);
    units.clear();
    return true;
  }
  scheduler.CountBatch(stepper.num_rows(), MsSince(begin));
  for (Scheduler::Ended& end : failed) End(end.generation, std::move(end.result));
  for (const Unit& unit : units) {
    if (unit.generation->in_scale && unit.generation->scale.images_done == unit.generation->num_images) {
      EndScale(unit.generation);
    }
  }
  units.clear();
  return true;
}

// All images of a scale are through: the listener hears of it, and the generation goes on or ends.
void Engine::Impl::EndScale(const GenerationPtr& generation) {
  try {
    Generation::Scale& scale = generation->scale;
    scheduler.EndScale(*generation);
    ScaleResult& result = scale.result;
    result.index = scale.index;
    result.side = config.tokenizer.sides[scale.index];
    result.depth = scale.depth;
    result.reason = scale.reason;
    result.scale_ms = scale.step_ms;
    result.elapsed_ms = MsSince(generation->start);
    const double wall = MsSince(generation->last_end);
    generation->load += 0.5 * (std::max(1.0, wall / std::max(scale.cost_ms, 1e-6)) - generation->load);
    generation->last_end = Clock::now();
    if (generation->request.capture) {
      const float* const found = ReadLatents(*generation);
      result.f_hat.resize(generation->num_images * LatentSize());
      for (size_t image = 0; image < generation->num_images; ++image) {
        ToPlanar(found + image * LatentSize(), config.side() * config.side(), config.tokenizer.code_dim,
                 result.f_hat.data() + image * LatentSize());
      }
    }
    if (generation->request.preview == Preview::kDecode) return DecodePreview(generation);
    if (generation->request.preview == Preview::kLinear) {
      std::shared_ptr<const std::vector<float>> matrix;
      {
        std::lock_guard lock(preview_mutex);
        matrix = preview_matrix;
      }
      const size_t pixels = config.side() * config.side();
      if (matrix) {
        result.preview_side = config.side();
      } else {
        result.preview.clear();
      }
      const float* const found = matrix ? ReadLatents(*generation) : nullptr;
      for (size_t image = 0; matrix && image < generation->num_images; ++image) {
        LinearPreview(matrix->data(), found + image * LatentSize(), config.tokenizer.code_dim, pixels,
                      result.preview.data() + image * pixels * 3);
      }
    }
    Deliver(generation);
  } catch (...) {
    End(generation, FromCurrentException());
  }
}

// The generation stands aside while its preview is decoded between the steps of the others.
void Engine::Impl::DecodePreview(const GenerationPtr& generation) {
  ScaleResult& result = generation->scale.result;
  result.preview_side = config.tokenizer.image_side();
  result.preview.resize(generation->num_images * result.preview_side * result.preview_side * 3);
  scheduler.Park(*generation);
  Job job;
  job.num_images = generation->num_images;
  job.run = [this, generation](size_t image) {
    if (Cancelled(generation)()) throw Error(ErrorCode::kAborted, "the generation was cancelled");
    tokenizer.Decode(Latent(*generation, image), image, generation->scale.result.preview.data(), nullptr,
                     Cancelled(generation));
  };
  job.done = [this, generation](const EndResult& outcome) {
    if (generation->cancelled.load(std::memory_order_relaxed)) return;  // ends at the next turn, or has ended
    if (!outcome.ok) return End(generation, outcome);
    scheduler.Unpark(*generation);
    generation->last_end = Clock::now();
    Deliver(generation);
  };
  AddJob(std::move(job));
}

void Engine::Impl::Deliver(const GenerationPtr& generation) {
  const bool last = generation->scale.index + 1 == config.num_scales();
  Tell(generation->listener.on_scale, std::move(generation->scale.result));
  if (last) End(generation, EndResult());
}

void Engine::Impl::End(const GenerationPtr& generation, EndResult result) noexcept {
  if (!scheduler.Finish(generation)) return;
  generation->Shrink();
  Tell(generation->listener.on_end, std::move(result));
}

void Engine::Impl::AddJob(Job job) {
  NS_REQUIRE(jobs.Add(std::move(job)), ErrorCode::kDisposed, "the model was closed");
  scheduler.Notify();
}

void Engine::Impl::Shut() noexcept {
  const EndResult closed = Failed(ErrorCode::kDisposed, "the model was closed");
  jobs.Close(closed);
  for (const GenerationPtr& generation : scheduler.All()) End(generation, closed);
}

Engine::Engine(const ModelConfig& config, TensorTable tensors, const EngineOptions& options,
               std::unique_ptr<Backend> backend, std::shared_ptr<const void> files_alive,
               const std::function<void(double)>& progress)
    : impl_(std::make_unique<Impl>(config, std::move(tensors), options, std::move(backend), std::move(files_alive),
                                   progress)) {}

Engine::~Engine() { Close(); }

uint64_t Engine::Start(Request request, Listener listener) {
  NS_REQUIRE(impl_->has_transformer, ErrorCode::kInvalidArgument,
             "a tokenizer alone cannot generate: it has no transformer");
  return impl_->scheduler.Add(std::move(request), std::move(listener));
}

void Engine::SetDepth(uint64_t generation, size_t depth) { impl_->scheduler.SetDepth(generation, depth); }
void Engine::Cancel(uint64_t generation) { impl_->scheduler.Cancel(generation); }
void Engine::Release(uint64_t generation) { impl_->scheduler.Release(generation); }
EngineStats Engine::Stats() const { return impl_->scheduler.Stats(); }

size_t Engine::PeakBytes(const std::vector<int32_t>& depths, size_t sequences) const {
  return impl_->scheduler.PeakBytes(depths, sequences);
}

void Engine::DecodeGeneration(uint64_t id, uint8_t* u8, float* f32, Done done) {
  Impl* impl = impl_.get();
  GenerationPtr generation = impl->scheduler.Find(id);
  Job job;
  job.num_images = generation ? generation->num_images : 1;
  job.run = [impl, generation, u8, f32](size_t image) {
    NS_REQUIRE(generation && generation->f_hat.data() != nullptr, ErrorCode::kInvalidArgument,
               "there is nothing to decode: the generation has not started or was released");
    impl->tokenizer.Decode(impl->Latent(*generation, image), image, u8, f32, impl->Cancelled(generation));
  };
  job.done = std::move(done);
  impl->AddJob(std::move(job));
}

void Engine::Decode(std::vector<int32_t> tokens, size_t count, uint8_t* u8, float* f32, Done done) {
  Impl* impl = impl_.get();
  Job job;
  job.num_images = count;
  job.run = [impl, tokens = std::move(tokens), count, u8, f32](size_t image) {
    const size_t num_tokens = impl->config.num_tokens();
    NS_REQUIRE(tokens.size() == count * num_tokens, ErrorCode::kInvalidArgument, "tokens: expected ",
               count * num_tokens, ", found ", tokens.size());
    for (size_t i = 0; i < num_tokens; ++i) {
      const int32_t token = tokens[image * num_tokens + i];
      NS_REQUIRE(token >= 0 && static_cast<size_t>(token) < impl->config.tokenizer.codebook_size,
                 ErrorCode::kInvalidArgument, "token must be from 0 to ", impl->config.tokenizer.codebook_size - 1,
                 ", found ", token);
    }
    impl->tokenizer.DecodeTokens(tokens.data() + image * num_tokens, image, u8, f32, impl->Cancelled(nullptr));
  };
  job.done = std::move(done);
  impl->AddJob(std::move(job));
}

void Engine::Encode(std::vector<float> pixels, size_t count, int32_t* tokens, Done done) {
  Impl* impl = impl_.get();
  Job job;
  job.num_images = count;
  job.run = [impl, pixels = std::move(pixels), count, tokens](size_t image) {
    const size_t numbers = impl->config.tokenizer.image_numbers();
    NS_REQUIRE(pixels.size() == count * numbers, ErrorCode::kInvalidArgument, "pixels: expected ", count * numbers,
               ", found ", pixels.size());
    impl->tokenizer.Encode(pixels.data() + image * numbers, tokens + image * impl->config.num_tokens(),
                           impl->Cancelled(nullptr));
  };
  job.done = std::move(done);
  impl->AddJob(std::move(job));
}

void Engine::EncodeTrace(std::vector<float> pixels, float* f, float* f_hats, Done done) {
  Impl* impl = impl_.get();
  Job job;
  job.num_images = 1;
  job.run = [impl, pixels = std::move(pixels), f, f_hats](size_t) {
    const size_t numbers = impl->config.tokenizer.image_numbers();
    NS_REQUIRE(pixels.size() == numbers, ErrorCode::kInvalidArgument, "pixels: expected ", numbers, ", found ",
               pixels.size());
    impl->tokenizer.EncodeTrace(pixels.data(), f, f_hats, impl->Cancelled(nullptr));
  };
  job.done = std::move(done);
  impl->AddJob(std::move(job));
}

void Engine::SetPreviewMatrix(std::vector<float> matrix) {
  const size_t numbers = 3 * (impl_->config.tokenizer.code_dim + 1);
  NS_REQUIRE(matrix.size() == numbers, ErrorCode::kInvalidArgument, "preview matrix: expected ", numbers,
             " numbers, found ", matrix.size());
  auto shared = std::make_shared<const std::vector<float>>(std::move(matrix));
  std::lock_guard lock(impl_->preview_mutex);
  impl_->preview_matrix = std::move(shared);
}

void Engine::Close() {
  std::lock_guard lock(impl_->close_mutex);
  impl_->scheduler.BeginClose();
  if (impl_->thread.joinable()) impl_->thread.join();
}

}  // namespace nextscale
