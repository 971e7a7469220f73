#include "native/io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <system_error>
#include <utility>

#include "native/base/error.h"

namespace nextscale {
namespace {

std::string Reason() { return std::error_code(errno, std::generic_category()).message(); }

class Descriptor {
 public:
  explicit Descriptor(const std::string& path) : value_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~Descriptor() {
    if (value_ >= 0) close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int value() const { return value_; }

 private:
  int value_;
};

}  // namespace

MappedFile::MappedFile(std::string path) : path_(std::move(path)) {
  const Descriptor file(path_);
  NS_REQUIRE(file.value() >= 0, ErrorCode::kIo, "could not open ", path_, ": ", Reason());
  struct stat status {};
  NS_REQUIRE(fstat(file.value(), &status) == 0, ErrorCode::kIo, "could not look at ", path_, ": ", Reason());
  NS_REQUIRE(S_ISREG(status.st_mode), ErrorCode::kIo, path_, " is not a regular file");
  NS_REQUIRE(status.st_size > 0, ErrorCode::kInvalidCheckpoint, path_, " is empty");
  bytes_ = static_cast<size_t>(status.st_size);
  void* memory = mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE, file.value(), 0);
  NS_REQUIRE(memory != MAP_FAILED, ErrorCode::kIo, "could not map ", path_, " (", bytes_, " bytes): ", Reason());
  data_ = static_cast<const std::byte*>(memory);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), bytes_);
}

void DropMappedPages(const std::byte* data, size_t bytes) {
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + bytes) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);  // advice: a refusal changes nothing
}

}  // namespace nextscale
