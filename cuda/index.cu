// Elements by their positions: gather, and scatter_add. Where m is up to 16, that adds entries to y one by one, in the
// order of m; where it is more, what goes to one place is summed first, in an order that the indices alone decide, and
// the sum is added to y.
#include "cuda/common.h"
#include "kernels/args.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

namespace {

constexpr int kThreads = 256;

/// Division of flat positions: of those below 2^31 in one multiplication.
template <class Index>
struct Divisor {
  FastDivide by;
  explicit Divisor(int64_t n) : by(n) {}
  MICA_DEVICE int quotient(int n) const { return by.quotient(n); }
};
template <>
struct Divisor<int64_t> {
  int64_t by;
  explicit Divisor(int64_t n) : by(n) {}
  MICA_DEVICE int64_t quotient(int64_t n) const { return n / by; }
};

/// y [outer, m, inner], in elements or in packs of them.
template <class Index>
struct GatherShape {
  Index count;
  Divisor<Index> inner, m;
  int64_t n, inner_size, m_size;
};

// y = x at `index`, an element of y each: of V, which may be several neighbours where the indices are shared.
template <class V, class Index, bool kShared>
MICA_KERNEL(kThreads)
void gather_kernel(const GatherShape<Index> shape, const V* const x, const int64_t* const index, V* const y) {
  constexpr int kUnroll = 4;
  const Index first = static_cast<Index>(block_index().x) * (kThreads * kUnroll) + static_cast<Index>(thread_index().x);
  int64_t from[kUnroll];
  MICA_UNROLL
  for (int u = 0; u < kUnroll; ++u) {
    const Index at = first + u * kThreads;
    if (at >= shape.count) break;
    const Index row = shape.inner.quotient(at), o = shape.m.quotient(row);
    const int64_t column = at - row * shape.inner_size;
    from[u] = (o * shape.n + index[kShared ? int64_t{row} - o * shape.m_size : at]) * shape.inner_size + column;
  }
  V value[kUnroll];
  MICA_UNROLL
  for (int u = 0; u < kUnroll; ++u)
    if (first + u * kThreads < shape.count) value[u] = x[from[u]];
  MICA_UNROLL
  for (int u = 0; u < kUnroll; ++u)
    if (first + u * kThreads < shape.count) y[first + u * kThreads] = value[u];
}

template <class V, bool kShared>
void launch_gather(Context& ctx, const GatherArgs& args, int64_t inner, const void* x, const int64_t* index, void* y) {
  const int64_t count = args.outer * args.m * inner;
  const auto run = [&](auto i) {
    using Index = decltype(i);
    const GatherShape<Index> shape{
        static_cast<Index>(count), Divisor<Index>(inner), Divisor<Index>(args.m), args.n, inner, args.m};
    launch(gather_kernel<V, Index, kShared>, ceil_div(count, 4 * kThreads), {kThreads}, 0, ctx.stream, shape,
           static_cast<const V*>(x), index, static_cast<V*>(y));
  };
  if (count < (int64_t{1} << 31) - 4 * kThreads)
    run(int{});
  else
    run(int64_t{});
}

}  // namespace

void gather(Context& ctx, const GatherArgs& args, const void* x, const int64_t* index, void* y) {
  if (args.outer * args.m * args.inner == 0) return;
  const size_t row_bytes = static_cast<size_t>(args.inner) * size_of(args.dtype);
  // Rows go as the widest words that they are made of.
  const auto fits = [&](size_t bytes) {
    return args.shared && row_bytes % bytes == 0 && is_aligned(bytes, x) && is_aligned(bytes, y);
  };
  if (fits(16))
    return launch_gather<Vector4<uint32_t>, true>(ctx, args, static_cast<int64_t>(row_bytes / 16), x, index, y);
  if (fits(8)) return launch_gather<uint64_t, true>(ctx, args, static_cast<int64_t>(row_bytes / 8), x, index, y);
  for_size(args.dtype, [&](auto t) {
    for_bool(args.shared,
             [&](auto shared) { launch_gather<decltype(t), shared.value>(ctx, args, args.inner, x, index, y); });
  });
}

namespace {

constexpr int kChunk = 16;  // entries that a thread sums

/// What is added: entry i of `count` goes to place(i) of y's n. The entries are those of x and `place` at order[i],
/// which sorts them, or as they lie (order == nullptr). place and order are [count], or [outer, count, inner].
template <class T>
struct Entries {
  int64_t outer, count, n, inner;
  const int64_t *order, *place;
  const T* x;  // [outer, count, inner]
};

/// A chunk's sums that are not whole: of the place that its first entry shares with the chunk before, and of that which
/// its last entry shares with the next one. They are the entries 2 * chunk and 2 * chunk + 1 of another round; where
/// there are none the place is -1.
template <class T>
struct Rest {
  int64_t* place;  // [2 * chunks], or [outer, 2 * chunks, inner]
  T* sum;          // [outer, 2 * chunks, inner]
};

template <class T, int width>
struct alignas(width * sizeof(T)) Columns {
  T v[width];
};

template <class T, int width>
MICA_DEVICE Columns<T, width>& columns_at(T* data, int64_t at) {
  return *reinterpret_cast<Columns<T, width>*>(data + at);
}
template <class T, int width>
MICA_DEVICE const Columns<T, width>& columns_at(const T* data, int64_t at) {
  return *reinterpret_cast<const Columns<T, width>*>(data + at);
}

// y[place] += the sums of the entries of each place that lie within one chunk. A thread takes `width` columns of a
// chunk.
template <class T, bool kShared, int width>
MICA_KERNEL(kThreads)
void sum_sorted(const Entries<T> in, const Rest<T> rest, T* const y) {
  using Values = Columns<T, width>;
  constexpr int kUnroll = 4;
  const int64_t chunks = ceil_div(in.count, kChunk), packs = in.inner / width;
  const int64_t item = int64_t{block_index().x} * kThreads + thread_index().x;
  if (item >= in.outer * chunks * packs) return;
  const int64_t column = item % packs * width, chunk = item / packs % chunks, o = item / packs / chunks;
  // Where the entries of this thread lie.
  const int64_t place_base = kShared ? 0 : o * in.count * in.inner + column, place_step = kShared ? 1 : in.inner;
  const auto entry = [&](int64_t i) { return in.order ? in.order[place_base + i * place_step] : i; };
  const auto place_of = [&](int64_t e) { return in.place[place_base + e * place_step]; };
  const auto add = [&](int64_t place, const Values& sum) {
    if (place < 0) return;
    Values& target = columns_at<T, width>(y, (o * in.n + place) * in.inner + column);
    Values all = target;
    MICA_UNROLL
    for (int j = 0; j < width; ++j) all.v[j] += sum.v[j];
    target = all;
  };

  const int64_t first = chunk * kChunk, last = at_most(first + kChunk, in.count);
  int64_t here = place_of(entry(first));
  bool shared_before = first > 0 && place_of(entry(first - 1)) == here;
  Values sum = {}, head = {}, tail = {};
  int64_t head_place = -1, tail_place = -1;
  for (int64_t i = first; i < last; i += kUnroll) {
    int64_t place[kUnroll];
    Values value[kUnroll];
    MICA_UNROLL
    for (int u = 0; u < kUnroll; ++u) {
      const int64_t e = entry(at_most(i + u, last - 1));
      place[u] = place_of(e);
      value[u] = columns_at<T, width>(in.x, (o * in.count + e) * in.inner + column);
    }
    MICA_UNROLL
    for (int u = 0; u < kUnroll; ++u) {
      if (i + u >= last) break;
      if (place[u] != here) {
        if (shared_before)
          head = sum, head_place = here;
        else
          add(here, sum);
        sum = {};
        here = place[u];
        shared_before = false;
      }
      MICA_UNROLL
      for (int j = 0; j < width; ++j) sum.v[j] += value[u].v[j];
    }
  }
  const bool shared_after = last < in.count && place_of(entry(last)) == here;
  if (shared_after) tail_place = here;
  if (shared_before)  // one place: the tail is 0, and keeps the head and the next chunk's together
    head = sum, head_place = here;
  else if (shared_after)
    tail = sum;
  else
    add(here, sum);
  if (chunks == 1) return;
  const int64_t at = ((o * chunks + chunk) * 2) * in.inner + column;
  columns_at<T, width>(rest.sum, at) = head;
  columns_at<T, width>(rest.sum, at + in.inner) = tail;
  if (kShared && (o > 0 || column > 0)) return;
  const int64_t place_at = kShared ? chunk * 2 : at;
  rest.place[place_at] = head_place;
  rest.place[place_at + place_step] = tail_place;
}

// y[place] += x for few entries, one after the other.
template <class T>
MICA_KERNEL(kThreads)
void add_few(const Entries<T> in, const bool shared, T* const y) {
  const int64_t item = int64_t{block_index().x} * kThreads + thread_index().x;
  if (item >= in.outer * in.inner) return;
  const int64_t o = item / in.inner, column = item % in.inner;
  for (int64_t i = 0; i < in.count; ++i) {
    const int64_t at = (o * in.count + i) * in.inner + column;
    y[(o * in.n + in.place[shared ? i : at]) * in.inner + column] += in.x[at];
  }
}

template <class T>
void scatter_add_of(Context& ctx, const GatherArgs& args, const T* x, const int64_t* index, T* y) {
  const int64_t outer = args.outer, inner = args.inner;
  Entries<T> entries{outer, args.m, args.n, inner, nullptr, index, x};
  if (args.m <= kChunk) {
    launch(add_few<T>, ceil_div(outer * inner, kThreads), {kThreads}, 0, ctx.stream, entries, args.shared, y);
    return;
  }
  // Sorted by their places, which keeps the order of those that go to one, the entries of a place are neighbours. What
  // a chunk of them leaves is summed in rounds, so that many entries of one place take no longer than those of many.
  const int64_t outer_places = args.shared ? 1 : outer, inner_places = args.shared ? 1 : inner;
  const auto places = [&](int64_t count) { return outer_places * count * inner_places; };
  const int64_t most = 2 * ceil_div(args.m, kChunk), next_most = 2 * ceil_div(most, kChunk);
  const Scratch order(ctx, static_cast<size_t>(places(args.m)) * sizeof(int64_t));
  const Scratch rest_places(ctx, static_cast<size_t>(places(most + next_most)) * sizeof(int64_t));
  const Scratch rest_sums(ctx, static_cast<size_t>(outer * (most + next_most) * inner) * sizeof(T) + 16);
  argsort(ctx, {.dtype = DType::int64, .outer = outer_places, .n = args.m, .inner = inner_places}, false, args.m, index,
          order.as<int64_t>());
  entries.order = order.as<int64_t>();
  // Two rests: a round reads one and writes the other.
  const auto rest_of = [&](int round) {
    const int64_t before = round % 2 ? most : 0;
    return Rest<T>{rest_places.as<int64_t>() + places(before),
                   rest_sums.as<T>() + round_up(outer * before * inner, 16 / sizeof(T))};
  };
  constexpr int kWide = 16 / sizeof(T);
  const bool wide = args.shared && inner % kWide == 0 && is_aligned(16, x) && is_aligned(16, y);
  for (int round = 0;; ++round) {
    const int64_t chunks = ceil_div(entries.count, kChunk);
    const Rest<T> rest = rest_of(round);
    const auto run = [&](auto kernel, int width) {
      launch(kernel, ceil_div(outer * chunks * (inner / width), kThreads), {kThreads}, 0, ctx.stream, entries, rest, y);
    };
    if (wide)
      run(sum_sorted<T, true, kWide>, kWide);
    else if (args.shared)
      run(sum_sorted<T, true, 1>, 1);
    else
      run(sum_sorted<T, false, 1>, 1);
    if (chunks == 1) return;
    entries = {outer, 2 * chunks, args.n, inner, nullptr, rest.place, rest.sum};
  }
}

}  // namespace

void scatter_add(Context& ctx, const GatherArgs& args, const void* x, const int64_t* index, void* y) {
  if (args.outer * args.m * args.inner == 0) return;
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    scatter_add_of(ctx, args, static_cast<const T*>(x), index, static_cast<T*>(y));
  });
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
