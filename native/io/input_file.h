// A file that is read at given places. There is no mapping: a file that shrinks or changes while it is read is an error
// with a name, not a signal, and nothing depends on the file once what was wanted of it has been read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "native/tensor/tensor_table.h"

namespace nextscale {

// What tells that a file is still the one that somebody else has looked at: its size and the time of its last change.
struct FileStamp {
  uint64_t bytes = 0;
  int64_t seconds = 0, nanoseconds = 0;

  bool operator==(const FileStamp&) const = default;
};

class InputFile final : public ByteReader {
 public:
  // Throws Error(kIo) that names the path and the reason: missing, not a regular file, not readable, or (given what it
  // was when its header was read) changed since.
  explicit InputFile(std::string path, const std::optional<FileStamp>& expected = std::nullopt);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  size_t bytes() const { return static_cast<size_t>(stamp_.bytes); }
  const std::string& path() const { return path_; }

  // All of [offset, offset + bytes). Throws Error(kIo) when the file has become shorter or cannot be read.
  void Read(std::byte* out, size_t offset, size_t bytes) const override;
  // Throws Error(kIo) when size or time are not what they were at opening.
  void RequireUnchanged() const;

 private:
  FileStamp Look() const;

  std::string path_;
  int descriptor_ = -1;
  FileStamp stamp_;
};

}  // namespace nextscale
