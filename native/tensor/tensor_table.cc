#include "native/tensor/tensor_table.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
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

// Elements at their strides -> row-major.
void Gather(const TensorPlace& place, const std::byte* from, std::byte* to) {
  const size_t size = DTypeBytes(place.dtype), count = place.num_elements();
  std::vector<size_t> index(place.shape.size());
  size_t at = 0;  // element that the index stands for
  for (size_t i = 0; i < count; ++i, to += size) {
    std::memcpy(to, from + at * size, size);
    for (size_t axis = index.size(); axis-- > 0;) {
      at += place.strides[axis];
      if (++index[axis] < place.shape[axis]) break;
      at -= place.strides[axis] * place.shape[axis];
      index[axis] = 0;
    }
  }
}

}  // namespace

size_t TensorPlace::num_elements() const {
  size_t count = 1;
  for (const size_t side : shape) count *= side;
  return count;
}

size_t TensorPlace::span_bytes() const {
  constexpr size_t kMost = std::numeric_limits<size_t>::max() / 16;  // of elements; leaves room for their bytes
  const auto times = [&](size_t a, size_t b) {
    NS_REQUIRE(b == 0 || a <= kMost / b, ErrorCode::kInvalidCheckpoint, "a tensor ", ShapeText(shape),
               " is larger than the address space");
    return a * b;
  };
  NS_REQUIRE(strides.empty() || strides.size() == shape.size(), ErrorCode::kInvalidCheckpoint, "a tensor ",
             ShapeText(shape), " has ", strides.size(), " strides");
  size_t count = 1, last = 0;
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    count = times(count, shape[axis]);
    if (!strides.empty() && shape[axis] != 0) last += times(shape[axis] - 1, strides[axis]);
    NS_REQUIRE(last <= kMost, ErrorCode::kInvalidCheckpoint, "a tensor ", ShapeText(shape),
               " reaches beyond the address space");
  }
  if (count == 0) return 0;
  return (strides.empty() ? count : last + 1) * DTypeBytes(dtype);
}

void TensorTable::AddEntry(std::string name, Entry entry) {
  const auto [at, added] = tensors_.emplace(std::move(name), std::move(entry));
  NS_REQUIRE(added, ErrorCode::kInvalidCheckpoint, "the checkpoint names tensor \"", at->first, "\" twice");
}

void TensorTable::Add(std::string name, TensorView view) {
  Entry entry{.place = {.reader = nullptr, .dtype = view.dtype, .shape = std::move(view.shape)}, .data = view.data};
  AddEntry(std::move(name), std::move(entry));
}

void TensorTable::AddPlace(std::string name, TensorPlace place) {
  place.span_bytes();  // refuses sizes that nobody has
  AddEntry(std::move(name), {.place = std::move(place)});
}

const TensorTable::Entry& TensorTable::Find(const std::string& name, std::span<const size_t> shape) const {
  const auto found = tensors_.find(name);
  NS_REQUIRE(found != tensors_.end(), ErrorCode::kInvalidCheckpoint, "tensor \"", name,
             "\" is missing; expected shape ", ShapeText(shape));
  NS_REQUIRE(std::ranges::equal(found->second.place.shape, shape), ErrorCode::kInvalidCheckpoint, "tensor \"", name,
             "\" has shape ", ShapeText(found->second.place.shape), "; expected ", ShapeText(shape));
  return found->second;
}

size_t TensorTable::Bytes(const std::string& name, std::span<const size_t> shape) const {
  const TensorPlace& place = Find(name, shape).place;
  return place.num_elements() * DTypeBytes(place.dtype);
}

TensorView TensorTable::Get(const std::string& name, std::span<const size_t> shape) const {
  const auto& [place, data] = Find(name, shape);
  if (place.reader == nullptr) return {data, place.dtype, place.shape};
  const size_t bytes = place.num_elements() * DTypeBytes(place.dtype);
  const std::shared_ptr<std::byte[]> values = Scratch(bytes);
  if (place.strides.empty()) {
    place.reader->Read(values.get(), place.offset, bytes);
  } else {
    std::vector<std::byte> span(place.span_bytes());
    place.reader->Read(span.data(), place.offset, span.size());
    Gather(place, span.data(), values.get());
  }
  return {values.get(), place.dtype, place.shape, values};
}

std::shared_ptr<std::byte[]> TensorTable::Scratch(size_t bytes) const {
  if (scratch_ == nullptr || scratch_.use_count() > 1 || scratch_bytes_ < bytes) {
    scratch_.reset();  // the old one goes before the new one comes
    scratch_ = std::make_shared_for_overwrite<std::byte[]>(bytes);
    scratch_bytes_ = bytes;
  }
  return scratch_;
}

std::vector<float> TensorTable::Floats(const std::string& name, std::span<const size_t> shape) const {
  const TensorView view = Get(name, shape);
  std::vector<float> values(view.num_elements());
  WidenToFloat(values.data(), view.data, view.dtype, values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    NS_REQUIRE(std::isfinite(values[i]), ErrorCode::kNotFinite, "tensor \"", name, "\" holds ", values[i],
               " at element ", i, "; expected finite weights");
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
