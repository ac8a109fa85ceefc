// Printing tensors as NumPy does (numpy/_core/arrayprint.py, with its default options).
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <ostream>

#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {

namespace {

constexpr int64_t kSummarise = 1000;  // more elements than this are summarised
constexpr int64_t kEdge = 3;          // to so many at each end of an axis
constexpr size_t kLine = 75;          // rows are wrapped before this column
constexpr int kPrecision = 8;         // the most decimals of an element

std::string printed(const char* format, int decimals, double v) {
  char buffer[400];
  const int length = std::snprintf(buffer, sizeof buffer, format, decimals, v);
  return {buffer, static_cast<size_t>(length)};
}

// The fewest digits that read back as the same number of its type.
std::string shortest(double v, bool single) {
  char buffer[64];
  const auto end =
      single ? std::to_chars(buffer, buffer + sizeof buffer, static_cast<float>(v), std::chars_format::scientific)
             : std::to_chars(buffer, buffer + sizeof buffer, v, std::chars_format::scientific);
  return {buffer, end.ptr};
}

// How many digits stand behind the point of "d.ddde+xx", and behind that of the same number without an exponent.
int decimals_of(const std::string& text) {
  const size_t point = text.find('.');
  return point == text.npos ? 0 : static_cast<int>(text.find('e') - point) - 1;
}
int positional_decimals_of(const std::string& text) {
  return std::max(0, decimals_of(text) - std::stoi(text.substr(text.find('e') + 1)));
}

class Printer {
 public:
  explicit Printer(const Tensor& x)
      : x_(x), floating_(is_floating(x.dtype())), single_(x.dtype() != float64), summarise_(x.elements() > kSummarise) {
    if (floating_) choose_format();
    // Points stand below each other; nan and inf go as far to the right as numbers do.
    size_t left = 0;
    visit(0, 0, [&](int64_t i) {
      const std::string text = format(i);
      width_ = std::max(width_, text.size());
      if (const size_t point = point_of(i, text); point != text.npos) {
        left = std::max(left, point);
        right_ = std::max(right_, text.size() - point);
      }
    });
    width_ = std::max(width_, left + right_);
  }

  std::string print() const {
    if (x_.rank() == 0) return floating_ ? scalar(number(0)) : format(0);
    if (x_.elements() == 0) return "[]";
    return axis(0, 0, " ", kLine);
  }

 private:
  // Exponents where magnitudes are large or far apart, compared in the elements' own type.
  void choose_format() {
    double largest = 0, smallest = INFINITY;
    visit(0, 0, [&](int64_t i) {
      const double v = std::fabs(number(i));
      if (!std::isfinite(v) || v == 0) return;
      largest = std::max(largest, v);
      smallest = std::min(smallest, v);
    });
    const double ratio =
        single_ ? static_cast<double>(static_cast<float>(largest) / static_cast<float>(smallest)) : largest / smallest;
    exponent_ = largest > 0 &&
                (largest >= (single_ ? 1e6 : 1e8) || smallest < (single_ ? double{1e-4f} : 1e-4) || ratio > 1000);
    if (!exponent_) return;
    visit(0, 0, [&](int64_t i) {
      if (!std::isfinite(number(i))) return;
      const int all = decimals_of(shortest(number(i), single_));
      const std::string text = trimmed(printed("%.*e", std::min(all, kPrecision), number(i)));
      decimals_ = std::max(decimals_, decimals_of(text));
      exponent_digits_ = std::max(exponent_digits_, text.size() - text.find('e') - 2);
    });
  }

  // Without zeros at the end of its decimals.
  static std::string trimmed(std::string text) {
    const size_t end = std::min(text.find('e'), text.size());
    size_t keep = end;
    while (text[keep - 1] == '0') --keep;
    return text.erase(keep, end - keep);
  }

  std::string format(int64_t i) const {
    if (!floating_) return std::to_string(integer(i));
    const double v = number(i);
    if (std::isnan(v)) return "nan";
    if (std::isinf(v)) return v > 0 ? "inf" : "-inf";
    if (exponent_) {
      std::string text = printed("%.*e", decimals_, v);
      if (decimals_ == 0) text.insert(text.find('e'), ".");
      text.insert(text.find('e') + 2, exponent_digits_ - (text.size() - text.find('e') - 2), '0');
      return text;
    }
    const int all = positional_decimals_of(shortest(v, single_));
    if (all == 0) return printed("%.*f", 0, v) + ".";
    return all <= kPrecision ? printed("%.*f", all, v) : trimmed(printed("%.*f", kPrecision, v));
  }

  // A tensor without axes prints as a number does.
  std::string scalar(double v) const {
    if (!std::isfinite(v)) return format(0);
    const std::string text = shortest(v, single_);
    if (v != 0 && (std::fabs(v) < 1e-4 || std::fabs(v) >= (single_ ? 1e6 : 1e16))) return text;
    return printed("%.*f", std::max(1, positional_decimals_of(text)), v);
  }

  // In its column: numbers with their points below each other, others to the right.
  std::string aligned(int64_t i) const {
    std::string text = format(i);
    const size_t point = point_of(i, text);
    const size_t behind = point == text.npos ? 0 : right_ - (text.size() - point);
    text.append(behind, ' ');
    return std::string(width_ - text.size(), ' ') + text;
  }
  size_t point_of(int64_t i, const std::string& text) const {
    return floating_ && !exponent_ && std::isfinite(number(i)) ? text.find('.') : text.npos;
  }

  double number(int64_t i) const {
    switch (x_.dtype()) {
      case DType::float32: return static_cast<const float*>(x_.raw())[i];
      case DType::float64: return static_cast<const double*>(x_.raw())[i];
      case DType::bfloat16: return static_cast<float>(static_cast<const BFloat16*>(x_.raw())[i]);
      default: return 0;
    }
  }
  int64_t integer(int64_t i) const {
    switch (x_.dtype()) {
      case DType::int32: return static_cast<const int32_t*>(x_.raw())[i];
      case DType::int64: return static_cast<const int64_t*>(x_.raw())[i];
      case DType::uint8: return static_cast<const uint8_t*>(x_.raw())[i];
      default: return 0;
    }
  }

  // Calls f(position) for each element that is shown.
  template <class F>
  void visit(int axis_index, int64_t offset, const F& f) const {
    if (axis_index == x_.rank()) return f(offset);
    const int64_t n = x_.dim(axis_index);
    for (int64_t i = 0; i < n; ++i) {
      if (summarise_ && n > 2 * kEdge && i == kEdge) i = n - kEdge;
      visit(axis_index + 1, offset * n + i, f);
    }
  }

  std::string axis(int axis_index, int64_t offset, const std::string& indent, size_t line_width) const {
    const int64_t n = x_.dim(axis_index);
    const int below = x_.rank() - axis_index - 1;
    std::string text, line = indent;
    for (int64_t i = 0; i < n; ++i) {
      const bool gap = summarise_ && n > 2 * kEdge && i == kEdge;
      if (gap) i = n - kEdge - 1;
      const int64_t at = offset * n + i;
      const std::string word = gap          ? "..."
                               : below == 0 ? aligned(at)
                                            : axis(axis_index + 1, at, indent + " ", line_width - 1);
      if (below > 0) {
        text += indent + word;
        if (i + 1 < n) text.append(static_cast<size_t>(below), '\n');
        continue;
      }
      if (line.size() > indent.size() && line.size() + word.size() > line_width - 1) {
        text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
        line = indent;
      }
      line += word;
      if (i + 1 < n) line += ' ';
    }
    if (below == 0) text += line;
    return "[" + text.substr(indent.size()) + "]";
  }

  const Tensor& x_;
  bool floating_, single_, summarise_;
  bool exponent_ = false;
  int decimals_ = 0;  // with exponents
  size_t exponent_digits_ = 2;
  size_t width_ = 0, right_ = 0;  // of a column, and of that from its points on
};

}  // namespace

std::string to_string(const Tensor& x) {
  if (!x.defined()) return "undefined";
  const Tensor host = x.detach().to(Device::cpu());
  return Printer(host).print();
}

std::ostream& operator<<(std::ostream& out, const Tensor& x) { return out << to_string(x); }

}  // namespace mica
