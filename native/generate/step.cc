#include "native/generate/step.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "native/generate/outcome.h"

namespace nextscale {

Stepper::Stepper(Backend& backend, const ModelConfig& config, Transformer& transformer, Quantizer& quantizer)
    : config_(config),
      schedule_(config.tokenizer.sides),
      backend_(backend),
      transformer_(transformer),
      quantizer_(quantizer) {
  batch_.groups.reserve(transformer.max_rows());
  batch_.sequences.reserve(transformer.max_rows());
  samples_.reserve(transformer.max_rows());
}

void Stepper::Run(const std::vector<Unit>& units, std::vector<Scheduler::Ended>& failed) {
  const Clock::time_point begin = Clock::now();
  batch_.Clear();
  for (const Unit& unit : units) AddGroup(unit);
  transformer_.Run(batch_);
  transformer_.Head(batch_);
  // A unit that fails or was cancelled is inactive from there on.
  const auto each_active = [&](const auto& task) {
    for (size_t i = 0; i < units.size(); ++i) {
      if (!batch_.groups[i].active) continue;
      try {
        task(units[i], batch_.groups[i]);
      } catch (const Error& error) {
        if (error.code() == ErrorCode::kDeviceLost) throw;
        batch_.groups[i].active = false;
        failed.push_back({units[i].generation, FromCurrentException()});
      }
    }
  };
  each_active([&](const Unit& unit, BatchGroup& group) {
    if (unit.generation->cancelled.load(std::memory_order_relaxed)) {
      group.active = false;
    } else {
      Issue(unit, group);
    }
  });
  backend_.Wait();
  each_active([&](const Unit& unit, BatchGroup&) { Finish(unit); });
  // Every generation's share of the time: its rows at every block, and one more for head, draw and latent.
  const double elapsed = MsSince(begin);
  const auto weight = [&](const BatchGroup& group) {
    return static_cast<double>(group.num_sequences() * schedule_.tokens[group.scale_index] * (group.blocks.size() + 1));
  };
  double total = 0;
  for (const BatchGroup& group : batch_.groups) total += weight(group);
  for (size_t i = 0; i < units.size(); ++i) {
    units[i].generation->scale.step_ms += elapsed;
    units[i].generation->scale.cost_ms += elapsed * weight(batch_.groups[i]) / total;
  }
}

void Stepper::AddGroup(const Unit& unit) {
  Generation& generation = *unit.generation;
  Generation::Scale& scale = generation.scale;
  const size_t num_tokens = schedule_.tokens[scale.index];
  if (generation.request.capture) PrepareCapture(generation);

  BatchGroup group;
  group.scale_index = scale.index;
  group.blocks = scale.blocks;
  group.lease = generation.lease.get();
  group.modulations = generation.modulations.get();
  group.cancelled = &generation.cancelled;
  if (scale.index > 0) {
    const size_t image_numbers = num_tokens * config_.tokenizer.code_dim;
    group.input = generation.inputs[scale.index % 2].data() +
                  unit.first_image * image_numbers * DTypeBytes(backend_.activation_dtype());
  }
  group.first_sequence = batch_.sequences.size();
  group.num_images = unit.num_images;
  group.num_branches = generation.num_branches;
  if (generation.request.capture) {
    group.hidden = scale.result.hidden.data();
    group.hidden_sequences = generation.num_sequences();
  }
  // Forced tokens need logits for their losses or the record; the unconditional branch only where guidance is not 0.
  const bool draws = generation.request.forced_tokens.empty() || generation.request.capture;
  for (size_t branch = 0; branch < generation.num_branches; ++branch) {
    for (size_t image = 0; image < unit.num_images; ++image) {
      BatchSequence sequence;
      sequence.lease_sequence = branch * generation.num_images + unit.first_image + image;
      sequence.label = generation.LabelOf(sequence.lease_sequence, config_);
      sequence.label_index = generation.label_index[sequence.lease_sequence];
      sequence.x_row = batch_.num_rows;
      sequence.needs_logits =
          branch == 0 ? draws || generation.request.losses : draws && generation.request.guidance[scale.index] != 0;
      batch_.sequences.push_back(sequence);
      batch_.num_rows += num_tokens;
    }
  }
  batch_.groups.push_back(group);
}

void Stepper::PrepareCapture(Generation& generation) const {
  ScaleResult& result = generation.scale.result;
  const size_t scale_index = generation.scale.index, num_tokens = schedule_.tokens[scale_index];
  const size_t num_images = generation.num_images;
  result.logits.resize(num_images * num_tokens * config_.tokenizer.codebook_size);
  result.hidden.resize((1 + generation.scale.blocks.size()) * generation.num_sequences() * num_tokens *
                       config_.transformer.width);
  if (scale_index + 1 < schedule_.num_scales()) {
    result.next_input.resize(num_images * schedule_.tokens[scale_index + 1] * config_.tokenizer.code_dim);
  }
}

void Stepper::Issue(const Unit& unit, const BatchGroup& group) {
  Generation& generation = *unit.generation;
  const Request& request = generation.request;
  if (request.forced_tokens.empty() || request.capture) Draw(unit, group);
  if (!request.forced_tokens.empty()) Force(unit);
  if (request.losses) Losses(unit, group);
  AddToLatent(unit);
  if (!request.forced_tokens.empty()) return;
  const size_t num_tokens = schedule_.tokens[generation.scale.index], first = unit.first_image * num_tokens;
  backend_.Download(generation.scale.result.tokens.data() + first, generation.tokens.as<int32_t>() + first,
                    unit.num_images * num_tokens * sizeof(int32_t));
}

void Stepper::Draw(const Unit& unit, const BatchGroup& group) {
  Generation& generation = *unit.generation;
  const Request& request = generation.request;
  const Generation::Scale& scale = generation.scale;
  const size_t num_tokens = schedule_.tokens[scale.index], codebook_size = config_.tokenizer.codebook_size;
  samples_.clear();
  for (size_t i = 0; i < unit.num_images; ++i) {
    const size_t image = unit.first_image + i;
    SampleArgs args;
    args.tokens = generation.tokens.as<int32_t>() + image * num_tokens;
    args.cond = transformer_.logits(batch_.sequences[group.first_sequence + i].logits_row);
    args.stride = transformer_.logits_stride();
    args.num_tokens = num_tokens;
    args.codebook_size = codebook_size;
    args.guidance = request.guidance[scale.index];
    if (args.guidance != 0) {
      const BatchSequence& uncond = batch_.sequences[group.first_sequence + group.num_images + i];
      args.uncond = transformer_.logits(uncond.logits_row);
    }
    args.top_k = request.top_k;
    args.top_p = request.top_p;
    args.seed = request.seed;
    args.image = request.first_image + image;
    args.scale_index = static_cast<uint32_t>(scale.index);
    if (request.capture) args.logits_out = generation.logits.as<float>() + image * num_tokens * codebook_size;
    samples_.push_back(args);
  }
  backend_.Sample(samples_);
  if (!request.capture) return;
  const size_t numbers = num_tokens * codebook_size, first = unit.first_image * numbers;
  backend_.Download(generation.scale.result.logits.data() + first, generation.logits.as<float>() + first,
                    unit.num_images * numbers * sizeof(float));
}

void Stepper::Force(const Unit& unit) const {
  Generation& generation = *unit.generation;
  const size_t num_tokens = schedule_.tokens[generation.scale.index];
  for (size_t image = unit.first_image; image < unit.first_image + unit.num_images; ++image) {
    const int32_t* const forced = generation.request.forced_tokens.data() + image * schedule_.num_tokens +
                                  schedule_.offsets[generation.scale.index];
    std::copy_n(forced, num_tokens, generation.scale.result.tokens.data() + image * num_tokens);
    backend_.Upload(generation.tokens.as<int32_t>() + image * num_tokens, forced, num_tokens * sizeof(int32_t));
  }
}

void Stepper::Losses(const Unit& unit, const BatchGroup& group) {
  Generation& generation = *unit.generation;
  const size_t num_tokens = schedule_.tokens[generation.scale.index], first = unit.first_image * num_tokens;
  CrossEntropyArgs args;  // logits of a unit's conditional sequences lie one after the other
  args.logits = transformer_.logits(batch_.sequences[group.first_sequence].logits_row);
  args.stride = transformer_.logits_stride();
  args.num_rows = unit.num_images * num_tokens;
  args.codebook_size = config_.tokenizer.codebook_size;
  args.targets = generation.tokens.as<int32_t>() + first;
  args.losses = generation.losses.as<float>() + first;
  backend_.CrossEntropy(args);
  backend_.Download(generation.scale.result.losses.data() + first, args.losses, args.num_rows * sizeof(float));
}

void Stepper::AddToLatent(const Unit& unit) {
  Generation& generation = *unit.generation;
  const size_t scale_index = generation.scale.index, code_dim = config_.tokenizer.code_dim;
  float* const f_hat = generation.f_hat.as<float>() + unit.first_image * code_dim * config_.side() * config_.side();
  const int32_t* const tokens = generation.tokens.as<int32_t>() + unit.first_image * schedule_.tokens[scale_index];
  quantizer_.AddScale(scale_index, tokens, f_hat, unit.num_images);
  if (scale_index + 1 == schedule_.num_scales()) return;
  const size_t bytes = schedule_.tokens[scale_index + 1] * code_dim * DTypeBytes(backend_.activation_dtype());
  std::byte* const input = generation.inputs[(scale_index + 1) % 2].data() + unit.first_image * bytes;
  quantizer_.NextInput(scale_index + 1, f_hat, input, unit.num_images);
  if (!generation.request.capture) return;
  const size_t numbers = unit.num_images * schedule_.tokens[scale_index + 1] * code_dim;
  std::vector<std::byte> captured(unit.num_images * bytes);
  backend_.Download(captured.data(), input, captured.size());
  backend_.Wait();
  WidenToFloat(generation.scale.result.next_input.data() + unit.first_image * (numbers / unit.num_images),
               captured.data(), backend_.activation_dtype(), numbers);
}

void Stepper::Finish(const Unit& unit) {
  Generation::Scale& scale = unit.generation->scale;
  const size_t num_tokens = schedule_.tokens[scale.index], count = unit.num_images * num_tokens;
  const int32_t* const tokens = scale.result.tokens.data() + unit.first_image * num_tokens;
  bool finite = std::all_of(tokens, tokens + count, [](int32_t token) { return token >= 0; });
  if (unit.generation->request.losses) {
    const float* const losses = scale.result.losses.data() + unit.first_image * num_tokens;
    finite = finite && std::all_of(losses, losses + count, [](float x) { return std::isfinite(x); });
  }
  NS_REQUIRE(finite, ErrorCode::kNotFinite, "logits of scale ", scale.index,
             " hold NaN or infinity; the weights may be broken");
  scale.images_done += unit.num_images;
}

BlockCost Stepper::MeasureBlock() {
  const TransformerWeights& weights = transformer_.weights();
  const LinearWeights& layer = weights.blocks.front().fc1;
  const size_t few = std::min<size_t>(16, transformer_.max_rows()),
               many = std::min<size_t>(512, transformer_.max_rows());
  const DType dtype = backend_.activation_dtype();
  const Buffer a = backend_.Allocate(many * layer.matrix.k * DTypeBytes(dtype), "a measurement"),
               out = backend_.Allocate(many * layer.matrix.n * DTypeBytes(dtype), "a measurement");
  const auto measure = [&](size_t num_rows) {
    double best = std::numeric_limits<double>::max();
    for (int repeat = 0; repeat < 3; ++repeat) {
      const Clock::time_point begin = Clock::now();
      LinearArgs args;
      args.out = out.data();
      args.out_dtype = dtype;
      args.out_stride = layer.matrix.n;
      args.a = a.data();
      args.a_dtype = dtype;
      args.a_stride = layer.matrix.k;
      args.num_rows = num_rows;
      args.weights = &layer.matrix;
      backend_.Linear(args);
      backend_.Wait();
      best = std::min(best, MsSince(begin));
    }
    return best;
  };
  const double few_ms = measure(few), many_ms = measure(many);
  const double width = static_cast<double>(config_.transformer.width),
               mlp = static_cast<double>(config_.transformer.mlp_width);
  const double layers =
      (4 * width + 2 * mlp) / mlp;  // multiplications of a block's linear layers over those of this one
  const double row_ms = many > few ? std::max(0.0, (many_ms - few_ms) / static_cast<double>(many - few)) : 0;
  return {layers * std::max(0.0, few_ms - row_ms * static_cast<double>(few)), layers * row_ms};
}

}  // namespace nextscale
