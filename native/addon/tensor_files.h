// The files of a checkpoint, mapped, and a table of the tensors in them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "native/io/mapped_file.h"
#include "native/tensor/tensor_table.h"

namespace nextscale::addon {

// One tensor: a range of a file that is not mapped yet.
struct TensorRange {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<size_t> shape;
  size_t file = 0, offset = 0;
};

struct TensorSource {
  std::vector<std::string> files;
  std::vector<TensorRange> tensors;
};

struct TensorFiles {
  TensorTable tensors;  // views into `files`
  std::shared_ptr<const std::vector<std::unique_ptr<MappedFile>>> files;
};

// Maps the files and checks that every tensor lies inside its own. Throws Error(kInvalidCheckpoint, kIo).
TensorFiles OpenTensorFiles(const TensorSource& source);

}  // namespace nextscale::addon
