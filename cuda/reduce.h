// Reductions over the middle axis of x [outer, n, inner]. Which values a thread combines, and in which order threads
// and blocks are combined, depends on the shape alone: where memory is not aligned the same values are loaded one by
// one.
//
// A reduction R is a functor that combines two Parts, and two Totals, with
//   In, Out         what is reduced, and what is written
//   Part            what a thread gathers some tens of values in
//   Total           what those are combined in: float64 of float32 sums
//   Second          the reduction of Totals to Out, for the partial results of blocks
//   start()         the Part of nothing
//   add(part, value, position)   positions along n ascend within a part
//   total(part)
//   finish(out, total)           writes a result
// A Source has
//   fetch<width>(at)             elements at, at + 1, ... as they lie in memory
//   values<width>(fetched, at)   what they stand for, a Pack<In, width>
//   aligned(width)               on the host: whether memory lies so that a pack of `width` can be fetched
#pragma once

#include "cuda/common.h"
#include "kernels/args.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

/// The elements of x themselves.
template <class T>
struct Elements {
  using Value = T;
  const T* x;

  template <int width>
  MICA_DEVICE Pack<T, width> fetch(int64_t at) const {
    return *reinterpret_cast<const Pack<T, width>*>(x + at);
  }
  template <int width>
  MICA_DEVICE Pack<T, width> values(const Pack<T, width>& fetched, int64_t) const {
    return fetched;
  }
  bool aligned(int width) const { return is_aligned(width * sizeof(T), x); }
};

/// The sum: of floats in In for a while, then in float64.
template <class InType, class OutType = InType>
struct Sum : Add {
  using In = InType;
  using Part = In;
  using Total = double;
  using Out = OutType;
  using Second = Sum<double, Out>;

  double scale = 1;
  bool accumulate = false;

  Second second() const { return {{}, scale, accumulate}; }
  MICA_DEVICE Part start() const { return Part(0); }
  MICA_DEVICE void add(Part& part, In value, int64_t) const { part += value; }
  MICA_DEVICE Total total(Part part) const { return static_cast<Total>(part); }
  MICA_DEVICE void finish(Out& out, Total all) const { store(out, static_cast<Out>(scale * all), accumulate); }
};

/// The reduction by one function.
template <class InType, class F, class OutType = InType>
struct Fold : F {
  using In = InType;
  using Part = std::conditional_t<sizeof(In) == 1, uint32_t, In>;  // registers hold no bytes
  using Total = Part;
  using Out = OutType;
  using Second = Fold<Part, F, Out>;

  Part nothing;  // what changes no other

  Second second() const { return {*this, nothing}; }
  MICA_DEVICE Part start() const { return nothing; }
  MICA_DEVICE void add(Part& part, In value, int64_t) const { part = (*this)(part, Part{value}); }
  MICA_DEVICE Total total(Part part) const { return part; }
  MICA_DEVICE void finish(Out& out, Total all) const { out = static_cast<Out>(all); }
};

namespace reduction {

inline constexpr int kThreads = 256;
inline constexpr int kFlush = 64;  // values that are added up in a Part, at most, where Totals are something else
inline constexpr int64_t kShortRow = 1024;
inline constexpr int64_t kBlocks = 1024;  // enough for a whole GPU: no more partial results than that

// What a thread takes at a time: 16 bytes, but no more than 4 values.
template <class In>
inline constexpr int kWidth = at_least(1, at_most(4, static_cast<int>(16 / sizeof(In))));

/// How the elements of a Source lie that a thread goes over: packs of kWidth values, `pack_step` elements and
/// `position_step` positions apart. In a row the values of a pack are neighbours along n; of columns they have one
/// position, and lie side by side where kVector, else `column_step` apart.
template <bool kVector, bool kRow, class R, class Source>
struct Walk {
  static constexpr int kPack = kWidth<typename R::In>;
  using Part = typename R::Part;

  const R& reduction;
  const Source& source;
  int64_t pack_step, position_step;
  int64_t column_step = 1, columns = kPack;  // elements; those of values g * column_step < columns are there

  /// Adds packs i, i + 1, ... below `count`, the first of which is at `at`, to part[kPack].
  MICA_DEVICE void add(int64_t at, int64_t position, int count, Part (&part)[kPack]) const {
    int i = 0;
    for (; i + kBatch <= count; i += kBatch) {
      add_batch<kBatch>(at, position, part);
      at += kBatch * pack_step;
      position += kBatch * position_step;
    }
    if (kBatch > 2 && i + 2 <= count) {
      add_batch<2>(at, position, part);
      at += 2 * pack_step;
      position += 2 * position_step;
      i += 2;
    }
    if (kBatch > 1 && i < count) add_batch<1>(at, position, part);
  }

 private:
  static constexpr int kStep = kVector ? kPack : 1, kGroups = kPack / kStep;
  using Fetched = decltype(std::declval<const Source&>().template fetch<kStep>(0));
  // How many packs are loaded before the first is looked at.
  static constexpr int kBatch =
      at_least(1, at_most(4, static_cast<int>((kVector ? 64 : 32) / sizeof(Fetched[kGroups]))));

  MICA_DEVICE bool has(int group) const { return kVector || kRow || group == 0 || group * column_step < columns; }

  template <int kPacks>
  MICA_DEVICE void add_batch(int64_t at, int64_t position, Part (&part)[kPack]) const {
    Fetched in[kPacks][kGroups];
    MICA_UNROLL
    for (int u = 0; u < kPacks; ++u) {
      MICA_UNROLL
      for (int g = 0; g < kGroups; ++g)
        in[u][g] = source.template fetch<kStep>(at + u * pack_step + (has(g) ? g * column_step : 0));
    }
    MICA_UNROLL
    for (int u = 0; u < kPacks; ++u) {
      MICA_UNROLL
      for (int g = 0; g < kGroups; ++g) {
        if (!has(g)) continue;
        const auto values = source.template values<kStep>(in[u][g], at + u * pack_step + g * column_step);
        MICA_UNROLL
        for (int j = 0; j < kStep; ++j)
          reduction.add(part[g * kStep + j], values.v[j], position + u * position_step + (kRow ? g * kStep + j : 0));
      }
    }
  }
};

template <int kPack, class R>
MICA_DEVICE void start(const R& reduction, typename R::Part (&part)[kPack]) {
  MICA_UNROLL
  for (int j = 0; j < kPack; ++j) part[j] = reduction.start();
}

/// The Part of packs first, first + step, ... below `packs` of the row at `base`; positions count from `position`.
template <bool kVector, class R, class Source>
MICA_DEVICE typename R::Part add_packs(const R& reduction, const Source& source, int64_t base, int64_t position,
                                       int first, int step, int packs) {
  constexpr int kPack = kWidth<typename R::In>;
  typename R::Part part[kPack];
  start(reduction, part);
  const Walk<kVector, true, R, Source> walk{reduction, source, int64_t{step} * kPack, int64_t{step} * kPack};
  const int64_t at = int64_t{first} * kPack;
  walk.add(base + at, position + at, first < packs ? (packs - first - 1) / step + 1 : 0, part);
  MICA_UNROLL
  for (int width = kPack / 2; width > 0; width /= 2) {
    MICA_UNROLL
    for (int j = 0; j < width; ++j) part[j] = reduction(part[j], part[j + width]);
  }
  return part[0];
}

/// Rows of at most kShortRow elements: `lanes`, a power of two up to a warp, share one.
template <bool kVector, class R, class Source>
MICA_KERNEL(kThreads)
void reduce_short_rows(const R reduction, const Source source, const int64_t rows, const int n, const int lanes_log,
                       typename R::Out* const y) {
  constexpr int kPack = kWidth<typename R::In>;
  const int thread = static_cast<int>(thread_index().x), lanes = 1 << lanes_log, lane = thread & (lanes - 1);
  const int64_t row = int64_t{block_index().x} * (kThreads >> lanes_log) + (thread >> lanes_log);
  const int count = row < rows ? n : 0, packs = count / kPack;
  typename R::Part part = add_packs<kVector>(reduction, source, row * n, 0, lane, lanes, packs);
  for (int i = packs * kPack + lane; i < count; i += lanes) {
    const int64_t at = row * n + i;
    reduction.add(part, source.template values<1>(source.template fetch<1>(at), at).v[0], i);
  }
  for (int mask = lanes / 2; mask > 0; mask /= 2) part = reduction(part, shuffle_xor(part, mask));
  if (row < rows && lane == 0) reduction.finish(y[row], reduction.total(part));
}

/// Chunks of longer rows, a block for each: results where a row is one chunk (partial == nullptr), else
/// partial[row, chunk].
template <bool kVector, class R, class Source>
MICA_KERNEL(kThreads)
void reduce_long_rows(const R reduction, const Source source, const int64_t n, const int chunk, const int chunks,
                      typename R::Total* const partial, typename R::Out* const y) {
  constexpr int kPack = kWidth<typename R::In>;
  MICA_SHARED(typename R::Total, parts, [kThreads / kWarpSize]);
  const int thread = static_cast<int>(thread_index().x);
  const unsigned row = block_index().x / static_cast<unsigned>(chunks);
  const int64_t first = int64_t{block_index().x % static_cast<unsigned>(chunks)} * chunk;
  const int64_t base = row * n + first;
  const int count = static_cast<int>(at_most<int64_t>(chunk, n - first)), packs = count / kPack;
  typename R::Total all;
  if constexpr (std::is_same_v<typename R::Part, typename R::Total>) {
    all = add_packs<kVector>(reduction, source, base, first, thread, kThreads, packs);
  } else {
    all = reduction.total(reduction.start());
    for (int begin = 0; begin < packs; begin += kThreads * kFlush) {
      const int end = at_most(begin + kThreads * kFlush, packs);
      const auto part = add_packs<kVector>(reduction, source, base, first, begin + thread, kThreads, end);
      all = reduction(all, reduction.total(part));
    }
  }
  if (packs * kPack + thread < count) {  // of the last pack
    const int i = packs * kPack + thread;
    typename R::Part part = reduction.start();
    reduction.add(part, source.template values<1>(source.template fetch<1>(base + i), base + i).v[0], first + i);
    all = reduction(all, reduction.total(part));
  }
  all = block_reduce<kThreads>(all, reduction, parts);
  if (thread != 0) return;
  if (partial)
    partial[block_index().x] = all;
  else
    reduction.finish(y[row], all);
}

/// How columns are cut. A block has 2^x_log threads along the columns, each with a pack of them, 2^y_log along n, and
/// the rest along `outer`.
struct Columns {
  int64_t outer, n, inner;
  int x_log, y_log;
  int chunk, chunks;  // of n
  int strips;         // of inner, 2^x_log packs each
};

/// Columns, inner > 1. As in reduce_long_rows, but for partial[outer, chunk, inner].
template <bool kVector, class R, class Source>
MICA_KERNEL(kThreads, sizeof(typename R::Total) > 8 ? 1 : 2)
void reduce_columns(const R reduction, const Source source, const Columns shape, typename R::Total* const partial,
                    typename R::Out* const y) {
  constexpr int kPack = kWidth<typename R::In>;
  using Total = typename R::Total;
  MICA_SHARED(Total, parts, [kPack][kThreads]);

  const int thread = static_cast<int>(thread_index().x);
  const int width = 1 << shape.x_log, height = 1 << shape.y_log;
  const int row = (thread >> shape.x_log) & (height - 1);
  const unsigned strips = static_cast<unsigned>(shape.strips), chunks = static_cast<unsigned>(shape.chunks);
  const unsigned strip = block_index().x % strips, rest = block_index().x / strips;
  const int64_t outer =
      int64_t{rest / chunks} * (kThreads >> (shape.x_log + shape.y_log)) + (thread >> (shape.x_log + shape.y_log));
  const int64_t first = int64_t{rest % chunks} * shape.chunk;
  // A pack is of neighbours, or, where it cannot be loaded as one, of columns `width` apart.
  const int64_t column = int64_t{strip} * width * kPack + (thread & (width - 1)) * (kVector ? kPack : 1);
  const bool live = outer < shape.outer && column < shape.inner;
  const int last = live ? static_cast<int>(at_most<int64_t>(shape.chunk, shape.n - first)) : 0;
  const int64_t column_step = kVector ? 1 : width;

  const Walk<kVector, false, R, Source> walk{reduction, source,      height * shape.inner,
                                             height,    column_step, shape.inner - column};
  int64_t at = (outer * shape.n + first + row) * shape.inner + column, position = first + row;
  int count = row < last ? ((last - row - 1) >> shape.y_log) + 1 : 0;
  Total all[kPack];
  if constexpr (std::is_same_v<typename R::Part, Total>) {
    start(reduction, all);
    walk.add(at, position, count, all);
  } else {
    MICA_UNROLL
    for (int j = 0; j < kPack; ++j) all[j] = reduction.total(reduction.start());
    for (; count > 0; count -= kFlush) {
      typename R::Part part[kPack];
      start(reduction, part);
      walk.add(at, position, at_most(count, kFlush), part);
      MICA_UNROLL
      for (int j = 0; j < kPack; ++j) all[j] = reduction(all[j], reduction.total(part[j]));
      at += kFlush * walk.pack_step;
      position += kFlush * walk.position_step;
    }
  }

  // The upper half of the rows hands its totals to the lower half. Each place is written once: no barrier holds writes
  // back.
  for (int half = height / 2; half > 0; half /= 2) {
    if (row >= half && row < 2 * half) {
      MICA_UNROLL
      for (int j = 0; j < kPack; ++j) parts[j][thread] = all[j];
    }
    barrier();
    if (row < half) {
      MICA_UNROLL
      for (int j = 0; j < kPack; ++j) all[j] = reduction(all[j], parts[j][thread + half * width]);
    }
  }
  if (row != 0 || !live) return;
  MICA_UNROLL
  for (int j = 0; j < kPack; ++j) {
    const int64_t here = column + j * column_step;
    if (here >= shape.inner) break;
    if (partial)
      partial[(outer * shape.chunks + rest % chunks) * shape.inner + here] = all[j];
    else
      reduction.finish(y[outer * shape.inner + here], all[j]);
  }
}

// As for_bool: whether packs of `kPack` move as one.
template <int kPack, class F>
void for_vector(bool vector, const F& f) {
  if constexpr (kPack == 1)
    f(std::false_type{});
  else
    for_bool(vector, f);
}

// The smallest k with 2^k >= n, or `most`.
inline int log_above(int64_t n, int most) {
  int k = 0;
  while (k < most && (int64_t{1} << k) < n) ++k;
  return k;
}

template <class R, class Source>
void short_rows(Context& ctx, const R& reduction, const Source& source, int64_t rows, int64_t n, typename R::Out* y) {
  constexpr int kPack = kWidth<typename R::In>;
  const int lanes_log = log_above(ceil_div(n, 2 * kPack), 5);
  const bool vector = source.aligned(kPack) && (rows == 1 || n % kPack == 0);
  for_vector<kPack>(vector, [&](auto v) {
    launch(reduce_short_rows<v.value, R, Source>, ceil_div(rows, kThreads >> lanes_log), {kThreads}, 0, ctx.stream,
           reduction, source, rows, to_int(n), lanes_log, y);
  });
}

/// partial[rows, chunks] (in which case chunks > 1), or y[rows].
template <class R, class Source>
void long_rows(Context& ctx, const R& reduction, const Source& source, int64_t rows, int64_t n, int64_t chunk,
               int64_t chunks, typename R::Total* partial, typename R::Out* y) {
  constexpr int kPack = kWidth<typename R::In>;
  const bool vector = source.aligned(kPack) && (rows == 1 || n % kPack == 0);
  for_vector<kPack>(vector, [&](auto v) {
    launch(reduce_long_rows<v.value, R, Source>, rows * chunks, {kThreads}, 0, ctx.stream, reduction, source, n,
           to_int(chunk), to_int(chunks), partial, y);
  });
}

inline Columns columns_of(int64_t outer, int64_t n, int64_t inner, int pack) {
  Columns shape{.outer = outer, .n = n, .inner = inner, .x_log = 0, .y_log = 0, .chunk = 0, .chunks = 1, .strips = 1};
  shape.x_log = log_above(ceil_div(inner, pack), 5);
  shape.y_log = log_above(ceil_div(n, 4), 8 - shape.x_log);
  shape.strips = to_int(ceil_div(inner, pack << shape.x_log));
  shape.chunk = to_int(n);
  return shape;
}

template <class R, class Source>
void columns(Context& ctx, const R& reduction, const Source& source, const Columns& shape, typename R::Total* partial,
             typename R::Out* y) {
  constexpr int kPack = kWidth<typename R::In>;
  const int64_t outer_blocks = ceil_div(shape.outer, kThreads >> (shape.x_log + shape.y_log));
  for_vector<kPack>(source.aligned(kPack) && shape.inner % kPack == 0, [&](auto v) {
    launch(reduce_columns<v.value, R, Source>, outer_blocks * shape.chunks * shape.strips, {kThreads}, 0, ctx.stream,
           reduction, source, shape, partial, y);
  });
}

}  // namespace reduction

/// y[outer, inner] = the reduction of source [outer, n, inner] over n, each column by itself; best for inner > 1.
template <class R, class Source>
void reduce_by_columns(Context& ctx, const ReduceArgs& args, const R& reduction, const Source& source,
                       typename R::Out* y) {
  using namespace reduction;
  using Total = typename R::Total;
  const int64_t outer = args.outer, n = args.n, inner = args.inner;
  if (outer * inner == 0) return;
  Columns shape = columns_of(outer, n, inner, kWidth<typename R::In>);
  const int64_t blocks = ceil_div(outer, kThreads >> (shape.x_log + shape.y_log)) * shape.strips;
  const int64_t least = int64_t{16} << shape.y_log;  // rows that are worth a block
  const int64_t most = at_most(ceil_div(n, least), ceil_div(kBlocks, blocks));
  if (most <= 1) return columns(ctx, reduction, source, shape, nullptr, y);
  const int64_t chunk = round_up(ceil_div(n, most), int64_t{1} << shape.y_log), chunks = ceil_div(n, chunk);
  shape.chunk = to_int(chunk);
  shape.chunks = to_int(chunks);
  const Scratch scratch(ctx, static_cast<size_t>(outer * chunks * inner) * sizeof(Total));
  columns(ctx, reduction, source, shape, scratch.as<Total>(), y);
  columns(ctx, reduction.second(), Elements<Total>{scratch.as<Total>()},
          columns_of(outer, chunks, inner, kWidth<Total>), nullptr, y);
}

/// The same of rows, inner == 1.
template <class R, class Source>
void reduce_rows(Context& ctx, const ReduceArgs& args, const R& reduction, const Source& source, typename R::Out* y) {
  using namespace reduction;
  using Total = typename R::Total;
  const int64_t rows = args.outer, n = args.n;
  if (rows == 0) return;
  if (n <= kShortRow) return short_rows(ctx, reduction, source, rows, n, y);
  const int64_t most = at_most(ceil_div(n, 4096), ceil_div(kBlocks, rows));
  const int64_t chunk = round_up(ceil_div(n, most), kThreads * 4), chunks = ceil_div(n, chunk);
  if (chunks == 1) return long_rows(ctx, reduction, source, rows, n, chunk, 1, nullptr, y);
  const Scratch scratch(ctx, static_cast<size_t>(rows * chunks) * sizeof(Total));
  long_rows(ctx, reduction, source, rows, n, chunk, chunks, scratch.as<Total>(), y);
  short_rows(ctx, reduction.second(), Elements<Total>{scratch.as<Total>()}, rows, chunks, y);
}

template <class R, class Source>
void reduce_axis(Context& ctx, const ReduceArgs& args, const R& reduction, const Source& source, typename R::Out* y) {
  if (args.inner == 1)
    reduce_rows(ctx, args, reduction, source, y);
  else
    reduce_by_columns(ctx, args, reduction, source, y);
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
