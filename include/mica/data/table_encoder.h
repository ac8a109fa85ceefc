// TableEncoder: from raw named fields to the tensor that a model takes, and back from its columns to the fields.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "mica/core/tensor.h"
#include "mica/data/table.h"

namespace MICA_EXPORT mica {
namespace data {

/// What a field of one example holds: a number, a text, or nothing (nullptr), as a value of a JSON object does.
class Value {
 public:
  Value(std::nullptr_t) {}
  template <class T>
    requires(std::integral<T> || std::floating_point<T>)
  &&(!std::same_as<T, bool>)Value(T number) : value_(static_cast<double>(number)) {}
  Value(std::string text) : value_(std::move(text)) {}
  Value(std::string_view text) : value_(std::string(text)) {}
  Value(const char* text) : value_(std::string(text)) {}

  bool missing() const { return value_.index() == 0; }
  const double* number() const { return std::get_if<double>(&value_); }          ///< null: it is none
  const std::string* text() const { return std::get_if<std::string>(&value_); }  ///< likewise

 private:
  std::variant<std::monostate, double, std::string> value_;
};

/// The named fields of one example, in any order: {{"age", 35}, {"housing", "own"}, {"income", nullptr}}.
using Row = std::vector<std::pair<std::string, Value>>;

/// A text field whose categories have an order, from the least to the greatest.
struct Ordinal {
  std::string field;
  std::vector<std::string> categories;
};

struct TableEncoderOptions {
  /// The column that is to be predicted; it is no input. Empty: there is none.
  std::string target = {};
  /// The classes of a target of texts, from label 0 on; empty: those of the training table in alphabetical order.
  std::vector<std::string> classes = {};
  /// Number fields that become log(1 + x) first, which suits amounts and durations.
  std::vector<std::string> log1p = {};
  /// Text fields that become one number, their place in the order, as if it had been in the table.
  std::vector<Ordinal> ordinal = {};
  /// A text field with more different texts in training is refused: most likely it is no category.
  int64_t max_categories = 1000;
};

/// Learns from the training rows of a table how each field becomes features, and does the same to rows to come:
///
/// - A number is standardised: (x - mean) / standard deviation of the training rows (of the population, as
///   scikit-learn's StandardScaler), 0 where it is missing. Where training has missing ones, a second feature is 1 for
///   those.
/// - A text is one-hot over the texts of the training rows in alphabetical order, a missing one among them where
///   training has such. A text that training does not have is all zeros: a slot of its own would have weights that
///   nothing trained.
/// - An ordinal text is a number; one that is not in the order is as a missing one.
///
/// It does not change, and copies share what was learned. A model remembers it (Model::set_preprocess).
class TableEncoder {
 public:
  /// Learns nothing: what is asked of it throws Error.
  TableEncoder() = default;
  /// Throws Error for a table without rows or inputs, options that do not fit it, a target that misses values, numbers
  /// that are infinite or not above -1 where they go through log1p, and more than 50,000 categories in all.
  explicit TableEncoder(const Table& training, const TableEncoderOptions& options = {});

  bool defined() const { return state_ != nullptr; }
  /// How many features there are.
  int64_t features() const;
  /// Their names: "age", "age (missing)", "housing=own", "housing (missing)".
  std::vector<std::string> feature_names() const;
  /// For each feature the place of its field in field_names(): the explanation of a field is the sum of its features'.
  std::vector<int64_t> feature_fields() const;
  /// The fields that an example needs, in the order of the training table.
  std::vector<std::string> field_names() const;

  /// float32 [rows, features]. Columns that are no fields do not matter. Throws Error where a field has no column or
  /// one of the other type (a file may hold nothing but numbers where training had texts: load_csv's option .texts
  /// keeps them so), and, naming field and row, for a number that is infinite, not above -1 where it goes through
  /// log1p, or too far from those of training to be standardised in float32.
  Tensor encode(const Table& table) const;
  /// float32 [1, features] of one example; the same bits as in a table. Throws Error, naming the field, unless each
  /// field is there once, with a value of its type or nullptr, and nothing else; for numbers as in a table, and NaN.
  Tensor encode(const Row& row) const;

  /// The target's column: int64 [rows] labels where it holds texts, float32 [rows] where numbers. Throws Error for a
  /// column of the other type, and, naming the row, for a text that is none of the classes, and for what is missing or
  /// infinite.
  Tensor targets(const Table& table) const;
  /// Its name; empty: there is none.
  const std::string& target() const&;
  std::string target() const&& { return target(); }
  /// By label; empty for numbers.
  const std::vector<std::string>& classes() const&;
  std::vector<std::string> classes() const&& { return classes(); }

  /// As text, and back: what is encoded afterwards is the same to the bit. from_json throws Error, naming the field,
  /// for what to_json does not write.
  std::string to_json() const;
  static TableEncoder from_json(std::string_view json);

  struct State;

 private:
  friend TableEncoder read_encoder(std::string_view json, const std::string& path);
  const State& state(const char* op) const;

  std::shared_ptr<const State> state_;
};

}  // namespace data
}  // namespace mica
