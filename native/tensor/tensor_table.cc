#include "native/tensor/tensor_table.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "native/base/error.h"
#include "native/base/half.h"

namespace nextscale {
namespace {

std::string ShapeText(std::span<const size_t> shape) {
  std::string text = "[";
  for (size_t side : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(side);
  return text + "]";
}

}  // namespace

void TensorTable::Add(std::string name, TensorView view) {
  const auto [entry, added] = tensors_.emplace(std::move(name), std::move(view));
  NS_REQUIRE(added, ErrorCode::kInvalidCheckpoint, "the checkpoint names tensor \"", entry->first, "\" twice");
}

const TensorView& TensorTable::Get(const std::string& name, std::span<const size_t> shape) const {
  const auto found = tensors_.find(name);
  NS_REQUIRE(found != tensors_.end(), ErrorCode::kInvalidCheckpoint, "tensor \"", name, "\" is missing; expected shape ",
             ShapeText(shape));
  const TensorView& view = found->second;
  NS_REQUIRE(std::ranges::equal(view.shape, shape), ErrorCode::kInvalidCheckpoint, "tensor \"", name, "\" has shape ",
             ShapeText(view.shape), "; expected ", ShapeText(shape));
  return view;
}

std::vector<float> TensorTable::Floats(const std::string& name, std::initializer_list<size_t> shape) const {
  const TensorView& view = Get(name, shape);
  std::vector<float> values(view.num_elements());
  WidenToFloat(values.data(), view.data, view.dtype, values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    NS_REQUIRE(std::isfinite(values[i]), ErrorCode::kNotFinite, "tensor \"", name, "\" holds ", values[i], " at element ", i,
               "; expected finite weights");
  }
  return values;
}

void WidenToFloat(float* out, const std::byte* source, DType dtype, size_t count) {
  if (dtype == DType::kF32) {
    std::memcpy(out, source, count * sizeof(float));
    return;
  }
  for (size_t i = 0; i < count; ++i) {
    uint16_t bits;
    std::memcpy(&bits, source + i * sizeof bits, sizeof bits);
    out[i] = dtype == DType::kF16 ? FloatFromF16(bits) : FloatFromBF16(bits);
  }
}

}  // namespace nextscale
