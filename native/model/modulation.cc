#include "native/model/modulation.h"

#include <algorithm>

namespace nextscale {
namespace {

constexpr const char* kWhat = "the modulations of a generation";

std::vector<int32_t> Distinct(std::vector<int32_t> labels) {
  std::sort(labels.begin(), labels.end());
  labels.erase(std::unique(labels.begin(), labels.end()), labels.end());
  return labels;
}

void Apply(Backend& backend, const LinearWeights& weights, const Buffer& condition, size_t num_labels, float* out,
           size_t out_stride) {
  LinearArgs args;
  args.out = out;
  args.out_stride = out_stride;
  args.a = condition.data();
  args.a_dtype = backend.activation_dtype();
  args.a_stride = weights.matrix.k;
  args.num_rows = num_labels;
  args.weights = &weights.matrix;
  args.bias = weights.bias.as<float>();
  backend.Linear(args);
}

}  // namespace

Modulations::Modulations(Backend& backend, const TransformerWeights& weights, size_t width,
                         const std::vector<int32_t>& labels)
    : width_(width),
      num_blocks_(weights.blocks.size()),
      labels_(Distinct(labels)),
      blocks_(backend.Allocate(labels_.size() * num_blocks_ * kNumChunks * width * sizeof(float), kWhat)),
      head_(backend.Allocate(labels_.size() * 2 * width * sizeof(float), kWhat)) {
  const size_t num_labels = labels_.size(), chunks = kNumChunks * width, stride = num_blocks_ * chunks;
  const DType dtype = backend.activation_dtype();
  const Buffer condition = backend.Allocate(num_labels * width * DTypeBytes(dtype), kWhat);
  backend.LabelCondition({.out = condition.data(),
                          .out_dtype = dtype,
                          .out_stride = width,
                          .width = width,
                          .class_embedding = weights.class_embedding.as<float>(),
                          .labels = labels_});
  const bool shared = weights.shared_ada.matrix.n != 0;
  const Buffer common = backend.Allocate(shared ? num_labels * chunks * sizeof(float) : 0, kWhat);
  if (shared) Apply(backend, weights.shared_ada, condition, num_labels, common.as<float>(), chunks);
  for (size_t block_index = 0; block_index < num_blocks_; ++block_index) {
    const BlockWeights& block = weights.blocks[block_index];
    float* out = blocks_.as<float>() + block_index * chunks;
    if (shared) {
      backend.AddOffset({.out = out,
                         .out_stride = stride,
                         .in = common.as<float>(),
                         .in_stride = chunks,
                         .offset = block.ada_offset.as<float>(),
                         .num_rows = num_labels,
                         .width = chunks});
    } else {
      Apply(backend, block.ada, condition, num_labels, out, stride);
    }
  }
  Apply(backend, weights.head_ada, condition, num_labels, head_.as<float>(), 2 * width);
}

size_t Modulations::IndexOf(int32_t label) const {
  return static_cast<size_t>(std::lower_bound(labels_.begin(), labels_.end(), label) - labels_.begin());
}

}  // namespace nextscale
