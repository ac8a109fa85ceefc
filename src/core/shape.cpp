// Shapes: checks, broadcasting and text.
#include "mica/core/shape.h"

#include <algorithm>
#include <ostream>

#include "mica/core/error.h"

namespace MICA_EXPORT mica {

Shape::Shape(std::span<const int64_t> sizes) {
  check(sizes.size() <= kMaxRank, "shape", "a tensor has at most 8 axes, got ", static_cast<uint64_t>(sizes.size()));
  std::copy(sizes.begin(), sizes.end(), sizes_);
  rank_ = static_cast<int>(sizes.size());
}

Shape Shape::tail() const {
  check(rank_ > 0, "shape", "a scalar has no first axis");
  return Shape(std::span(sizes_ + 1, static_cast<size_t>(rank_ - 1)));
}

Shape Shape::with_first(int64_t size) const {
  check(rank_ < kMaxRank, "shape", "a tensor has at most 8 axes: ", *this, " has no room for another");
  Shape result;
  result.rank_ = rank_ + 1;
  result.sizes_[0] = size;
  std::copy(begin(), end(), result.sizes_ + 1);
  return result;
}

void Shape::axis_out_of_range(int axis) const { fail("shape", "axis ", axis, " is out of range for shape ", *this); }

Shape broadcast(const char* op, const Shape& a, const Shape& b) {
  if (a == b) return a;
  Shape result = a.rank() >= b.rank() ? a : b;
  for (int i = 1; i <= std::min(a.rank(), b.rank()); ++i) {
    check(a[-i] == b[-i] || a[-i] == 1 || b[-i] == 1, op, "shapes do not broadcast: ", a, " and ", b);
    result[-i] = a[-i] == 1 ? b[-i] : a[-i];
  }
  return result;
}

std::string to_string(const Shape& shape) {
  std::string text;
  append_text(text, shape);
  return text;
}

std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << to_string(shape); }

void append_text(std::string& text, const Shape& shape) {
  text += '[';
  for (const int64_t size : shape) {
    if (text.back() != '[') text += ',';
    append_text(text, size);
  }
  text += ']';
}

}  // namespace mica
