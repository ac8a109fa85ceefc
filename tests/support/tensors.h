// What tests say about tensors: samples to compute with, and whether two agree, with the first place where they do not.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ostream>
#include <string>
#include <vector>

#include "mica/core/tensor.h"

namespace mica::test {

/// Numbers drawn from [low, high) under `seed`.
inline Tensor sample(const Shape& shape, DType dtype = float64, uint64_t seed = 0, double low = -1, double high = 1) {
  return random_uniform(shape, low, high, {random_stream(seed, "sample"), 0}, {dtype});
}

/// 0, 1, 2, ... under `shape`.
inline Tensor counting(const Shape& shape, DType dtype = float64) {
  return arange(0, static_cast<double>(shape.elements()), 1, {dtype}).reshape(shape);
}

/// `x` where its elements can be read.
inline Tensor on_cpu(const Tensor& x) { return x.detach().to(Device::cpu()); }

/// Writes element `i` of x, wherever it is.
inline void put(Tensor& x, int64_t i, double value) { x.reshape({-1}).slice(i, i + 1).fill(value); }

/// The elements as doubles, whatever the dtype and device.
inline std::vector<double> doubles(const Tensor& tensor) {
  const Tensor x = on_cpu(tensor);
  std::vector<double> values(static_cast<size_t>(x.elements()));
  for (size_t i = 0; i < values.size(); ++i) switch (x.dtype()) {
      case DType::float32: values[i] = x.data<float>()[i]; break;
      case DType::float64: values[i] = x.data<double>()[i]; break;
      case DType::bfloat16: values[i] = static_cast<float>(x.data<BFloat16>()[i]); break;
      case DType::int32: values[i] = x.data<int32_t>()[i]; break;
      case DType::int64: values[i] = static_cast<double>(x.data<int64_t>()[i]); break;
      case DType::uint8: values[i] = x.data<uint8_t>()[i]; break;
    }
  return values;
}

/// The answer to a CHECK, and what to print when it is no.
struct Verdict {
  std::string complaint;
  explicit operator bool() const { return complaint.empty(); }
  friend std::ostream& operator<<(std::ostream& out, const Verdict& v) {
    return out << (v.complaint.empty() ? "agree" : v.complaint.c_str());
  }
};

/// |actual - expected| <= absolute + relative * |expected|, element by element.
struct Tolerance {
  double relative, absolute;
};
inline constexpr Tolerance kPointwise{1.3e-6, 1e-5};  // float32, a function of each element
inline constexpr Tolerance kSums{1e-4, 1e-5};         // float32, sums of products
inline constexpr Tolerance kFloat64{1e-9, 1e-11};
inline constexpr Tolerance kExact{0, 0};

/// Of float64 results, whatever is allowed to float32 ones, only rounding is forgiven.
inline Tolerance tolerance_of(DType dtype, Tolerance float32_tolerance) {
  return dtype == float64 ? kFloat64 : float32_tolerance;
}

/// Of long sums of products, which round by their terms, however small they come out.
inline Tolerance sums_tolerance(DType dtype, const Tensor& expected) {
  double squares = 0;
  for (const double v : doubles(expected)) squares += v * v;
  const double size = std::sqrt(squares / static_cast<double>(std::max<int64_t>(1, expected.elements())));
  return tolerance_of(dtype, {kSums.relative, kSums.absolute * std::max(1.0, size)});
}

// "[1,2]" of flat position `i`.
inline std::string place(const Shape& shape, int64_t i) {
  Shape index = shape;
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    index[axis] = i % shape[axis];
    i /= shape[axis];
  }
  return to_string(index);
}
inline std::string digits(double value) {
  char buffer[40];
  std::snprintf(buffer, sizeof buffer, "%.17g", value);
  return buffer;
}

/// Whether the shapes are equal and the values within `tolerance`; dtypes may differ, NaN agrees with NaN alone. The
/// complaint is about the element that is worst.
inline Verdict close(const Tensor& actual, const Tensor& expected, Tolerance tolerance) {
  if (!actual.defined() || !expected.defined()) return {"a tensor is undefined"};
  if (!(actual.shape() == expected.shape()))
    return {"shape " + to_string(actual.shape()) + ", expected " + to_string(expected.shape())};
  const std::vector<double> a = doubles(actual), e = doubles(expected);
  double most = 0;
  size_t wrong = 0, worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] == e[i] || (std::isnan(a[i]) && std::isnan(e[i]))) continue;
    double excess = std::fabs(a[i] - e[i]) - (tolerance.absolute + tolerance.relative * std::fabs(e[i]));
    if (excess <= 0 && std::isfinite(e[i])) continue;
    if (!std::isfinite(excess)) excess = INFINITY;
    if (wrong++ == 0 || excess > most) most = excess, worst = i;
  }
  if (wrong == 0) return {};
  return {"element " + place(actual.shape(), static_cast<int64_t>(worst)) + " of " + to_string(actual.shape()) +
          " is " + digits(a[worst]) + ", expected " + digits(e[worst]) +
          (wrong > 1 ? ", the worst of " + std::to_string(wrong) : "")};
}

inline Verdict close(const Tensor& actual, const std::vector<double>& expected, Tolerance tolerance = kExact) {
  if (actual.elements() != static_cast<int64_t>(expected.size())) return {"shape " + to_string(actual.shape())};
  return close(actual, tensor(expected, actual.shape()), tolerance);
}

/// Whether these elements are equal bit by bit, but for NaN, which devices write differently.
inline bool same_elements(DType dtype, const void* a, const void* b, size_t bytes) {
  if (bytes == 0 || std::memcmp(a, b, bytes) == 0) return true;
  const auto same = [&](auto x) {
    auto y = x;
    for (size_t i = 0; i < bytes; i += sizeof x) {
      std::memcpy(&x, static_cast<const char*>(a) + i, sizeof x);
      std::memcpy(&y, static_cast<const char*>(b) + i, sizeof y);
      const bool nan = std::isnan(static_cast<float>(x)) && std::isnan(static_cast<float>(y));
      if (!nan && std::memcmp(&x, &y, sizeof x) != 0) return false;
    }
    return true;
  };
  if (dtype == DType::float32) return same(float{});
  if (dtype == DType::float64) return same(double{});
  return dtype == DType::bfloat16 && same(BFloat16{});
}

/// Whether shape, dtype and each bit are equal: -0 differs from 0, and one NaN from another.
inline Verdict same_bits(const Tensor& actual, const Tensor& expected) {
  if (!actual.defined() || !expected.defined()) return {"a tensor is undefined"};
  if (!(actual.shape() == expected.shape()) || actual.dtype() != expected.dtype())
    return {to_string(actual.shape()) + ", expected " + to_string(expected.shape()) + ", or dtypes differ"};
  const Tensor a = on_cpu(actual), e = on_cpu(expected);
  const size_t size = size_of(a.dtype());
  for (size_t i = 0; i < a.bytes(); i += size)
    if (std::memcmp(static_cast<const char*>(a.raw()) + i, static_cast<const char*>(e.raw()) + i, size) != 0)
      return {"the bits differ at " + place(a.shape(), static_cast<int64_t>(i / size)) + ": " +
              digits(doubles(a)[i / size]) + ", expected " + digits(doubles(e)[i / size])};
  return {};
}

}  // namespace mica::test
