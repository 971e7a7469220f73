#include "native/tokenizer/tokenizer_engine.h"

#include <utility>

#include "native/base/error.h"

namespace nextscale {
namespace {

// How many whole items of `size` numbers there are; at least one.
size_t CountItems(const char* what, size_t numbers, size_t size) {
  NS_REQUIRE(numbers != 0 && numbers % size == 0, ErrorCode::kInvalidArgument, what, ": expected a multiple of ", size,
             " numbers, found ", numbers);
  return numbers / size;
}

}  // namespace

TokenizerEngine::TokenizerEngine(const TokenizerConfig& config, const TensorTable& tensors,
                                 std::unique_ptr<Backend> backend)
    : backend_(std::move(backend)), tokenizer_((Validate(config), *backend_), config, tensors) {
  backend_->Wait();
}

size_t TokenizerEngine::CountTokens(const std::vector<int32_t>& tokens) const {
  const size_t codebook_size = config().codebook_size;
  for (const int32_t token : tokens) {
    NS_REQUIRE(token >= 0 && static_cast<size_t>(token) < codebook_size, ErrorCode::kInvalidArgument,
               "tokens: expected 0 to ", codebook_size - 1, ", found ", token);
  }
  return CountItems("tokens", tokens.size(), config().num_tokens());
}

TokenizerEngine::Flag TokenizerEngine::Decode(std::vector<int32_t> tokens, Pictures out, Done done) {
  const size_t num_tokens = config().num_tokens();
  Job job;
  job.num_parts = CountTokens(tokens);
  job.run = [this, tokens = std::move(tokens), num_tokens, out](size_t image, const CancelFlag& cancelled) {
    tokenizer_.DecodeTokens(tokens.data() + image * num_tokens, image, out, cancelled);
  };
  job.done = std::move(done);
  return runner_.Add(std::move(job));
}

TokenizerEngine::Flag TokenizerEngine::FeatureMap(std::vector<int32_t> tokens, float* f_hats, Done done) {
  const size_t num_tokens = config().num_tokens(), numbers = config().latent_numbers();
  Job job;
  job.num_parts = CountTokens(tokens);
  job.run = [this, tokens = std::move(tokens), num_tokens, f_hats, numbers](size_t image, const CancelFlag& cancelled) {
    tokenizer_.FeatureMap(tokens.data() + image * num_tokens, f_hats + image * numbers, cancelled);
  };
  job.done = std::move(done);
  return runner_.Add(std::move(job));
}

TokenizerEngine::Flag TokenizerEngine::Encode(std::vector<float> pixels, int32_t* tokens, Done done) {
  const size_t num_tokens = config().num_tokens(), numbers = config().image_numbers();
  Job job;
  job.num_parts = CountItems("pixels", pixels.size(), numbers);
  job.run = [this, pixels = std::move(pixels), numbers, tokens, num_tokens](size_t image, const CancelFlag& cancelled) {
    tokenizer_.Encode(pixels.data() + image * numbers, tokens + image * num_tokens, cancelled);
  };
  job.done = std::move(done);
  return runner_.Add(std::move(job));
}

TokenizerEngine::Flag TokenizerEngine::EncodeTrace(std::vector<float> pixels, float* f, float* f_hats, Done done) {
  NS_REQUIRE(pixels.size() == config().image_numbers(), ErrorCode::kInvalidArgument, "pixels: expected one picture of ",
             config().image_numbers(), " numbers, found ", pixels.size());
  Job job;
  job.run = [this, pixels = std::move(pixels), f, f_hats](size_t, const CancelFlag& cancelled) {
    tokenizer_.EncodeTrace(pixels.data(), f, f_hats, cancelled);
  };
  job.done = std::move(done);
  return runner_.Add(std::move(job));
}

}  // namespace nextscale
