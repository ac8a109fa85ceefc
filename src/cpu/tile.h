// The register tile under every product and convolution: R rows by two vectors of results, summed in registers over a
// run of steps, stored once. After Goto, van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS
// 34, 2008, and Van Zee, van de Geijn, "BLIS", ACM TOMS 41, 2015.
//
// Rows are read where they lie (any two strides), so images need not be copied for it, or come packed; columns come
// packed. Steps may fall into segments (the rows of a convolution's window), each at a fixed distance from the last.
#pragma once

#include "cpu/pack.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

// c[rows, columns] (+)= sum over segments s and steps p of a[i*row_stride + p*step_stride + s*segment_stride] times row
// s*steps + p of the packed columns; then bias and relu. triple_stride is from row i to
// row i + 3, where that is not three times row_stride.
template <class T>
struct Tile {
  const T* a;
  int64_t row_stride, step_stride;
  int64_t steps;
  int64_t segments = 1, segment_stride = 0;
  const T* b;  // [segments * steps][kPanel], or where it lies, rows of it b_stride apart
  T* c;
  int64_t ldc;
  int64_t columns;  // 1..kPanel
  bool accumulate = false;
  const T* bias = nullptr;
  bool relu = false;
  int64_t b_stride = kPanel<T>;
  int64_t triple_stride = 0;  // 0: 3 * row_stride
  int64_t packed_steps = 0;   // of pack_rows, where a comes from it: how run_tiles finds the next tile's rows
};

// Fetches a matrix of `rows` runs of `length` into the cache, a part at a time: between the tiles of one product, what
// the next will read.
template <class T>
class Fetch {
 public:
  Fetch() = default;
  Fetch(const T* from, int64_t rows, int64_t length, int64_t stride, int64_t parts)
      : from_(from), stride_(stride), lines_(length / kLine + 1), left_(rows * lines_),
        each_((left_ + parts - 1) / max(1, parts)) {}
  [[gnu::always_inline]] void next() {
    for (int64_t i = min(each_, left_); i > 0; --i, --left_) {
      __builtin_prefetch(from_ + at_ * kLine, 0, 2);
      if (++at_ == lines_) at_ = 0, from_ += stride_;
    }
  }

 private:
  static constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));  // values
  const T* from_ = nullptr;
  int64_t stride_ = 0, lines_ = 1, left_ = 0, each_ = 0, at_ = 0;
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

// The tiles of m rows and n columns, from the first: its a, c and bias are theirs, its b the first panel. Activations
// other than relu follow each tile, while it is in the cache. before(tile, rows) is called with each tile first.
template <class T, class Before>
void run_tiles(int64_t m, int64_t n, const Tile<T>& first, UnaryOp activation, const Before& before) {
  constexpr int64_t kColumns = kPanel<T>;
  const TileHeights heights(m);
  Tile<T> t = first;
  t.relu = activation == UnaryOp::relu;
  const bool activates = activation != UnaryOp::identity && !t.relu;
  for (int64_t j = 0; j < n; j += kColumns) {
    t.columns = min(kColumns, n - j);
    for (int64_t i = 0; i < heights.count; ++i) {
      const int64_t top = heights.top(i), rows = heights.top(i + 1) - top;
      t.a = first.a + (first.packed_steps ? i * first.packed_steps * kTileRows : top * first.row_stride);
      t.c = first.c + top * first.ldc + j;
      before(t, rows);
      tile_function<T>(rows, t.columns)(t);
      if (activates) activate(rows, t.columns, t.c, t.ldc, activation);
    }
    t.b += first.b_stride == kColumns ? first.segments * first.steps * kColumns : kColumns;
    if (t.bias) t.bias += kColumns;
  }
}
template <class T>
void run_tiles(int64_t m, int64_t n, const Tile<T>& first, UnaryOp activation) {
  run_tiles(m, n, first, activation, [](const Tile<T>&, int64_t) {});
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
