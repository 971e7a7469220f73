#include "native/tensor/tensor_table.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <limits>
#include <string>

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
  EXPECT_EQ(MessageOf([&] { table.Get("w", {3, 2}); }, ErrorCode::kInvalidCheckpoint),
            "tensor \"w\" has shape [2, 3]; expected [3, 2]");
  EXPECT_EQ(MessageOf([&] { table.Get("v", {1}); }, ErrorCode::kInvalidCheckpoint), "tensor \"v\" is missing; expected shape [1]");
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

TEST(TensorTable, WidensFromAnyAlignment) {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    std::vector<std::byte> bytes(1 + 5 * DTypeBytes(dtype));
    for (size_t i = 0; i < 5; ++i) {
      const float value = static_cast<float>(i) - 1.5f;
      const uint16_t half = dtype == DType::kF16 ? F16FromFloat(value) : BF16FromFloat(value);
      std::memcpy(bytes.data() + 1 + i * DTypeBytes(dtype), dtype == DType::kF32 ? static_cast<const void*>(&value) : &half,
                  DTypeBytes(dtype));
    }
    float wide[5];
    WidenToFloat(wide, bytes.data() + 1, dtype, 5);
    for (size_t i = 0; i < 5; ++i) EXPECT_EQ(wide[i], static_cast<float>(i) - 1.5f) << DTypeName(dtype);
  }
}

}  // namespace
}  // namespace nextscale
