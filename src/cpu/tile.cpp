// The register tile: one function for each number of rows, and of vectors of columns.
#include "cpu/tile.h"

#include <utility>

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

namespace {

template <class T, int R, int kVectors>
void tile_of(const Tile<T>& t) {
  using V = Vector<T>;
  using Type = typename V::Type;
  constexpr int64_t kWidth = V::kWidth, kAhead = 12;
  Type sum[R][kVectors] = {};
  const T* b = t.b;
  const T* segment = t.a;
  const int64_t row = t.row_stride, step = t.step_stride, triple = t.triple_stride ? t.triple_stride : 3 * row;
  for (int64_t s = 0; s < t.segments; ++s, segment += t.segment_stride) {
    // Three rows to a pointer: x86 reaches the other two by scaling one index register.
    const T* at[(R + 2) / 3];
    for (int g = 0; g < (R + 2) / 3; ++g) at[g] = segment + g * triple;
    for (int64_t p = 0; p < t.steps; ++p) {
      Type column[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) column[v] = V::load(b + v * kWidth);
        // A panel may be longer than the first-level cache: its rows are fetched from the second some steps ahead.
#pragma GCC unroll 2
      for (int v = 0; v < kVectors * kVectorBytes; v += 64)
        __builtin_prefetch(reinterpret_cast<const char*>(b + kAhead * t.b_stride) + v);
      b += t.b_stride;
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) {
        const T value = at[i / 3][i % 3 * row];
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sum[i][v] += value * column[v];
      }
#pragma GCC unroll 16
      for (int g = 0; g < (R + 2) / 3; ++g) at[g] += step;
    }
  }
  const bool whole = t.columns == kVectors * kWidth;
  T buffer[kVectors * kWidth];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
    T* out = t.c + i * t.ldc;
    Type y[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) y[v] = sum[i][v];
    if (whole) {
      if (t.accumulate) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) y[v] += V::load(out + v * kWidth);
      }
      if (t.bias) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) y[v] += V::load(t.bias + v * kWidth);
      }
      if (t.relu) {
        const Type zero = {};
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) y[v] = V::max(zero, y[v]);
      }
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) V::store(out + v * kWidth, y[v]);
    } else {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) V::store(buffer + v * kWidth, y[v]);
      for (int64_t j = 0; j < t.columns; ++j) {
        const T v = buffer[j] + (t.accumulate ? out[j] : T(0)) + (t.bias ? t.bias[j] : T(0));
        out[j] = t.relu ? scalar::Relu::forward(v) : v;
      }
    }
  }
}

template <class T, int... R>
TileFunction<T> choose(std::integer_sequence<int, R...>, int64_t rows, int64_t columns) {
  static constexpr TileFunction<T> narrow[] = {tile_of<T, R + 1, 1>...}, wide[] = {tile_of<T, R + 1, 2>...};
  return (columns <= Vector<T>::kWidth ? narrow : wide)[rows - 1];
}

template <class T>
void activate_rows(int64_t m, int64_t n, T* c, int64_t ldc, UnaryOp activation) {
  for_fused(activation, [&](auto f) {
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j) c[i * ldc + j] = f.forward(c[i * ldc + j]);
  });
}

}  // namespace

void activate(int64_t m, int64_t n, float* c, int64_t ldc, UnaryOp activation) {
  activate_rows(m, n, c, ldc, activation);
}
void activate(int64_t m, int64_t n, double* c, int64_t ldc, UnaryOp activation) {
  activate_rows(m, n, c, ldc, activation);
}

template <>
TileFunction<float> tile_function<float>(int64_t rows, int64_t columns) {
  return choose<float>(std::make_integer_sequence<int, kTileRows>(), rows, columns);
}
template <>
TileFunction<double> tile_function<double>(int64_t rows, int64_t columns) {
  return choose<double>(std::make_integer_sequence<int, kTileRows>(), rows, columns);
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
