// Kernels that move values: strided copies and selections.
#include <utility>

#include "cuda/strided.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

namespace {

// 16 bytes that are copied without a look at them.
struct alignas(16) Bytes16 {
  uint64_t v[2];
};

template <bool kAccumulate, class T>
MICA_DEVICE T with_old(T value, const T& old) {
  if constexpr (kAccumulate)
    return old + value;
  else
    return value;
}

// y[...] (+)= x[...] by the walk.
template <class T, bool kAccumulate>
MICA_KERNEL(kMapThreads)
void copy_kernel(const Walk walk, int count, bool packed, bool x_packed, bool y_packed, const T* x, T* y) {
  constexpr int n = kMapWidth<T>;
  const ThreadElements<n, int> elements(count, packed);
  Packs<T, n> p = {};
  if (!packed) {
    int to[kMapPacks][n];
    elements.for_each([&](int k, int j) {
      int from;
      walk.find(elements.at(k, j), from, to[k][j]);
      p.k[k].v[j] = x[from];
    });
    elements.for_each([&](int k, int j) { y[to[k][j]] = with_old<kAccumulate>(p.k[k].v[j], y[to[k][j]]); });
    return;
  }
  int from[kMapPacks], to[kMapPacks];
  MICA_UNROLL
  for (int k = 0; k < kMapPacks; ++k) walk.find(elements.at(k, 0), from[k], to[k]);
  load_rows<n>(elements, x, from, walk.a_step(), x_packed, p);
  if (y_packed && elements.whole()) {
    if constexpr (kAccumulate) {
      Packs<T, n> old = {};
      load_rows<n>(elements, y, to, 1, true, old);
      p = map_packs<T>(Add{}, old, p);
    }
    MICA_UNROLL
    for (int k = 0; k < kMapPacks; ++k) *reinterpret_cast<Pack<T, n>*>(y + to[k]) = p.k[k];
    return;
  }
  elements.for_each([&](int k, int j) {
    T& target = y[to[k] + j * walk.b_step()];
    target = with_old<kAccumulate>(p.k[k].v[j], target);
  });
}

// A transposition: x lies along one axis and y along another one. A block brings a tile of both axes through shared
// memory, so that it reads and writes rows; the rest of the axes count the tiles.
constexpr int kTile = 32;
constexpr int kTileRows = 8;  // at a time

struct Tiles {
  Walk corners{{.rank = 1, .size = {1}}};  // x at a, y at b
  FastDivide x_tiles, y_tiles;
  int x_size = 0, y_size = 0;      // of the axis along which x lies, and of that along which y does
  int x_stride = 0, y_stride = 0;  // of x along y's axis, of y along x's
};

template <class T, bool kAccumulate>
MICA_KERNEL(kTile* kTileRows)
void transpose_kernel(const Tiles tiles, const T* x, T* y) {
  MICA_SHARED(T, tile, [kTile][kTile + 1]);
  const int column = static_cast<int>(thread_index().x), first_row = static_cast<int>(thread_index().y);
  int place = static_cast<int>(block_index().x);
  const int rest = tiles.x_tiles.divide(place);
  const int x_first = place * kTile;
  place = rest;
  const int corner = tiles.y_tiles.divide(place);
  const int y_first = place * kTile;
  int from, to;
  tiles.corners.find(corner, from, to);
  x += from;
  y += to;
  MICA_UNROLL
  for (int row = 0; row < kTile; row += kTileRows) {
    const int i = y_first + first_row + row, j = x_first + column;
    if (i < tiles.y_size && j < tiles.x_size) tile[first_row + row][column] = x[i * tiles.x_stride + j];
  }
  barrier();
  MICA_UNROLL
  for (int row = 0; row < kTile; row += kTileRows) {
    const int i = x_first + first_row + row, j = y_first + column;
    if (i >= tiles.x_size || j >= tiles.y_size) continue;
    T& target = y[i * tiles.y_stride + j];
    target = with_old<kAccumulate, T>(tile[column][first_row + row], target);
  }
}

void remove_axis(StridedDims& dims, int axis) {
  --dims.rank;
  for (int i = axis; i < dims.rank; ++i) {
    dims.size[i] = dims.size[i + 1];
    dims.a_stride[i] = dims.a_stride[i + 1];
    dims.b_stride[i] = dims.b_stride[i + 1];
  }
}

// The same copy with y's addresses ascending, axes that run on merged: where y is dense, its last axis is contiguous.
template <class T>
StridedDims in_order_of_y(StridedDims dims, const T*& x, T*& y) {
  for (int i = dims.rank - 1; i >= 0; --i) {
    if (dims.size[i] == 1 && dims.rank > 1) {
      remove_axis(dims, i);
      continue;
    }
    if (dims.b_stride[i] >= 0) continue;
    x += (dims.size[i] - 1) * dims.a_stride[i];
    y += (dims.size[i] - 1) * dims.b_stride[i];
    dims.a_stride[i] = -dims.a_stride[i];
    dims.b_stride[i] = -dims.b_stride[i];
  }
  for (int i = 1; i < dims.rank; ++i)
    for (int j = i; j > 0 && dims.b_stride[j] > dims.b_stride[j - 1]; --j) {
      std::swap(dims.size[j], dims.size[j - 1]);
      std::swap(dims.a_stride[j], dims.a_stride[j - 1]);
      std::swap(dims.b_stride[j], dims.b_stride[j - 1]);
    }
  for (int i = dims.rank - 2; i >= 0; --i) {
    const int64_t inner = dims.size[i + 1];
    if (dims.a_stride[i] != dims.a_stride[i + 1] * inner || dims.b_stride[i] != dims.b_stride[i + 1] * inner) continue;
    dims.size[i + 1] *= dims.size[i];
    remove_axis(dims, i);
  }
  return dims;
}

// The axis along which x lies, where that takes a transposition; else -1.
int transposed_axis(const StridedDims& dims) {
  constexpr int64_t kLeast = kTile / 2;
  const int last = dims.rank - 1;
  if (dims.b_stride[last] != 1 || dims.a_stride[last] == 1 || dims.a_stride[last] == 0 || dims.size[last] < kLeast)
    return -1;
  for (int i = 0; i < last; ++i)
    if (dims.a_stride[i] == 1 && dims.size[i] >= kLeast) return i;
  return -1;
}

template <class T, bool kAccumulate>
void transpose(Context& ctx, StridedDims dims, int axis, const T* x, T* y) {
  const int last = dims.rank - 1;
  Tiles tiles;
  tiles.x_size = to_int(dims.size[axis]);
  tiles.y_size = to_int(dims.size[last]);
  tiles.x_stride = to_int(dims.a_stride[last]);
  tiles.y_stride = to_int(dims.b_stride[axis]);
  const int64_t x_tiles = ceil_div(tiles.x_size, kTile), y_tiles = ceil_div(tiles.y_size, kTile);
  tiles.x_tiles = FastDivide(x_tiles);
  tiles.y_tiles = FastDivide(y_tiles);
  remove_axis(dims, last);
  remove_axis(dims, axis);
  if (dims.rank > 0) tiles.corners = Walk(dims);
  launch(transpose_kernel<T, kAccumulate>, count_of(dims) * x_tiles * y_tiles, {kTile, kTileRows}, 0, ctx.stream, tiles,
         x, y);
}

template <class T, bool kAccumulate>
void copy_strided(Context& ctx, const StridedDims& dims, const T* x, T* y) {
  constexpr int n = kMapWidth<T>;
  for_parts(dims, [&](const StridedDims& part, int64_t, int64_t at_x, int64_t at_y) {
    if constexpr (sizeof(T) < 16)
      if (const int axis = transposed_axis(part); axis >= 0)
        return transpose<T, kAccumulate>(ctx, part, axis, x + at_x, y + at_y);
    const Walk walk(part);
    const int64_t count = count_of(part);
    launch(copy_kernel<T, kAccumulate>, map_blocks(count, n), {kMapThreads}, 0, ctx.stream, walk, to_int(count),
           walk.packs_in_rows(n), walk.packs_in_a(n) && holds_packs<n>(x + at_x),
           walk.packs_in_b(n) && holds_packs<n>(y + at_y), x + at_x, y + at_y);
  });
}

// Copies elements of T, or two as one where all of them lie in such pairs.
template <class T>
void copy_units(Context& ctx, StridedDims dims, const T* x, T* y) {
  if constexpr (sizeof(T) < 16) {
    using Pair = std::conditional_t<
        sizeof(T) == 1, uint16_t,
        std::conditional_t<sizeof(T) == 2, uint32_t, std::conditional_t<sizeof(T) == 4, uint64_t, Bytes16>>>;
    const int last = dims.rank - 1;
    bool pairs = dims.a_stride[last] == 1 && dims.b_stride[last] == 1 && dims.size[last] % 2 == 0 &&
                 holds_packs<2>(x) && holds_packs<2>(y);
    for (int i = 0; i < last; ++i) pairs = pairs && dims.a_stride[i] % 2 == 0 && dims.b_stride[i] % 2 == 0;
    if (pairs) {
      dims.size[last] /= 2;
      for (int i = 0; i < last; ++i) {
        dims.a_stride[i] /= 2;
        dims.b_stride[i] /= 2;
      }
      return copy_units(ctx, dims, reinterpret_cast<const Pair*>(x), reinterpret_cast<Pair*>(y));
    }
  }
  copy_strided<T, false>(ctx, dims, x, y);
}

struct Select {
  template <class T>
  MICA_HD T operator()(T a, T b, uint8_t condition) const {
    return condition ? a : b;
  }
};

}  // namespace

void copy(Context& ctx, DType dtype, const StridedDims& dims, const void* x, void* y, Write write) {
  if (count_of(dims) == 0) return;
  const auto run = [&](auto t, const auto& f) {
    using T = decltype(t);
    const T* from = static_cast<const T*>(x);
    T* to = static_cast<T*>(y);
    const StridedDims ordered = in_order_of_y(dims, from, to);
    f(ordered, from, to);
  };
  if (write == Write::overwrite)
    return for_size(dtype, [&](auto t) {
      run(t, [&](const StridedDims& ordered, const auto* from, auto* to) { copy_units(ctx, ordered, from, to); });
    });
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    run(t, [&](const StridedDims& ordered, const T* from, T* to) { copy_strided<T, true>(ctx, ordered, from, to); });
  });
}

void select(Context& ctx, DType dtype, const StridedDims& dims, const uint8_t* condition, const void* a, const void* b,
            void* y) {
  for_size(dtype, [&](auto t) {
    using T = decltype(t);
    broadcast(ctx, dims, Select{}, static_cast<const T*>(a), static_cast<const T*>(b), static_cast<T*>(y), condition);
  });
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
