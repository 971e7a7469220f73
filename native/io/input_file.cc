#include "native/io/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "native/base/error.h"

namespace nextscale {
namespace {

std::string Reason() { return std::error_code(errno, std::generic_category()).message(); }

FileStamp StampOf(const struct stat& status) {
#ifdef __APPLE__
  const struct timespec& time = status.st_mtimespec;
#else
  const struct timespec& time = status.st_mtim;
#endif
  return {.bytes = static_cast<uint64_t>(status.st_size), .seconds = time.tv_sec, .nanoseconds = time.tv_nsec};
}

std::string Difference(const FileStamp& now, const FileStamp& before) {
  if (now.bytes == before.bytes) return "it was written to";
  return Message("it has ", now.bytes, " bytes, it had ", before.bytes);
}

}  // namespace

InputFile::InputFile(std::string path, const std::optional<FileStamp>& expected) : path_(std::move(path)) {
  // Without O_NONBLOCK, opening a pipe would wait for a writer.
  descriptor_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  NS_REQUIRE(descriptor_ >= 0, ErrorCode::kIo, "could not open ", path_, ": ", Reason());
  try {
    stamp_ = Look();
    NS_REQUIRE(!expected || stamp_ == *expected, ErrorCode::kIo, path_,
               " changed between the reading of its header and of its weights: ", Difference(stamp_, *expected));
  } catch (...) {
    close(descriptor_);  // the destructor of a half-made object does not run
    throw;
  }
}

InputFile::~InputFile() { close(descriptor_); }

FileStamp InputFile::Look() const {
  struct stat status {};
  NS_REQUIRE(fstat(descriptor_, &status) == 0, ErrorCode::kIo, "could not look at ", path_, ": ", Reason());
  NS_REQUIRE(S_ISREG(status.st_mode), ErrorCode::kIo, path_, " is not a regular file");
  return StampOf(status);
}

void InputFile::Read(std::byte* out, size_t offset, size_t bytes) const {
  constexpr size_t kMost = size_t{1} << 30;  // Linux reads at most 2 GiB at a time, others refuse more
  for (size_t done = 0; done < bytes;) {
    const ssize_t count =
        pread(descriptor_, out + done, std::min(bytes - done, kMost), static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    NS_REQUIRE(count >= 0, ErrorCode::kIo, "could not read ", path_, ": ", Reason());
    NS_REQUIRE(count > 0, ErrorCode::kIo, path_, " became shorter while it was read: it ends at byte ", offset + done,
               ", it had ", stamp_.bytes, " bytes");
    done += static_cast<size_t>(count);
  }
}

void InputFile::RequireUnchanged() const {
  const FileStamp now = Look();
  NS_REQUIRE(now == stamp_, ErrorCode::kIo, path_, " changed while it was read: ", Difference(now, stamp_));
}

}  // namespace nextscale
