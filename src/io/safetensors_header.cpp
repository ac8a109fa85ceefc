// The header of a safetensors file. Its JSON has a fixed form, three objects deep, so this reads just that form: no
// recursion, strings decoded where they stand, 40 bytes of working memory for a tensor's 50 bytes of text or more. A
// general parser keeps copies of what it reads, and would break the promise on memory.
#include "io/safetensors_header.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <span>

#include "io/element_count.h"
#include "io/show.h"
#include "io/utf8.h"
#include "mica/core/error.h"

namespace mica::io {

namespace {

constexpr const char* kOp = "load_safetensors";

// The text of the smallest entry: "":{"dtype":"U8","shape":[],"data_offsets":[0,0]},
constexpr size_t kMinEntryText = 50;

struct FormatType {
  std::string_view name;
  DType dtype;
};
constexpr FormatType kTypes[] = {{"F32", DType::float32}, {"F64", DType::float64}, {"BF16", DType::bfloat16},
                                 {"I32", DType::int32},   {"I64", DType::int64},   {"U8", DType::uint8}};
constexpr std::string_view kOtherTypes[] = {"BOOL",    "F4",  "F6_E2M3",     "F6_E3M2",    "I8",  "F8_E5M2",
                                            "F8_E4M3", "C64", "F8_E8M0",     "I16",        "U16", "F16",
                                            "U32",     "U64", "F8_E4M3FNUZ", "F8_E5M2FNUZ"};

class HeaderParser {
 public:
  HeaderParser(const std::string& path, std::string text, int64_t data_bytes)
      : path_(path), data_bytes_(data_bytes), text_(result_.text) {
    text_ = std::move(text);
  }

  SafetensorsHeader parse() {
    if (text_.empty() || text_[0] != '{') fail_here("expected '{', found ", next_character());
    reserve();
    members([&](Piece key) {
      if (view(key) == kMetadataKey) {
        metadata();
      } else {
        entry(key);
      }
    });
    skip_space();
    if (at_ != text_.size()) fail_here("expected nothing but spaces after the object, found ", next_character());
    check_names();
    check_coverage();
    return std::move(result_);
  }

 private:
  // A part of the text.
  struct Piece {
    size_t at = 0, size = 0;
  };

  std::string_view view(Piece piece) const { return std::string_view(text_).substr(piece.at, piece.size); }

  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    mica::fail<FileError>(kOp, path_, ": ", parts...);
  }
  template <class... Parts>
  [[noreturn]] void fail_here(const Parts&... parts) const {
    fail("header byte ", uint64_t{at_}, ": ", parts...);
  }
  template <class... Parts>
  [[noreturn]] void fail_tensor(Piece name, const Parts&... parts) const {
    fail("tensor ", quoted(view(name)), ": ", parts...);
  }

  std::string next_character() const {
    if (at_ >= text_.size()) return "the end of the header";
    return detail::concat("'", std::string_view(quoted(view({at_, 1}))).substr(1, 1), "'");
  }

  // --- JSON ---

  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t'))
      ++at_;
  }
  bool accept(char c) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) fail_here("expected '", std::string_view(&c, 1), "', found ", next_character());
  }

  // Reads an object; `value` reads what follows each key.
  template <class Value>
  void members(Value value) {
    expect('{');
    if (accept('}')) return;
    do {
      const Piece key = string();
      expect(':');
      value(key);
    } while (accept(','));
    expect('}');
  }

  // Reads a string and decodes it where it stands: no escape is shorter than what it means.
  Piece string() {
    expect('"');
    const size_t begin = at_;
    size_t end = at_;
    for (;;) {
      if (at_ >= text_.size()) fail_here("a string has no end");
      const auto c = static_cast<unsigned char>(text_[at_]);
      if (c == '"') {
        ++at_;
        return {begin, end - begin};
      }
      if (c < 0x20) fail_here("a control character in a string");
      if (c == '\\') {
        end += escape(end);
        continue;
      }
      const size_t length = utf8_length(text_, at_);
      if (length == 0) fail_here("a string is not UTF-8");
      for (size_t i = 0; i < length; ++i) text_[end++] = text_[at_++];
    }
  }

  // Decodes the escape that the text goes on with to `to`; gives the number of bytes written.
  size_t escape(size_t to) {
    constexpr std::string_view kFrom = "\"\\/bfnrt", kTo = "\"\\/\b\f\n\r\t";
    const char c = at_ + 1 < text_.size() ? text_[at_ + 1] : '\0';
    if (const size_t i = kFrom.find(c); i != kFrom.npos) {
      at_ += 2;
      text_[to] = kTo[i];
      return 1;
    }
    if (c != 'u') fail_here("an unknown escape in a string");
    uint32_t code = hexadecimal();
    if (code >= 0xd800 && code < 0xdc00 && at_ + 1 < text_.size() && text_[at_] == '\\' && text_[at_ + 1] == 'u') {
      const uint32_t low = hexadecimal();
      if (low < 0xdc00 || low > 0xdfff) fail_here("half of a surrogate pair in a string");
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xd800 && code <= 0xdfff) {
      fail_here("half of a surrogate pair in a string");
    }
    return encode(code, to);
  }

  // Reads a backslash, 'u' and four digits.
  uint32_t hexadecimal() {
    uint32_t code = 0;
    for (size_t i = at_ + 2; i < at_ + 6; ++i) {
      const char c = i < text_.size() ? text_[i] : '\0';
      const bool digit = c >= '0' && c <= '9';
      const char letter = static_cast<char>(c | 0x20);
      if (!digit && (letter < 'a' || letter > 'f')) fail_here("\\u needs four hexadecimal digits");
      code = code * 16 + static_cast<uint32_t>(digit ? c - '0' : letter - 'a' + 10);
    }
    at_ += 6;
    return code;
  }

  size_t encode(uint32_t code, size_t to) {
    const auto put = [&](uint32_t byte) { text_[to++] = static_cast<char>(byte); };
    if (code < 0x80) {
      put(code);
      return 1;
    }
    const size_t length = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    constexpr uint32_t kLead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    put(kLead[length] | (code >> (6 * (length - 1))));
    for (size_t i = length - 1; i-- > 0;) put(0x80 | ((code >> (6 * i)) & 0x3f));
    return length;
  }

  // Reads a whole number from 0 to 2^63 - 1.
  int64_t number(Piece name, const char* what) {
    skip_space();
    const size_t begin = at_;
    int64_t value = 0;
    if (at_ < text_.size() && text_[at_] == '-')
      fail_tensor(name, what, " must not be negative, at header byte ", uint64_t{at_});
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_)
      if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, text_[at_] - '0', &value))
        fail_tensor(name, what, " beyond 2^63 - 1, at header byte ", uint64_t{begin});
    const bool leading_zero = at_ > begin + 1 && text_[begin] == '0';
    const bool fraction = at_ < text_.size() && (text_[at_] == '.' || text_[at_] == 'e' || text_[at_] == 'E');
    if (at_ == begin || leading_zero || fraction)
      fail_tensor(name, what, " must be whole numbers, at header byte ", uint64_t{begin});
    return value;
  }

  // --- the format ---

  // Reserves for as many entries as the text can hold, so that none is ever moved.
  void reserve() {
    const auto objects = static_cast<size_t>(std::count(text_.begin(), text_.end(), '{'));
    result_.entries.reserve(std::min(objects, text_.size() / kMinEntryText + 1));
  }

  void metadata() {
    if (has_metadata_) fail("the header has ", quoted(kMetadataKey), " twice");
    has_metadata_ = true;
    auto& entries = result_.metadata;
    members([&](Piece key) {
      if (entries.size() == kMaxMetadataEntries) fail("more than ", uint64_t{kMaxMetadataEntries}, " metadata entries");
      skip_space();
      if (at_ >= text_.size() || text_[at_] != '"') fail("metadata ", quoted(view(key)), " must be a string");
      const Piece value = string();
      entries.emplace_back(view(key), view(value));
    });
    std::vector<std::string_view> keys(entries.size());
    std::transform(entries.begin(), entries.end(), keys.begin(),
                   [](const auto& e) { return std::string_view(e.first); });
    std::sort(keys.begin(), keys.end());
    if (const auto twice = std::adjacent_find(keys.begin(), keys.end()); twice != keys.end())
      fail("metadata ", quoted(*twice), " comes twice");
  }

  // Reads one tensor's object.
  void entry(Piece name) {
    HeaderEntry entry;
    entry.name_at = static_cast<uint32_t>(name.at);
    entry.name_size = static_cast<uint32_t>(name.size);
    int64_t elements = 0;
    enum Field { kType, kShape, kOffsets, kFields };
    constexpr std::string_view kKeys[] = {"dtype", "shape", "data_offsets"};
    bool seen[kFields] = {};

    skip_space();
    if (at_ >= text_.size() || text_[at_] != '{') fail_tensor(name, "expected an object, found ", next_character());
    members([&](Piece key) {
      const auto field = std::find(std::begin(kKeys), std::end(kKeys), view(key)) - std::begin(kKeys);
      if (field == kFields) fail_tensor(name, "unknown key ", quoted(view(key)));
      if (seen[field]) fail_tensor(name, quoted(view(key)), " comes twice");
      seen[field] = true;
      if (field == kType) entry.dtype = dtype(name);
      if (field == kShape) elements = sizes(name, entry);
      if (field == kOffsets) {
        expect('[');
        entry.begin = number(name, "data_offsets");
        expect(',');
        entry.end = number(name, "data_offsets");
        expect(']');
      }
    });
    for (int field = 0; field < kFields; ++field)
      if (!seen[field]) fail_tensor(name, quoted(kKeys[field]), " is missing");

    const auto offsets = [&] { return detail::concat("data_offsets [", entry.begin, ",", entry.end, "]"); };
    if (entry.end < entry.begin) fail_tensor(name, offsets(), " end before they begin");
    if (entry.end > data_bytes_)
      fail_tensor(name, offsets(), " go beyond the data, of which the file has ", data_bytes_, " bytes");
    const int64_t bytes = elements * static_cast<int64_t>(size_of(entry.dtype));
    if (bytes != entry.end - entry.begin)
      fail_tensor(name, offsets(), " hold ", entry.end - entry.begin, " bytes but shape ", result_.shape(entry), " of ",
                  format_name(entry.dtype), " needs ", bytes);
    result_.entries.push_back(entry);
  }

  DType dtype(Piece name) {
    const std::string_view text = view(string());
    for (const auto& type : kTypes)
      if (type.name == text) return type.dtype;
    if (std::find(std::begin(kOtherTypes), std::end(kOtherTypes), text) != std::end(kOtherTypes))
      fail_tensor(name, "dtype ", text, " is not supported: F32, F64, BF16, I32, I64 and U8 are");
    fail_tensor(name, "unknown dtype ", quoted(text));
  }

  // Reads a shape into `entry`; gives the number of elements.
  int64_t sizes(Piece name, HeaderEntry& entry) {
    expect('[');
    entry.shape_at = static_cast<uint32_t>(at_);
    if (accept(']')) return 1;
    int64_t elements = 1;
    bool zero = false;
    int rank = 0;
    do {
      if (++rank > Shape::kMaxRank)
        fail_tensor(name, "a rank above ", Shape::kMaxRank, ", at header byte ", uint64_t{at_});
      const int64_t size = number(name, "shape");
      zero |= size == 0;
      // Zeros are left out: partial products must fit as well.
      if (size != 0 && (__builtin_mul_overflow(elements, size, &elements) || elements >= kMaxElements))
        fail_tensor(name, "the sizes of the shape are too large, at header byte ", uint64_t{entry.shape_at});
    } while (accept(','));
    expect(']');
    return zero ? 0 : elements;
  }

  // No two tensors of one name. Sorted by hash first, 8 bytes each, and only equal hashes by name: names that were
  // chosen to collide cost a sort, no more.
  void check_names() const {
    const auto& entries = result_.entries;
    std::vector<uint64_t> keys(entries.size());
    for (size_t i = 0; i < entries.size(); ++i) {
      uint32_t hash = 2166136261u;  // FNV-1a
      for (const char c : result_.name(entries[i])) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
      keys[i] = uint64_t{hash} << 32 | i;
    }
    std::sort(keys.begin(), keys.end());
    const auto name = [&](uint64_t key) { return result_.name(entries[static_cast<uint32_t>(key)]); };
    for (size_t first = 0, last; first < keys.size(); first = last) {
      for (last = first + 1; last < keys.size() && keys[last] >> 32 == keys[first] >> 32;) ++last;
      if (last == first + 1) continue;
      const auto begin = keys.begin() + static_cast<std::ptrdiff_t>(first);
      const auto end = keys.begin() + static_cast<std::ptrdiff_t>(last);
      std::sort(begin, end, [&](uint64_t a, uint64_t b) { return name(a) < name(b); });
      const auto twice = std::adjacent_find(begin, end, [&](uint64_t a, uint64_t b) { return name(a) == name(b); });
      if (twice != end) fail("tensor ", quoted(name(*twice)), " comes twice");
    }
  }

  // The tensors follow one another from the first to the last byte of the data.
  void check_coverage() const {
    const auto& entries = result_.entries;
    std::vector<uint32_t> order(entries.size());
    std::iota(order.begin(), order.end(), 0u);
    const auto before = [&](uint32_t a, uint32_t b) {
      const HeaderEntry &x = entries[a], &y = entries[b];
      return x.begin != y.begin ? x.begin < y.begin : x.end < y.end;
    };
    if (!std::is_sorted(order.begin(), order.end(), before)) std::sort(order.begin(), order.end(), before);
    int64_t covered = 0;
    for (size_t i = 0; i < order.size(); ++i) {
      const HeaderEntry& entry = entries[order[i]];
      if (entry.begin > covered) fail_hole(covered, entry.begin);
      if (entry.begin < covered) {
        const HeaderEntry& last = entries[order[i - 1]];
        fail("tensors ", quoted(result_.name(last)), " and ", quoted(result_.name(entry)), " overlap: data_offsets [",
             last.begin, ",", last.end, "] and [", entry.begin, ",", entry.end, "]");
      }
      covered = entry.end;
    }
    if (covered < data_bytes_) fail_hole(covered, data_bytes_);
  }
  [[noreturn]] void fail_hole(int64_t begin, int64_t end) const {
    fail("bytes ", begin, " to ", end, " of the data belong to no tensor");
  }

  const std::string& path_;
  const int64_t data_bytes_;
  SafetensorsHeader result_;
  std::string& text_;
  size_t at_ = 0;
  bool has_metadata_ = false;
};

}  // namespace

std::string_view format_name(DType dtype) {
  for (const auto& type : kTypes)
    if (type.dtype == dtype) return type.name;
  return "?";
}

Shape SafetensorsHeader::shape(const HeaderEntry& entry) const {
  int64_t sizes[Shape::kMaxRank] = {};
  size_t rank = 0;
  bool in_number = false;
  for (size_t at = entry.shape_at; text[at] != ']'; ++at) {
    const bool digit = text[at] >= '0' && text[at] <= '9';
    if (digit) {
      if (!in_number) ++rank;
      sizes[rank - 1] = sizes[rank - 1] * 10 + (text[at] - '0');
    }
    in_number = digit;
  }
  return Shape(std::span<const int64_t>(sizes, rank));
}

SafetensorsHeader parse_safetensors_header(const std::string& path, std::string text, int64_t data_bytes) {
  return HeaderParser(path, std::move(text), data_bytes).parse();
}

}  // namespace mica::io
