#include "native/model/modulation.h"

#include <algorithm>
#include <cmath>

namespace nextscale {
namespace {

std::vector<int32_t> Distinct(std::vector<int32_t> labels) {
  std::sort(labels.begin(), labels.end());
  labels.erase(std::unique(labels.begin(), labels.end()), labels.end());
  return labels;
}

void Apply(Context& context, const LinearWeights& weights, const std::vector<float>& condition, size_t num_labels,
           float* out, size_t out_stride) {
  LinearArgs args;
  args.out = out;
  args.out_stride = out_stride;
  args.a = condition.data();
  args.a_stride = weights.matrix.k;
  args.num_rows = num_labels;
  args.weights = &weights.matrix;
  args.bias = weights.bias.data();
  Linear(context, args);
}

}  // namespace

Modulations::Modulations(Context& context, const TransformerWeights& weights, size_t width,
                         const std::vector<int32_t>& labels)
    : width_(width),
      num_blocks_(weights.blocks.size()),
      labels_(Distinct(labels)),
      blocks_(labels_.size() * num_blocks_ * kNumChunks * width * sizeof(float)),
      head_(labels_.size() * 2 * width * sizeof(float)) {
  const size_t num_labels = labels_.size(), chunks = kNumChunks * width, stride = num_blocks_ * chunks;
  std::vector<float> condition(num_labels * width);  // silu(class embedding)
  for (size_t i = 0; i < condition.size(); ++i) {
    const float value = weights.class_embedding[static_cast<size_t>(labels_[i / width]) * width + i % width];
    condition[i] = value / (1.0f + std::exp(-value));
  }
  const bool shared = weights.shared_ada.matrix.n != 0;
  std::vector<float> common(shared ? num_labels * chunks : 0);
  if (shared) Apply(context, weights.shared_ada, condition, num_labels, common.data(), chunks);
  for (size_t block_index = 0; block_index < num_blocks_; ++block_index) {
    const BlockWeights& block = weights.blocks[block_index];
    float* out = blocks_.as<float>() + block_index * chunks;
    if (!shared) Apply(context, block.ada, condition, num_labels, out, stride);
    for (size_t i = 0; i < common.size(); ++i)
      out[i / chunks * stride + i % chunks] = common[i] + block.ada_offset[i % chunks];
  }
  Apply(context, weights.head_ada, condition, num_labels, head_.as<float>(), 2 * width);
}

size_t Modulations::IndexOf(int32_t label) const {
  return static_cast<size_t>(std::lower_bound(labels_.begin(), labels_.end(), label) - labels_.begin());
}

}  // namespace nextscale
