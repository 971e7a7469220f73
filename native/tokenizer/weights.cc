#include "native/tokenizer/weights.h"

#include "native/base/error.h"
#include "native/io/mapped_file.h"
#include "native/ops/upload.h"

namespace nextscale {

PackedConv LayerWeights::Conv(const std::string& name, size_t cout, size_t cin) const {
  const std::string weight = prefix_ + name + ".weight";
  const TensorView& view = tensors_.Get(weight, {cout, cin, 3, 3});
  PackedConv packed =
      backend_.PackConv(view, tensors_.Floats(prefix_ + name + ".bias", {cout}), weight.c_str(), ConvUse::kMap);
  if (view.mapped) DropMappedPages(view.data, view.bytes());  // read once: no need to keep the file's copy resident
  return packed;
}

DenseWeights LayerWeights::Dense(const std::string& name, size_t out, size_t in) const {
  const std::string weight = prefix_ + name + ".weight";
  TensorView view = tensors_.Get(weight, {out, in, 1, 1});
  view.shape = {out, in};
  DenseWeights dense = {.matrix = backend_.PackMatrix(view, weight.c_str()),
                        .bias = OnDevice(tensors_.Floats(prefix_ + name + ".bias", {out}))};
  if (view.mapped) DropMappedPages(view.data, view.bytes());
  return dense;
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
