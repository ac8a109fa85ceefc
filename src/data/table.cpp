// Tables.
#include "mica/data/table.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "data/table_errors.h"
#include "io/utf8.h"
#include "mica/core/error.h"

namespace MICA_EXPORT mica {
namespace data {

const char* to_string(ColumnType type) { return type == ColumnType::number ? "number" : "text"; }

const Table::Column& Table::column(const char* op, std::string_view name) const {
  const auto found = places_.find(name);
  check(found != places_.end(), op, "there is no column ", Quoted{name});
  return columns_[found->second];
}

std::vector<std::string> Table::names() const {
  std::vector<std::string> names;
  for (const Column& column : columns_) names.push_back(column.name);
  return names;
}

bool Table::contains(std::string_view name) const { return places_.contains(name); }

ColumnType Table::type(std::string_view name) const {
  return column("type", name).numbers ? ColumnType::number : ColumnType::text;
}

std::span<const double> Table::numbers(std::string_view name) const& {
  const Column& found = column("numbers", name);
  check(found.numbers != nullptr, "numbers", "column ", Quoted{name}, " holds texts");
  return *found.numbers;
}

const Texts& Table::texts(std::string_view name) const& {
  const Column& found = column("texts", name);
  check(found.texts != nullptr, "texts", "column ", Quoted{name}, " holds numbers");
  return *found.texts;
}

void Table::add(Column column, int64_t size) {
  places_.emplace(column.name, columns_.size());
  columns_.push_back(std::move(column));
  rows_ = size;
}

namespace {
void check_new(const Table& table, const std::string& name, int64_t size) {
  check(!name.empty(), "add", "a column must have a name");
  check(!table.contains(name), "add", "there is a column ", Quoted{name}, " already");
  check(table.columns() == 0 || size == table.rows(), "add", "column ", Quoted{name}, " has ", size,
        " rows, the table ", table.rows());
}
}  // namespace

void Table::add(std::string name, std::vector<double> numbers) {
  const auto size = static_cast<int64_t>(numbers.size());
  check_new(*this, name, size);
  add({std::move(name), std::make_shared<const std::vector<double>>(std::move(numbers)), nullptr}, size);
}

void Table::add(std::string name, Texts texts) {
  const int64_t size = texts.size();
  check_new(*this, name, size);
  add({std::move(name), nullptr, std::make_shared<const Texts>(std::move(texts))}, size);
}

void Table::add(std::string name, const std::vector<std::string>& texts) {
  Texts packed;
  for (const std::string& text : texts) packed.push_back(text);
  add(std::move(name), std::move(packed));
}

Table Table::select(const std::vector<std::string>& names) const {
  Table table;
  for (const std::string& name : names) {
    check(!table.contains(name), "select", "column ", Quoted{name}, " is named twice");
    table.add(column("select", name), rows_);
  }
  return table;
}

Table Table::drop(const std::vector<std::string>& names) const {
  const std::set<std::string_view> dropped(names.begin(), names.end());
  for (const std::string& name : names) column("drop", name);
  Table table;
  for (const Column& column : columns_)
    if (!dropped.contains(column.name)) table.add(column, rows_);
  return table;
}

Table Table::slice(int64_t begin, int64_t end) const {
  const int64_t from = begin < 0 ? begin + rows_ : begin, to = end < 0 ? end + rows_ : end;
  check(from >= 0 && from <= to && to <= rows_, "slice", "rows ", begin, " to ", end, " are not within 0 to ", rows_);
  std::vector<int64_t> indices(static_cast<size_t>(to - from));
  std::iota(indices.begin(), indices.end(), from);
  return take(indices);
}

Table Table::take(std::span<const int64_t> indices) const {
  for (const int64_t i : indices) check(i >= 0 && i < rows_, "take", "row ", i, " is not within 0 to ", rows_ - 1);
  Table table;
  for (const Column& column : columns_) {
    Column taken{column.name, nullptr, nullptr};
    if (column.numbers) {
      std::vector<double> numbers;
      numbers.reserve(indices.size());
      for (const int64_t i : indices) numbers.push_back((*column.numbers)[static_cast<size_t>(i)]);
      taken.numbers = std::make_shared<const std::vector<double>>(std::move(numbers));
    } else {
      Texts texts;
      for (const int64_t i : indices) texts.push_back((*column.texts)[i]);
      taken.texts = std::make_shared<const Texts>(std::move(texts));
    }
    table.add(std::move(taken), static_cast<int64_t>(indices.size()));
  }
  return table;
}

namespace {

// `text` in `width` characters, cut or filled up.
std::string cell(std::string_view text, size_t width, bool right) {
  std::string shown;
  size_t characters = 0;
  for (size_t at = 0; at < text.size() && characters < width; ++characters) {
    const size_t length = std::max(io::utf8_length(text, at), size_t{1});
    const bool control = static_cast<unsigned char>(text[at]) < 0x20;
    shown += control ? std::string_view("?") : text.substr(at, length);
    at += length;
  }
  const std::string fill(width - characters, ' ');
  return right ? fill + shown : shown + fill;
}

size_t characters(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

}  // namespace

std::string to_string(const Table& table, int64_t rows) {
  constexpr size_t kWidest = 24;
  const auto shown = static_cast<size_t>(std::clamp<int64_t>(rows, 0, table.rows()));
  std::vector<std::string> lines(shown + 1);
  for (const std::string& name : table.names()) {
    const bool number = table.type(name) == ColumnType::number;
    std::vector<std::string> cells{name};
    for (size_t i = 0; i < shown; ++i) {
      const double value = number ? table.numbers(name)[i] : 0;
      cells.push_back(!number          ? std::string(table.texts(name)[static_cast<int64_t>(i)])
                      : value != value ? ""
                                       : mica::detail::concat(value));
    }
    size_t width = 0;
    for (const std::string& text : cells) width = std::max(width, std::min(characters(text), kWidest));
    for (size_t i = 0; i < lines.size(); ++i)
      lines[i] += (lines[i].empty() ? "" : "  ") + cell(cells[i], width, number);
  }
  std::string text;
  for (const std::string& line : lines) text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  return text + mica::detail::concat(table.rows(), " rows, ", table.columns(), " columns");
}

}  // namespace data
}  // namespace mica
