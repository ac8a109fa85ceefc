// The register tile under every product and convolution: R rows by two vectors of results, summed in registers over a
// run of steps, stored once. After Goto, van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34,
// 2008, and Van Zee, van de Geijn, "BLIS", ACM TOMS 41, 2015.
//
// Rows are read where they lie (any two strides), so neither images nor matrices are copied for it; columns come packed.
// Steps may fall into segments (the rows of a convolution's window), each at a fixed distance from the last.
#pragma once

#include <utility>

#include "cpu/vector.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

#if defined(__AVX512F__)
inline constexpr int kTileRows = 14;  // 28 sums, 2 columns, 1 row value: 31 of 32 registers
#elif defined(__AVX2__)
inline constexpr int kTileRows = 6;  // 12 + 2 + 1 of 16 registers
#else
inline constexpr int kTileRows = 4;
#endif

// The columns of a tile: two vectors.
template <class T>
inline constexpr int64_t kPanel = 2 * Vector<T>::kWidth;

// c[rows, columns] (+)= sum over segments s and steps p of a[i*row_stride + p*step_stride + s*segment_stride] times row
// s*steps + p of the packed columns; then bias and activation.
template <class T>
struct Tile {
  const T* a;
  int64_t row_stride, step_stride;
  int64_t steps;
  int64_t segments = 1, segment_stride = 0;
  const T* b;  // [segments * steps][kPanel]
  T* c;
  int64_t ldc;
  int64_t columns;  // 1..kPanel
  bool accumulate = false;
  const T* bias = nullptr;
  UnaryOp activation = UnaryOp::identity;
};

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
      if (t.activation == UnaryOp::relu) {
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
        out[j] = t.activation == UnaryOp::relu ? scalar::Relu::forward(v) : v;
      }
    }
  }
  if (t.activation == UnaryOp::identity || t.activation == UnaryOp::relu) return;
  for_unary(t.activation, [&](auto f) {
    for (int64_t i = 0; i < R; ++i)
      for (int64_t j = 0; j < t.columns; ++j) t.c[i * t.ldc + j] = f.forward(t.c[i * t.ldc + j]);
  });
}

template <class T>
using TileFunction = void (*)(const Tile<T>&);

template <class T, int... R>
inline constexpr TileFunction<T> tile_functions(std::integer_sequence<int, R...>, int rows) {
  constexpr TileFunction<T> functions[] = {tile_of<T, R + 1>...};
  return functions[rows - 1];
}

// The tile function of 1..kTileRows rows.
template <class T>
inline TileFunction<T> tile_function(int64_t rows) {
  return tile_functions<T>(std::make_integer_sequence<int, kTileRows>(), static_cast<int>(rows));
}

// Columns in panels of kPanel, the last one filled up with zeros: [panels][k][kPanel].
template <class T>
[[gnu::always_inline]] inline int64_t panels(int64_t n) {
  return (n + kPanel<T> - 1) / kPanel<T>;
}
template <class T>
[[gnu::always_inline]] inline int64_t packed_bytes(int64_t k, int64_t n) {
  return (panels<T>(n) * kPanel<T> * max(k, 1) * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
}

// Packs b [k, n] with leading dimension ldb, or its transpose as stored [n, k].
template <class T>
void pack_columns(int64_t k, int64_t n, const T* b, int64_t ldb, bool transpose, T* packed) {
  constexpr int64_t kColumns = kPanel<T>;
  for (int64_t j0 = 0; j0 < n; j0 += kColumns) {
    const int64_t columns = min(kColumns, n - j0);
    if (transpose) {
      for (int64_t j = 0; j < kColumns; ++j)
        for (int64_t p = 0; p < k; ++p) packed[p * kColumns + j] = j < columns ? b[(j0 + j) * ldb + p] : T(0);
    } else {
      for (int64_t p = 0; p < k; ++p) {
        const T* row = b + p * ldb + j0;
        if (columns == kColumns) {
          for (int64_t j = 0; j < kColumns; ++j) packed[p * kColumns + j] = row[j];
        } else {
          for (int64_t j = 0; j < kColumns; ++j) packed[p * kColumns + j] = j < columns ? row[j] : T(0);
        }
      }
    }
    packed += k * kColumns;
  }
}

// `tile`, over m rows and n columns: its a, c, bias and columns are those of the first tile, its b the first panel.
template <class T>
void run_tiles(int64_t m, int64_t n, const Tile<T>& first) {
  constexpr int64_t kColumns = kPanel<T>;
  if (m == 0) return;
  const int64_t count = (m + kTileRows - 1) / kTileRows;  // of nearly equal height: 26 rows are 13 + 13
  Tile<T> t = first;
  for (int64_t j = 0; j < n; j += kColumns) {
    t.columns = min(kColumns, n - j);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t top = m * i / count, rows = m * (i + 1) / count - top;
      t.a = first.a + top * first.row_stride;
      t.c = first.c + top * first.ldc + j;
      tile_function<T>(rows)(t);
    }
    t.b += first.segments * first.steps * kColumns;
    if (t.bias) t.bias += kColumns;
  }
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
