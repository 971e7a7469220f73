// What the op cases share: random numbers, number formats, expected numbers, and a bench on which a case puts its data
// and issues ops. A case is written against Backend only: the same ones run on the CPU, on the CUDA kernels' twins and
// on a device.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "native/base/half.h"
#include "native/ops/backend.h"
#include "test/native/ops/random.h"

namespace nextscale::test {

using Bytes = std::vector<std::byte>;

inline float DecodeAt(const std::byte* bytes, size_t index, DType dtype) {
  if (dtype == DType::kF32) {
    float value;
    std::memcpy(&value, bytes + index * 4, 4);
    return value;
  }
  uint16_t half;
  std::memcpy(&half, bytes + index * 2, 2);
  return dtype == DType::kBF16 ? FloatFromBF16(half) : FloatFromF16(half);
}

// Values in a format; the values themselves become what the format holds.
inline Bytes Encode(std::vector<float>& values, DType dtype) {
  const size_t size = DTypeBytes(dtype);
  Bytes bytes(values.size() * size);
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t half = dtype == DType::kBF16 ? BF16FromFloat(values[i]) : F16FromFloat(values[i]);
    std::memcpy(&bytes[i * size], size == 4 ? static_cast<const void*>(&values[i]) : &half, size);
    values[i] = DecodeAt(bytes.data(), i, dtype);
  }
  return bytes;
}

// Of all numbers together, relative to their size.
inline double Tolerance(DType dtype) { return dtype == DType::kF32 ? 1e-5 : dtype == DType::kF16 ? 1e-3 : 8e-3; }

// Numbers that an op writes: poisoned at first. Each has an expected value, or may be anything, or must stay poison.
class Output {
 public:
  Output(size_t count, DType dtype)
      : dtype_(dtype), bytes_(count * DTypeBytes(dtype), std::byte{0xFF}), expected_(count, NAN) {}

  const Bytes& bytes() const { return bytes_; }
  void Expect(size_t at, double value) { expected_[at] = value; }
  void Ignore(size_t at) { expected_[at] = kAnything; }
  // A number that is there before, and that the op changes.
  void Start(size_t at, float value) {
    std::vector<float> one = {value};
    const Bytes bytes = Encode(one, dtype_);
    std::memcpy(&bytes_[at * bytes.size()], bytes.data(), bytes.size());
  }

  // The error of all numbers together is within the tolerance, and none is far off.
  void Check(const Bytes& found, double tolerance) const {
    double error = 0.0, norm = 0.0, count = 0.0;
    for (size_t i = 0; i < expected_.size(); ++i) {
      if (expected_[i] == kAnything) continue;
      if (std::isnan(expected_[i])) {
        const size_t size = DTypeBytes(dtype_);
        ASSERT_EQ(std::memcmp(&found[i * size], &bytes_[i * size], size), 0) << "written where nothing belongs: " << i;
        continue;
      }
      const double difference = static_cast<double>(DecodeAt(found.data(), i, dtype_)) - expected_[i];
      ASSERT_FALSE(std::isnan(difference)) << "not written, or NaN: " << i;
      error += difference * difference;
      norm += expected_[i] * expected_[i];
      ++count;
    }
    if (count == 0.0) return;
    ASSERT_LE(std::sqrt(error), tolerance * std::sqrt(norm)) << "relative error " << std::sqrt(error / norm);
    const double typical = std::sqrt(norm / count);
    for (size_t i = 0; i < expected_.size(); ++i) {
      if (expected_[i] == kAnything || std::isnan(expected_[i])) continue;
      const double found_value = static_cast<double>(DecodeAt(found.data(), i, dtype_));
      ASSERT_NEAR(found_value, expected_[i], 4.0 * tolerance * (typical + std::fabs(expected_[i]))) << "at " << i;
    }
  }

 private:
  static constexpr double kAnything = std::numeric_limits<double>::infinity();

  DType dtype_;
  Bytes bytes_;
  std::vector<double> expected_;
};

// What of a chip decides between kernels. The CPU's backend has no such choice.
struct Chip {
  uint32_t num_multiprocessors = 1;
  bool has_wgmma = false;
};
// Every tile of a product has a multiprocessor of its own: the largest tiles, some in the middle, the smallest ones.
inline constexpr uint32_t kFew = 1, kSome = 2, kMany = ~0u;

// The backends under test: one for each format of activations and each chip, made when it is first asked for.
class Bench {
 public:
  using Make = std::function<std::unique_ptr<Backend>(DType dtype, const Chip& chip)>;
  // What a backend promises beyond the ops' contracts.
  struct Promises {
    bool zero_padding = false;       // zeros where ops may write anything: the padding of maps
    bool separate_rounding = false;  // guidance is two products and a difference, none of them fused
  };
  // `dtypes`: the formats that activations may have.
  Bench(Make make, std::vector<DType> dtypes, const Promises& promises)
      : dtypes_(std::move(dtypes)), promises_(promises), make_(std::move(make)) {}

  const Promises& promises() const { return promises_; }

  const std::vector<DType>& dtypes() const { return dtypes_; }
  // Formats in turn, f32 less often where there are others.
  DType Format(size_t trial) const {
    return dtypes_.size() == 1 || trial % 5 == 4 ? DType::kF32 : dtypes_[trial / 4 % (dtypes_.size() - 1)];
  }
  // Of weights in a file: they come in the format of activations or wider, or, on the CPU, in any.
  DType FileFormat(DType dtype, size_t trial) const {
    constexpr DType kAll[] = {DType::kF32, DType::kBF16, DType::kF16};
    return dtypes_.size() == 1 ? kAll[trial % 3] : trial % 2 == 0 ? dtype : DType::kF32;
  }
  // Padding of a map.
  void Pad(Output& out, size_t at) const { promises_.zero_padding ? out.Expect(at, 0.0) : out.Ignore(at); }

  bool has_wgmma = false;  // of chips from here on

  Backend& At(DType dtype, uint32_t num_multiprocessors = kFew) {
    const Chip chip{num_multiprocessors, has_wgmma};
    std::unique_ptr<Backend>& backend = backends_[{dtype, num_multiprocessors, has_wgmma}];
    if (backend == nullptr) backend = make_(dtype, chip);
    return *backend;
  }

 private:
  std::vector<DType> dtypes_;  // f32 last
  Promises promises_;
  Make make_;
  std::map<std::tuple<DType, uint32_t, bool>, std::unique_ptr<Backend>> backends_;
};

// A case's data on one backend.
class Table {
 public:
  explicit Table(Backend& backend) : backend_(backend) {}

  Backend& backend() { return backend_; }

  template <typename T>
  T* Put(const std::vector<T>& values) {
    const size_t bytes = values.size() * sizeof(T);
    buffers_.push_back(backend_.Allocate(std::max<size_t>(bytes, 1), "a test"));
    if (bytes != 0) backend_.Upload(buffers_.back().data(), values.data(), bytes);
    return reinterpret_cast<T*>(buffers_.back().data());
  }
  template <typename T>
  std::vector<T> Take(const T* from, size_t count) {
    std::vector<T> values(count);
    if (count != 0) backend_.Download(values.data(), from, count * sizeof(T));
    backend_.Wait();
    return values;
  }
  Bytes Take(const std::byte* from, const Output& like) { return Take(from, like.bytes().size()); }

  // A matrix as a file has it: values are first rounded to the activations' format, then to the file's.
  PackedMatrix Matrix(std::vector<float>& values, size_t n, size_t k, DType file) {
    Encode(values, backend_.activation_dtype());
    const Bytes bytes = Encode(values, file);
    return backend_.PackMatrix({bytes.data(), file, {n, k}}, "a test");
  }

 private:
  Backend& backend_;
  std::vector<Buffer> buffers_;
};

}  // namespace nextscale::test
