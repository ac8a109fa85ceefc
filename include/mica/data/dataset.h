// Data sets: columns that stay as they are stored until a batch is made.
#pragma once

#include <concepts>
#include <initializer_list>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {
namespace data {

/// Examples along the first axis. A batch of them is `values * scale + offset` as float32 where a scale or offset is
/// given, and the values as they are otherwise: images stay uint8 in memory.
class Column {
 public:
  Column() = default;
  Column(Tensor values) : values_(std::move(values)) {}
  Column(Tensor values, double scale, double offset = 0) : values_(std::move(values)), scale_(scale), offset_(offset) {}

  bool defined() const { return values_.defined(); }
  /// The number of examples.
  int64_t size() const { return values_.defined() && values_.rank() > 0 ? values_.dim(0) : 0; }
  /// The shape of one example.
  Shape example() const { return values_.shape().tail(); }
  /// The dtype of a batch.
  DType dtype() const { return scaled() ? float32 : values_.dtype(); }
  /// As stored.
  const Tensor& values() const { return values_; }

  /// Examples [begin, end): a view where nothing has to be converted.
  Tensor rows(int64_t begin, int64_t end) const;
  /// The examples at `indices`, in that order.
  Tensor gather(std::span<const int64_t> indices) const;
  /// A column of examples [begin, end), sharing the storage.
  Column slice(int64_t begin, int64_t end) const;
  /// All examples, converted.
  operator Tensor() const { return rows(0, size()); }

 private:
  bool scaled() const { return scale_ != 1 || offset_ != 0; }
  // Stored values as a batch has them.
  Tensor batch(const Tensor& part) const;

  Tensor values_;
  double scale_ = 1, offset_ = 0;
};

/// What a model takes: one column, or several of equal length, `{amounts, categories}`, one for each of its inputs.
class Columns {
 public:
  Columns() = default;
  template <class T>
    requires(!std::same_as<std::remove_cvref_t<T>, Columns> && std::convertible_to<T, Column>)
  Columns(T&& column) : count_(1), one_(std::forward<T>(column)) {}
  Columns(std::initializer_list<Column> columns) : Columns(std::vector<Column>(columns)) {}
  explicit Columns(std::vector<Column> columns) : count_(columns.size()), many_(std::move(columns)) {}

  /// Whether there are some, all of them defined.
  bool defined() const;
  /// The number of examples, of the first column.
  int64_t size() const { return count_ == 0 ? 0 : begin()->size(); }
  /// Of columns.
  size_t count() const { return count_; }
  const Column& operator[](size_t i) const { return begin()[i]; }
  const Column* begin() const { return many_.empty() ? &one_ : many_.data(); }
  const Column* end() const { return begin() + count_; }
  /// Examples [begin, end), sharing the storage.
  Columns slice(int64_t begin, int64_t end) const;

 private:
  size_t count_ = 0;
  Column one_;  // where there is one: predictions need no vector
  std::vector<Column> many_;
};

/// Inputs and what is to be predicted of them.
struct Dataset {
  Column images;
  Column labels;

  int64_t size() const { return images.size(); }
};

/// The same of a model with any number of inputs.
struct Examples {
  Columns x;
  Column y;

  Examples() = default;
  Examples(Columns inputs, Column targets) : x(std::move(inputs)), y(std::move(targets)) {}
  Examples(const Dataset& data) : x(data.images), y(data.labels) {}
};

struct Split {
  Dataset train, test;
};

/// MNIST, or any data set in its four files (train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-..., raw or .gz) in
/// `folder`: images [n,28,28,1] in [0,1], labels [n] uint8. Throws FileError for missing or malformed files, and where
/// images and labels differ in number.
Split mnist(const std::string& folder);

}  // namespace data
}  // namespace mica
