#include "native/tokenizer/weights.h"

#include "native/base/error.h"
#include "native/ops/upload.h"

namespace nextscale {

PackedConv LayerWeights::Conv(const std::string& name, size_t cout, size_t cin) const {
  const std::string weight = prefix_ + name + ".weight";
  const std::vector<float> bias = tensors_.Floats(prefix_ + name + ".bias", {cout});
  return backend_.PackConv(tensors_.Get(weight, {cout, cin, 3, 3}), bias, weight.c_str(), ConvUse::kMap);
}

DenseWeights LayerWeights::Dense(const std::string& name, size_t out, size_t in) const {
  const std::string weight = prefix_ + name + ".weight";
  Buffer bias = OnDevice(tensors_.Floats(prefix_ + name + ".bias", {out}));
  TensorView view = tensors_.Get(weight, {out, in, 1, 1});
  view.shape = {out, in};
  return {.matrix = backend_.PackMatrix(view, weight.c_str()), .bias = std::move(bias)};
}

NormWeights LayerWeights::Norm(const std::string& name, size_t channels) const {
  NS_REQUIRE(channels % kNumGroups == 0, ErrorCode::kInvalidCheckpoint, prefix_, name, ": ", channels,
             " channels, expected a multiple of ", kNumGroups, " (the groups of every normalisation)");
  return {.weight = OnDevice(tensors_.Floats(prefix_ + name + ".weight", {channels})),
          .bias = OnDevice(tensors_.Floats(prefix_ + name + ".bias", {channels}))};
}

Buffer LayerWeights::OnDevice(const std::vector<float>& values) const {
  return UploadFloats(backend_, values, "the tokenizer's weights");
}

}  // namespace nextscale
