// The way forward.
#include "native/train/pass.h"

#include <numeric>

#include "native/base/error.h"

namespace nextscale {

Pass::Pass(TrainingBackend& backend, const ModelConfig& config, const ParameterLayout& layout,
           const SubnetTable& subnets, Quantizer& quantizer, const PassOptions& options, const std::atomic<bool>& stop)
    : backend_(backend),
      config_(config),
      layout_(layout),
      schedule_(config.tokenizer.sides),
      options_(options),
      stop_(stop),
      quantizer_(quantizer),
      rows_(schedule_, subnets),
      block_rows_(config.num_scales(), options.micro_batch),
      memory_(backend, config, options),
      conditions_(backend, config.transformer.width, options.micro_batch),
      modulations_(backend, config.transformer, options.micro_batch),
      condition_of_(options.micro_batch),
      losses_(options.micro_batch * schedule_.num_tokens) {
  std::iota(condition_of_.begin(), condition_of_.end(), 0);
}

size_t Pass::Bytes(const ModelConfig& config, const PassOptions& options) {
  return Activations::Bytes(config, options) + Conditions::Bytes(config.transformer.width, options.micro_batch) +
         Modulations::Bytes(config.transformer, options.micro_batch) +
         options.micro_batch * config.num_tokens() * sizeof(float);  // losses_
}

void Pass::CheckStop() const {
  NS_REQUIRE(!stop_.load(std::memory_order_relaxed), ErrorCode::kAborted, "the trainer was stopped");
}

void Pass::Forward(const PackedNetwork& network, const PassInput& input) {
  NS_CHECK(!input.labels.empty() && input.labels.size() <= options_.micro_batch);
  const TransformerWeights& weights = network.forward();
  TeacherInput(input);
  specs_.clear();
  for (const int32_t label : input.labels) specs_.push_back(ConditionSpec::Class(label));
  conditions_.Make(backend_, weights, specs_);
  modulations_.Make(backend_, weights, conditions_);
  Embed(weights);
  for (size_t block_index = 0; block_index < weights.blocks.size(); ++block_index) {
    CheckStop();
    if (options_.checkpointing) {
      backend_.Copy(memory_.block_inputs[block_index].data(), memory_.x.data(), RowBytes());
    }
    FillRows(block_index);
    ForwardBlock(weights, block_index);
  }
  FillHeadRows();
  RunHead(backend_, config_.transformer, weights, memory_.Head(), memory_.stream(), block_rows_.spans);
}

std::span<const float> Pass::Loss(const PassInput& input, const PassLoss& loss) {
  const HeadMemory head = memory_.Head();
  backend_.CrossEntropy({.logits = head.logits,
                         .stride = head.logits_stride,
                         .num_rows = input.tokens.size(),
                         .codebook_size = config_.tokenizer.codebook_size,
                         .targets = memory_.tokens.as<int32_t>(),
                         .losses = memory_.losses.as<float>(),
                         .smoothing = loss.smoothing,
                         .gradient_factor = loss.gradient_factor});
  backend_.Download(losses_.data(), memory_.losses.data(), input.tokens.size_bytes());
  backend_.Wait();
  return {losses_.data(), input.tokens.size()};
}

// What word_embed gets at every scale but the first (reference: quantize.idxBl_to_var_input).
void Pass::TeacherInput(const PassInput& input) {
  const size_t code_dim = config_.tokenizer.code_dim;
  float* const f_hat = memory_.f_hat.as<float>();
  backend_.Upload(memory_.tokens.data(), input.tokens.data(), input.tokens.size_bytes());
  for (size_t image = 0; image < input.labels.size(); ++image) {
    const size_t first = image * schedule_.num_tokens;
    backend_.Clear(f_hat, memory_.f_hat.bytes());
    for (size_t k = 0; k + 1 < schedule_.num_scales(); ++k) {
      quantizer_.AddScale(k, memory_.tokens.as<int32_t>() + first + schedule_.offsets[k], f_hat);
      quantizer_.NextInput(k + 1, f_hat, memory_.input.as<float>() + (first + schedule_.offsets[k + 1]) * code_dim);
    }
  }
}

void Pass::Embed(const TransformerWeights& weights) {
  const size_t num_tokens = schedule_.num_tokens, first_tokens = schedule_.tokens[0];
  const ResidualStream stream = memory_.stream();
  for (size_t image = 0; image < conditions_.size(); ++image) {
    const size_t row = image * num_tokens;
    EmbedTokens(backend_, weights,
                {.first_token = 0,
                 .num_tokens = first_tokens,
                 .conditions = &conditions_,
                 .condition_of = std::span(condition_of_).subspan(image, 1)},
                {stream.x + row * stream.stride, stream.stride});
    if (num_tokens == first_tokens) continue;
    EmbedTokens(backend_, weights,
                {.first_token = first_tokens,
                 .num_tokens = num_tokens - first_tokens,
                 .input = memory_.input.as<float>() + (row + first_tokens) * config_.tokenizer.code_dim},
                {stream.x + (row + first_tokens) * stream.stride, stream.stride});
  }
}

void Pass::FillRows(size_t block_index) {
  const size_t offset = block_index * kNumChunks * config_.transformer.width;
  rows_.Fill(block_index, conditions_.size(),
             {.modulations = modulations_.Block(0, block_index),
              .dmodulations = memory_.dmodulations.as<float>() + offset,
              .modulation_stride = modulations_.stride(),
              .qkv = static_cast<float*>(memory_.Block(block_index).qkv),
              .qkv_stride = memory_.qkv_stride,
              .width = config_.transformer.width},
             block_rows_);
}

void Pass::FillHeadRows() {
  const size_t offset = config_.transformer.depth * kNumChunks * config_.transformer.width;
  rows_.FillAll(conditions_.size(),
                {.modulations = modulations_.Head(0),
                 .dmodulations = memory_.dmodulations.as<float>() + offset,
                 .modulation_stride = modulations_.stride()},
                block_rows_);
}

void Pass::ForwardBlock(const TransformerWeights& weights, size_t block_index) {
  RunBlock(backend_, config_.transformer, weights.blocks[block_index], memory_.Block(block_index), memory_.stream(),
           block_rows_.spans, block_rows_.attention);
}

}  // namespace nextscale
