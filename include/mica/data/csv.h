// CSV files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mica/core/macros.h"
#include "mica/data/table.h"

namespace MICA_EXPORT mica {
namespace data {

struct CSVOptions {
  char separator = ',';
  /// What stands for a value that is missing, beside an empty field: {"NA", "?"}.
  std::vector<std::string> missing = {};
  /// Columns that hold texts whatever they look like (telephone numbers, postal codes, and what held texts in training:
  /// a file to be scored may have nothing but numbers there), and such as must hold numbers. Of the others those hold
  /// numbers in which every field that is not missing is one.
  std::vector<std::string> texts = {};
  std::vector<std::string> numbers = {};
  /// The names of the columns, where the file has no line of them.
  std::vector<std::string> names = {};
  /// The most that the table may take, so that a small file which unpacks to a huge one does not: 8 bytes a value, and
  /// the texts.
  int64_t max_bytes = int64_t{16} << 30;
};

/// Reads a CSV file, raw or gzipped (told by its content, not its name), in UTF-8 with or without a byte order mark.
/// Quoted fields may hold separators, line breaks and, doubled, quotes; lines end in LF or CRLF; blank ones are
/// skipped. A number is a decimal ("-1.5e3", "+1", with spaces around it or not); one too close to 0 for float64 is 0,
/// one too large ("1e999") is a text, as are "nan" and "inf". Throws FileError, naming line and column, for what RFC
/// 4180 does not allow (lines of different lengths, stray quotes), what is no UTF-8, NUL bytes, names of columns that
/// are empty or come twice, more than 100,000 columns, records of more than 16 MiB, and more than max_bytes. The
/// file is read twice, first to check it, so that nothing is allocated for one that is refused; a table takes 8 bytes a
/// value and the texts. RFC 4180, "Common Format and MIME Type for Comma-Separated Values (CSV) Files", 2005.
Table load_csv(const std::string& path, const CSVOptions& options = {});

}  // namespace data
}  // namespace mica
