// The maps of Winograd's minimal filtering with windows of three, F(m, 3), m = 1..4: from m + 2 pixels to m + 2 points
// and from there to m results, and those of the filters. They are built from interpolation points, in this order: 0,
// infinity, a, -a, b, -b, of which F(m, 3) takes the first m + 2. So tiles of all sizes share one transform of the
// filters.
//
// With a = 3/4, b = 3/2 the errors of F(4x4, 3x3) are a quarter of those of the usual 1 and 2, and twice those of a
// direct sum (after Barabasz et al., "Error analysis and improving the accuracy of Winograd convolution for deep neural
// networks", ACM TOMS 46, 2020).
#pragma once

#include "cpu/vector.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL::winograd_maps {

using V = Vector<float>;
using Values = V::Type;
inline constexpr int kOut = 4, kIn = kOut + 2;  // of the largest tile
inline constexpr float kA = 0.75f, kB = 1.5f, kA2 = kA * kA, kB2 = kB * kB;

// An odd m takes the point +s whose opposite it leaves out. Over the other points, which are m - 1's, its polynomial is
// that of m - 1 times (x - s): a difference of neighbours, and the map of m - 1.
template <int m>
inline constexpr float kOdd = m == 1 ? kA : kB;

// Filters are divided, at each point, by the product of its distances to the other points of F(4, 3): in smaller tiles,
// the pixels make up for the distances to those points that they leave out.
template <int m>
[[gnu::always_inline]] inline void make_up(const Values* from, Values* v) {
  if constexpr (m == 1) v[0] = from[0] * (-kA * kB2), v[1] = from[1], v[2] = from[2] * (2 * kA * (kA2 - kB2));
  if constexpr (m == 2)
    v[0] = from[0] * -kB2, v[1] = from[1], v[2] = from[2] * (kA2 - kB2), v[3] = from[3] * (kA2 - kB2);
  if constexpr (m == 3)
    v[0] = from[0] * kB, v[1] = from[1], v[2] = from[2] * (kA + kB), v[3] = from[3] * (kB - kA),
    v[4] = from[4] * (2 * kB);
  if constexpr (m == 4)
    for (int p = 0; p < 6; ++p) v[p] = from[p];
}

template <int m>
struct Input {  // B': m + 2 pixels to points
  static constexpr int kFrom = m + 2, kTo = m + 2;
  [[gnu::always_inline]] static void map(const Values* d, Values* v) {
    Values plain[kTo];
    points(d, plain);
    make_up<m>(plain, v);
  }
  [[gnu::always_inline]] static void points(const Values* d, Values* v) {
    if constexpr (m == 0) {
      v[0] = d[0];
      v[1] = infinity(d);
    } else if constexpr (m == 2) {
      v[0] = d[2] - kA2 * d[0];
      v[1] = infinity(d);
      v[2] = d[2] + kA * d[1];
      v[3] = d[2] - kA * d[1];
    } else if constexpr (m == 4) {
      const Values even_a = d[4] - kB2 * d[2], odd_a = kA * (d[3] - kB2 * d[1]);
      const Values even_b = d[4] - kA2 * d[2], odd_b = kB * (d[3] - kA2 * d[1]);
      v[0] = d[4] - (kA2 + kB2) * d[2] + kA2 * kB2 * d[0];
      v[1] = infinity(d);
      v[2] = even_a + odd_a;
      v[3] = even_a - odd_a;
      v[4] = even_b + odd_b;
      v[5] = even_b - odd_b;
    } else {
      Values difference[m + 1];
      for (int i = 0; i < m + 1; ++i) difference[i] = d[i + 1] - kOdd<m> * d[i];
      Input<m - 1>::points(difference, v);
      v[m + 1] = Input<m - 1>::infinity(d);
    }
  }
  [[gnu::always_inline]] static Values infinity(const Values* d) {
    if constexpr (m == 0) return d[1];
    if constexpr (m == 2) return d[3] - kA2 * d[1];
    if constexpr (m == 4) return d[5] - (kA2 + kB2) * d[3] + kA2 * kB2 * d[1];
  }
};

template <int m>
struct InputGradient {  // B
  static constexpr int kFrom = m + 2, kTo = m + 2;
  [[gnu::always_inline]] static void map(const Values* v, Values* d) {
    Values plain[kFrom];
    make_up<m>(v, plain);
    pixels(plain, d);
  }
  [[gnu::always_inline]] static void pixels(const Values* v, Values* d) {
    if constexpr (m == 0) {
      d[0] = v[0];
      d[1] = v[1];
    } else if constexpr (m == 2) {
      d[0] = -kA2 * v[0];
      d[1] = kA * (v[2] - v[3]) - kA2 * v[1];
      d[2] = v[0] + (v[2] + v[3]);
      d[3] = v[1];
    } else if constexpr (m == 4) {
      const Values even_a = v[2] + v[3], odd_a = kA * (v[2] - v[3]);
      const Values even_b = v[4] + v[5], odd_b = kB * (v[4] - v[5]);
      d[0] = kA2 * kB2 * v[0];
      d[1] = kA2 * kB2 * v[1] - kB2 * odd_a - kA2 * odd_b;
      d[2] = -(kA2 + kB2) * v[0] - kB2 * even_a - kA2 * even_b;
      d[3] = odd_a + odd_b - (kA2 + kB2) * v[1];
      d[4] = v[0] + even_a + even_b;
      d[5] = v[1];
    } else {
      Values difference[m + 1];
      InputGradient<m - 1>::pixels(v, difference);
      d[0] = -kOdd<m> * difference[0];
      for (int i = 1; i < m + 1; ++i) d[i] = difference[i - 1] - kOdd<m> * difference[i];
      d[m + 1] = difference[m];
      d[m] += v[m + 1];
      if constexpr (m == 3) d[1] -= kA2 * v[4];
    }
  }
};

template <int m>
struct Output {  // A': points to m results
  static constexpr int kFrom = m + 2, kTo = m;
  [[gnu::always_inline]] static void map(const Values* v, Values* y) {
    if constexpr (m == 1) {
      y[0] = v[0] + v[2] + v[1];
    } else if constexpr (m == 2) {
      y[0] = v[0] + (v[2] + v[3]);
      y[1] = kA * (v[2] - v[3]) + v[1];
    } else if constexpr (m == 3) {
      const Values even = v[2] + v[3];
      y[0] = v[0] + even + v[4];
      y[1] = kA * (v[2] - v[3]) + kB * v[4];
      y[2] = kA2 * even + kB2 * v[4] + v[1];
    } else {
      const Values even_a = v[2] + v[3], odd_a = kA * (v[2] - v[3]);
      const Values even_b = v[4] + v[5], odd_b = kB * (v[4] - v[5]);
      y[0] = v[0] + even_a + even_b;
      y[1] = odd_a + odd_b;
      y[2] = kA2 * even_a + kB2 * even_b;
      y[3] = kA2 * odd_a + kB2 * odd_b + v[1];
    }
  }
};

template <int m>
struct OutputGradient {  // A
  static constexpr int kFrom = m, kTo = m + 2;
  [[gnu::always_inline]] static void map(const Values* y, Values* v) {
    v[0] = y[0];
    v[1] = y[m - 1];
    if constexpr (m == 1) {
      v[2] = y[0];
    } else if constexpr (m == 2) {
      v[2] = y[0] + kA * y[1];
      v[3] = y[0] - kA * y[1];
    } else if constexpr (m == 3) {
      const Values even = y[0] + kA2 * y[2];
      v[2] = even + kA * y[1];
      v[3] = even - kA * y[1];
      v[4] = y[0] + kB * y[1] + kB2 * y[2];
    } else {
      const Values even_a = y[0] + kA2 * y[2], odd_a = kA * (y[1] + kA2 * y[3]);
      const Values even_b = y[0] + kB2 * y[2], odd_b = kB * (y[1] + kB2 * y[3]);
      v[2] = even_a + odd_a;
      v[3] = even_a - odd_a;
      v[4] = even_b + odd_b;
      v[5] = even_b - odd_b;
    }
  }
};

// What is common to the values at +-p: 1 / (product of the distances to the other finite points).
inline constexpr float kScale0 = 1 / (kA2 * kB2), kScale1 = 1 / (2 * kA2 * (kA2 - kB2)),
                       kScale2 = 1 / (2 * kB2 * (kB2 - kA2));

struct Filter {  // G: 3 taps to all points
  static constexpr int kFrom = 3, kTo = kIn;
  [[gnu::always_inline]] static void map(const Values* w, Values* u) {
    const Values even_a = kScale1 * (w[0] + kA2 * w[2]), odd_a = kScale1 * kA * w[1];
    const Values even_b = kScale2 * (w[0] + kB2 * w[2]), odd_b = kScale2 * kB * w[1];
    u[0] = kScale0 * w[0];
    u[1] = w[2];
    u[2] = even_a + odd_a;
    u[3] = even_a - odd_a;
    u[4] = even_b + odd_b;
    u[5] = even_b - odd_b;
  }
};

struct FilterGradient {  // G'
  static constexpr int kFrom = kIn, kTo = 3;
  [[gnu::always_inline]] static void map(const Values* u, Values* w) {
    const Values even_a = kScale1 * (u[2] + u[3]), even_b = kScale2 * (u[4] + u[5]);
    w[0] = kScale0 * u[0] + even_a + even_b;
    w[1] = kScale1 * kA * (u[2] - u[3]) + kScale2 * kB * (u[4] - u[5]);
    w[2] = kA2 * even_a + kB2 * even_b + u[1];
  }
};

// The columns of a map in two dimensions, on a vector of channels: load(i, j) gives a value of the tile.
template <class Map, class Load>
[[gnu::always_inline]] inline void map_columns(int columns, const Load& load, Values (&half)[kIn][kIn]) {
  for (int j = 0; j < columns; ++j) {
    Values from[Map::kFrom], to[Map::kTo];
#pragma GCC unroll 6
    for (int i = 0; i < Map::kFrom; ++i) from[i] = load(i, j);
    Map::map(from, to);
#pragma GCC unroll 6
    for (int i = 0; i < Map::kTo; ++i) half[i][j] = to[i];
  }
}

// Then its rows: store(i, j, value) takes a value of the result.
template <class Map, class Store>
[[gnu::always_inline]] inline void map_rows(int rows, const Values (&half)[kIn][kIn], const Store& store) {
  for (int i = 0; i < rows; ++i) {
    Values to[Map::kTo];
    Map::map(half[i], to);
#pragma GCC unroll 6
    for (int j = 0; j < Map::kTo; ++j) store(i, j, to[j]);
  }
}

// Both, of filters.
template <class Map, class Load, class Store>
[[gnu::always_inline]] inline void transform(const Load& load, const Store& store) {
  Values half[kIn][kIn];
  map_columns<Map>(Map::kFrom, load, half);
  map_rows<Map>(Map::kTo, half, store);
}

// Calls f with m as a constant.
template <class F>
[[gnu::always_inline]] inline void for_edge(int m, const F& f) {
  switch (m) {
    case 1: return f(std::integral_constant<int, 1>());
    case 2: return f(std::integral_constant<int, 2>());
    case 3: return f(std::integral_constant<int, 3>());
    default: return f(std::integral_constant<int, 4>());
  }
}

// Both, of a tile of rows by columns results.
template <template <int> class Map, class Load, class Store>
[[gnu::always_inline]] inline void transform(int rows, int columns, const Load& load, const Store& store) {
  Values half[kIn][kIn];
  const int across = Map<1>::kFrom - 1 + columns, down = Map<1>::kTo - 1 + rows;
  for_edge(rows, [&](auto m) { map_columns<Map<m>>(across, load, half); });
  for_edge(columns, [&](auto m) { map_rows<Map<m>>(down, half, store); });
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL::winograd_maps
