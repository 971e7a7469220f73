#include "native/generate/step.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "native/generate/outcome.h"
#include "native/ops/cross_entropy.h"
#include "native/ops/linear.h"
#include "native/ops/sample.h"

namespace nextscale {

Stepper::Stepper(const ModelConfig& config, Context& context, Transformer& transformer, Quantizer& quantizer)
    : config_(config), schedule_(config.sides), context_(context), transformer_(transformer), quantizer_(quantizer) {
  batch_.groups.reserve(transformer.max_rows());
  batch_.sequences.reserve(transformer.max_rows());
}

void Stepper::Run(const std::vector<Unit>& units, std::vector<Scheduler::Ended>& failed) {
  const Clock::time_point begin = Clock::now();
  batch_.Clear();
  for (const Unit& unit : units) AddGroup(unit);
  transformer_.Run(context_, batch_);
  transformer_.Head(context_, batch_);
  for (size_t i = 0; i < units.size(); ++i) {
    if (!batch_.groups[i].active) continue;
    try {
      FinishUnit(units[i], batch_.groups[i]);
    } catch (...) {
      failed.push_back({units[i].generation, FromCurrentException()});
    }
  }
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
    const size_t image_numbers = num_tokens * config_.vae.code_dim;
    group.input = generation.inputs[scale.index % 2].as<float>() + unit.first_image * image_numbers;
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
  result.logits.resize(num_images * num_tokens * config_.vae.codebook_size);
  result.hidden.resize((1 + generation.scale.blocks.size()) * generation.num_sequences() * num_tokens *
                       config_.var.width);
  if (scale_index + 1 < schedule_.num_scales()) {
    result.next_input.resize(num_images * schedule_.tokens[scale_index + 1] * config_.vae.code_dim);
  }
}

void Stepper::FinishUnit(const Unit& unit, const BatchGroup& group) {
  Generation& generation = *unit.generation;
  const Request& request = generation.request;
  for (size_t i = 0; i < unit.num_images && (request.forced_tokens.empty() || request.capture); ++i) {
    if (generation.cancelled.load(std::memory_order_relaxed)) return;
    Draw(generation, group, i, unit.first_image + i);
  }
  if (!request.forced_tokens.empty()) Force(unit);
  if (request.losses) Losses(unit, group);
  for (size_t i = 0; i < unit.num_images; ++i) {
    if (generation.cancelled.load(std::memory_order_relaxed)) return;
    AddToLatent(generation, unit.first_image + i);
  }
  generation.scale.images_done += unit.num_images;
}

void Stepper::Draw(Generation& generation, const BatchGroup& group, size_t image_in_group, size_t image) {
  const Request& request = generation.request;
  Generation::Scale& scale = generation.scale;
  const size_t num_tokens = schedule_.tokens[scale.index], codebook_size = config_.vae.codebook_size;
  const BatchSequence& cond = batch_.sequences[group.first_sequence + image_in_group];
  SampleArgs args;
  args.tokens = scale.result.tokens.data() + image * num_tokens;
  args.cond = transformer_.logits(cond.logits_row);
  args.stride = transformer_.logits_stride();
  args.num_tokens = num_tokens;
  args.codebook_size = codebook_size;
  args.guidance = request.guidance[scale.index];
  if (args.guidance != 0) {
    const BatchSequence& uncond = batch_.sequences[group.first_sequence + group.num_images + image_in_group];
    args.uncond = transformer_.logits(uncond.logits_row);
  }
  args.top_k = request.top_k;
  args.top_p = request.top_p;
  args.seed = request.seed;
  args.image = request.first_image + image;
  args.scale_index = static_cast<uint32_t>(scale.index);
  if (request.capture) args.logits_out = scale.result.logits.data() + image * num_tokens * codebook_size;
  try {
    Sample(context_, args);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kNotFinite) throw;
    throw Error(ErrorCode::kNotFinite, Message("the logits of scale ", scale.index, " are not finite (", error.what(),
                                               "); the weights may be broken"));
  }
}

void Stepper::Force(const Unit& unit) const {
  Generation::Scale& scale = unit.generation->scale;
  const size_t num_tokens = schedule_.tokens[scale.index];
  for (size_t image = unit.first_image; image < unit.first_image + unit.num_images; ++image) {
    const size_t first = image * schedule_.num_tokens + schedule_.offsets[scale.index];
    std::copy_n(unit.generation->request.forced_tokens.data() + first, num_tokens,
                scale.result.tokens.data() + image * num_tokens);
  }
}

void Stepper::Losses(const Unit& unit, const BatchGroup& group) {
  Generation::Scale& scale = unit.generation->scale;
  const size_t num_tokens = schedule_.tokens[scale.index];
  CrossEntropyArgs args;  // logits of a unit's conditional sequences lie one after the other
  args.logits = transformer_.logits(batch_.sequences[group.first_sequence].logits_row);
  args.stride = transformer_.logits_stride();
  args.num_rows = unit.num_images * num_tokens;
  args.codebook_size = config_.vae.codebook_size;
  args.targets = scale.result.tokens.data() + unit.first_image * num_tokens;
  args.losses = scale.result.losses.data() + unit.first_image * num_tokens;
  CrossEntropy(context_, args);
  const bool finite = std::all_of(args.losses, args.losses + args.num_rows, [](float x) { return std::isfinite(x); });
  NS_REQUIRE(finite, ErrorCode::kNotFinite, "the logits of scale ", scale.index,
             " are not finite; the weights may be broken");
}

void Stepper::AddToLatent(Generation& generation, size_t image) {
  ScaleResult& result = generation.scale.result;
  const size_t scale_index = generation.scale.index, code_dim = config_.vae.code_dim;
  float* const f_hat = generation.f_hat.as<float>() + image * code_dim * config_.side() * config_.side();
  quantizer_.AddScale(context_, scale_index, result.tokens.data() + image * schedule_.tokens[scale_index], f_hat);
  if (scale_index + 1 == schedule_.num_scales()) return;
  const size_t numbers = schedule_.tokens[scale_index + 1] * code_dim;
  float* const input = generation.inputs[(scale_index + 1) % 2].as<float>() + image * numbers;
  quantizer_.NextInput(context_, scale_index + 1, f_hat, input);
  if (generation.request.capture) std::copy_n(input, numbers, result.next_input.data() + image * numbers);
}

BlockCost Stepper::MeasureBlock() {
  const TransformerWeights& weights = transformer_.weights();
  const LinearWeights& layer = weights.blocks.front().fc1;
  const size_t few = std::min<size_t>(16, transformer_.max_rows()),
               many = std::min<size_t>(512, transformer_.max_rows());
  Buffer a(many * layer.matrix.k * sizeof(float)), out(many * layer.matrix.n * sizeof(float));
  const auto measure = [&](size_t num_rows) {
    double best = std::numeric_limits<double>::max();
    for (int repeat = 0; repeat < 3; ++repeat) {
      const Clock::time_point begin = Clock::now();
      LinearArgs args;
      args.out = out.as<float>();
      args.out_stride = layer.matrix.n;
      args.a = a.as<float>();
      args.a_stride = layer.matrix.k;
      args.num_rows = num_rows;
      args.weights = &layer.matrix;
      Linear(context_, args);
      best = std::min(best, MsSince(begin));
    }
    return best;
  };
  const double few_ms = measure(few), many_ms = measure(many);
  const double width = static_cast<double>(config_.var.width), mlp = static_cast<double>(config_.var.mlp_width);
  const double layers =
      (4 * width + 2 * mlp) / mlp;  // multiplications of a block's linear layers over those of this one
  const double row_ms = many > few ? std::max(0.0, (many_ms - few_ms) / static_cast<double>(many - few)) : 0;
  return {layers * std::max(0.0, few_ms - row_ms * static_cast<double>(few)), layers * row_ms};
}

}  // namespace nextscale
