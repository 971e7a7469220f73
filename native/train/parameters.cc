#include "native/train/parameters.h"

#include <algorithm>

#include "native/base/error.h"

namespace nextscale {

ParameterLayout::ParameterLayout(const ModelConfig& config) : tensors_(config) {
  constexpr size_t kAlignment = 16;  // floats: one cache line
  for (const TransformerTensor& tensor : tensors_.all) {
    // Of the tensors with two sides only the level embedding does not decay; one side is a bias, more are embeddings.
    const bool decay = tensor.shape.size() == 2 && parameters_.size() != tensors_.level;
    const size_t count = tensor.num_elements();
    parameters_.push_back({tensor, size_, count, decay});
    size_ += (count + kAlignment - 1) / kAlignment * kAlignment;
  }
}

const Parameter& ParameterLayout::Find(std::string_view name) const {
  const auto found = std::find_if(parameters_.begin(), parameters_.end(),
                                  [&](const Parameter& parameter) { return parameter.name == name; });
  NS_REQUIRE(found != parameters_.end(), ErrorCode::kInvalidArgument, "the transformer has no parameter \"", name,
             "\"");
  return *found;
}

}  // namespace nextscale
