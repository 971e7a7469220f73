// Reads a safetensors file: the one format that the core reads itself (native tests and benchmark; the addon is handed
// a table that TypeScript has read). The header is untrusted: every length, offset and product is checked before use.
//
// Format: 8 bytes little-endian length of the header, the header (JSON: name -> {dtype, shape, data_offsets}, and
// "__metadata__": string -> string), then the data.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "native/io/input_file.h"
#include "native/tensor/tensor_table.h"

namespace nextscale {

struct SafetensorsEntry {
  std::string name;
  std::string dtype;  // as written: "F32", "BF16", "I32", ...
  std::vector<size_t> shape;
  size_t begin = 0, end = 0;  // bytes from the start of the data
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;
  std::unordered_map<std::string, std::string> metadata;
};

// Parses a header. data_bytes: how much data follows it. Throws Error(kInvalidCheckpoint) with what was found and
// expected. Limits: 100 MB of header, 1,000,000 tensors, 8 dimensions.
SafetensorsHeader ParseSafetensorsHeader(std::string_view json, size_t data_bytes);

// A safetensors file, open. Its tensors are read when they are asked for; the table keeps the file open.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);

  // Tensors of type F32, F16 and BF16.
  const TensorTable& table() const { return table_; }
  // All entries, of any type.
  const SafetensorsHeader& header() const { return header_; }
  // Elements of a tensor of type I32. Throws when missing or of another type.
  std::vector<int32_t> Integers(const std::string& name) const;
  // Elements of a floating tensor of any shape, widened to f32. Throws when missing or of another type.
  std::vector<float> Floats(const std::string& name) const;

 private:
  const SafetensorsEntry& Find(const std::string& name) const;

  std::shared_ptr<const InputFile> file_;
  SafetensorsHeader header_;
  size_t data_begin_ = 0;
  TensorTable table_;
};

}  // namespace nextscale
