#include "native/tensor/tensor_table.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "native/base/error.h"
#include "native/base/half.h"

namespace nextscale {
namespace {

std::string MessageOf(const std::function<void()>& call, ErrorCode code) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

TEST(TensorTable, NamesWhatIsMissingAndWhatHasTheWrongShape) {
  const std::vector<float> values(6);
  TensorTable table;
  table.Add("w", {reinterpret_cast<const std::byte*>(values.data()), DType::kF32, {2, 3}});
  EXPECT_EQ(table.Floats("w", {2, 3}).size(), 6u);
  EXPECT_EQ(MessageOf(
                [&] {
                  table.Get("w", {3, 2});
                },
                ErrorCode::kInvalidCheckpoint),
            "tensor \"w\" has shape [2, 3]; expected [3, 2]");
  EXPECT_EQ(MessageOf([&] { table.Get("v", {1}); }, ErrorCode::kInvalidCheckpoint),
            "tensor \"v\" is missing; expected shape [1]");
  MessageOf([&] { table.Add("w", {}); }, ErrorCode::kInvalidCheckpoint);
}

TEST(TensorTable, RefusesWeightsThatAreNotFinite) {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const std::vector<float> values = {0, 1, bad};
    TensorTable table;
    table.Add("w", {reinterpret_cast<const std::byte*>(values.data()), DType::kF32, {3}});
    EXPECT_NE(MessageOf([&] { table.Floats("w", {3}); }, ErrorCode::kNotFinite).find("element 2"), std::string::npos);
  }
}

// Numbers in memory that stand for a file.
class Numbers final : public ByteReader {
 public:
  explicit Numbers(size_t count) {
    for (size_t i = 0; i < count; ++i) values_.push_back(static_cast<float>(i));
  }
  void Read(std::byte* out, size_t offset, size_t bytes) const override {
    NS_REQUIRE(offset + bytes <= values_.size() * sizeof(float), ErrorCode::kIo, "beyond the end");
    std::memcpy(out, reinterpret_cast<const std::byte*>(values_.data()) + offset, bytes);
    ++reads;
  }
  mutable size_t reads = 0;

 private:
  std::vector<float> values_;
};

TEST(TensorTable, ReadsWhatIsAskedForWhenItIsAskedFor) {
  const auto file = std::make_shared<Numbers>(100);
  TensorTable table;
  table.AddPlace("a", {.reader = file, .offset = 40, .shape = {2, 2}});
  table.AddPlace("b", {.reader = file, .offset = 0, .shape = {3}});
  table.AddPlace("gone", {.reader = file, .offset = 396, .shape = {2}});
  EXPECT_EQ(table.Bytes("a", std::vector<size_t>{2, 2}), 16u);
  EXPECT_EQ(file->reads, 0u);
  const TensorView held = table.Get("a", {2, 2});
  EXPECT_EQ(table.Floats("b", {3}), (std::vector<float>{0, 1, 2}));
  EXPECT_EQ(table.Floats("a", {2, 2}), (std::vector<float>{10, 11, 12, 13}));
  float first = 0;
  std::memcpy(&first, held.data, sizeof first);
  EXPECT_EQ(first, 10.0f);  // what is held is not overwritten by what is read after it
  MessageOf([&] { table.Get("gone", {2}); }, ErrorCode::kIo);
}

TEST(TensorTable, GathersStridedTensors) {
  const auto file = std::make_shared<Numbers>(100);
  TensorTable table;
  table.AddPlace("transposed", {.reader = file, .shape = {2, 3}, .strides = {1, 2}});
  table.AddPlace("channels last", {.reader = file, .offset = 8, .shape = {1, 2, 2, 2}, .strides = {8, 1, 4, 2}});
  table.AddPlace("expanded", {.reader = file, .offset = 28, .shape = {4}, .strides = {0}});
  table.AddPlace("columns", {.reader = file, .shape = {3, 2}, .strides = {10, 3}});
  table.AddPlace("empty", {.reader = file, .offset = 400, .shape = {0, 2}, .strides = {7, 7}});
  EXPECT_EQ(table.Floats("transposed", {2, 3}), (std::vector<float>{0, 2, 4, 1, 3, 5}));
  EXPECT_EQ(table.Floats("channels last", {1, 2, 2, 2}), (std::vector<float>{2, 4, 6, 8, 3, 5, 7, 9}));
  EXPECT_EQ(table.Floats("expanded", {4}), (std::vector<float>{7, 7, 7, 7}));
  EXPECT_EQ(table.Floats("columns", {3, 2}), (std::vector<float>{0, 3, 10, 13, 20, 23}));
  EXPECT_TRUE(table.Floats("empty", {0, 2}).empty());
}

TEST(TensorTable, RefusesPlacesThatNobodyHas) {
  constexpr size_t kHuge = size_t{1} << 62;
  TensorTable table;
  for (const TensorPlace& place : {TensorPlace{.reader = nullptr, .shape = {kHuge, 8}},
                                   TensorPlace{.reader = nullptr, .shape = {2}, .strides = {kHuge}},
                                   TensorPlace{.reader = nullptr, .shape = {2, 2}, .strides = {1}}}) {
    MessageOf([&] { table.AddPlace("w", place); }, ErrorCode::kInvalidCheckpoint);
  }
}

TEST(TensorTable, WidensFromAnyAlignment) {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    std::vector<std::byte> bytes(1 + 5 * DTypeBytes(dtype));
    for (size_t i = 0; i < 5; ++i) {
      const float value = static_cast<float>(i) - 1.5f;
      const uint16_t half = dtype == DType::kF16 ? F16FromFloat(value) : BF16FromFloat(value);
      std::memcpy(bytes.data() + 1 + i * DTypeBytes(dtype),
                  dtype == DType::kF32 ? static_cast<const void*>(&value) : &half, DTypeBytes(dtype));
    }
    float wide[5];
    WidenToFloat(wide, bytes.data() + 1, dtype, 5);
    for (size_t i = 0; i < 5; ++i) EXPECT_EQ(wide[i], static_cast<float>(i) - 1.5f) << DTypeName(dtype);
  }
}

}  // namespace
}  // namespace nextscale
