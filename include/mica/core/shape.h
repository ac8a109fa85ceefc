// Shape: the sizes of a tensor, inline, up to rank 8.
#pragma once

#include "mica/core/macros.h"

#include <cstdint>
#include <initializer_list>
#include <iosfwd>
#include <span>
#include <string>

namespace MICA_EXPORT mica {

/// The sizes of a tensor's axes, outermost first. A scalar has rank 0. Negative axes count from the end.
class Shape {
 public:
  static constexpr int kMaxRank = 8;

  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes) : Shape(std::span(sizes.begin(), sizes.size())) {}
  /// Throws Error when there are more than 8 sizes. Sizes may be -1 only where a function documents it.
  explicit Shape(std::span<const int64_t> sizes);

  int rank() const { return rank_; }
  /// The size of `axis`, which may be negative; throws Error when it is out of range.
  int64_t operator[](int axis) const { return sizes_[index(axis)]; }
  int64_t& operator[](int axis) { return sizes_[index(axis)]; }
  /// The number of elements: the product of the sizes, 1 for a scalar.
  int64_t elements() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= sizes_[i];
    return n;
  }
  const int64_t* begin() const { return sizes_; }
  const int64_t* end() const { return sizes_ + rank_; }

  /// `axis` counted from the front; throws Error when it is out of range.
  int index(int axis) const {
    const int i = axis < 0 ? axis + rank_ : axis;
    if (i < 0 || i >= rank_) [[unlikely]]
      axis_out_of_range(axis);
    return i;
  }

  /// This shape without its first axis / with `size` put before it.
  Shape tail() const;
  Shape with_first(int64_t size) const;

  friend bool operator==(const Shape& a, const Shape& b) {
    if (a.rank_ != b.rank_) return false;
    for (int i = 0; i < a.rank_; ++i)
      if (a.sizes_[i] != b.sizes_[i]) return false;
    return true;
  }

 private:
  [[noreturn]] void axis_out_of_range(int axis) const;

  int64_t sizes_[kMaxRank] = {};
  int rank_ = 0;
};

/// NumPy's broadcasting of two shapes; throws Error("[op] ...") where they do not fit.
Shape broadcast(const char* op, const Shape& a, const Shape& b);

/// "[128,28,28,1]"
std::string to_string(const Shape& shape);
std::ostream& operator<<(std::ostream& out, const Shape& shape);

void append_text(std::string& text, const Shape& shape);

}  // namespace mica
