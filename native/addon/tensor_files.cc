#include "native/addon/tensor_files.h"

#include <limits>
#include <utility>

#include "native/base/error.h"

namespace nextscale::addon {
namespace {

// The tensor inside its mapped file. The range comes from another reader's idea of the file: the file itself decides.
TensorView ViewOf(const TensorRange& range, const std::vector<std::unique_ptr<MappedFile>>& files) {
  NS_REQUIRE(range.file < files.size(), ErrorCode::kInvalidCheckpoint, "tensor \"", range.name, "\" is in file ",
             range.file, "; there are ", files.size());
  const MappedFile& file = *files[range.file];
  NS_REQUIRE(range.offset <= file.bytes(), ErrorCode::kInvalidCheckpoint, "tensor \"", range.name, "\" begins at byte ",
             range.offset, "; ", file.path(), " has ", file.bytes());
  size_t bytes = DTypeBytes(range.dtype);
  for (const size_t side : range.shape) {
    NS_REQUIRE(side == 0 || bytes <= std::numeric_limits<size_t>::max() / side, ErrorCode::kInvalidCheckpoint,
               "tensor \"", range.name, "\" is larger than the address space");
    bytes *= side;
  }
  NS_REQUIRE(bytes <= file.bytes() - range.offset, ErrorCode::kInvalidCheckpoint, "tensor \"", range.name, "\" needs ",
             bytes, " bytes from byte ", range.offset, "; ", file.path(), " has ", file.bytes());
  return {file.data() + range.offset, range.dtype, range.shape, /*mapped=*/true};
}

}  // namespace

TensorFiles OpenTensorFiles(const TensorSource& source) {
  auto files = std::make_shared<std::vector<std::unique_ptr<MappedFile>>>();
  for (const std::string& path : source.files) files->push_back(std::make_unique<MappedFile>(path));
  TensorFiles opened;
  for (const TensorRange& range : source.tensors) opened.tensors.Add(range.name, ViewOf(range, *files));
  opened.files = std::move(files);
  return opened;
}

}  // namespace nextscale::addon
