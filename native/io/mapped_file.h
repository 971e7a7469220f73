// A file, mapped read-only. Pages come from the page cache and can be given back.
#pragma once

#include <cstddef>
#include <string>

namespace nextscale {

class MappedFile {
 public:
  // Throws Error(kIo) that names the path and the reason: missing, not a regular file, empty, not readable.
  explicit MappedFile(std::string path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

// Takes the whole pages inside [data, data + bytes) out of resident memory. For read-only file mappings only: the next read
// brings them back from the page cache.
void DropMappedPages(const std::byte* data, size_t bytes);

}  // namespace nextscale
