// Kernels over columns of [rows, n]: two sums of each, cut along the rows as the shape alone says, and maps with
// parameters of each column.
#pragma once

#include "cuda/common.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

// A block of kColumnThreads takes a strip of columns, 2^across_log packs of `width`, and `height` rows of it.
inline constexpr int kColumnThreads = 256;

struct ColumnShape {
  int64_t rows = 0, n = 0, height = 0;
  int across_log = 0;
  unsigned strips = 0, splits = 0;  // blocks along the columns and the rows

  ColumnShape(int64_t rows_, int64_t n_, int width) : rows(rows_), n(n_) {
    const int64_t packs = ceil_div(n, width);
    while (across_log < 5 && (int64_t{1} << across_log) < packs) ++across_log;
    strips = static_cast<unsigned>(ceil_div(packs, int64_t{1} << across_log));
  }
  void cut(int64_t rows_of_block) {
    height = rows_of_block;
    splits = static_cast<unsigned>(ceil_div(rows, height));
  }
  MICA_HD int down() const { return kColumnThreads >> across_log; }
  MICA_HD int64_t rows_of(int64_t split) const { return at_most(rows - split * height, height); }
};

// The part of a thread: a pack of columns, and each down()th row of the block's.
struct ColumnPlace {
  int y;
  unsigned split;
  int64_t column, row, end;

  MICA_DEVICE ColumnPlace(const ColumnShape& shape, int width) {
    const int thread = static_cast<int>(thread_index().x);
    y = thread >> shape.across_log;
    split = block_index().x / shape.strips;
    const int64_t strip = block_index().x - split * shape.strips;
    column = ((strip << shape.across_log) + (thread & ((1 << shape.across_log) - 1))) * width;
    row = split * shape.height + y;
    end = column < shape.n ? at_most(shape.rows, (split + 1) * shape.height) : 0;
  }
};

// Two sums of a column in float64, and how many rows they are of.
struct ColumnTotal {
  double a, b;
};

inline constexpr int kColumnRun = 64;  // rows that a thread adds in T before they go into float64
inline constexpr int kColumnUnroll = 4;

// Combines the totals of the threads of a column, kStride apart, in shared memory: that of y == 0 is of all. The upper
// half of the threads hands its totals to the lower half; each place is written once, so no barrier holds writes back.
template <class Sums, int width, class Totals, class Counts>
MICA_DEVICE void combine_columns(ColumnTotal (&total)[width], double count, int y, int down, int stride,
                                 Totals&& totals, Counts&& counts) {
  const int thread = static_cast<int>(thread_index().x);
  for (int half = down / 2; half > 0; half /= 2) {
    if (y >= half && y < 2 * half) {
      counts[thread] = count;
      MICA_UNROLL
      for (int j = 0; j < width; ++j) totals[j][thread] = total[j];
    }
    barrier();
    if (y < half) {
      const int other = thread + half * stride;
      const double more = counts[other], weight = Sums::weight(count, more);
      MICA_UNROLL
      for (int j = 0; j < width; ++j) Sums::merge(total[j], totals[j][other], count, weight);
      count += more;
    }
  }
}

// partial[splits][2][n]: the totals of each block's rows. SumsOf<T, width> is a thread's sums of its columns over a run
// of rows (norm.cu), made from `source`.
template <template <class, int> class SumsOf, class T, int width>
MICA_KERNEL(kColumnThreads)
void column_sums_kernel(const ColumnShape shape, const typename SumsOf<T, width>::Source source, double* partial) {
  using Sums = SumsOf<T, width>;
  MICA_SHARED(ColumnTotal, totals, [width][kColumnThreads]);
  MICA_SHARED(double, counts, [kColumnThreads]);
  ColumnPlace at(shape, width);
  const int down = shape.down();
  Sums sums(source, at.column, at.end > 0);
  ColumnTotal total[width] = {};
  double count = 0;
  while (at.row < at.end) {
    const int64_t run_end = at_most(at.end, at.row + int64_t{kColumnRun} * down);
    const int run = (to_int(run_end - at.row) + down - 1) >> (8 - shape.across_log);
    for (bool first = true; at.row < run_end; first = false, at.row += int64_t{kColumnUnroll} * down) {
      typename Sums::Item item[kColumnUnroll];
      MICA_UNROLL
      for (int u = 0; u < kColumnUnroll; ++u)
        if (at.row + u * down < run_end) item[u] = sums.load(at.row + u * down, shape.n, at.column);
      if (first) sums.start(item, run);
      MICA_UNROLL
      for (int u = 0; u < kColumnUnroll; ++u)
        if (at.row + u * down < run_end) sums.add(item[u]);
    }
    const double weight = Sums::weight(count, run), share = 1 / static_cast<double>(run);
    MICA_UNROLL
    for (int j = 0; j < width; ++j) Sums::merge(total[j], sums.total(j, share), count, weight);
    count += run;
  }
  combine_columns<Sums>(total, count, at.y, down, 1 << shape.across_log, totals, counts);
  if (at.y != 0 || at.end == 0) return;
  double* const to = partial + int64_t{at.split} * 2 * shape.n + at.column;
  MICA_UNROLL
  for (int j = 0; j < width; ++j) {
    to[j] = total[j].a;
    to[shape.n + j] = total[j].b;
  }
}

// A block combines the totals of this many columns, a thread each 32nd split of them.
inline constexpr int kFinishColumns = 8;

template <class Sums, class Finish>
MICA_KERNEL(kColumnThreads)
void column_finish_kernel(const ColumnShape shape, const double* partial, const Finish finish) {
  constexpr int kDown = kColumnThreads / kFinishColumns;
  MICA_SHARED(ColumnTotal, totals, [1][kColumnThreads]);
  MICA_SHARED(double, counts, [kColumnThreads]);
  const int thread = static_cast<int>(thread_index().x), y = thread / kFinishColumns;
  const int64_t column = int64_t{block_index().x} * kFinishColumns + thread % kFinishColumns;
  const int splits = column < shape.n ? static_cast<int>(shape.splits) : 0;
  ColumnTotal total[1] = {};
  double count = 0;
  for (int first = y; first < splits; first += kColumnUnroll * kDown) {
    ColumnTotal more[kColumnUnroll];
    MICA_UNROLL
    for (int u = 0; u < kColumnUnroll; ++u)
      if (first + u * kDown < splits) {
        const double* const from = partial + int64_t{first + u * kDown} * 2 * shape.n + column;
        more[u] = {from[0], from[shape.n]};
      }
    MICA_UNROLL
    for (int u = 0; u < kColumnUnroll; ++u)
      if (first + u * kDown < splits) {
        const double rows = static_cast<double>(shape.rows_of(first + u * kDown));
        Sums::merge(total[0], more[u], count, Sums::weight(count, rows));
        count += rows;
      }
  }
  combine_columns<Sums>(total, count, y, kDown, kFinishColumns, totals, counts);
  if (y == 0 && column < shape.n) finish(column, total[0]);
}

// finish(column, totals) on the device for each column, after the sums over all rows; where they are not `wanted` the
// totals are 0.
template <template <class, int> class SumsOf, class T, class Source, class Finish>
void column_sums(Context& ctx, int64_t rows, int64_t n, bool vectors, bool wanted, const Source& source,
                 const Finish& finish) {
  if (n == 0) return;
  ColumnShape shape(rows, n, vectors ? kPackWidth<T> : 1);
  // Enough blocks for a GPU, each with work for all of its threads.
  const int64_t most = ceil_div(512, shape.strips), least = int64_t{2} * kColumnUnroll * shape.down();
  if (wanted && rows > 0) shape.cut(at_least(ceil_div(rows, most), least));
  const Scratch scratch(ctx, static_cast<size_t>(shape.splits) * 2 * static_cast<size_t>(n) * sizeof(double));
  double* const partial = scratch.as<double>();
  const auto sum = [&](auto width) {
    launch(column_sums_kernel<SumsOf, T, width.value>, int64_t{shape.strips} * shape.splits, {kColumnThreads}, 0,
           ctx.stream, shape, source, partial);
  };
  if (shape.splits > 0 && vectors) sum(std::integral_constant<int, kPackWidth<T>>{});
  if (shape.splits > 0 && !vectors) sum(std::integral_constant<int, 1>{});
  launch(column_finish_kernel<SumsOf<T, 1>, Finish>, ceil_div(n, kFinishColumns), {kColumnThreads}, 0, ctx.stream,
         shape, partial, finish);
}

// y[rows, n] by a function of each element that has parameters of each column: Map<T, width>, made of `arguments` for a
// thread's columns, as
//   Item load(at)           what is read for the elements from `at` on
//   void store(at, item)
template <template <class, int> class Map, class T, int width>
MICA_KERNEL(kColumnThreads)
void column_map_kernel(const ColumnShape shape, const typename Map<T, width>::Arguments arguments) {
  ColumnPlace place(shape, width);
  if (place.end == 0) return;
  const Map<T, width> map(arguments, place.column);
  const int down = shape.down();
  for (; place.row < place.end; place.row += int64_t{kColumnUnroll} * down) {
    typename Map<T, width>::Item item[kColumnUnroll];
    MICA_UNROLL
    for (int u = 0; u < kColumnUnroll; ++u)
      if (place.row + u * down < place.end) item[u] = map.load((place.row + u * down) * shape.n + place.column);
    MICA_UNROLL
    for (int u = 0; u < kColumnUnroll; ++u)
      if (place.row + u * down < place.end) map.store((place.row + u * down) * shape.n + place.column, item[u]);
  }
}

template <template <class, int> class Map, class T, class Arguments>
void column_map(Context& ctx, int64_t rows, int64_t n, bool vectors, const Arguments& arguments) {
  if (rows == 0 || n == 0) return;
  ColumnShape shape(rows, n, vectors ? kPackWidth<T> : 1);
  shape.cut(int64_t{2} * kColumnUnroll * shape.down());
  const auto map = [&](auto width) {
    launch(column_map_kernel<Map, T, width.value>, int64_t{shape.strips} * shape.splits, {kColumnThreads}, 0,
           ctx.stream, shape, arguments);
  };
  if (vectors)
    map(std::integral_constant<int, kPackWidth<T>>{});
  else
    map(std::integral_constant<int, 1>{});
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
