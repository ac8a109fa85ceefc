// Printing tensors as NumPy does.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ostream>

#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {

namespace {

constexpr int64_t kSummarise = 1000;  // more elements than this are summarised
constexpr int64_t kEdge = 3;          // to so many at each end of an axis

class Printer {
 public:
  explicit Printer(const Tensor& x) : x_(x), summarise_(x.elements() > kSummarise) {
    if (!is_floating(x.dtype())) return;
    // As NumPy: exponents where magnitudes are far apart, else as few decimals (up to 8) as show each value.
    double largest = 0, smallest = INFINITY;
    visit(0, 0, [&](double v) {
      if (!std::isfinite(v) || v == 0) return;
      largest = std::max(largest, std::fabs(v));
      smallest = std::min(smallest, std::fabs(v));
    });
    exponent_ = largest >= 1e8 || (largest > 0 && (smallest < 1e-4 || largest / smallest > 1000));
    visit(0, 0, [&](double v) { decimals_ = std::max(decimals_, decimals_of(v)); });
  }

  std::string print() {
    visit(0, 0, [&](double v) { width_ = std::max(width_, format(v).size()); });
    std::string text;
    axis(text, 0, 0, 1);
    return text;
  }

 private:
  // The fewest decimals with which `v` reads back as the same float32 (or 8 significant ones).
  int decimals_of(double v) const {
    if (!std::isfinite(v)) return 0;
    char buffer[64];
    for (int d = 0; d < 8; ++d) {
      std::snprintf(buffer, sizeof buffer, exponent_ ? "%.*e" : "%.*f", d, v);
      const double back = std::strtod(buffer, nullptr);
      if (x_.dtype() == float64 ? back == v : static_cast<float>(back) == static_cast<float>(v)) return d;
    }
    return 8;
  }

  std::string format(double v) const {
    char buffer[64];
    if (!is_floating(x_.dtype())) {
      std::snprintf(buffer, sizeof buffer, "%.0f", v);
    } else if (std::isnan(v)) {
      return "nan";
    } else if (std::isinf(v)) {
      return v > 0 ? "inf" : "-inf";
    } else {
      std::snprintf(buffer, sizeof buffer, exponent_ ? "%.*e" : "%.*f", decimals_, v);
      if (decimals_ == 0 && !exponent_) return std::string(buffer) + ".";
    }
    return buffer;
  }

  double value(int64_t i) const { return x_.reshape({-1})[i].item(); }

  template <class F>
  void visit(int axis, int64_t offset, F f) const {
    if (axis == x_.rank()) return f(value(offset));
    const int64_t n = x_.dim(axis);
    for (int64_t i = 0; i < n; ++i) {
      if (summarise_ && n > 2 * kEdge && i == kEdge) i = n - kEdge;
      visit(axis + 1, offset * n + i, f);
    }
  }

  void axis(std::string& text, int axis_index, int64_t offset, size_t indent) {
    if (axis_index == x_.rank()) {
      const std::string v = format(value(offset));
      text.append(width_ - v.size(), ' ');
      text += v;
      return;
    }
    const int64_t n = x_.dim(axis_index);
    const bool innermost = axis_index + 1 == x_.rank();
    const std::string separator =
        innermost ? " " : std::string(static_cast<size_t>(x_.rank() - axis_index - 1), '\n') + std::string(indent, ' ');
    text += '[';
    for (int64_t i = 0; i < n; ++i) {
      if (i > 0) text += separator;
      if (summarise_ && n > 2 * kEdge && i == kEdge) {
        text += "..." + separator;
        i = n - kEdge;
      }
      axis(text, axis_index + 1, offset * n + i, indent + 1);
    }
    text += ']';
  }

  const Tensor& x_;
  bool summarise_;
  bool exponent_ = false;
  int decimals_ = 0;
  size_t width_ = 0;
};

}  // namespace

std::string to_string(const Tensor& x) {
  if (!x.defined()) return "undefined";
  const Tensor host = x.detach().to(Device::cpu());
  return Printer(host).print();
}

std::ostream& operator<<(std::ostream& out, const Tensor& x) { return out << to_string(x); }

}  // namespace mica
