// The register tile: one function for each number of rows.
#include "cpu/tile.h"

#include <utility>

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

namespace {

template <class T, int R>
void tile_of(const Tile<T>& t) {
  using V = Vector<T>;
  using Type = typename V::Type;
  constexpr int64_t kWidth = V::kWidth, kColumns = kPanel<T>;
  Type sum[R][2] = {};
  const T* b = t.b;
  const T* segment = t.a;
  const int64_t row = t.row_stride, step = t.step_stride;
  for (int64_t s = 0; s < t.segments; ++s, segment += t.segment_stride) {
    // Three rows to a pointer: x86 reaches the other two by scaling one index register.
    const T* at[(R + 2) / 3];
    for (int g = 0; g < (R + 2) / 3; ++g) at[g] = segment + 3 * g * row;
    for (int64_t p = 0; p < t.steps; ++p) {
      const Type b0 = V::load(b), b1 = V::load(b + kWidth);
      b += kColumns;
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) {
        const T value = at[i / 3][i % 3 * row];
        sum[i][0] += value * b0;
        sum[i][1] += value * b1;
      }
#pragma GCC unroll 16
      for (int g = 0; g < (R + 2) / 3; ++g) at[g] += step;
    }
  }
  const bool whole = t.columns == kColumns;
  T buffer[kColumns];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
    T* out = t.c + i * t.ldc;
    Type v0 = sum[i][0], v1 = sum[i][1];
    if (whole) {
      if (t.accumulate) v0 += V::load(out), v1 += V::load(out + kWidth);
      if (t.bias) v0 += V::load(t.bias), v1 += V::load(t.bias + kWidth);
      if (t.relu) {
        const Type zero = {};
        v0 = v0 < zero ? zero : v0;
        v1 = v1 < zero ? zero : v1;
      }
      V::store(out, v0);
      V::store(out + kWidth, v1);
    } else {
      V::store(buffer, v0);
      V::store(buffer + kWidth, v1);
      for (int64_t j = 0; j < t.columns; ++j) {
        const T v = buffer[j] + (t.accumulate ? out[j] : T(0)) + (t.bias ? t.bias[j] : T(0));
        out[j] = t.relu ? scalar::Relu::forward(v) : v;
      }
    }
  }
}

template <class T, int... R>
TileFunction<T> choose(std::integer_sequence<int, R...>, int64_t rows) {
  static constexpr TileFunction<T> functions[] = {tile_of<T, R + 1>...};
  return functions[rows - 1];
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
TileFunction<float> tile_function<float>(int64_t rows) {
  return choose<float>(std::make_integer_sequence<int, kTileRows>(), rows);
}
template <>
TileFunction<double> tile_function<double>(int64_t rows) {
  return choose<double>(std::make_integer_sequence<int, kTileRows>(), rows);
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
