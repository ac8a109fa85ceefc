// Packing: copies of matrices in the order in which register tiles read them, so that a tile's loads are one stream.
// The columns of a product (tile.h's b) come in panels, its rows in the tiles' heights.
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

// The columns of a panel, and of a tile: two vectors.
template <class T>
inline constexpr int64_t kPanel = 2 * Vector<T>::kWidth;

// The transpose of a square of kSquare by kSquare values in registers: to[c * ld_to + r] = from[r * ld_from + c].
inline constexpr int64_t kSquare = 4;
[[gnu::always_inline]] inline void transpose_square(const float* from, int64_t ld_from, float* to, int64_t ld_to) {
  typedef float Four __attribute__((vector_size(16)));
  Four row[4];
  for (int r = 0; r < 4; ++r) std::memcpy(&row[r], from + r * ld_from, sizeof row[r]);
  const Four low01 = __builtin_shufflevector(row[0], row[1], 0, 4, 1, 5);
  const Four high01 = __builtin_shufflevector(row[0], row[1], 2, 6, 3, 7);
  const Four low23 = __builtin_shufflevector(row[2], row[3], 0, 4, 1, 5);
  const Four high23 = __builtin_shufflevector(row[2], row[3], 2, 6, 3, 7);
  const Four column[4] = {
      __builtin_shufflevector(low01, low23, 0, 1, 4, 5), __builtin_shufflevector(low01, low23, 2, 3, 6, 7),
      __builtin_shufflevector(high01, high23, 0, 1, 4, 5), __builtin_shufflevector(high01, high23, 2, 3, 6, 7)};
  for (int c = 0; c < 4; ++c) std::memcpy(to + c * ld_to, &column[c], sizeof column[c]);
}
[[gnu::always_inline]] inline void transpose_square(const double* from, int64_t ld_from, double* to, int64_t ld_to) {
  for (int64_t r = 0; r < kSquare; ++r)
    for (int64_t c = 0; c < kSquare; ++c) to[c * ld_to + r] = from[r * ld_from + c];
}

// to [columns, rows] is from [rows, columns] transposed. The last squares reach back over what is done already.
template <class T>
void transpose(int64_t rows, int64_t columns, const T* from, int64_t ld_from, T* to, int64_t ld_to) {
  if (rows < kSquare || columns < kSquare) {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < columns; ++c) to[c * ld_to + r] = from[r * ld_from + c];
    return;
  }
  for (int64_t r = 0; r < rows; r += kSquare) {
    const int64_t top = min(r, rows - kSquare);
    for (int64_t c = 0; c < columns; c += kSquare) {
      const int64_t left = min(c, columns - kSquare);
      transpose_square(from + top * ld_from + left, ld_from, to + left * ld_to + top, ld_to);
    }
  }
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
void pack_columns(int64_t k, int64_t n, const T* b, int64_t ldb, bool transposed, T* packed) {
  using V = Vector<T>;
  const int64_t whole = n / kPanel<T>, rest = n % kPanel<T>;
  T* last = packed + whole * k * kPanel<T>;
  if (transposed) {
    for (int64_t i = 0; i < whole; ++i)
      transpose(kPanel<T>, k, b + i * kPanel<T> * ldb, ldb, packed + i * k * kPanel<T>, kPanel<T>);
    if (rest) transpose(rest, k, b + whole * kPanel<T> * ldb, ldb, last, kPanel<T>);
  } else {
    // Row by row: a row of b is one stream, which the processor fetches ahead of its use.
    for (int64_t p = 0; p < k; ++p) {
      const T* row = b + p * ldb;
      for (int64_t i = 0; i < whole; ++i, row += kPanel<T>) {
        T* to = packed + (i * k + p) * kPanel<T>;
        V::store(to, V::load(row));
        V::store(to + V::kWidth, V::load(row + V::kWidth));
      }
      for (int64_t j = 0; j < rest; ++j) last[p * kPanel<T> + j] = row[j];
    }
  }
  if (rest)
    for (int64_t p = 0; p < k; ++p)
      for (int64_t j = rest; j < kPanel<T>; ++j) last[p * kPanel<T> + j] = T(0);
}

// m rows cut into tiles of nearly equal height: 26 rows are 13 + 13.
struct TileHeights {
  explicit TileHeights(int64_t rows)
      : count((rows + kTileRows - 1) / kTileRows), each(rows / max(1, count)), higher(rows - each * count) {}
  int64_t top(int64_t tile) const { return tile * each + min(tile, higher); }
  int64_t count, each, higher;  // tiles; their height, but for those of the first that are one row higher
};

// Packs rows a [m, steps] of any two strides, one of which is 1, tile by tile: [tiles][steps][kTileRows].
inline int64_t packed_rows_bytes(int64_t m, int64_t steps) {
  return TileHeights(m).count * steps * kTileRows * static_cast<int64_t>(sizeof(float));
}
inline void pack_rows(int64_t m, int64_t steps, const float* a, int64_t row_stride, int64_t step_stride,
                      float* packed) {
  using V = Vector<float>;
  static_assert(kTileRows <= V::kWidth && V::kWidth <= 2 * kTileRows);
  const TileHeights heights(m);
  if (step_stride == 1) {
    for (int64_t i = 0; i < heights.count; ++i)
      transpose(heights.top(i + 1) - heights.top(i), steps, a + heights.top(i) * row_stride, row_stride,
                packed + i * steps * kTileRows, kTileRows);
    return;
  }
  for (int64_t p = 0; p < steps; ++p)
    for (int64_t i = 0; i < heights.count; ++i) {
      const int64_t top = heights.top(i), bottom = heights.top(i + 1);
      const float* from = a + p * step_stride + top;
      float* to = packed + (i * steps + p) * kTileRows;
      if (p + 1 < steps && top + V::kWidth <= m)
        V::store(to, V::load(from));  // what is too much of it is written over by the next step
      else
        for (int64_t r = 0; r < bottom - top; ++r) to[r] = from[r];
    }
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
