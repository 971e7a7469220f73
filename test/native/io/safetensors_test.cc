#include "native/io/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "native/base/error.h"
#include "native/base/rng.h"

namespace nextscale {
namespace {

const char kHeader[] =
    R"({"__metadata__":{"format":"pt","note":"a \"quoted\" \u00e9\ud83d\ude00"},)"
    R"("w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"i":{"dtype":"I32","shape":[2],"data_offsets":[24,32]},)"
    R"("h":{"shape":[],"dtype":"BF16","data_offsets":[32,34]}}  )";
constexpr size_t kDataBytes = 34;

std::string MessageOf(const std::string& json, size_t data_bytes) {
  try {
    ParseSafetensorsHeader(json, data_bytes);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidCheckpoint);
    return error.what();
  }
  return "";
}

class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& content)
      : path_((std::filesystem::temp_directory_path() / ("nextscale_test_" + std::to_string(getpid()) + ".safetensors")).string()) {
    std::ofstream(path_, std::ios::binary).write(content.data(), static_cast<std::streamsize>(content.size()));
  }
  ~TemporaryFile() { std::filesystem::remove(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::string FileOf(const std::string& header, const std::string& data) {
  const uint64_t bytes = header.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &bytes, 8);
  return file + header + data;
}

TEST(Safetensors, ParsesEntriesAndMetadata) {
  const SafetensorsHeader header = ParseSafetensorsHeader(kHeader, kDataBytes);
  ASSERT_EQ(header.entries.size(), 3u);
  EXPECT_EQ(header.entries[0].name, "w");
  EXPECT_EQ(header.entries[0].shape, (std::vector<size_t>{2, 3}));
  EXPECT_EQ(header.entries[2].dtype, "BF16");
  EXPECT_TRUE(header.entries[2].shape.empty());
  EXPECT_EQ(header.metadata.at("note"), "a \"quoted\" \xC3\xA9\xF0\x9F\x98\x80");
}

TEST(Safetensors, ReadsAFile) {
  std::string data(kDataBytes, '\0');
  const float weights[6] = {1, 2, 3, 4, 5, 6};
  const int32_t integers[2] = {-7, 8};
  std::memcpy(data.data(), weights, 24);
  std::memcpy(data.data() + 24, integers, 8);
  const TemporaryFile file(FileOf(kHeader, data));
  const SafetensorsFile opened(file.path());
  EXPECT_EQ(opened.table().Floats("w", {2, 3}), (std::vector<float>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(opened.Integers("i"), (std::vector<int32_t>{-7, 8}));
  EXPECT_FALSE(opened.table().Has("i"));
  EXPECT_THROW(opened.Integers("w"), Error);
  EXPECT_THROW(opened.Floats("missing"), Error);
}

TEST(Safetensors, RefusesWithWhatWasFoundAndExpected) {
  EXPECT_NE(MessageOf(R"({"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}})", 20).find("holds 20 bytes"), std::string::npos);
  EXPECT_NE(MessageOf(R"({"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,24]}})", 24).find("need 16"), std::string::npos);
  EXPECT_NE(MessageOf(R"({"w":{"dtype":"F3","shape":[],"data_offsets":[0,4]}})", 24).find("unknown type"), std::string::npos);
  EXPECT_NE(MessageOf(R"({"w":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,0]}})", 24).find("address space"),
            std::string::npos);
  EXPECT_NE(MessageOf(R"({"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 24).find("unsigned integer"), std::string::npos);
  EXPECT_NE(MessageOf(R"({"w":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,4]}})", 24).find("2^64"), std::string::npos);
  EXPECT_NE(MessageOf(R"({"w":{"dtype":"F32","shape":[1]}})", 24), "");
  EXPECT_NE(MessageOf(R"({"w":1})", 24), "");
  EXPECT_NE(MessageOf("", 24), "");
  EXPECT_NE(MessageOf("{} x", 24), "");
}

TEST(Safetensors, RefusesFilesThatAreNone) {
  EXPECT_THROW(SafetensorsFile("/nowhere/at/all.safetensors"), Error);
  EXPECT_THROW(SafetensorsFile(std::filesystem::temp_directory_path().string()), Error);
  EXPECT_THROW(SafetensorsFile(TemporaryFile("").path()), Error);
  for (const std::string& content : {std::string("abc"), std::string(8, '\xFF'), FileOf(std::string(kHeader), "short")}) {
    const TemporaryFile file(content);
    EXPECT_THROW(SafetensorsFile{file.path()}, Error) << content.size();
  }
  const TemporaryFile twice(FileOf(R"({"w":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})",
                                   "abcd"));
  EXPECT_THROW(SafetensorsFile{twice.path()}, Error);
}

// Whatever the bytes, the parser returns or throws Error, and every range it returns lies inside the data.
TEST(Safetensors, SurvivesMutations) {
  size_t refused = 0;
  for (uint32_t round = 0; round < 20000; ++round) {
    std::string json(kHeader);
    const uint32_t edits = 1 + Philox({round, 0, 0, 0}, 7)[0] % 4;
    for (uint32_t edit = 0; edit < edits; ++edit) {
      const auto words = Philox({round, edit + 1, 0, 0}, 7);
      const size_t at = words[0] % json.size();
      switch (words[1] % 4) {
        case 0: json[at] = static_cast<char>(words[2]); break;
        case 1: json.erase(at, 1 + words[2] % 8); break;
        case 2: json.insert(at, json.substr(words[2] % json.size(), words[3] % 16)); break;
        default: json[at] = "{}[]\",:0123456789"[words[2] % 17]; break;
      }
      if (json.empty()) json = "{";
    }
    try {
      for (const SafetensorsEntry& entry : ParseSafetensorsHeader(json, kDataBytes).entries) {
        ASSERT_LE(entry.begin, entry.end);
        ASSERT_LE(entry.end, kDataBytes);
      }
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), ErrorCode::kInvalidCheckpoint);
      ++refused;
    }
  }
  EXPECT_GT(refused, 10000u);  // the mutations do reach the checks
}

}  // namespace
}  // namespace nextscale
