// Reading CSV files.
#include "mica/data/csv.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "io/byte_source.h"
#include "io/input_file.h"
#include "io/show.h"
#include "io/utf8.h"

namespace MICA_EXPORT mica {
namespace data {

namespace {

constexpr const char* kOp = "load_csv";
constexpr size_t kMaxColumns = 100'000;
constexpr size_t kMaxRecord = size_t{16} << 20;
constexpr size_t kChunkBytes = size_t{1} << 16;

// The records of a file, one at a time.
class Scanner {
 public:
  Scanner(const io::InputFile& file, char separator)
      : file_(file), source_(io::byte_source(file)), separator_(separator), chunk_(kChunkBytes) {
    refill();
    if (std::string_view(next_, static_cast<size_t>(end_ - next_)).starts_with("\xef\xbb\xbf")) next_ += 3;
  }

  /// Goes on to the next record; false when there is none.
  bool next();
  size_t size() const { return ends_.size(); }
  std::string_view field(size_t i) const {
    const size_t begin = i == 0 ? 0 : ends_[i - 1];
    return std::string_view(record_).substr(begin, ends_[i] - begin);
  }

  /// What columns are called in errors; a record must have as many fields from then on.
  void set_names(const std::vector<std::string>* names) { names_ = names; }

  /// Fails, naming the line where field `i` of this record begins.
  template <class... Parts>
  [[noreturn]] void fail(size_t i, const Parts&... parts) const {
    const int64_t line = i < lines_.size() ? lines_[i] : field_line_;
    if (names_ && i < names_->size()) file_.fail("line ", line, ", column ", io::quoted((*names_)[i]), ": ", parts...);
    file_.fail("line ", line, ", column ", uint64_t{i + 1}, ": ", parts...);
  }
  template <class... Parts>
  [[noreturn]] void fail_line(const Parts&... parts) const {
    file_.fail("line ", lines_.empty() ? field_line_ : lines_[0], parts...);
  }

 private:
  enum class State { begin, bare, quoted, closed, carriage_return };

  bool refill() {
    const size_t count = source_->read(chunk_.data(), chunk_.size());
    next_ = chunk_.data();
    end_ = next_ + count;
    return count > 0;
  }
  bool ends_run(State state, char c) const {
    if (state == State::quoted) return c == '"' || c == '\n' || c == '\0';
    return c == separator_ || c == '\n' || c == '\r' || c == '"' || c == '\0';
  }
  void append(const char* text, size_t count) {
    if (record_.size() + count > kMaxRecord) fail_line(": the record has more than ", uint64_t{kMaxRecord}, " bytes");
    record_.append(text, count);
  }
  void end_field();
  // The record is there: whether it is one, not a blank line.
  bool end_record();

  const io::InputFile& file_;
  std::unique_ptr<io::ByteSource> source_;
  char separator_;
  std::vector<char> chunk_;
  const char *next_ = nullptr, *end_ = nullptr;
  const std::vector<std::string>* names_ = nullptr;

  std::string record_;  // its fields, one after the other
  std::vector<size_t> ends_;
  std::vector<int64_t> lines_;  // where they begin
  int64_t line_ = 1, field_line_ = 1;
  bool any_quoted_ = false;
};

void Scanner::end_field() {
  const size_t i = ends_.size(), begin = i == 0 ? 0 : ends_[i - 1];
  if (names_ && i == names_->size()) fail_line(" has more than ", uint64_t{i}, i == 1 ? " field" : " fields");
  if (i == kMaxColumns) fail_line(" has more than ", uint64_t{kMaxColumns}, " fields");
  const std::string_view text = std::string_view(record_).substr(begin);
  for (size_t at = 0; at < text.size();) {
    const size_t length = io::utf8_length(text, at);
    if (length == 0) {
      const auto byte = static_cast<unsigned char>(text[at]);
      fail(i, "byte ", io::hexadecimal({&byte, 1}), " is not UTF-8");
    }
    at += length;
  }
  ends_.push_back(record_.size());
  lines_.push_back(field_line_);
}

bool Scanner::end_record() {
  end_field();
  if (ends_.size() == 1 && record_.empty() && !any_quoted_) {
    ends_.clear();
    lines_.clear();
    return false;
  }
  if (names_ && ends_.size() < names_->size())
    fail_line(" has ", uint64_t{ends_.size()}, ends_.size() == 1 ? " field" : " fields", ", not ",
              uint64_t{names_->size()});
  return true;
}

bool Scanner::next() {
  record_.clear();
  ends_.clear();
  lines_.clear();
  any_quoted_ = false;
  field_line_ = line_;
  State state = State::begin;
  while (next_ < end_ || refill()) {
    if (state == State::bare || state == State::quoted) {
      const char* stop = next_;
      while (stop < end_ && !ends_run(state, *stop)) ++stop;
      append(next_, static_cast<size_t>(stop - next_));
      next_ = stop;
      if (next_ == end_) continue;
    }
    const char c = *next_++;
    const size_t i = ends_.size();
    if (c == '\0') fail(i, "a NUL byte");
    if (c == '\n') ++line_;
    if (state == State::quoted) {
      if (c == '"')
        state = State::closed;
      else
        append(&c, 1);
    } else if (state == State::carriage_return && c != '\n') {
      fail(i, "a carriage return without a line feed");
    } else if (c == '"') {
      if (state == State::bare) fail(i, "a quote in a field that does not begin with one");
      if (state == State::closed) append(&c, 1);
      state = State::quoted;
      any_quoted_ = true;
    } else if (c == separator_) {
      end_field();
      field_line_ = line_;
      state = State::begin;
    } else if (c == '\r') {
      state = State::carriage_return;
    } else if (c == '\n') {
      if (end_record()) return true;
      field_line_ = line_;
      state = State::begin;
    } else if (state == State::closed) {
      fail(i, io::quoted({&c, 1}), " after the closing quote");
    } else {
      append(&c, 1);
      state = State::bare;
    }
  }
  if (state == State::quoted) fail(ends_.size(), "the quote that opens here is not closed");
  if (state == State::carriage_return) fail(ends_.size(), "a carriage return without a line feed");
  return (state != State::begin || !ends_.empty()) && end_record();
}

// Whether a decimal that float64 does not hold is too close to 0, not too large: by the power of ten of its first digit
// that counts.
bool underflows(std::string_view text) {
  const size_t mark = std::min(text.find_first_of("eE"), text.size());
  const std::string_view digits = text.substr(0, mark);
  const size_t first = digits.find_first_of("123456789"), point = std::min(digits.find('.'), digits.size());
  if (first == digits.npos) return true;
  int exponent = 0;
  if (mark < text.size()) {
    std::string_view power = text.substr(mark + 1);
    if (power.starts_with('+')) power.remove_prefix(1);
    const auto error = std::from_chars(power.data(), power.data() + power.size(), exponent).ec;
    if (error == std::errc::result_out_of_range) return power.starts_with('-');
  }
  return static_cast<int64_t>(point) - static_cast<int64_t>(first) + exponent < 0;
}

// The number that a field holds, or NaN.
double parse_number(std::string_view text) {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == text.npos) return kNone;
  text = text.substr(begin, text.find_last_not_of(" \t") + 1 - begin);
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (end != text.data() + text.size()) return kNone;
  if (error == std::errc::result_out_of_range && underflows(text)) return text.starts_with('-') ? -0.0 : 0.0;
  return error == std::errc() && std::isfinite(value) ? value : kNone;
}

// What is known of a column once the file has been read through.
struct Kind {
  bool number = true;
  bool certain = false;  // as the caller said
  size_t bytes = 0;      // of its texts
};

class Loader {
 public:
  Loader(const io::InputFile& file, const CSVOptions& options) : file_(file), options_(options) {}

  Table load() {
    if (file_.size() == 0) file_.fail("the file is empty");
    survey();
    return fill();
  }

 private:
  bool missing(std::string_view field) const {
    return field.empty() ||
           std::find(options_.missing.begin(), options_.missing.end(), field) != options_.missing.end();
  }

  void read_names(Scanner& scanner) {
    names_ = options_.names;
    if (names_.empty()) {
      if (!scanner.next()) file_.fail("the file is empty");
      for (size_t i = 0; i < scanner.size(); ++i) names_.emplace_back(scanner.field(i));
      std::map<std::string_view, size_t> places;
      for (size_t i = 0; i < names_.size(); ++i) {
        if (names_[i].empty()) scanner.fail(i, "the column has no name");
        const auto [first, fresh] = places.emplace(names_[i], i);
        if (!fresh)
          scanner.fail(i, "the name ", io::quoted(names_[i]), " is that of column ", uint64_t{first->second + 1},
                       " too");
      }
    }
    scanner.set_names(&names_);
  }

  void set_kinds() {
    kinds_.resize(names_.size());
    std::map<std::string_view, Kind*> places;
    for (size_t i = 0; i < names_.size(); ++i) places.emplace(names_[i], &kinds_[i]);
    const auto say = [&](const std::vector<std::string>& names, bool number) {
      for (const std::string& name : names) {
        const auto found = places.find(name);
        if (found == places.end()) file_.fail("there is no column ", io::quoted(name));
        *found->second = {.number = number, .certain = true};
      }
    };
    say(options_.texts, false);
    say(options_.numbers, true);
  }

  // Reads all of the file: what is wrong with it is found, and how much it holds.
  void survey() {
    Scanner scanner(file_, options_.separator);
    read_names(scanner);
    set_kinds();
    size_t bytes = 0;  // of the table
    for (; scanner.next(); ++rows_) {
      bytes += kinds_.size() * sizeof(double);
      for (size_t i = 0; i < kinds_.size(); ++i) {
        const std::string_view field = scanner.field(i);
        if (missing(field)) continue;
        Kind& kind = kinds_[i];
        kind.bytes += field.size();
        if (!kind.number) bytes += field.size();
        if (!kind.number || !std::isnan(parse_number(field))) continue;
        if (kind.certain) scanner.fail(i, io::quoted(field), " is not a number");
        kind.number = false;
        bytes += kind.bytes;
      }
      if (bytes > static_cast<size_t>(options_.max_bytes))
        scanner.fail_line(": the table takes more than max_bytes (", options_.max_bytes, ")");
    }
  }

  Table fill() {
    std::vector<std::vector<double>> numbers(kinds_.size());
    std::vector<Texts> texts(kinds_.size());
    for (size_t i = 0; i < kinds_.size(); ++i)
      if (kinds_[i].number)
        numbers[i].reserve(rows_);
      else
        texts[i].reserve(rows_, kinds_[i].bytes);
    Scanner scanner(file_, options_.separator);
    if (options_.names.empty()) scanner.next();
    scanner.set_names(&names_);
    for (size_t row = 0; row < rows_ && scanner.next(); ++row)
      for (size_t i = 0; i < kinds_.size(); ++i) {
        const std::string_view field = missing(scanner.field(i)) ? std::string_view() : scanner.field(i);
        if (kinds_[i].number)
          numbers[i].push_back(parse_number(field));
        else
          texts[i].push_back(field);
      }
    Table table;
    for (size_t i = 0; i < kinds_.size(); ++i)
      if (kinds_[i].number)
        table.add(names_[i], std::move(numbers[i]));
      else
        table.add(names_[i], std::move(texts[i]));
    return table;
  }

  const io::InputFile& file_;
  const CSVOptions& options_;
  std::vector<std::string> names_;
  std::vector<Kind> kinds_;
  size_t rows_ = 0;
};

void check_options(const CSVOptions& options) {
  const auto c = static_cast<unsigned char>(options.separator);
  check(c == '\t' || (c >= 0x20 && c < 0x7f && c != '"'), kOp,
        "the separator must be a tab or a printable ASCII character other than a quote, got byte ", int{c});
  std::vector<std::string> names = options.names;
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  check(twice == names.end(), kOp, "the names of the columns must differ: ", twice == names.end() ? "" : *twice);
  check(names.empty() || !names[0].empty(), kOp, "the names of the columns must not be empty");
  for (const std::string& name : options.numbers)
    check(std::find(options.texts.begin(), options.texts.end(), name) == options.texts.end(), kOp, "column ",
          io::quoted(name), " cannot hold both texts and numbers");
  check(options.max_bytes > 0, kOp, "max_bytes must be above 0, got ", options.max_bytes);
}

}  // namespace

Table load_csv(const std::string& path, const CSVOptions& options) {
  check_options(options);
  const io::InputFile file(kOp, path);
  return Loader(file, options).load();
}

}  // namespace data
}  // namespace mica
