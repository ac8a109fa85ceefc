// Tables: named columns of numbers and texts, as CSV files hold them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mica/core/error.h"
#include "mica/core/macros.h"

namespace MICA_EXPORT mica {
namespace data {

enum class ColumnType : unsigned char { number, text };
const char* to_string(ColumnType type);

/// Texts in one block of memory: 8 bytes each beside their own.
class Texts {
 public:
  int64_t size() const { return static_cast<int64_t>(ends_.size()); }
  /// Throws Error where there is none at i.
  std::string_view operator[](int64_t i) const {
    check(i >= 0 && i < size(), "texts", "row ", i, " is not within 0 to ", size() - 1);
    const size_t begin = i == 0 ? 0 : ends_[static_cast<size_t>(i) - 1];
    return std::string_view(bytes_).substr(begin, ends_[static_cast<size_t>(i)] - begin);
  }
  void push_back(std::string_view text) {
    bytes_.append(text);
    ends_.push_back(bytes_.size());
  }
  void reserve(size_t count, size_t bytes) {
    ends_.reserve(count);
    bytes_.reserve(bytes);
  }

 private:
  std::string bytes_;
  std::vector<size_t> ends_;
};

/// Columns of one length with names, each of numbers (float64, NaN where one is missing) or of texts (UTF-8, empty
/// where one is missing). Columns do not change, and copies of a table share them. What takes the name of a column
/// throws Error when there is none of that name.
class Table {
 public:
  int64_t rows() const { return rows_; }
  int64_t columns() const { return static_cast<int64_t>(columns_.size()); }
  /// In order.
  std::vector<std::string> names() const;
  bool contains(std::string_view name) const;
  ColumnType type(std::string_view name) const;
  /// The column's values, which are there as long as the table or a copy of it: a temporary one does not give them.
  /// Throws Error when the column is of the other type.
  std::span<const double> numbers(std::string_view name) const&;
  std::span<const double> numbers(std::string_view name) const&& = delete;
  const Texts& texts(std::string_view name) const&;
  const Texts& texts(std::string_view name) const&& = delete;

  /// Puts a column at the end. Throws Error for a name that is empty or taken, and for another length than the others'.
  void add(std::string name, std::vector<double> numbers);
  void add(std::string name, Texts texts);
  void add(std::string name, const std::vector<std::string>& texts);

  /// The columns of these names, in this order, or all but those.
  Table select(const std::vector<std::string>& names) const;
  Table drop(const std::vector<std::string>& names) const;
  /// Rows [begin, end); negative bounds count from the end. Throws Error when they are outside.
  Table slice(int64_t begin, int64_t end) const;
  /// The rows at `indices`, in that order. Throws Error for one outside.
  Table take(std::span<const int64_t> indices) const;

 private:
  struct Column {
    std::string name;
    std::shared_ptr<const std::vector<double>> numbers;  // or
    std::shared_ptr<const Texts> texts;
  };
  const Column& column(const char* op, std::string_view name) const;
  void add(Column column, int64_t size);

  std::vector<Column> columns_;
  std::map<std::string, size_t, std::less<>> places_;  // of the columns
  int64_t rows_ = 0;
};

/// The first rows in columns, then how many there are in all.
std::string to_string(const Table& table, int64_t rows = 10);

}  // namespace data
}  // namespace mica
