// Positions in sorted order. Values become unsigned keys, which are sorted with their positions: a block sorts a tile
// of them, by merging in shared memory, and the tiles of a long row are merged two by two, a launch for each doubling.
// Each merge is cut into equal shares by its merge path: Green, McColl, Bader, "GPU Merge Path - A GPU Merging
// Algorithm", ICS 2012. Every step is stable, so keys alone are compared.
#include <cstring>

#include "cuda/common.h"
#include "kernels/args.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

namespace {

constexpr int kThreads = 256;
constexpr int kItems = 8;  // that a thread merges at a time
constexpr int kTile = kThreads * kItems;

// Where item i of a tile lies in shared memory: eight neighbours of each lane are in different banks.
MICA_HD constexpr int slot(int i) { return i + i / kWarpSize; }
constexpr int kSlots = slot(kTile - 1) + 1;

template <class T>
using KeyOf = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;

// The key of a value: keys are ordered as values are. NaN is the largest, whatever its sign, and 0 is -0.
template <class T>
MICA_DEVICE KeyOf<T> key_of(T value, bool descending) {
  using Key = KeyOf<T>;
  constexpr Key kTop = Key{1} << (8 * sizeof(Key) - 1);
  Key key;
  if constexpr (std::is_floating_point_v<T>) {
    value = value == T(0) ? T(0) : value;
    std::memcpy(&key, &value, sizeof key);
    key = value != value ? ~Key{0} : (key & kTop) ? ~key : key | kTop;
  } else if constexpr (std::is_signed_v<T>) {
    key = static_cast<Key>(value) ^ kTop;
  } else {
    key = value;
  }
  return descending ? ~key : key;
}

// How many of the first `count` items that a merge gives come from its first run, the keys [a, a + a_count) of the
// tile; the other run begins at b.
template <class Keys>
MICA_DEVICE int merge_path(Keys&& keys, int a, int a_count, int b, int b_count, int count) {
  int low = at_least(0, count - b_count), high = at_most(count, a_count);
  while (low < high) {
    const int middle = (low + high) / 2;
    if (keys[slot(b + count - 1 - middle)] < keys[slot(a + middle)])
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

// Merges kItems of [a, a_end) and [b, b_end), or what is left of them. Nothing is read beyond, not even in vain: it may
// be another warp's, which is writing there.
template <class Key, class Keys, class Positions>
MICA_DEVICE void merge(Keys&& keys, Positions&& positions, int a, int a_end, int b, int b_end, Key (&key)[kItems],
                       uint32_t (&position)[kItems]) {
  Key a_key = keys[slot(at_most(a, b_end - 1))], b_key = keys[slot(at_most(b, b_end - 1))];
  MICA_UNROLL
  for (int i = 0; i < kItems; ++i) {
    const bool second = b < b_end && (a >= a_end || b_key < a_key);
    key[i] = second ? b_key : a_key;
    position[i] = positions[slot(at_most(second ? b : a, b_end - 1))];
    (second ? b : a) += 1;
    const Key next = keys[slot(at_most(second ? b : a, b_end - 1))];
    (second ? b_key : a_key) = next;
  }
}

/// Rows of n elements `inner` apart, of which the first k in order are wanted.
struct Rows {
  int64_t first = 0, end = 0;  // in outer * inner
  int n = 0, k = 0;
  int64_t inner = 1;
};

MICA_DEVICE void write_index(const Rows& rows, int64_t row, int i, uint32_t position, int64_t* index) {
  if (rows.inner == 1)
    index[row * rows.k + i] = position;
  else
    index[(row / rows.inner * rows.k + i) * rows.inner + row % rows.inner] = position;
}

/// Sorts tiles. Rows shorter than a tile share one, 2^segment_log slots each, and go to `index`; the tiles of longer
/// ones, of which no more than the first k are wanted, to keys[row, n] and positions[row, n].
template <class T>
MICA_KERNEL(kThreads)
void sort_tiles(const Rows rows, const int tiles, const int segment_log, const bool descending, const T* const x,
                KeyOf<T>* const keys_out, uint32_t* const positions_out, int64_t* const index) {
  using Key = KeyOf<T>;
  MICA_SHARED(Key, keys, [kSlots]);
  MICA_SHARED(uint32_t, positions, [kSlots]);
  const int thread = static_cast<int>(thread_index().x);
  const int segment = 1 << segment_log, rows_log = 11 - segment_log;  // 2^11 == kTile
  static_assert(kTile == 1 << 11);
  const unsigned row_block = block_index().x / static_cast<unsigned>(tiles);
  const int first = static_cast<int>(block_index().x % static_cast<unsigned>(tiles)) * kTile;
  const int64_t first_row = rows.first + (int64_t{row_block} << rows_log);

  MICA_UNROLL
  for (int u = 0; u < kItems; ++u) {
    // Neighbouring threads take neighbouring addresses: the elements of a row, or where those lie apart, its
    // neighbours.
    const int i = u * kThreads + thread;
    const bool along = rows.inner == 1;
    const int r = along ? i >> segment_log : i & ((1 << rows_log) - 1);
    const int e = along ? i & (segment - 1) : i >> rows_log;
    const int64_t row = first_row + r;
    Key key = ~Key{0};
    if (row < rows.end && first + e < rows.n) {
      const int64_t at =
          along ? row * rows.n + first + e : (row / rows.inner * rows.n + first + e) * rows.inner + row % rows.inner;
      key = key_of(x[at], descending);
    }
    keys[slot(r * segment + e)] = key;
  }
  barrier();

  Key key[kItems];
  uint32_t position[kItems];
  MICA_UNROLL
  for (int i = 0; i < kItems; ++i) {
    key[i] = keys[slot(thread * kItems + i)];
    position[i] = static_cast<uint32_t>(first + ((thread * kItems + i) & (segment - 1)));
  }
  // By transposing neighbours, odd ones and even ones in turn.
  MICA_UNROLL
  for (int round = 0; round < kItems; ++round) {
    MICA_UNROLL
    for (int i = round % 2; i + 1 < kItems; i += 2) {
      const bool swap = key[i + 1] < key[i];
      const Key lower = swap ? key[i + 1] : key[i];
      key[i + 1] = swap ? key[i] : key[i + 1];
      key[i] = lower;
      const uint32_t lower_position = swap ? position[i + 1] : position[i];
      position[i + 1] = swap ? position[i] : position[i + 1];
      position[i] = lower_position;
    }
  }
  for (int width = kItems; width < segment; width *= 2) {
    // Up to here, items were read by the warp that writes them again, unless merges are longer than its share.
    if (width > kItems * kWarpSize)
      barrier();
    else
      warp_barrier();
    MICA_UNROLL
    for (int i = 0; i < kItems; ++i) {
      keys[slot(thread * kItems + i)] = key[i];
      positions[slot(thread * kItems + i)] = position[i];
    }
    if (2 * width > kItems * kWarpSize)
      barrier();
    else
      warp_barrier();
    const int a = thread * kItems & -2 * width, b = a + width, count = thread * kItems - a;
    const int from_a = merge_path(keys, a, width, b, width, count);
    merge(keys, positions, a + from_a, b, b + count - from_a, b + width, key, position);
  }

  barrier();
  MICA_UNROLL
  for (int i = 0; i < kItems; ++i) {
    keys[slot(thread * kItems + i)] = key[i];
    positions[slot(thread * kItems + i)] = position[i];
  }
  barrier();
  MICA_UNROLL
  for (int u = 0; u < kItems; ++u) {
    const int i = u * kThreads + thread;
    const bool along = rows.inner == 1;
    const int r = along ? i >> segment_log : i & ((1 << rows_log) - 1);
    const int e = along ? i & (segment - 1) : i >> rows_log;
    const int64_t row = first_row + r;
    if (row >= rows.end || e >= rows.k || first + e >= rows.n) continue;
    const uint32_t here = positions[slot(r * segment + e)];
    if (index) {
      write_index(rows, row, e, here, index);
    } else {
      const int64_t at = (row - rows.first) * rows.n + first + e;
      keys_out[at] = keys[slot(e)];
      positions_out[at] = here;
    }
  }
}

// As merge_path, by a warp in global memory, with 32 probes at a time.
template <class Key>
MICA_DEVICE int warp_merge_path(const Key* a, int a_count, const Key* b, int b_count, int count) {
  const int lane = static_cast<int>(thread_index().x) % kWarpSize;
  int low = at_least(0, count - b_count), high = at_most(count, a_count);
  while (low < high) {
    const int step = static_cast<int>(ceil_div(high - low, kWarpSize));
    const int64_t probe = low + int64_t{lane + 1} * step - 1;
    const bool from_a = probe < high && !(b[count - 1 - probe] < a[probe]);
    const int below = warp_reduce(from_a ? 1 : 0, Add{});
    const int64_t next = int64_t{low} + int64_t{below + 1} * step - 1;
    low += below * step;
    high = static_cast<int>(at_most<int64_t>(high, next));
  }
  return low;
}

/// Merges runs `width` apart two by two, of which the first k are wanted; a block for each tile of the result. The last
/// merge, of two runs, goes to `index`.
template <class Key>
MICA_KERNEL(kThreads)
void merge_runs(const Rows rows, const int64_t width, const int pairs, const int tiles, const Key* const keys_in,
                const uint32_t* const positions_in, Key* const keys_out, uint32_t* const positions_out,
                int64_t* const index) {
  MICA_SHARED(Key, keys, [kSlots]);
  MICA_SHARED(uint32_t, positions, [kSlots]);
  MICA_SHARED(int, from_a, [2]);
  const int thread = static_cast<int>(thread_index().x);
  const unsigned rest = block_index().x / static_cast<unsigned>(tiles);
  const int tile = static_cast<int>(block_index().x % static_cast<unsigned>(tiles)) * kTile;
  const int64_t row = rest / static_cast<unsigned>(pairs);  // from rows.first
  const int64_t first = int64_t{rest % static_cast<unsigned>(pairs)} * 2 * width;
  const int64_t most = at_most<int64_t>(width, rows.k);
  const int a_count = static_cast<int>(at_most(most, rows.n - first));
  const int b_count = static_cast<int>(at_least<int64_t>(0, at_most(most, rows.n - first - width)));
  const int count = at_most(at_most(rows.k, a_count + b_count) - tile, kTile);
  if (count <= 0) return;
  const Key* const a = keys_in + row * rows.n + first;
  const Key* const b = a + width;
  const uint32_t* const a_positions = positions_in + row * rows.n + first;

  const int warp = thread / kWarpSize;
  if (warp < 2) {
    const int split = warp_merge_path(a, a_count, b, b_count, warp == 0 ? tile : tile + count);
    if (thread % kWarpSize == 0) from_a[warp] = split;
  }
  barrier();
  const int a_first = from_a[0], a_here = from_a[1] - a_first, b_first = tile - a_first;
  MICA_UNROLL
  for (int u = 0; u < kItems; ++u) {
    const int i = u * kThreads + thread;
    if (i >= count) break;
    const int64_t at = i < a_here ? a_first + i : width + b_first + i - a_here;
    keys[slot(i)] = a[at];
    positions[slot(i)] = a_positions[at];
  }
  barrier();
  Key key[kItems];
  uint32_t position[kItems];
  const int begin = at_most(thread * kItems, count);
  const int begin_a = merge_path(keys, 0, a_here, a_here, count - a_here, begin);
  merge(keys, positions, begin_a, a_here, a_here + begin - begin_a, count, key, position);
  barrier();
  MICA_UNROLL
  for (int i = 0; i < kItems; ++i) {
    keys[slot(thread * kItems + i)] = key[i];
    positions[slot(thread * kItems + i)] = position[i];
  }
  barrier();
  MICA_UNROLL
  for (int u = 0; u < kItems; ++u) {
    const int i = u * kThreads + thread;
    if (i >= count) break;
    if (index) {
      write_index(rows, rows.first + row, tile + i, positions[slot(i)], index);
    } else {
      const int64_t at = row * rows.n + first + tile + i;
      keys_out[at] = keys[slot(i)];
      positions_out[at] = positions[slot(i)];
    }
  }
}

template <class T>
void argsort_of(Context& ctx, const Rows& all, bool descending, const T* x, int64_t* index) {
  using Key = KeyOf<T>;
  if (all.n <= kTile) {
    int segment_log = 3;  // kItems
    while ((1 << segment_log) < all.n) ++segment_log;
    launch(sort_tiles<T>, ceil_div(all.end, kTile >> segment_log), {kThreads}, 0, ctx.stream, all, 1, segment_log,
           descending, x, nullptr, nullptr, index);
    return;
  }
  // As many rows at a time as bring work for a whole GPU: the scratch memory is four to six times as large as they are.
  constexpr int64_t kAtOnce = 1 << 25;
  Rows rows = all;
  const int64_t step = at_least<int64_t>(1, at_most(all.end, kAtOnce / all.n));
  const size_t count = static_cast<size_t>(step * all.n);
  const Scratch scratch(ctx, 2 * count * (sizeof(Key) + sizeof(uint32_t)));
  for (rows.first = 0; rows.first < all.end; rows.first += step) {
    rows.end = at_most(rows.first + step, all.end);
    const int64_t here = rows.end - rows.first;
    Key *keys = scratch.as<Key>(), *other_keys = keys + count;
    uint32_t *positions = scratch.as<uint32_t>(2 * count * sizeof(Key)), *other_positions = positions + count;
    const int tiles = to_int(ceil_div(rows.n, kTile));
    launch(sort_tiles<T>, here * tiles, {kThreads}, 0, ctx.stream, rows, tiles, 11, descending, x, keys, positions,
           nullptr);
    for (int64_t width = kTile; width < rows.n; width *= 2) {
      const int64_t pairs = ceil_div(rows.n, 2 * width);
      const int64_t merged = ceil_div(at_most<int64_t>(2 * width, rows.k), kTile);
      launch(merge_runs<Key>, here * pairs * merged, {kThreads}, 0, ctx.stream, rows, width, to_int(pairs),
             to_int(merged), keys, positions, other_keys, other_positions, pairs == 1 ? index : nullptr);
      std::swap(keys, other_keys);
      std::swap(positions, other_positions);
    }
  }
}

}  // namespace

void argsort(Context& ctx, const ReduceArgs& args, bool descending, int64_t k, const void* x, int64_t* index) {
  if (args.outer * args.inner * k == 0) return;
  check(args.n < (int64_t{1} << 31), "argsort", "the CUDA kernel sorts up to 2147483647 elements at a time, not ",
        args.n);
  const Rows rows{.first = 0, .end = args.outer * args.inner, .n = to_int(args.n), .k = to_int(k), .inner = args.inner};
  for_number(args.dtype, [&](auto t) { argsort_of(ctx, rows, descending, static_cast<const decltype(t)*>(x), index); });
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
