// Sums and maxima of a contiguous row, in lanes that the compiler turns into vectors.
#pragma once

#include "cpu/vector.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

inline constexpr int64_t kLanes = 16;

// The sum of f(i) for i in [0, n): blocks of 1,024 in lanes of T, the blocks in float64.
template <class T, class F>
[[gnu::always_inline]] inline double lane_sum(int64_t n, const F& f) {
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += 1024) {
    const int64_t end = min(begin + 1024, n);
    T lanes[kLanes] = {};
    int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes)
      for (int64_t l = 0; l < kLanes; ++l) lanes[l] += f(i + l);
    for (int64_t l = 0; i < end; ++i, ++l) lanes[l] += f(i);
    for (int64_t width = kLanes / 2; width > 0; width /= 2)
      for (int64_t l = 0; l < width; ++l) lanes[l] += lanes[l + width];
    total += static_cast<double>(lanes[0]);
  }
  return total;
}

template <class T>
[[gnu::always_inline]] inline double row_sum(const T* x, int64_t n) {
  return lane_sum<T>(n, [&](int64_t i) { return x[i]; });
}

// The largest of x[n], n >= 1; NaN where there is one.
template <class T>
[[gnu::always_inline]] inline T row_max(const T* x, int64_t n) {
  using V = Vector<T>;
  constexpr int64_t kWidth = V::kWidth;
  T best = x[0];
  int64_t i = 0;
  if (n >= kWidth) {
    typename V::Type lanes = V::load(x);
    for (i = kWidth; i + kWidth <= n; i += kWidth) {
      const typename V::Type here = V::load(x + i);
      lanes = ((here > lanes) | (here != here)) ? here : lanes;
    }
    T last[kWidth];
    V::store(last, lanes);
    for (int64_t width = kWidth / 2; width > 0; width /= 2)
      for (int64_t l = 0; l < width; ++l) {
        const T here = last[l + width];
        last[l] = ((here > last[l]) | (here != here)) ? here : last[l];
      }
    best = last[0];
  }
  for (; i < n; ++i) best = ((x[i] > best) | (x[i] != x[i])) ? x[i] : best;
  return best;
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
