// A product of two operands in register tiles, which matrix products and convolutions share: what differs is where
// operands come from (loaders) and where results go (outputs).
//
// A block computes kRows x kColumns results. Slices of kDepth of both operands pass through shared memory: the next one
// is on its way from global memory into registers while this one is multiplied. Memory is read and written in packs of
// 16 bytes, and each thread multiplies row_packs of the one operand with column_packs of the other. A warp's lanes lie
// as 4 x 8, in pairs along both (lanes 0 and 1 share a column, lanes 0 and 2 a row), so that half of a warp reads a
// pack of each operand in one pass through the banks, as in CUTLASS (Kerr et al., "CUTLASS: Fast Linear Algebra in CUDA
// C++", 2017).
#pragma once

#include "cuda/common.h"
#include "kernels/args.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

// Whether pointers and all strides keep packs aligned. (Sizes, in elements, are of what is contiguous.)
template <class T, class... Strides>
bool keeps_packs(const void* data, Strides... strides) {
  return is_aligned(16, data) && ((strides % kPackWidth<T> == 0) && ...);
}

// Calls f with the elements that move as one.
template <class T, class F>
void for_width(bool packs, const F& f) {
  if (packs)
    f(std::integral_constant<int, kPackWidth<T>>{});
  else
    f(std::integral_constant<int, 1>{});
}

template <class Value, int row_packs, int column_packs, int warp_rows, int warp_columns, int depth, int blocks,
          bool packs_only = false>
struct TileShape {
  using T = Value;
  static constexpr int kPack = kPackWidth<T>;
  static constexpr int kRowPacks = row_packs, kColumnPacks = column_packs;  // of a thread
  static constexpr int kWarpColumns = warp_columns;
  static constexpr int kRows = warp_rows * 4 * row_packs * kPack, kColumns = warp_columns * 8 * column_packs * kPack;
  static constexpr int kDepth = depth;
  static constexpr int kThreads = warp_rows * warp_columns * kWarpSize;
  static constexpr int kBlocks = blocks;  // that fit a multiprocessor at least
  // For operands and results that are aligned for packs. Else each has a flag, and single elements as another way.
  static constexpr bool kPacksOnly = packs_only;
};

// Packs in a line of a slice. Four elements are spare: a pack along the depth is written to four lines, those of two
// neighbouring packs and 16 rows then fall into different banks.
template <class T, int kExtent>
inline constexpr int kSliceLine = (kExtent + 4) / kPackWidth<T>;

// Which packs of a slice a thread moves, where they are contiguous along the depth: pack n begins at row i + row(n),
// depth k + depth(n). Two neighbours read 32 bytes of a row.
template <class T, int kExtent, int kDepth, int kThreads>
struct AlongDepth {
  static constexpr bool kAlongDepth = true;
  static constexpr int kSliceDepth = kDepth;
  static constexpr int kPack = kPackWidth<T>;
  static constexpr int kLoads = kExtent * kDepth / kPack / kThreads;
  static constexpr int kRows = 2 * kExtent > kThreads ? 2 * kExtent / kThreads : 1;  // that a thread reads from
  static_assert(kLoads * kPack * kThreads == kExtent * kDepth);
  MICA_DEVICE AlongDepth() {
    const int t = static_cast<int>(thread_index().x);
    i = t / 2 % kExtent;
    k = (t % 2 + t / (2 * kExtent) * 2) * kPack;
  }
  MICA_HD static constexpr int row(int n) { return n % kRows * (kThreads / 2); }
  MICA_HD static constexpr int depth(int n) { return n * kThreads / (2 * kExtent) * 2 * kPack; }

  template <class Slice>
  MICA_DEVICE void store(const Pack<T> (&value)[kLoads], Slice&& slice) const {
    MICA_UNROLL
    for (int n = 0; n < kLoads; ++n) {
      const unsigned at = static_cast<unsigned>(i + row(n));
      MICA_UNROLL
      for (int e = 0; e < kPack; ++e) slice[k + depth(n) + e][at / kPack].v[at % kPack] = value[n].v[e];
    }
  }
  int i, k;
};

// The same where packs are contiguous along the extent.
template <class T, int kExtent, int kDepth, int kThreads>
struct AlongExtent {
  static constexpr bool kAlongDepth = false;
  static constexpr int kSliceDepth = kDepth;
  static constexpr int kPack = kPackWidth<T>;
  static constexpr int kLine = kExtent / kPack;
  static constexpr int kLoads = kExtent * kDepth / kPack / kThreads;
  static constexpr int kRows = 1;
  static_assert(kThreads % kLine == 0 && kLoads * kPack * kThreads == kExtent * kDepth);
  MICA_DEVICE AlongExtent() {
    const int t = static_cast<int>(thread_index().x);
    i = t % kLine * kPack;
    k = t / kLine;
  }
  MICA_HD static constexpr int row(int) { return 0; }
  MICA_HD static constexpr int depth(int n) { return n * (kThreads / kLine); }

  template <class Slice>
  MICA_DEVICE void store(const Pack<T> (&value)[kLoads], Slice&& slice) const {
    MICA_UNROLL
    for (int n = 0; n < kLoads; ++n) slice[k + depth(n)][i / kPack] = value[n];
  }
  int i, k;
};

template <bool kAlongDepth, class T, int kExtent, int kDepth, int kThreads>
using Along = std::conditional_t<kAlongDepth, AlongDepth<T, kExtent, kDepth, kThreads>,
                                 AlongExtent<T, kExtent, kDepth, kThreads>>;

// One operand that lies in memory as a matrix: `extent` rows of op(a) or columns of op(b). One of the strides is 1.
template <class T>
struct Matrix {
  const T* data = nullptr;
  int extent = 0;
  int64_t extent_stride = 0, depth_stride = 0;
  int64_t batch_stride = 0;
  bool packs = false;  // aligned, and whole packs along what is contiguous
};

// Loads slices of a Matrix from `first` of the extent and `begin` of the depth on, zeros beyond its edges.
template <class Tile, class Map>
class MatrixLoader {
  using T = typename Tile::T;

 public:
  MICA_DEVICE MatrixLoader(const Matrix<T>& matrix, int64_t batch, int first, int64_t begin, int depth)
      : data_(matrix.data), packs_(matrix.packs) {
    extent_stride_ = Map::kAlongDepth ? matrix.extent_stride : 1;
    depth_stride_ = Map::kAlongDepth ? 1 : matrix.depth_stride;
    extent_left_ = matrix.extent - first - map_.i;
    depth_left_ = depth - map_.k;
    next_ = batch * matrix.batch_stride + int64_t{first + map_.i} * extent_stride_ + (begin + map_.k) * depth_stride_;
  }

  MICA_DEVICE void load() {
    if (Tile::kPacksOnly || packs_) {
      MICA_UNROLL
      for (int n = 0; n < Map::kLoads; ++n) {
        value_[n] = {};
        if (map_.depth(n) < depth_left_ && map_.row(n) < extent_left_)
          value_[n] = *reinterpret_cast<const Pack<T>*>(data_ + at(n));
      }
    } else {
      MICA_UNROLL
      for (int n = 0; n < Map::kLoads; ++n) {
        MICA_UNROLL
        for (int e = 0; e < Map::kPack; ++e) {
          const int k = map_.depth(n) + (Map::kAlongDepth ? e : 0), i = map_.row(n) + (Map::kAlongDepth ? 0 : e);
          value_[n].v[e] = k < depth_left_ && i < extent_left_ ? data_[at(n) + e] : T(0);
        }
      }
    }
    next_ += Map::kAlongDepth ? kSlice : kSlice * depth_stride_;
    depth_left_ -= kSlice;
  }
  template <class Slice>
  MICA_DEVICE void store(Slice&& slice) const {
    map_.store(value_, slice);
  }

 private:
  static constexpr int kSlice = Map::kSliceDepth;
  MICA_DEVICE int64_t at(int n) const { return next_ + map_.row(n) * extent_stride_ + map_.depth(n) * depth_stride_; }

  Map map_;
  const T* data_;
  bool packs_;
  int extent_left_, depth_left_;
  int64_t extent_stride_, depth_stride_, next_;
  Pack<T> value_[Map::kLoads];
};

// Both operands as matrices.
template <class T, bool a_along_depth, bool b_along_depth>
struct MatrixOperands {
  Matrix<T> a, b;
  int64_t depth = 0;

  bool packs() const { return a.packs && b.packs; }
  MICA_HD int64_t depth_of(int64_t) const { return depth; }
  template <class Tile>
  MICA_DEVICE auto load_a(int64_t batch, int first, int64_t begin, int depth_left) const {
    using Map = Along<a_along_depth, T, Tile::kRows, Tile::kDepth, Tile::kThreads>;
    return MatrixLoader<Tile, Map>(a, batch, first, begin, depth_left);
  }
  template <class Tile>
  MICA_DEVICE auto load_b(int64_t batch, int first, int64_t begin, int depth_left) const {
    using Map = Along<b_along_depth, T, Tile::kColumns, Tile::kDepth, Tile::kThreads>;
    return MatrixLoader<Tile, Map>(b, batch, first, begin, depth_left);
  }
};

// Where results go, and what is done to them: c[row, column] (+)= activation(sum + bias[column]).
template <class T>
struct MatrixOutput {
  T* c = nullptr;
  int64_t ldc = 0, batch_stride = 0;
  const T* bias = nullptr;
  int64_t bias_stride = 0;  // from one product of the batch to the next
  int columns = 0, rows = 0;
  bool relu = false, tanh = false, accumulate = false;
  bool packs = false;  // aligned, and whole packs in a row

  // The place of the first column, or a negative number where the row is nobody's.
  MICA_DEVICE int64_t at(int64_t batch, int row) const {
    return row < rows ? batch * batch_stride + int64_t{row} * ldc : int64_t{-1};
  }
  void set(UnaryOp activation) {
    relu = activation == UnaryOp::relu;
    tanh = activation == UnaryOp::tanh;
  }
  // All but tanh, which would be the better part of a tile's code.
  MICA_DEVICE T finish(T sum, T shift, T before) const {
    T y = sum + shift;
    if (relu) y = scalar::Relu::forward(y);
    return accumulate ? before + y : y;
  }
  MICA_DEVICE T finish_all(T sum, T shift, T before) const {
    const T y = finish(sum, shift, before);
    return tanh ? scalar::Tanh::forward(y) : y;
  }
};

// How a grid's blocks share out a batch of products. Where there are too few tiles to fill a GPU, the depth is cut too:
// split s of each product takes `split_depth` from s * split_depth on.
struct TileGrid {
  unsigned row_tiles = 0, column_tiles = 0, splits = 1, batch = 1;
  int split_depth = 0;
  int64_t blocks() const { return int64_t{row_tiles} * column_tiles * splits * batch; }
};

// What one block of it computes. Blocks that run together lie in a group of rows, so that they share more of both
// operands in the L2 cache than a single row of tiles does.
struct TilePlace {
  unsigned row, column, product, split, batch;  // product: of all splits
  MICA_DEVICE explicit TilePlace(const TileGrid& grid) {
    constexpr unsigned kGroup = 8;
    const unsigned tiles = grid.row_tiles * grid.column_tiles;
    const unsigned tile = block_index().x % tiles;
    product = block_index().x / tiles;
    batch = product % grid.batch;
    split = product / grid.batch;
    const unsigned group = tile / (kGroup * grid.column_tiles), within = tile % (kGroup * grid.column_tiles);
    const unsigned rows = at_most(grid.row_tiles - group * kGroup, kGroup);
    row = group * kGroup + within % rows;
    column = within / rows;
  }
};

// Adds the product of the slices that `a` and `b` have read, while they read the next ones.
template <class Tile, class A, class B, class ASlice, class BSlice, class Sum>
MICA_DEVICE void multiply_slice(A& a, B& b, ASlice&& a_slice, BSlice&& b_slice, int row_pack, int column_pack,
                                Sum& sum) {
  constexpr int kPack = Tile::kPack;
  constexpr int kRowPacks = Tile::kRowPacks, kColumnPacks = Tile::kColumnPacks;
  a.store(a_slice);
  b.store(b_slice);
  // Slices are written before they are read. That they are read before they are written again needs no barrier of its
  // own: the buffer written next was last read before this one.
  barrier();
  a.load();
  b.load();
  MICA_UNROLL
  for (int k = 0; k < Tile::kDepth; ++k) {
    Pack<typename Tile::T> x[kRowPacks], y[kColumnPacks];
    MICA_UNROLL
    for (int i = 0; i < kRowPacks; ++i) x[i] = a_slice[k][row_pack + 4 * i];
    MICA_UNROLL
    for (int j = 0; j < kColumnPacks; ++j) y[j] = b_slice[k][column_pack + 8 * j];
    MICA_UNROLL
    for (int i = 0; i < kRowPacks * kPack; ++i) {
      MICA_UNROLL
      for (int j = 0; j < kColumnPacks * kPack; ++j) sum[i][j] += x[i / kPack].v[i % kPack] * y[j / kPack].v[j % kPack];
    }
  }
}

// How many blocks shall fit a multiprocessor: of the largest tile one, where finding the operands takes registers too.
template <class Tile, class Operands>
constexpr int blocks_that_fit() {
  if constexpr (requires { Operands::kFindsWindows; })
    return Tile::kThreads == 256 ? 1 : Tile::kBlocks;
  else
    return Tile::kBlocks;
}

template <class Tile, class Operands, class Output>
MICA_KERNEL(Tile::kThreads, blocks_that_fit<Tile, Operands>())
void tile_kernel(const Operands operands, const Output output, const TileGrid grid) {
  using T = typename Tile::T;
  constexpr int kPack = Tile::kPack, kDepth = Tile::kDepth;
  constexpr int kRowPacks = Tile::kRowPacks, kColumnPacks = Tile::kColumnPacks;
  MICA_SHARED(Pack<T>, a_slice, [2][kDepth][kSliceLine<T, Tile::kRows>]);
  MICA_SHARED(Pack<T>, b_slice, [2][kDepth][kSliceLine<T, Tile::kColumns>]);

  const TilePlace place(grid);
  const int first_row = static_cast<int>(place.row) * Tile::kRows;
  const int first_column = static_cast<int>(place.column) * Tile::kColumns;
  const int64_t begin = int64_t{place.split} * grid.split_depth;
  const int depth = static_cast<int>(at_most<int64_t>(operands.depth_of(place.batch) - begin, grid.split_depth));

  // This thread's first pack of a slice's lines; the others follow 4 or 8 packs apart.
  const int thread = static_cast<int>(thread_index().x), warp = thread / kWarpSize, lane = thread % kWarpSize;
  const int row_pack = warp / Tile::kWarpColumns * (4 * kRowPacks) + lane % 2 + lane / 16 * 2;
  const int column_pack = warp % Tile::kWarpColumns * (8 * kColumnPacks) + lane / 2 % 8;

  auto a = operands.template load_a<Tile>(place.batch, first_row, begin, depth);
  auto b = operands.template load_b<Tile>(place.batch, first_column, begin, depth);
  T sum[kRowPacks * kPack][kColumnPacks * kPack] = {};

  a.load();
  b.load();
  // Two slices a turn, so that the place of each is known.
  for (int left = depth; left > 0; left -= 2 * kDepth) {
    multiply_slice<Tile>(a, b, a_slice[0], b_slice[0], row_pack, column_pack, sum);
    if (left <= kDepth) break;
    multiply_slice<Tile>(a, b, a_slice[1], b_slice[1], row_pack, column_pack, sum);
  }

  const int row = first_row + row_pack * kPack, column = first_column + column_pack * kPack;
  const int columns = output.columns - column;  // from there on
  Pack<T> shift[kColumnPacks] = {};
  if (output.bias) {
    MICA_UNROLL
    for (int j = 0; j < kColumnPacks * kPack; ++j) {
      const int at = j / kPack * (8 * kPack) + j % kPack;
      if (at < columns) shift[j / kPack].v[j % kPack] = output.bias[place.product * output.bias_stride + column + at];
    }
  }
  MICA_UNROLL
  for (int i = 0; i < kRowPacks * kPack; ++i) {
    const int64_t line = output.at(place.product, row + i / kPack * (4 * kPack) + i % kPack);
    if (line < 0) continue;
    T* const c = output.c + line + column;
    MICA_UNROLL
    for (int j = 0; j < kColumnPacks; ++j) {
      const int at = j * (8 * kPack);
      if (Tile::kPacksOnly || output.packs) {
        if (at >= columns) continue;
        Pack<T>& target = *reinterpret_cast<Pack<T>*>(c + at);
        Pack<T> value = {};
        if (output.accumulate) value = target;
        MICA_UNROLL
        for (int e = 0; e < kPack; ++e) value.v[e] = output.finish(sum[i][j * kPack + e], shift[j].v[e], value.v[e]);
        target = value;
      } else {
        MICA_UNROLL
        for (int e = 0; e < kPack; ++e)
          if (at + e < columns)
            c[at + e] = output.finish(sum[i][j * kPack + e], shift[j].v[e], output.accumulate ? c[at + e] : T(0));
      }
    }
  }
}

// The splits' sums, [splits, batch, rows, columns], added in their order, then `output`.
template <class T>
MICA_KERNEL(256)
void add_splits_kernel(const T* __restrict__ sums, int splits, int64_t count, FastDivide columns, FastDivide rows,
                       const MatrixOutput<T> output) {
  const int64_t i = int64_t{block_index().x} * 256 + thread_index().x;
  if (i >= count) return;
  T sum = sums[i];
  for (int s = 1; s < splits; ++s) sum += sums[s * count + i];
  int column = static_cast<int>(i);
  int row = columns.divide(column);
  const int64_t batch = rows.divide(row);
  T& c = output.c[output.at(batch, row) + column];
  const T shift = output.bias ? output.bias[batch * output.bias_stride + column] : T(0);
  c = output.finish_all(sum, shift, output.accumulate ? c : T(0));
}

// c = tanh(c), of all `count` elements of the batch.
template <class T>
MICA_KERNEL(256)
void tanh_kernel(int64_t count, FastDivide columns, FastDivide rows, const MatrixOutput<T> output) {
  const int64_t i = int64_t{block_index().x} * 256 + thread_index().x;
  if (i >= count) return;
  int column = 0, row = 0;
  int64_t batch = 0;
  if (count <= int64_t{1} << 31) {  // so FastDivide will do
    column = static_cast<int>(i);
    row = columns.divide(column);
    batch = rows.divide(row);
  } else {
    const int64_t line = i / output.columns;
    column = static_cast<int>(i - line * output.columns);
    batch = line / output.rows;
    row = static_cast<int>(line - batch * output.rows);
  }
  T& c = output.c[output.at(batch, row) + column];
  c = scalar::Tanh::forward(c);
}

// ---- Launching ----

// The tiles, from the widest on: whatever fills a GPU with the fewest loads.
template <class T>
struct Tiles;
template <>
struct Tiles<float> {
  using Large = TileShape<float, 2, 2, 4, 2, 8, 2, true>;  // 128 x 128, 256 threads
  using Medium = TileShape<float, 2, 1, 2, 2, 16, 4>;      // 64 x 64, 128 threads
  using Tall = TileShape<float, 2, 1, 4, 1, 16, 4>;        // 128 x 32
  using Wide = TileShape<float, 2, 1, 1, 4, 16, 4>;        // 32 x 128
};
template <>
struct Tiles<double> {                                // for gradient checks and references: one will do
  using Large = TileShape<double, 2, 2, 4, 2, 8, 2>;  // 64 x 64, 256 threads
};

// Calls f with the tile for a product's shape. The threshold is in tiles that there would be: a GPU of over a hundred
// multiprocessors takes about two of the largest each. `packs`: of all operands and results.
template <class T, class F>
void for_tile(int64_t m, int64_t n, int64_t batch, bool packs, const F& f) {
  if constexpr (std::is_same_v<T, float>) {
    constexpr int64_t kEnough = 192;
    if (n <= 32) return f(typename Tiles<T>::Tall{});
    if (m <= 32) return f(typename Tiles<T>::Wide{});
    if (!packs || m <= 64 || n <= 64 || ceil_div(m, 128) * ceil_div(n, 128) * batch < kEnough)
      return f(typename Tiles<T>::Medium{});
  }
  f(typename Tiles<T>::Large{});
}

template <class Tile>
TileGrid tile_grid(int64_t m, int64_t n, int64_t depth, int64_t batch, bool may_split) {
  constexpr int64_t kFull = Tile::kThreads == 256 ? 256 : 512;  // blocks
  constexpr int64_t kShortest = 128, kLongest = int64_t{1} << 30;
  TileGrid grid;
  grid.row_tiles = static_cast<unsigned>(ceil_div(m, Tile::kRows));
  grid.column_tiles = static_cast<unsigned>(ceil_div(n, Tile::kColumns));
  grid.batch = static_cast<unsigned>(batch);
  int64_t splits = 1;
  if (may_split) splits = at_least<int64_t>(1, at_most(kFull / grid.blocks(), depth / kShortest));
  splits = at_least(splits, ceil_div(depth, kLongest));
  MICA_ASSERT(splits == 1 || may_split);
  grid.split_depth = static_cast<int>(round_up(ceil_div(at_least<int64_t>(depth, 1), splits), Tile::kDepth));
  grid.splits = static_cast<unsigned>(at_least<int64_t>(1, ceil_div(depth, grid.split_depth)));
  return grid;
}

template <class T>
void add_splits(Context& ctx, const T* sums, int splits, int64_t batch, const MatrixOutput<T>& output) {
  const int64_t count = batch * output.rows * output.columns;
  launch(add_splits_kernel<T>, ceil_div(count, 256), {256}, 0, ctx.stream, sums, splits, count,
         FastDivide(output.columns), FastDivide(output.rows), output);
}

// output = the batch of products [m, depth] x [depth, n], through the activation.
template <class T, class Operands>
void multiply_tiles(Context& ctx, const Operands& operands, MatrixOutput<T> output, UnaryOp activation, int64_t depth,
                    int64_t batch) {
  const int64_t m = output.rows, n = output.columns;
  output.set(activation);
  for_tile<T>(m, n, batch, operands.packs() && output.packs, [&](auto tile) {
    using Tile = decltype(tile);
    const TileGrid grid = tile_grid<Tile>(m, n, depth, batch, true);
    const auto run = [&](const MatrixOutput<T>& to) {
      launch(tile_kernel<Tile, Operands, MatrixOutput<T>>, grid.blocks(), {Tile::kThreads}, 0, ctx.stream, operands, to,
             grid);
    };
    if (grid.splits == 1) {
      run(output);
      if (output.tanh)
        launch(tanh_kernel<T>, ceil_div(batch * m * n, 256), {256}, 0, ctx.stream, batch * m * n, FastDivide(n),
               FastDivide(m), output);
      return;
    }
    const Scratch sums(ctx, sizeof(T) * static_cast<size_t>(grid.splits * batch * m * n));
    MatrixOutput<T> parts;
    parts.c = sums.as<T>();
    parts.rows = output.rows;
    parts.columns = output.columns;
    parts.ldc = n;
    parts.batch_stride = m * n;
    parts.packs = n % kPackWidth<T> == 0;
    run(parts);
    add_splits(ctx, parts.c, static_cast<int>(grid.splits), batch, output);
  });
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
