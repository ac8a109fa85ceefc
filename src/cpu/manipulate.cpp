// CPU kernels that move values: strided copies and selections.
#include <cstring>

#include "cpu/strided.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

namespace {

// y = x or y += x along one row.
template <class T, bool kAccumulate>
[[gnu::always_inline]] inline void copy_row(const T* x, int64_t x_stride, T* y, int64_t y_stride, int64_t n) {
  const auto put = [](T& target, T value) {
    if constexpr (kAccumulate)
      target += value;
    else
      target = value;
  };
  if (y_stride == 1 && x_stride == 1) {
    if constexpr (!kAccumulate) {
      std::memcpy(y, x, static_cast<size_t>(n) * sizeof(T));
    } else {
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) put(y[i], x[i]);
    }
  } else if (y_stride == 1 && x_stride == 0) {
    const T fixed = *x;
    for (int64_t i = 0; i < n; ++i) put(y[i], fixed);
  } else {
    for (int64_t i = 0; i < n; ++i) put(y[i * y_stride], x[i * x_stride]);
  }
}

// A transposition reads columns: rows of a tile of kTile x kTile are written while what the columns touch is in the
// cache.
constexpr int64_t kTile = 16;

template <class T, bool kAccumulate>
void copy_strided(Context& ctx, const StridedDims& dims, const T* x, T* y) {
  const int last = dims.rank - 1;
  int column = -1;  // the axis along which x lies, where it is not the last
  if (dims.b_stride[last] == 1 && dims.a_stride[last] != 1 && dims.a_stride[last] != 0)
    for (int i = 0; i < last; ++i)
      if (dims.a_stride[i] == 1 && dims.size[i] >= kTile / 2) column = i;
  if (column < 0) {
    for_rows(ctx, dims, [&](int64_t a, int64_t b, int64_t, int64_t n) {
      copy_row<T, kAccumulate>(x + a, dims.a_stride[last], y + b, dims.b_stride[last], n);
    });
    return;
  }
  // The same walk over kTile columns at a time: the column axis goes into the rows.
  StridedDims tiles = dims;
  const int64_t columns = dims.size[column], y_column = dims.b_stride[column], x_row = dims.a_stride[last];
  tiles.size[column] = (columns + kTile - 1) / kTile;
  tiles.a_stride[column] = kTile;
  tiles.b_stride[column] = kTile * y_column;
  // Tiles along the last axis as well, as one more "row" of tile corners.
  const int64_t n = dims.size[last];
  tiles.size[last] = (n + kTile - 1) / kTile;
  tiles.a_stride[last] = kTile * x_row;
  tiles.b_stride[last] = kTile;
  int64_t stride = 1;  // where the column axis stands in the count of tiles
  for (int i = last; i > column; --i) stride *= tiles.size[i];
  for_rows(
      ctx, tiles,
      [&](int64_t a, int64_t b, int64_t first, int64_t count) {
        const int64_t width = min(kTile, columns - first / stride % tiles.size[column] * kTile);
        for (int64_t t = 0; t < count; ++t) {
          const int64_t begin = (first % tiles.size[last] + t) * kTile, height = min(kTile, n - begin);
          const T* in = x + a + t * kTile * x_row;
          T* out = y + b + t * kTile;
          for (int64_t c = 0; c < width; ++c)
            for (int64_t r = 0; r < height; ++r) {
              if constexpr (kAccumulate)
                out[c * y_column + r] += in[r * x_row + c];
              else
                out[c * y_column + r] = in[r * x_row + c];
            }
        }
      },
      kTile * kTile);
}

}  // namespace

void copy(Context& ctx, DType dtype, const StridedDims& dims, const void* x, void* y, Write write) {
  if (write == Write::accumulate)
    return for_float(dtype, [&](auto t) {
      using T = decltype(t);
      copy_strided<T, true>(ctx, dims, static_cast<const T*>(x), static_cast<T*>(y));
    });
  for_size(dtype, [&](auto t) {
    using T = decltype(t);
    copy_strided<T, false>(ctx, dims, static_cast<const T*>(x), static_cast<T*>(y));
  });
}

void select(Context& ctx, DType dtype, const StridedDims& dims, const uint8_t* condition, const void* a, const void* b,
            void* y) {
  for_size(dtype, [&](auto t) {
    using T = decltype(t);
    rows_of_two(ctx, dims, static_cast<const T*>(a), static_cast<const T*>(b),
                [=](int64_t first, int64_t n, const T* p, const T* q) {
                  T* out = static_cast<T*>(y) + first;
                  const uint8_t* c = condition + first;
                  for (int64_t i = 0; i < n; ++i) out[i] = c[i] ? p[i] : q[i];
                });
  });
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
