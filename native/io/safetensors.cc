#include "native/io/safetensors.h"

#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "native/base/error.h"

namespace nextscale {
namespace {

constexpr size_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kMaxTensors = 1'000'000;
constexpr size_t kMaxRank = 8;

// The part of JSON that a safetensors header uses: objects, strings, arrays of unsigned integers. Anything else is
// refused.
class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  [[noreturn]] void Fail(std::string_view expected) const {
    const std::string found = at_ < text_.size() ? "'" + std::string(1, text_[at_]) + "'" : "the end";
    throw Error(ErrorCode::kInvalidCheckpoint,
                Message("safetensors header: found ", found, " at byte ", at_, "; expected ", expected));
  }

  void Expect(char wanted) {
    SkipSpace();
    if (at_ >= text_.size() || text_[at_] != wanted) Fail("'" + std::string(1, wanted) + "'");
    ++at_;
  }

  // True and consumed when the next character is `wanted`.
  bool Accept(char wanted) {
    SkipSpace();
    if (at_ >= text_.size() || text_[at_] != wanted) return false;
    ++at_;
    return true;
  }

  std::string String() {
    Expect('"');
    std::string value;
    for (;;) {
      if (at_ >= text_.size()) Fail("the end of a string");
      const char next = text_[at_++];
      if (next == '"') return value;
      if (static_cast<unsigned char>(next) < 0x20) Fail("no control character in a string");
      if (next != '\\') {
        value += next;
        continue;
      }
      Escape(value);
    }
  }

  size_t Integer() {
    SkipSpace();
    size_t value = 0;
    const size_t start = at_;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      const size_t digit = static_cast<size_t>(text_[at_] - '0');
      if (value > (std::numeric_limits<size_t>::max() - digit) / 10) Fail("an integer below 2^64");
      value = value * 10 + digit;
    }
    if (at_ == start) Fail("an unsigned integer");
    return value;
  }

  std::vector<size_t> Integers(size_t most) {
    std::vector<size_t> values;
    Expect('[');
    if (Accept(']')) return values;
    do {
      if (values.size() == most) Fail("at most " + std::to_string(most) + " numbers in a list");
      values.push_back(Integer());
    } while (Accept(','));
    Expect(']');
    return values;
  }

  // Calls member(key) for each member of an object; the callback reads the value.
  template <typename Member>
  void Object(const Member& member) {
    Expect('{');
    if (Accept('}')) return;
    do {
      std::string key = String();
      Expect(':');
      member(std::move(key));
    } while (Accept(','));
    Expect('}');
  }

  void End() {
    SkipSpace();
    if (at_ != text_.size()) Fail("the end of the header");
  }

 private:
  void SkipSpace() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t'))
      ++at_;
  }

  void Escape(std::string& value) {
    if (at_ >= text_.size()) Fail("an escape");
    const char kind = text_[at_++];
    switch (kind) {
      case '"':
      case '\\':
      case '/':
        value += kind;
        return;
      case 'b':
        value += '\b';
        return;
      case 'f':
        value += '\f';
        return;
      case 'n':
        value += '\n';
        return;
      case 'r':
        value += '\r';
        return;
      case 't':
        value += '\t';
        return;
      case 'u':
        AppendUtf8(value, CodePoint());
        return;
      default:
        --at_;
        Fail("an escape that JSON knows");
    }
  }

  uint32_t Hex4() {
    uint32_t unit = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      if (at_ >= text_.size()) Fail("four hexadecimal digits");
      const char digit = text_[at_];
      uint32_t nibble = 0;
      if (digit >= '0' && digit <= '9')
        nibble = static_cast<uint32_t>(digit - '0');
      else if (digit >= 'a' && digit <= 'f')
        nibble = static_cast<uint32_t>(digit - 'a') + 10;
      else if (digit >= 'A' && digit <= 'F')
        nibble = static_cast<uint32_t>(digit - 'A') + 10;
      else
        Fail("a hexadecimal digit");
      unit = unit * 16 + nibble;
    }
    return unit;
  }

  uint32_t CodePoint() {
    const uint32_t high = Hex4();
    if (high < 0xD800 || high > 0xDFFF) return high;
    if (high > 0xDBFF || text_.substr(at_, 2) != "\\u") Fail("a surrogate pair");
    at_ += 2;
    const uint32_t low = Hex4();
    if (low < 0xDC00 || low > 0xDFFF) Fail("a low surrogate");
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
  }

  static void AppendUtf8(std::string& value, uint32_t point) {
    const auto put = [&](uint32_t byte) { value += static_cast<char>(byte); };
    if (point < 0x80) {
      put(point);
    } else if (point < 0x800) {
      put(0xC0 | (point >> 6));
      put(0x80 | (point & 0x3F));
    } else if (point < 0x10000) {
      put(0xE0 | (point >> 12));
      put(0x80 | ((point >> 6) & 0x3F));
      put(0x80 | (point & 0x3F));
    } else {
      put(0xF0 | (point >> 18));
      put(0x80 | ((point >> 12) & 0x3F));
      put(0x80 | ((point >> 6) & 0x3F));
      put(0x80 | (point & 0x3F));
    }
  }

  std::string_view text_;
  size_t at_ = 0;
};

// Bytes of one element, 0 for a type that safetensors does not have.
size_t ElementBytes(std::string_view dtype) {
  if (dtype == "F64" || dtype == "I64" || dtype == "U64") return 8;
  if (dtype == "F32" || dtype == "I32" || dtype == "U32") return 4;
  if (dtype == "F16" || dtype == "BF16" || dtype == "I16" || dtype == "U16") return 2;
  if (dtype == "I8" || dtype == "U8" || dtype == "BOOL" || dtype == "F8_E4M3" || dtype == "F8_E5M2") return 1;
  return 0;
}

std::optional<DType> FloatType(std::string_view dtype) {
  if (dtype == "F32") return DType::kF32;
  if (dtype == "F16") return DType::kF16;
  if (dtype == "BF16") return DType::kBF16;
  return std::nullopt;
}

void CheckEntry(const SafetensorsEntry& entry, size_t data_bytes) {
  const size_t element = ElementBytes(entry.dtype);
  NS_REQUIRE(element != 0, ErrorCode::kInvalidCheckpoint, "tensor \"", entry.name, "\" has the unknown type \"",
             entry.dtype, "\"");
  NS_REQUIRE(entry.begin <= entry.end && entry.end <= data_bytes, ErrorCode::kInvalidCheckpoint, "tensor \"",
             entry.name, "\" claims bytes ", entry.begin, " to ", entry.end, "; the file holds ", data_bytes,
             " bytes of data");
  size_t bytes = element;
  for (size_t side : entry.shape) {
    NS_REQUIRE(side == 0 || bytes <= std::numeric_limits<size_t>::max() / side, ErrorCode::kInvalidCheckpoint,
               "tensor \"", entry.name, "\" is larger than the address space");
    bytes *= side;
  }
  NS_REQUIRE(bytes == entry.end - entry.begin, ErrorCode::kInvalidCheckpoint, "tensor \"", entry.name, "\" has ",
             entry.end - entry.begin, " bytes; its shape and type need ", bytes);
}

SafetensorsEntry ReadEntry(Reader& reader, std::string name) {
  SafetensorsEntry entry;
  entry.name = std::move(name);
  int seen = 0;  // one bit per member: a missing or repeated one is refused
  reader.Object([&](std::string key) {
    if (key == "dtype" && (seen & 1) == 0) {
      seen |= 1;
      entry.dtype = reader.String();
    } else if (key == "shape" && (seen & 2) == 0) {
      seen |= 2;
      entry.shape = reader.Integers(kMaxRank);
    } else if (key == "data_offsets" && (seen & 4) == 0) {
      seen |= 4;
      const std::vector<size_t> offsets = reader.Integers(2);
      if (offsets.size() != 2) reader.Fail("two offsets");
      entry.begin = offsets[0];
      entry.end = offsets[1];
    } else {
      reader.Fail("dtype, shape and data_offsets, once each (found \"" + key.substr(0, 40) + "\")");
    }
  });
  if (seen != 7) reader.Fail("dtype, shape and data_offsets before");
  return entry;
}

std::string HeaderText(const InputFile& file) {
  uint64_t header_bytes = 0;
  NS_REQUIRE(file.bytes() >= sizeof header_bytes, ErrorCode::kInvalidCheckpoint, file.path(), " has ", file.bytes(),
             " bytes; a safetensors file has at least 8");
  file.Read(reinterpret_cast<std::byte*>(&header_bytes), 0, sizeof header_bytes);
  NS_REQUIRE(header_bytes <= kMaxHeaderBytes && header_bytes <= file.bytes() - sizeof header_bytes,
             ErrorCode::kInvalidCheckpoint, file.path(), " claims a header of ", header_bytes, " bytes; the file has ",
             file.bytes(), ", the limit is ", kMaxHeaderBytes);
  std::string text(header_bytes, '\0');
  file.Read(reinterpret_cast<std::byte*>(text.data()), sizeof header_bytes, text.size());
  return text;
}

}  // namespace

SafetensorsHeader ParseSafetensorsHeader(std::string_view json, size_t data_bytes) {
  SafetensorsHeader header;
  Reader reader(json);
  reader.Object([&](std::string name) {
    if (name == "__metadata__") {
      reader.Object([&](std::string key) { header.metadata[std::move(key)] = reader.String(); });
      return;
    }
    if (header.entries.size() == kMaxTensors) reader.Fail("at most 1,000,000 tensors");
    header.entries.push_back(ReadEntry(reader, std::move(name)));
    CheckEntry(header.entries.back(), data_bytes);
  });
  reader.End();
  return header;
}

SafetensorsFile::SafetensorsFile(const std::string& path) : file_(std::make_shared<InputFile>(path)) {
  const std::string text = HeaderText(*file_);
  data_begin_ = sizeof(uint64_t) + text.size();
  header_ = ParseSafetensorsHeader(text, file_->bytes() - data_begin_);
  for (const SafetensorsEntry& entry : header_.entries) {
    if (const auto dtype = FloatType(entry.dtype)) {
      const size_t offset = data_begin_ + entry.begin;
      table_.AddPlace(entry.name, {.reader = file_, .offset = offset, .dtype = *dtype, .shape = entry.shape});
    }
  }
}

const SafetensorsEntry& SafetensorsFile::Find(const std::string& name) const {
  for (const SafetensorsEntry& entry : header_.entries) {
    if (entry.name == name) return entry;
  }
  throw Error(ErrorCode::kInvalidCheckpoint, Message(file_->path(), " has no tensor \"", name, "\""));
}

std::vector<int32_t> SafetensorsFile::Integers(const std::string& name) const {
  const SafetensorsEntry& entry = Find(name);
  NS_REQUIRE(entry.dtype == "I32", ErrorCode::kInvalidCheckpoint, "tensor \"", name, "\" has type ", entry.dtype,
             "; expected I32");
  std::vector<int32_t> values((entry.end - entry.begin) / sizeof(int32_t));
  file_->Read(reinterpret_cast<std::byte*>(values.data()), data_begin_ + entry.begin, values.size() * sizeof(int32_t));
  return values;
}

std::vector<float> SafetensorsFile::Floats(const std::string& name) const {
  const SafetensorsEntry& entry = Find(name);
  const auto dtype = FloatType(entry.dtype);
  NS_REQUIRE(dtype.has_value(), ErrorCode::kInvalidCheckpoint, "tensor \"", name, "\" has type ", entry.dtype,
             "; expected F32, F16 or BF16");
  std::vector<std::byte> bytes(entry.end - entry.begin);
  file_->Read(bytes.data(), data_begin_ + entry.begin, bytes.size());
  std::vector<float> values(bytes.size() / DTypeBytes(*dtype));
  WidenToFloat(values.data(), bytes.data(), *dtype, values.size());
  return values;
}

}  // namespace nextscale
