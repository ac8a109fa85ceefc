// The header of an npy file: a Python dictionary of three keys. This reads just that form: no recursion, no copies.
#include <algorithm>
#include <cstring>
#include <iterator>

#include "io/element_count.h"
#include "io/npy_format.h"
#include "mica/core/error.h"

namespace mica::io {

namespace {

constexpr unsigned char kMagic[] = {0x93, 'N', 'U', 'M', 'P', 'Y'};
constexpr size_t kMagicBytes = sizeof kMagic;
// Much more than an array of plain elements needs.
constexpr uint32_t kMaxHeaderBytes = 65535;

struct StoredType {
  std::string_view name;  // kind and bytes, as in descr
  NpyType type;
  DType dtype;
  size_t bytes;
};
constexpr StoredType kTypes[] = {
    {"b1", NpyType::boolean, DType::uint8, 1},   {"u1", NpyType::uint8, DType::uint8, 1},
    {"i2", NpyType::int16, DType::int32, 2},     {"u2", NpyType::uint16, DType::int32, 2},
    {"i4", NpyType::int32, DType::int32, 4},     {"u4", NpyType::uint32, DType::int64, 4},
    {"i8", NpyType::int64, DType::int64, 8},     {"f2", NpyType::float16, DType::float32, 2},
    {"f4", NpyType::float32, DType::float32, 4}, {"f8", NpyType::float64, DType::float64, 8},
};

class DictionaryParser {
 public:
  DictionaryParser(const ByteSource& source, std::string_view text) : source_(source), text_(text) {}

  // Fills in all but the bytes; gives the bytes of an element.
  size_t parse(NpyHeader& header) {
    enum Key { kDescr, kOrder, kShape, kKeys };
    constexpr std::string_view kNames[] = {"descr", "fortran_order", "shape"};
    bool seen[kKeys] = {};
    size_t element = 0;
    expect('{');
    while (!accept('}')) {
      const std::string_view name = string();
      const auto key = std::find(std::begin(kNames), std::end(kNames), name) - std::begin(kNames);
      if (key == kKeys) source_.fail("the header has an unknown key ", quoted(name));
      if (seen[key]) source_.fail("the header has the key ", quoted(name), " twice");
      seen[key] = true;
      expect(':');
      if (key == kDescr) element = type(header);
      if (key == kOrder) header.fortran_order = boolean();
      if (key == kShape) header.shape = shape();
      if (accept(',')) continue;
      expect('}');
      break;
    }
    skip_space();
    if (at_ < text_.size()) fail_here("expected nothing but spaces after the dictionary, found ", next_character());
    for (int key = 0; key < kKeys; ++key)
      if (!seen[key]) source_.fail("the header lacks the key ", quoted(kNames[key]));
    return element;
  }

 private:
  template <class... Parts>
  [[noreturn]] void fail_here(const Parts&... parts) const {
    source_.fail("header byte ", uint64_t{at_}, ": ", parts...);
  }

  std::string next_character() const {
    return at_ < text_.size() ? quoted(text_.substr(at_, 1)) : "the end of the header";
  }

  void skip_space() {
    while (at_ < text_.size() && std::string_view(" \t\r\n\f").find(text_[at_]) != std::string_view::npos) ++at_;
  }
  bool accept(char c) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) fail_here("expected ", quoted(std::string_view(&c, 1)), ", found ", next_character());
  }

  // A string in quotes of either kind, without escapes.
  std::string_view string() {
    skip_space();
    const char quote = at_ < text_.size() ? text_[at_] : '\0';
    if (quote != '\'' && quote != '"') fail_here("expected a string, found ", next_character());
    const size_t begin = ++at_;
    while (at_ < text_.size() && text_[at_] != quote) {
      if (text_[at_] == '\\') fail_here("an escape in a string");
      ++at_;
    }
    if (at_ == text_.size()) fail_here("a string has no end");
    return text_.substr(begin, at_++ - begin);
  }

  bool boolean() {
    skip_space();
    for (const bool value : {false, true}) {
      const std::string_view word = value ? "True" : "False";
      if (text_.substr(at_, word.size()) != word) continue;
      at_ += word.size();
      return value;
    }
    fail_here("expected True or False, found ", next_character());
  }

  // A tuple of whole numbers.
  Shape shape() {
    int64_t sizes[Shape::kMaxRank] = {};
    int rank = 0;
    expect('(');
    while (!accept(')')) {
      if (rank == Shape::kMaxRank) fail_here("a rank above ", Shape::kMaxRank);
      sizes[rank++] = number();
      if (accept(',')) continue;
      expect(')');
      if (rank == 1) source_.fail("the header's shape is a number, not a tuple");  // (3) where (3,) should be
      break;
    }
    return Shape(std::span<const int64_t>(sizes, static_cast<size_t>(rank)));
  }

  int64_t number() {
    skip_space();
    const size_t begin = at_;
    int64_t value = 0;
    if (at_ < text_.size() && text_[at_] == '-') fail_here("a size must not be negative");
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_)
      if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, text_[at_] - '0', &value))
        fail_here("a size beyond 2^63 - 1");
    if (at_ == begin) fail_here("expected a whole number, found ", next_character());
    if (at_ < text_.size() && text_[at_] == 'L') ++at_;  // as Python 2 wrote it
    return value;
  }

  size_t type(NpyHeader& header) {
    skip_space();
    if (at_ < text_.size() && text_[at_] == '[') source_.fail("structured dtypes are not supported");
    const std::string_view descr = string();
    const bool ordered = !descr.empty() && std::string_view("<>|=").find(descr[0]) != std::string_view::npos;
    const std::string_view name = descr.substr(ordered ? 1 : 0);
    header.big_endian = ordered && descr[0] == '>';
    for (const StoredType& known : kTypes)
      if (known.name == name) {
        header.type = known.type;
        header.dtype = known.dtype;
        return known.bytes;
      }
    if (name.starts_with('O'))
      source_.fail("dtype ", quoted(descr), " holds pickled objects, which run code when they are read: refused");
    const std::string_view also = name == "i1"                   ? " (int8: convert it to int32)"
                                  : name == "u8"                 ? " (uint64: convert it to int64)"
                                  : name == "V2"                 ? " (raw bytes, as of bfloat16)"
                                  : name == "f16" || name == "g" ? " (long double: convert it to float64)"
                                  : name.starts_with('c')        ? " (complex)"
                                  : name.starts_with('U') || name.starts_with('S') ? " (text)"
                                                                                   : "";
    source_.fail("dtype ", quoted(descr), also, " is not supported: bool, uint8, int16, uint16, int32, uint32, int64, ",
                 "float16, float32 and float64 are");
  }

  const ByteSource& source_;
  const std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

NpyHeader read_npy_header(ByteSource& source) {
  // Magic, major and minor version, and the header's length, of 2 bytes in format 1.0 and of 4 later.
  unsigned char begin[kMagicBytes + 2 + 4] = {};
  const auto shown = static_cast<size_t>(std::min<int64_t>(source.size(), kMagicBytes));
  source.read(begin, shown);
  if (!std::equal(begin, begin + shown, kMagic))
    source.fail("not an npy file: it begins with ", hexadecimal({begin, shown}), ", not with ", hexadecimal(kMagic));
  const auto need = [&](size_t bytes) {
    if (source.size() < static_cast<int64_t>(bytes))
      source.fail("cut short: ", source.size(), " of the ", uint64_t{bytes}, " bytes that an npy file begins with");
  };
  need(kMagicBytes + 2);
  source.read(begin + kMagicBytes, 2);
  const int major = begin[kMagicBytes], minor = begin[kMagicBytes + 1];
  if (major < 1 || major > 3 || minor != 0)
    source.fail("format ", major, ".", minor, " is unknown: 1.0, 2.0 and 3.0 are read");
  const size_t length_bytes = major == 1 ? 2 : 4, header_begin = kMagicBytes + 2 + length_bytes;
  need(header_begin);
  source.read(begin + kMagicBytes + 2, length_bytes);
  uint32_t length = 0;
  std::memcpy(&length, begin + kMagicBytes + 2, length_bytes);
  if (length > kMaxHeaderBytes)
    source.fail("header length ", uint64_t{length}, " is above ", uint64_t{kMaxHeaderBytes});
  const int64_t data_bytes = source.size() - static_cast<int64_t>(header_begin + length);
  if (data_bytes < 0)
    source.fail("header length ", uint64_t{length}, " goes beyond the file, which has ", source.size(), " bytes");

  std::string text(length, ' ');
  source.read(text.data(), text.size());
  NpyHeader header;
  const size_t element = DictionaryParser(source, text).parse(header);
  const std::span<const int64_t> sizes(header.shape.begin(), static_cast<size_t>(header.shape.rank()));
  header.bytes = count_bytes(sizes, element);
  if (header.bytes < 0) source.fail("the sizes ", header.shape, " are too large");
  if (header.bytes != data_bytes)
    source.fail("shape ", header.shape, " of ", uint64_t{element}, "-byte elements needs ", header.bytes,
                " bytes, but ", data_bytes, " follow");
  return header;
}

std::string npy_header(const char* op, const std::string& path, const Tensor& tensor) {
  std::string_view name;
  for (const StoredType& type : kTypes)
    if (type.dtype == tensor.dtype() && type.bytes == size_of(tensor.dtype()) && type.type != NpyType::boolean)
      name = type.name;
  check<FileError>(!name.empty(), op, path, ": npy has no ", tensor.dtype(), ": convert the tensor to float32");
  std::string sizes;
  for (const int64_t size : tensor.shape()) sizes += detail::concat(sizes.empty() ? "" : ", ", size);
  if (tensor.rank() == 1) sizes += ",";
  std::string text = detail::concat("{'descr': '", size_of(tensor.dtype()) == 1 ? "|" : "<", name,
                                    "', 'fortran_order': False, 'shape': (", sizes, "), }");
  // As NumPy does: room for the first size to grow to 21 digits, then up to a multiple of 64, the last byte a new line.
  constexpr size_t kGrown = 21, kAlignment = 64, kBefore = kMagicBytes + 4;
  if (tensor.rank() > 0) text.append(kGrown - detail::concat(tensor.dim(0)).size(), ' ');
  text.resize((kBefore + text.size() + 1) / kAlignment * kAlignment + kAlignment - kBefore, ' ');
  text.back() = '\n';
  std::string header(reinterpret_cast<const char*>(kMagic), kMagicBytes);
  header += {'\x01', '\0', static_cast<char>(text.size() & 0xff), static_cast<char>(text.size() >> 8)};
  return header + text;
}

}  // namespace mica::io
