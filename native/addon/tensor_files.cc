#include "native/addon/tensor_files.h"

#include <utility>

#include "native/base/error.h"

namespace nextscale::addon {
namespace {

// The tensor inside its file. The range comes from another reader's idea of the file: the file itself decides.
TensorPlace PlaceOf(const TensorRange& range, const std::vector<std::shared_ptr<const InputFile>>& files) {
  NS_REQUIRE(range.file < files.size(), ErrorCode::kInvalidCheckpoint, "tensor \"", range.name, "\" is in file ",
             range.file, "; there are ", files.size());
  const InputFile& file = *files[range.file];
  NS_REQUIRE(range.offset <= file.bytes(), ErrorCode::kInvalidCheckpoint, "tensor \"", range.name, "\" begins at byte ",
             range.offset, "; ", file.path(), " has ", file.bytes());
  TensorPlace place{.reader = files[range.file],
                    .offset = range.offset,
                    .dtype = range.dtype,
                    .shape = range.shape,
                    .strides = range.strides};
  const size_t bytes = place.span_bytes();
  NS_REQUIRE(bytes <= file.bytes() - range.offset, ErrorCode::kInvalidCheckpoint, "tensor \"", range.name, "\" needs ",
             bytes, " bytes from byte ", range.offset, "; ", file.path(), " has ", file.bytes());
  return place;
}

}  // namespace

TensorFiles::TensorFiles(const TensorSource& source) {
  for (const auto& [path, stamp] : source.files) files_.push_back(std::make_shared<InputFile>(path, stamp));
  for (const TensorRange& range : source.tensors) tensors_.AddPlace(range.name, PlaceOf(range, files_));
}

void TensorFiles::RequireUnchanged() const {
  for (const auto& file : files_) file->RequireUnchanged();
}

}  // namespace nextscale::addon
