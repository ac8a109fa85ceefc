// What a TableEncoder has learned.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "mica/data/table_encoder.h"

namespace mica::data {

enum class Encoding : unsigned char { number, one_hot, ordinal };

struct EncodedField {
  std::string name;
  Encoding encoding = Encoding::number;
  bool log1p = false;
  bool missing = false;  // whether a feature tells that the value is missing
  double mean = 0, deviation = 1;
  std::vector<std::string> categories = {};
  std::vector<size_t> sorted = {};  // the places of the categories in alphabetical order
  int64_t first = 0;                // feature

  ColumnType type() const { return encoding == Encoding::number ? ColumnType::number : ColumnType::text; }
  int64_t features() const {
    return (encoding == Encoding::one_hot ? static_cast<int64_t>(categories.size()) : 1) + missing;
  }
};

struct TableEncoder::State {
  std::vector<EncodedField> fields;
  std::vector<std::string> names = {};  // of the fields
  std::vector<size_t> sorted = {};      // the places of the fields in alphabetical order
  int64_t features = 0;
  std::string target = {};
  std::vector<std::string> classes = {};

  /// Works out what follows from the fields: their names and places, and how many features there are.
  void finish();
};

constexpr size_t kMaxEncoderFields = 10'000;
constexpr size_t kMaxEncoderCategories = 50'000;
constexpr size_t kMaxEncoderText = size_t{2} << 20;  // bytes of all names together

/// The place of `text` in `texts`, whose alphabetical order `sorted` is, or texts.size().
size_t place_of(std::string_view text, const std::vector<std::string>& texts, const std::vector<size_t>& sorted);
/// The places of `texts` in alphabetical order.
std::vector<size_t> sorted_places(const std::vector<std::string>& texts);

/// The encoder that to_json wrote into the file at `path` (for the FileErrors); empty: into no file.
TableEncoder read_encoder(std::string_view json, const std::string& path);

}  // namespace mica::data
