// Running sums over an axis. Where there are few and long ones they are cut into chunks, in three phases: the sum of
// each chunk, the running sums of those, and those within each chunk from there. A single pass in which blocks wait for
// one another would read once less, but what is read again is mostly still in the second-level cache.
#include "cuda/reduce.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

namespace {

constexpr int kThreads = 256;

template <class T>
constexpr int kPack = reduction::kWidth<T>;

// What sums of T run in.
template <class T>
using Running = std::conditional_t<std::is_integral_v<T>, T, double>;

/// The elements as what they are summed in.
template <class T>
struct Widened {
  const T* x;

  template <int width>
  MICA_DEVICE Pack<T, width> fetch(int64_t at) const {
    return Elements<T>{x}.template fetch<width>(at);
  }
  template <int width>
  MICA_DEVICE Pack<Running<T>, width> values(const Pack<T, width>& fetched, int64_t) const {
    Pack<Running<T>, width> wide;
    MICA_UNROLL
    for (int j = 0; j < width; ++j) wide.v[j] = static_cast<Running<T>>(fetched.v[j]);
    return wide;
  }
  bool aligned(int width) const { return is_aligned(width * sizeof(T), x); }
};

// Elements i, i + 1, ... of the `count` at x, counted from the end when `reverse`; 0 behind the last.
template <bool kVector, class T>
MICA_DEVICE Pack<T, kPack<T>> load_pack(const T* x, int64_t count, int64_t i, bool reverse) {
  Pack<T, kPack<T>> pack;
  if (kVector && i + kPack<T> <= count) {
    const auto there = *reinterpret_cast<const Pack<T, kPack<T>>*>(x + (reverse ? count - kPack<T> - i : i));
    MICA_UNROLL
    for (int j = 0; j < kPack<T>; ++j) pack.v[j] = reverse ? there.v[kPack<T> - 1 - j] : there.v[j];
  } else {
    MICA_UNROLL
    for (int j = 0; j < kPack<T>; ++j) pack.v[j] = i + j < count ? x[reverse ? count - 1 - i - j : i + j] : T(0);
  }
  return pack;
}

template <bool kVector, class T>
MICA_DEVICE void store_pack(T* y, int64_t count, int64_t i, bool reverse, const Pack<T, kPack<T>>& pack) {
  if (kVector && i + kPack<T> <= count) {
    Pack<T, kPack<T>> there;
    MICA_UNROLL
    for (int j = 0; j < kPack<T>; ++j) there.v[j] = reverse ? pack.v[kPack<T> - 1 - j] : pack.v[j];
    *reinterpret_cast<Pack<T, kPack<T>>*>(y + (reverse ? count - kPack<T> - i : i)) = there;
  } else {
    MICA_UNROLL
    for (int j = 0; j < kPack<T>; ++j)
      if (i + j < count) y[reverse ? count - 1 - i - j : i + j] = pack.v[j];
  }
}

template <class T>
MICA_DEVICE Running<T> sum_of(const Pack<T, kPack<T>>& pack) {
  Running<T> sum = 0;
  MICA_UNROLL
  for (int j = 0; j < kPack<T>; ++j) sum += static_cast<Running<T>>(pack.v[j]);
  return sum;
}

template <class T>
MICA_DEVICE Pack<T, kPack<T>> running(const Pack<T, kPack<T>>& pack, Running<T> before) {
  Pack<T, kPack<T>> sums;
  MICA_UNROLL
  for (int j = 0; j < kPack<T>; ++j) {
    before += static_cast<Running<T>>(pack.v[j]);
    sums.v[j] = static_cast<T>(before);
  }
  return sums;
}

// The sum of a lane's value and of those of the lanes before it, among the aligned `lanes` that it is one of.
template <class V>
MICA_DEVICE V lanes_up_to(V value, int lane, int lanes) {
  for (int delta = 1; delta < lanes; delta *= 2) {
    const V other = shuffle_up(value, delta);
    if (lane >= delta) value += other;
  }
  return value;
}

/// Short rows, each by 2^lanes_log lanes of a warp.
template <bool kVector, class T>
MICA_KERNEL(kThreads)
void cumsum_short_rows(const int64_t rows, const int n, const int lanes_log, const bool reverse, const T* const x,
                       T* const y) {
  const int thread = static_cast<int>(thread_index().x), lanes = 1 << lanes_log, lane = thread & (lanes - 1);
  const int64_t row = int64_t{block_index().x} * (kThreads >> lanes_log) + (thread >> lanes_log);
  const int count = row < rows ? n : 0;
  const int last_lane = (thread & (kWarpSize - 1)) | (lanes - 1);
  Running<T> before = 0;
  for (int first = 0; first < n; first += lanes * kPack<T>) {
    const int i = first + lane * kPack<T>;
    const Pack<T, kPack<T>> pack = load_pack<kVector>(x + row * n, count, i, reverse);
    const Running<T> sum = sum_of<T>(pack), up_to = lanes_up_to(sum, lane, lanes);
    // What lies before a lane is taken from the lane before: up_to - sum would lose what a large value covers.
    const Running<T> lower = shuffle_up(up_to, 1);
    store_pack<kVector>(y + row * n, count, i, reverse, running<T>(pack, lane == 0 ? before : before + lower));
    before += shuffle(up_to, last_lane);
  }
}

/// A block for each chunk of each row, from the running sums of chunks (null where a row is one chunk).
template <bool kVector, class T>
MICA_KERNEL(kThreads)
void cumsum_long_rows(const int64_t n, const int chunk, const int chunks, const bool reverse,
                      const Running<T>* const chunk_sums, const T* const x, T* const y) {
  using V = Running<T>;
  MICA_SHARED(V, warp_sums, [2][kThreads / kWarpSize]);
  const int thread = static_cast<int>(thread_index().x), lane = thread % kWarpSize, warp = thread / kWarpSize;
  const unsigned row = block_index().x / static_cast<unsigned>(chunks);
  const int this_chunk = static_cast<int>(block_index().x % static_cast<unsigned>(chunks));
  const int64_t first = int64_t{this_chunk} * chunk, base = row * n + first;
  const int count = static_cast<int>(at_most<int64_t>(chunk, n - first));
  const int chunk_before = reverse ? this_chunk + 1 : this_chunk - 1;
  V before = inside(chunk_before, chunks) ? chunk_sums[int64_t{row} * chunks + chunk_before] : V(0);
  constexpr int kTile = kThreads * kPack<T>;
  Pack<T, kPack<T>> next = load_pack<kVector>(x + base, count, thread * kPack<T>, reverse);
  int buffer = 0;
  for (int tile = 0; tile < count; tile += kTile) {
    const int i = tile + thread * kPack<T>;
    const Pack<T, kPack<T>> pack = next;
    next = load_pack<kVector>(x + base, count, i + kTile, reverse);
    const V up_to = lanes_up_to(sum_of<T>(pack), lane, kWarpSize);
    const V lower = shuffle_up(up_to, 1);
    if (lane == kWarpSize - 1) warp_sums[buffer][warp] = up_to;
    // That the other buffer has been read before it is written again needs no barrier of its own: its readers have
    // passed this one.
    barrier();
    V here = before;
    MICA_UNROLL
    for (int w = 0; w < kThreads / kWarpSize; ++w) {
      here = w == warp ? before : here;
      before += warp_sums[buffer][w];
    }
    store_pack<kVector>(y + base, count, i, reverse, running<T>(pack, lane == 0 ? here : here + lower));
    buffer ^= 1;
  }
}

/// A thread for each chunk of each column, inner > 1.
template <class T>
MICA_KERNEL(kThreads)
void cumsum_columns(const int64_t outer, const int64_t n, const int64_t inner, const int64_t chunk,
                    const int64_t chunks, const bool reverse, const Running<T>* const chunk_sums, const T* const x,
                    T* const y) {
  constexpr int kUnroll = 8;
  using V = Running<T>;
  const int64_t item = int64_t{block_index().x} * kThreads + thread_index().x;
  if (item >= outer * chunks * inner) return;
  const int64_t column = item % inner, this_chunk = item / inner % chunks, o = item / inner / chunks;
  const int64_t first = this_chunk * chunk, count = at_most(chunk, n - first);
  const int64_t chunk_before = reverse ? this_chunk + 1 : this_chunk - 1;
  V before = V(0);
  if (chunk_before >= 0 && chunk_before < chunks) before = chunk_sums[(o * chunks + chunk_before) * inner + column];
  int64_t at = (o * n + (reverse ? first + count - 1 : first)) * inner + column;
  const int64_t step = reverse ? -inner : inner;
  for (int64_t i = 0; i < count; i += kUnroll) {
    T in[kUnroll];
    MICA_UNROLL
    for (int u = 0; u < kUnroll; ++u) in[u] = i + u < count ? x[at + u * step] : T(0);
    MICA_UNROLL
    for (int u = 0; u < kUnroll; ++u) {
      before += static_cast<V>(in[u]);
      if (i + u < count) y[at + u * step] = static_cast<T>(before);
    }
    at += kUnroll * step;
  }
}

template <class T>
auto chunk_sum() {
  if constexpr (std::is_integral_v<T>)
    return Fold<T, Add>{{}, T(0)};
  else
    return Sum<double>{};
}

template <class T>
void cumsum_of_rows(Context& ctx, int64_t rows, int64_t n, bool reverse, const T* x, T* y) {
  const size_t bytes = kPack<T> * sizeof(T);
  const bool vector = is_aligned(bytes, x) && is_aligned(bytes, y) && (n % kPack<T> == 0 || (rows == 1 && !reverse));
  if (n <= reduction::kShortRow) {
    const int lanes_log = reduction::log_above(ceil_div(n, kPack<T>), 5);
    return for_bool(vector, [&](auto v) {
      launch(cumsum_short_rows<v.value, T>, ceil_div(rows, kThreads >> lanes_log), {kThreads}, 0, ctx.stream, rows,
             to_int(n), lanes_log, reverse, x, y);
    });
  }
  const int64_t most = at_most(ceil_div(n, 4096), ceil_div(reduction::kBlocks, rows));
  const int64_t chunk = round_up(ceil_div(n, most), kThreads * 4), chunks = ceil_div(n, chunk);
  using V = Running<T>;
  const Scratch scratch(ctx, chunks > 1 ? static_cast<size_t>(rows * chunks) * sizeof(V) : 0);
  V* const sums = scratch.as<V>();
  if (chunks > 1) {
    reduction::long_rows(ctx, chunk_sum<T>(), Widened<T>{x}, rows, n, chunk, chunks, sums, static_cast<V*>(nullptr));
    cumsum_of_rows(ctx, rows, chunks, reverse, sums, sums);
  }
  for_bool(vector, [&](auto v) {
    launch(cumsum_long_rows<v.value, T>, rows * chunks, {kThreads}, 0, ctx.stream, n, to_int(chunk), to_int(chunks),
           reverse, sums, x, y);
  });
}

template <class T>
void cumsum_of_columns(Context& ctx, int64_t outer, int64_t n, int64_t inner, bool reverse, const T* x, T* y) {
  constexpr int64_t kMostThreads = 1 << 17;  // enough for a whole GPU
  using V = Running<T>;
  const int64_t columns = outer * inner;
  const int64_t chunk = at_least<int64_t>(64, ceil_div(n, ceil_div(kMostThreads, columns)));
  const int64_t chunks = n <= 2 * chunk ? 1 : ceil_div(n, chunk);
  const Scratch scratch(ctx, chunks > 1 ? static_cast<size_t>(columns * chunks) * sizeof(V) : 0);
  V* const sums = scratch.as<V>();
  if (chunks > 1) {
    reduction::Columns shape = reduction::columns_of(outer, chunk, inner, reduction::kWidth<V>);
    shape.n = n;
    shape.chunks = to_int(chunks);
    reduction::columns(ctx, chunk_sum<T>(), Widened<T>{x}, shape, sums, static_cast<V*>(nullptr));
    cumsum_of_columns(ctx, outer, chunks, inner, reverse, sums, sums);
  }
  launch(cumsum_columns<T>, ceil_div(columns * chunks, kThreads), {kThreads}, 0, ctx.stream, outer, n, inner,
         chunks > 1 ? chunk : n, chunks, reverse, sums, x, y);
}

}  // namespace

void cumsum(Context& ctx, const ReduceArgs& args, bool reverse, const void* x, void* y) {
  if (args.outer * args.n * args.inner == 0) return;
  const auto run = [&](auto t) {
    using T = decltype(t);
    const T* const in = static_cast<const T*>(x);
    T* const out = static_cast<T*>(y);
    if (args.inner == 1)
      cumsum_of_rows(ctx, args.outer, args.n, reverse, in, out);
    else
      cumsum_of_columns(ctx, args.outer, args.n, args.inner, reverse, in, out);
  };
  if (args.dtype == DType::int64)
    run(uint64_t{});  // which wraps
  else
    for_float(args.dtype, run);
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
