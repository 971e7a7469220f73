// The files of a checkpoint, open, and a table of the tensors in them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "native/io/input_file.h"
#include "native/tensor/tensor_table.h"

namespace nextscale::addon {

// One tensor: a range of a file that is not read yet.
struct TensorRange {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<size_t> shape;
  std::vector<size_t> strides;  // elements; empty: row-major
  size_t file = 0, offset = 0;
};

// A file, and what it was when its header was read, where that is known.
struct SourceFile {
  std::string path;
  std::optional<FileStamp> stamp;
};

struct TensorSource {
  std::vector<SourceFile> files;
  std::vector<TensorRange> tensors;
};

class TensorFiles {
 public:
  // Opens the files and checks that they are unchanged and that every tensor lies inside its own. Throws
  // Error(kInvalidCheckpoint, kIo).
  explicit TensorFiles(const TensorSource& source);

  // Runs work(tensors). When a file changed meanwhile, what came of it is worth nothing, be it a result or an error:
  // throws Error(kIo) that says so.
  template <typename Work>
  auto Use(const Work& work) const {
    try {
      auto result = work(tensors_);
      RequireUnchanged();
      return result;
    } catch (...) {
      RequireUnchanged();
      throw;
    }
  }

 private:
  void RequireUnchanged() const;

  std::vector<std::shared_ptr<const InputFile>> files_;
  TensorTable tensors_;  // reads from them
};

}  // namespace nextscale::addon
