#include "native/io/input_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "native/base/error.h"

namespace nextscale {
namespace {

class InputFileTest : public testing::Test {
 protected:
  InputFileTest()
      : path_((std::filesystem::temp_directory_path() / ("nextscale_input_" + std::to_string(getpid()))).string()) {
    std::ofstream(path_, std::ios::binary) << "0123456789";
  }
  ~InputFileTest() override { std::filesystem::remove(path_); }

  void Touch() {
    std::filesystem::last_write_time(path_, std::filesystem::last_write_time(path_) + std::chrono::hours(1));
  }
  static std::string Read(const InputFile& file, size_t offset, size_t bytes) {
    std::vector<std::byte> out(bytes);
    file.Read(out.data(), offset, bytes);
    return {reinterpret_cast<const char*>(out.data()), bytes};
  }
  template <typename Work>
  static std::string IoErrorOf(const Work& work) {
    try {
      work();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kIo);
      return error.what();
    }
    return "";
  }

  std::string path_;
};

TEST_F(InputFileTest, ReadsWhatItIsAskedFor) {
  const InputFile file(path_);
  EXPECT_EQ(file.bytes(), 10u);
  EXPECT_EQ(Read(file, 0, 10), "0123456789");
  EXPECT_EQ(Read(file, 3, 2), "34");
  EXPECT_EQ(Read(file, 10, 0), "");
  EXPECT_NO_THROW(file.RequireUnchanged());
}

TEST_F(InputFileTest, AFileThatShrinksIsAnErrorWithItsNameAtTheNextRead) {
  const InputFile file(path_);
  EXPECT_EQ(Read(file, 0, 4), "0123");
  std::filesystem::resize_file(path_, 6);
  const std::string message = IoErrorOf([&] { Read(file, 4, 6); });
  EXPECT_NE(message.find(path_), std::string::npos);
  EXPECT_NE(message.find("ends at byte 6"), std::string::npos) << message;
  EXPECT_NE(IoErrorOf([&] { file.RequireUnchanged(); }).find("it has 6 bytes, it had 10"), std::string::npos);
}

TEST_F(InputFileTest, AFileThatWasWrittenToIsAnErrorThoughItReadsWell) {
  const InputFile file(path_);
  Touch();
  EXPECT_EQ(Read(file, 0, 4), "0123");
  EXPECT_NE(IoErrorOf([&] { file.RequireUnchanged(); }).find("it was written to"), std::string::npos);
}

TEST_F(InputFileTest, RefusesAFileThatIsNotTheExpectedOne) {
  EXPECT_NE(IoErrorOf([&] { InputFile(path_, FileStamp{.bytes = 11}); }).find("it had 11"), std::string::npos);
  EXPECT_NE(IoErrorOf([&] { InputFile(path_, FileStamp{.bytes = 10}); }).find("it was written to"), std::string::npos);
}

TEST_F(InputFileTest, RefusesWhatIsNoFile) {
  EXPECT_NE(IoErrorOf([] { InputFile("/nowhere/at/all"); }), "");
  EXPECT_NE(IoErrorOf([] { InputFile(std::filesystem::temp_directory_path().string()); }), "");
  EXPECT_NE(IoErrorOf([] { InputFile("/dev/zero"); }).find("not a regular file"), std::string::npos);
}

}  // namespace
}  // namespace nextscale
