#include "native/generate/step.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "native/base/error.h"

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

void Stepper::Compose(const std::vector<Unit>& units) {
  batch_.Clear();
  for (const Unit& unit : units) AddGroup(unit);
}

void Stepper::Forward() {
  transformer_.Run(batch_);
  transformer_.Head(batch_);
}

template <typename Task>
void Stepper::EachActive(const std::vector<Unit>& units, std::vector<Scheduler::Ended>& failed, const Task& task) {
  for (size_t i = 0; i < units.size(); ++i) {
    BatchGroup& group = batch_.groups[i];
    if (!group.active) continue;
    try {
      task(units[i], group);
    } catch (const Error& error) {
      if (error.code() == ErrorCode::kDeviceLost) throw;
      group.active = false;
      failed.push_back({units[i].generation, GenerationEnd{FromCurrentException()}});
    }
  }
}

void Stepper::ChooseTokens(const std::vector<Unit>& units, std::vector<Scheduler::Ended>& failed) {
  EachActive(units, failed, [&](const Unit& unit, BatchGroup& group) {
    Generation& generation = *unit.generation;
    group.active = !generation.cancelled.IsSet();
    if (!group.active) return;
    Draw(unit, group);
    if (!generation.request.given_tokens.empty()) TakeGiven(unit);
    if (generation.request.losses) Losses(unit, group);
    const size_t num_tokens = schedule_.tokens[generation.engine.scale.index], first = unit.first_image * num_tokens;
    backend_.Download(generation.engine.scale.result.tokens.data() + first,
                      generation.engine.tokens.as<int32_t>() + first, unit.num_images * num_tokens * sizeof(int32_t));
  });
}

void Stepper::GrowLatents(const std::vector<Unit>& units, std::vector<Scheduler::Ended>& failed) {
  EachActive(units, failed, [&](const Unit& unit, BatchGroup&) { AddToLatent(unit); });
}

void Stepper::Settle(const std::vector<Unit>& units, std::vector<Scheduler::Ended>& failed) {
  backend_.Wait();
  EachActive(units, failed, [&](const Unit& unit, BatchGroup&) {
    CheckFinite(unit);
    unit.generation->engine.scale.images_done += unit.num_images;
  });
}

void Stepper::ShareTime(const std::vector<Unit>& units, double ms) const {
  const auto weight = [&](const BatchGroup& group) {
    return static_cast<double>(group.num_sequences() * schedule_.tokens[group.scale_index] * (group.blocks.size() + 1));
  };
  double total = 0;
  for (const BatchGroup& group : batch_.groups) total += weight(group);
  for (size_t i = 0; i < units.size(); ++i) {
    EngineSide::Scale& scale = units[i].generation->engine.scale;
    scale.step_ms += ms;
    scale.cost_ms += ms * weight(batch_.groups[i]) / total;
  }
}

void Stepper::AddGroup(const Unit& unit) {
  Generation& generation = *unit.generation;
  EngineSide& engine = generation.engine;
  const EngineSide::Scale& scale = engine.scale;
  const size_t num_tokens = schedule_.tokens[scale.index];
  if (generation.request.capture) PrepareCapture(generation);

  BatchGroup group;
  group.scale_index = scale.index;
  group.blocks = scale.blocks;
  group.lease = engine.lease;
  group.conditions = engine.conditions.get();
  group.modulations = engine.modulations.get();
  group.cancelled = &generation.cancelled;
  if (scale.index > 0) {
    const size_t image_numbers = num_tokens * config_.tokenizer.code_dim;
    group.input = engine.inputs[scale.index % 2].data() +
                  unit.first_image * image_numbers * DTypeBytes(backend_.activation_dtype());
  }
  group.first_sequence = batch_.sequences.size();
  group.num_images = unit.num_images;
  group.num_branches = generation.num_branches;
  if (generation.request.capture) {
    group.hidden = engine.scale.result.hidden.data();
    group.hidden_sequences = generation.num_sequences();
  }
  // Logits are needed for tokens that are drawn, for losses and for the record; those of the unconditional branch only
  // where guidance is not 0.
  for (size_t branch = 0; branch < generation.num_branches; ++branch) {
    for (size_t image = 0; image < unit.num_images; ++image) {
      BatchSequence sequence;
      sequence.lease_sequence = branch * generation.num_images + unit.first_image + image;
      sequence.condition = engine.condition_of[sequence.lease_sequence];
      sequence.x_row = batch_.num_rows;
      const bool draws = Draws(generation, unit.first_image + image);
      sequence.needs_logits =
          branch == 0 ? draws || generation.request.losses : draws && generation.request.guidance[scale.index] != 0;
      batch_.sequences.push_back(sequence);
      batch_.num_rows += num_tokens;
    }
  }
  batch_.groups.push_back(group);
}

bool Stepper::Draws(const Generation& generation, size_t image) const {
  const size_t scale_index = generation.engine.scale.index;
  return generation.request.capture || AnyDrawn(generation.GivenTokens(image, schedule_.offsets[scale_index], config_),
                                                schedule_.tokens[scale_index]);
}

void Stepper::PrepareCapture(Generation& generation) const {
  EngineSide::Scale& scale = generation.engine.scale;
  const size_t num_tokens = schedule_.tokens[scale.index], num_images = generation.num_images;
  scale.result.logits.resize(num_images * num_tokens * config_.tokenizer.codebook_size);
  scale.result.hidden.resize((1 + scale.blocks.size()) * generation.num_sequences() * num_tokens *
                             config_.transformer.width);
  if (scale.index + 1 < schedule_.num_scales()) {
    scale.result.next_input.resize(num_images * schedule_.tokens[scale.index + 1] * config_.tokenizer.code_dim);
  }
}

// All tokens of an image are drawn when any is: a draw is keyed by its token, so what is given changes no other one.
void Stepper::Draw(const Unit& unit, const BatchGroup& group) {
  Generation& generation = *unit.generation;
  const Request& request = generation.request;
  EngineSide& engine = generation.engine;
  const size_t scale_index = engine.scale.index;
  const size_t num_tokens = schedule_.tokens[scale_index], codebook_size = config_.tokenizer.codebook_size;
  samples_.clear();
  for (size_t i = 0; i < unit.num_images; ++i) {
    const size_t image = unit.first_image + i;
    if (!Draws(generation, image)) continue;
    SampleArgs args;
    args.tokens = engine.tokens.as<int32_t>() + image * num_tokens;
    args.cond = transformer_.logits(batch_.sequences[group.first_sequence + i].logits_row);
    args.stride = transformer_.logits_stride();
    args.num_tokens = num_tokens;
    args.codebook_size = codebook_size;
    args.guidance = request.guidance[scale_index];
    if (args.guidance != 0) {
      const BatchSequence& uncond = batch_.sequences[group.first_sequence + group.num_images + i];
      args.uncond = transformer_.logits(uncond.logits_row);
    }
    args.top_k = request.top_k;
    args.top_p = request.top_p;
    args.seed = request.seed;
    args.image = request.first_image + image;
    args.scale_index = static_cast<uint32_t>(scale_index);
    if (request.capture) args.logits_out = engine.logits.as<float>() + image * num_tokens * codebook_size;
    samples_.push_back(args);
  }
  if (samples_.empty()) return;
  backend_.Sample(samples_);
  if (!request.capture) return;
  const size_t numbers = num_tokens * codebook_size, first = unit.first_image * numbers;
  backend_.Download(engine.scale.result.logits.data() + first, engine.logits.as<float>() + first,
                    unit.num_images * numbers * sizeof(float));
}

// Run by run over what was drawn, if anything was.
void Stepper::TakeGiven(const Unit& unit) const {
  const Generation& generation = *unit.generation;
  const size_t scale_index = generation.engine.scale.index, num_tokens = schedule_.tokens[scale_index];
  for (size_t image = unit.first_image; image < unit.first_image + unit.num_images; ++image) {
    const int32_t* const given = generation.GivenTokens(image, schedule_.offsets[scale_index], config_);
    const int32_t* const end = given + num_tokens;
    const auto is_draw = [](int32_t token) { return token == Request::kDraw; };
    for (const int32_t* first = std::find_if_not(given, end, is_draw); first != end;) {
      const int32_t* const last = std::find_if(first, end, is_draw);
      int32_t* const place = generation.engine.tokens.as<int32_t>() + image * num_tokens + (first - given);
      backend_.Upload(place, first, static_cast<size_t>(last - first) * sizeof(int32_t));
      first = std::find_if_not(last, end, is_draw);
    }
  }
}

void Stepper::Losses(const Unit& unit, const BatchGroup& group) {
  EngineSide& engine = unit.generation->engine;
  const size_t num_tokens = schedule_.tokens[engine.scale.index], first = unit.first_image * num_tokens;
  CrossEntropyArgs args;  // logits of a unit's conditional sequences lie one after the other
  args.logits = transformer_.logits(batch_.sequences[group.first_sequence].logits_row);
  args.stride = transformer_.logits_stride();
  args.num_rows = unit.num_images * num_tokens;
  args.codebook_size = config_.tokenizer.codebook_size;
  args.targets = engine.tokens.as<int32_t>() + first;
  args.losses = engine.losses.as<float>() + first;
  backend_.CrossEntropy(args);
  backend_.Download(engine.scale.result.losses.data() + first, args.losses, args.num_rows * sizeof(float));
}

void Stepper::AddToLatent(const Unit& unit) {
  EngineSide& engine = unit.generation->engine;
  const size_t scale_index = engine.scale.index, code_dim = config_.tokenizer.code_dim;
  float* const f_hat = engine.f_hat.as<float>() + unit.first_image * config_.tokenizer.latent_numbers();
  const int32_t* const tokens = engine.tokens.as<int32_t>() + unit.first_image * schedule_.tokens[scale_index];
  quantizer_.AddScale(scale_index, tokens, f_hat, unit.num_images);
  if (scale_index + 1 == schedule_.num_scales()) return;
  const size_t bytes = schedule_.tokens[scale_index + 1] * code_dim * DTypeBytes(backend_.activation_dtype());
  std::byte* const input = engine.inputs[(scale_index + 1) % 2].data() + unit.first_image * bytes;
  quantizer_.NextInput(scale_index + 1, f_hat, input, unit.num_images);
  if (!unit.generation->request.capture) return;
  const size_t numbers = unit.num_images * schedule_.tokens[scale_index + 1] * code_dim;
  std::vector<std::byte> captured(unit.num_images * bytes);
  backend_.Download(captured.data(), input, captured.size());
  backend_.Wait();
  WidenToFloat(engine.scale.result.next_input.data() + unit.first_image * (numbers / unit.num_images), captured.data(),
               backend_.activation_dtype(), numbers);
}

void Stepper::CheckFinite(const Unit& unit) const {
  const EngineSide::Scale& scale = unit.generation->engine.scale;
  const size_t num_tokens = schedule_.tokens[scale.index], count = unit.num_images * num_tokens;
  const int32_t* const tokens = scale.result.tokens.data() + unit.first_image * num_tokens;
  bool finite = std::all_of(tokens, tokens + count, [](int32_t token) { return token >= 0; });
  if (unit.generation->request.losses) {
    const float* const losses = scale.result.losses.data() + unit.first_image * num_tokens;
    finite = finite && std::all_of(losses, losses + count, [](float x) { return std::isfinite(x); });
  }
  NS_REQUIRE(finite, ErrorCode::kNotFinite, "logits of scale ", scale.index,
             " hold NaN or infinity; the weights may be broken");
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
