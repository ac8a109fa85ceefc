// The register tile under every product and convolution: R rows by two vectors of results, summed in registers over a
// run of steps, stored once. After Goto, van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS
// 34, 2008, and Van Zee, van de Geijn, "BLIS", ACM TOMS 41, 2015.
//
// Rows are read where they lie (any two strides), so neither images nor matrices are copied for it; columns come
// packed. Steps may fall into segments (the rows of a convolution's window), each at a fixed distance from the last.
#pragma once

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
// s*steps + p of the packed columns; then bias and relu.
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
  bool relu = false;
};

// c[m, n] = activation(c), in place.
void activate(int64_t m, int64_t n, float* c, int64_t ldc, UnaryOp activation);
void activate(int64_t m, int64_t n, double* c, int64_t ldc, UnaryOp activation);

// Computes a tile of `rows` rows, 1..kTileRows, and `columns` columns: where one vector holds them, with one.
template <class T>
using TileFunction = void (*)(const Tile<T>&);
template <class T>
TileFunction<T> tile_function(int64_t rows, int64_t columns);
template <>
TileFunction<float> tile_function<float>(int64_t rows, int64_t columns);
template <>
TileFunction<double> tile_function<double>(int64_t rows, int64_t columns);

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
      // Column by column, in short runs: as one loop over p it becomes scatters, which are slow.
      for (int64_t p = 0; p < k; p += 8) {
        const int64_t run = min(8, k - p);
        for (int64_t j = 0; j < kColumns; ++j) {
          const T* column = b + (j0 + (j < columns ? j : 0)) * ldb + p;
          T* to = packed + p * kColumns + j;
          if (run == 8 && j < columns) {
#pragma GCC unroll 8
            for (int64_t q = 0; q < 8; ++q) to[q * kColumns] = column[q];
          } else {
            for (int64_t q = 0; q < run; ++q) to[q * kColumns] = j < columns ? column[q] : T(0);
          }
        }
      }
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

// The tiles of m rows and n columns, from the first: its a, c and bias are theirs, its b the first panel. Activations
// other than relu follow each tile, while it is in the cache.
template <class T>
void run_tiles(int64_t m, int64_t n, const Tile<T>& first, UnaryOp activation) {
  constexpr int64_t kColumns = kPanel<T>;
  if (m == 0) return;
  const int64_t count = (m + kTileRows - 1) / kTileRows;  // of nearly equal height: 26 rows are 13 + 13
  Tile<T> t = first;
  t.relu = activation == UnaryOp::relu;
  const bool activates = activation != UnaryOp::identity && !t.relu;
  for (int64_t j = 0; j < n; j += kColumns) {
    t.columns = min(kColumns, n - j);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t top = m * i / count, rows = m * (i + 1) / count - top;
      t.a = first.a + top * first.row_stride;
      t.c = first.c + top * first.ldc + j;
      tile_function<T>(rows, t.columns)(t);
      if (activates) activate(rows, t.columns, t.c, t.ldc, activation);
    }
    t.b += first.segments * first.steps * kColumns;
    if (t.bias) t.bias += kColumns;
  }
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
