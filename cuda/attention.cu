// Attention, float32 and float64, and rotary position embedding.
//
// After Dao, "FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning", ICLR 2024, algorithm
// 1: a block has some queries of a head and passes over the keys, with a running maximum and sum of each query's
// scores. Where there are too few such blocks to fill a GPU, the keys are divided as well, and a second kernel combines
// the parts: Dao, Haziza, Massa, Sizov, "Flash-Decoding for long-context inference", 2023.
#include "cuda/attention_tile.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

namespace {

template <class T>
struct ForwardArgs {
  HeadOperand<const T> q, k, v;
  HeadOperand<T> y;
  AttentionView view;
  T* log_sum = nullptr;
  unsigned tiles = 0, chunks = 0, splits = 1;  // of a head: of its queries, of its values' features, of its keys
  bool resident = false;                       // the queries stay in shared memory
  // Of each split: the sums [splits, B*N, Tq, dv] before they are divided, and what they are to be divided by.
  T *part = nullptr, *part_largest = nullptr, *part_sum = nullptr;
};

template <class Shape, class T = typename Shape::T>
MICA_KERNEL(kTileThreads, Shape::kBlocks)
void attention_kernel(const ForwardArgs<T> args) {
  constexpr int kRows = Shape::kRows, kParts = Shape::kParts, kPart = Shape::kPart;
  MICA_DYNAMIC_SHARED(typename Shape::Memory, shared);

  // The last queries, which causality leaves the most keys, come first.
  unsigned at = block_index().x;
  const int first = to_int(args.tiles - 1 - at % args.tiles) * Shape::kTileRows;
  at /= args.tiles;
  const int feature = to_int(at % args.chunks) * Shape::kAccumulated;
  at /= args.chunks;
  const unsigned split = at % args.splits, index = at / args.splits;
  const unsigned b = index / args.view.heads, n = index % args.view.heads;
  const HeadView head = args.view.of(b, n);
  const HeadRows<const T> q = args.q.of(b, n), k = args.k.of(b, n), v = args.v.of(b, n);
  const int last = at_most(first + Shape::kTileRows, head.tq) - 1;
  const int64_t tiles = (head.keys(last) + kColumns - 1) / kColumns;
  const int begin = to_int(tiles * split / args.splits) * kColumns;
  const int end = at_most(to_int(tiles * (split + 1) / args.splits) * kColumns, head.keys(last));

  // Shared memory: the queries where they are resident; two places for slices of keys or values, and else of queries
  // with them; the probabilities.
  const int slices = (q.features + Shape::kFeatures - 1) / Shape::kFeatures;
  const int slots = args.resident ? slices * Shape::kRowSlice : 0;
  const int slot_size = Shape::kColumnSlice + (args.resident ? 0 : Shape::kRowSlice);
  const int weights = slots + 2 * slot_size;
  const auto load_queries = [&](int slice, int to) {
    load_slice<Shape::kTileRows, kRows>(shared, to, q, first, slice * Shape::kFeatures);
  };
  const auto load_keys = [&](int key, int slice, int slot) {
    load_slice<kColumns, 4>(shared, slots + slot * slot_size, k, key, slice * Shape::kFeatures);
    if (!args.resident) load_queries(slice, slots + slot * slot_size + Shape::kColumnSlice);
  };
  const auto load_values = [&](int key, int part, int slot) {
    load_slice<kColumns, 4>(shared, slots + slot * slot_size, v, key, feature + part * Shape::kPartFeatures);
  };

  T sum[kParts][kRows][kPart] = {};
  T largest[kRows], total[kRows];  // total: of the thread's own keys, until the end
  MICA_UNROLL
  for (int i = 0; i < kRows; ++i) {
    largest[i] = -kInfinity<T>;
    total[i] = T(0);
  }
  int slot = 0;
  if (begin < end) {
    if (args.resident)
      for (int slice = 0; slice < slices; ++slice) load_queries(slice, slice * Shape::kRowSlice);
    load_keys(begin, 0, slot);
  }
  for (int key = begin; key < end; key += kColumns) {
    T score[kRows][4] = {};
    for (int slice = 0; slice < slices; ++slice) {
      wait_for_copies();
      barrier();
      if (slice + 1 < slices)
        load_keys(key, slice + 1, slot ^ 1);
      else
        load_values(key, 0, slot ^ 1);
      const int columns_at = slots + slot * slot_size;
      add_products<Shape>(shared, args.resident ? slice * Shape::kRowSlice : columns_at + Shape::kColumnSlice,
                          columns_at, q.features - slice * Shape::kFeatures, score);
      slot ^= 1;
    }

    const bool whole = head.whole(first, key + kColumns);
    const TilePlace place;
    const int query = first + place.group * kRows, column = key + place.lane * 4;
    MICA_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const unsigned seen = whole ? 15u : head.seen(query + i, column);
      T here = -kInfinity<T>;
      MICA_UNROLL
      for (int j = 0; j < 4; ++j) {
        score[i][j] = rounded_product(score[i][j], static_cast<T>(args.view.scale));
        if ((seen >> j & 1) == 0) score[i][j] = -kInfinity<T>;
        here = score[i][j] > here ? score[i][j] : here;  // NaN, which does not win, is NaN in the sum
      }
      MICA_UNROLL
      for (int mask = kLanes / 2; mask > 0; mask /= 2) {
        const T other = shuffle_xor(here, mask);
        here = other > here ? other : here;
      }
      const T before = largest[i];
      largest[i] = here > before ? here : before;
      const T shift = largest[i] == -kInfinity<T> ? T(0) : largest[i];  // nothing seen yet
      const T decay = natural_exp(before - shift);
      T added = T(0);
      MICA_UNROLL
      for (int j = 0; j < 4; ++j) {
        score[i][j] = natural_exp(score[i][j] - shift);
        added += score[i][j];
      }
      total[i] = total[i] * decay + added;
      MICA_UNROLL
      for (int p = 0; p < kParts; ++p) {
        MICA_UNROLL
        for (int c = 0; c < kPart; ++c) sum[p][i][c] *= decay;
      }
      if (args.view.rate > 0) {
        const unsigned dropped = args.view.dropped(head, query + i, column);
        MICA_UNROLL
        for (int j = 0; j < 4; ++j) score[i][j] *= (dropped >> j & 1) ? T(0) : static_cast<T>(args.view.kept);
      }
      store_weights<Shape>(shared, weights, i, score[i]);
    }

    MICA_UNROLL
    for (int p = 0; p < kParts; ++p) {
      if (p > 0 && feature + p * Shape::kPartFeatures >= v.features) break;
      wait_for_copies();
      barrier();
      if (p + 1 < kParts && feature + (p + 1) * Shape::kPartFeatures < v.features)
        load_values(key, p + 1, slot ^ 1);
      else if (key + kColumns < end)
        load_keys(key + kColumns, 0, slot ^ 1);
      add_weighted<Shape>(shared, weights, slots + slot * slot_size, end - key, sum[p]);
      slot ^= 1;
    }
  }

  const TilePlace place;
  const int64_t parts_row =
      (int64_t{split} * (grid_size().x / (args.tiles * args.chunks * args.splits)) + index) * head.tq;
  const HeadRows<T> y = args.part ? HeadRows<T>{args.part + parts_row * v.features, v.features, head.tq, v.features,
                                                v.features % Shape::kPack == 0}
                                  : args.y.of(b, n);
  MICA_UNROLL
  for (int i = 0; i < kRows; ++i) {
    const int row = first + place.group * kRows + i;
    MICA_UNROLL
    for (int mask = kLanes / 2; mask > 0; mask /= 2) total[i] += shuffle_xor(total[i], mask);
    const bool none = total[i] == T(0);
    const T factor = args.part ? T(1) : none ? T(0) : T(1) / total[i];
    MICA_UNROLL
    for (int p = 0; p < kParts; ++p) store_part<Shape>(y, row, feature + p * Shape::kPartFeatures, sum[p][i], factor);
    if (place.lane != 0 || feature != 0 || row >= head.tq) continue;
    if (args.part) {
      args.part_largest[parts_row + row] = largest[i];
      args.part_sum[parts_row + row] = total[i];
    } else if (args.log_sum) {
      args.log_sum[int64_t{index} * head.tq + row] = none ? kInfinity<T> : largest[i] + math::log(total[i]);
    }
  }
}

// A warp a query: y and log_sum from what each split of the keys gave.
constexpr int kCombineThreads = 128;

template <class T>
MICA_KERNEL(kCombineThreads)
void combine_kernel(int64_t rows, const ForwardArgs<T> args) {
  const int warp = static_cast<int>(thread_index().x) / kWarpSize,
            lane = static_cast<int>(thread_index().x) % kWarpSize;
  const int64_t row = int64_t{block_index().x} * (kCombineThreads / kWarpSize) + warp;
  if (row >= rows) return;
  const int64_t index = row / args.y.length;
  const HeadRows<T> y = args.y.of(index / args.view.heads, index % args.view.heads);
  T* const to = y.data + row % args.y.length * y.stride;

  T largest = -kInfinity<T>;
  for (unsigned s = 0; s < args.splits; ++s) {
    const T here = args.part_largest[s * rows + row];
    largest = here > largest ? here : largest;
  }
  const T shift = largest == -kInfinity<T> ? T(0) : largest;
  T total = T(0);
  for (unsigned s = 0; s < args.splits; ++s)
    total += args.part_sum[s * rows + row] * natural_exp(args.part_largest[s * rows + row] - shift);
  const bool none = total == T(0);
  for (int c = lane; c < y.features; c += kWarpSize) {
    T sum = T(0);
    for (unsigned s = 0; s < args.splits; ++s)
      sum += args.part[(s * rows + row) * y.features + c] * natural_exp(args.part_largest[s * rows + row] - shift);
    to[c] = none ? T(0) : sum / total;
  }
  if (args.log_sum && lane == 0) args.log_sum[row] = none ? kInfinity<T> : largest + math::log(total);
}

// Blocks that a launch should have, by the shape alone, and at most so many parts of the keys to get there.
constexpr int64_t kEnoughBlocks = 384, kMostSplits = 64;

template <class Shape>
void launch_attention(Context& ctx, const AttentionArgs& a, const void* q, const void* k, const void* v, void* y,
                      void* log_sum) {
  using T = typename Shape::T;
  ForwardArgs<T> args{{static_cast<const T*>(q), a.q, a.tq, a.d},
                      {static_cast<const T*>(k), a.k, a.tk, a.d},
                      {static_cast<const T*>(v), a.v, a.tk, a.dv},
                      {static_cast<T*>(y), a.y, a.tq, a.dv},
                      AttentionView(a),
                      static_cast<T*>(log_sum)};
  const int64_t heads = a.batch * a.heads, rows = heads * a.tq;
  const int64_t tiles = ceil_div(a.tq, Shape::kTileRows),
                chunks = at_least(ceil_div(a.dv, Shape::kAccumulated), int64_t{1});
  const int64_t blocks = heads * tiles * chunks, key_tiles = ceil_div(a.tk, kColumns);
  int64_t splits = 1;
  if (blocks <= kEnoughBlocks / 2)
    splits = at_least(at_most(at_most(kEnoughBlocks / blocks, kMostSplits), key_tiles / 2), int64_t{1});
  args.tiles = static_cast<unsigned>(tiles);
  args.chunks = static_cast<unsigned>(chunks);
  args.splits = static_cast<unsigned>(splits);

  const Scratch scratch(ctx, splits > 1 ? static_cast<size_t>(splits * rows * (a.dv + 2)) * sizeof(T) : 0);
  if (splits > 1) {
    args.part = scratch.template as<T>();
    args.part_largest = args.part + splits * rows * a.dv;
    args.part_sum = args.part_largest + splits * rows;
  }
  constexpr int64_t kPackBytes = 16;
  const int64_t resident = ceil_div(a.d, Shape::kFeatures) * Shape::kRowSlice;
  const int64_t slots = 2 * Shape::kColumnSlice + Shape::kWeights;
  args.resident = (resident + slots) * kPackBytes <= static_cast<int64_t>(kMaxShared);
  const int64_t shared = (slots + (args.resident ? resident : 2 * Shape::kRowSlice)) * kPackBytes;
  launch(attention_kernel<Shape>, blocks * splits, {kTileThreads}, static_cast<size_t>(shared), ctx.stream, args);
  if (splits > 1)
    launch(combine_kernel<T>, ceil_div(rows, kCombineThreads / kWarpSize), {kCombineThreads}, 0, ctx.stream, rows,
           args);
}

// Calls f with the tile for these sizes: a few queries, as of one step of generation, have a tile of their own.
template <class F>
void for_shape(const AttentionArgs& a, const F& f) {
  if (a.dtype == DType::float32) {
    if (a.tq <= kRowGroups) {
      if (a.dv <= 64) return f(TileShape<float, 1, 1, false, 4>{});
      return f(TileShape<float, 1, 2, false, 4>{});
    }
    if (a.dv <= 32) return f(TileShape<float, 8, 1, true, 3>{});
    if (a.dv <= 64) return f(TileShape<float, 8, 1, false, 3>{});
    if (a.dv <= 128) return f(TileShape<float, 8, 2, false, 2>{});
    return f(TileShape<float, 4, 4, false, 2>{});
  }
  if (a.tq <= kRowGroups) {
    if (a.dv <= 64) return f(TileShape<double, 1, 2, false, 4>{});
    return f(TileShape<double, 1, 4, false, 4>{});
  }
  if (a.dv <= 32) return f(TileShape<double, 4, 1, false, 3>{});
  if (a.dv <= 64) return f(TileShape<double, 4, 2, false, 3>{});
  return f(TileShape<double, 4, 4, false, 2>{});
}

// ---- Rotary position embedding: Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021 ----

// The sine and cosine of an angle in float64. The runtime's functions keep an array in local memory for angles that are
// large, so the turns are taken off here, in as many bits as no angle of a position below 2^53 needs more of.
MICA_DEVICE void sine_cosine(double angle, double& sine, double& cosine) {
#if defined(MICA_EMULATED)
  sine = ::sin(angle);
  cosine = ::cos(angle);
#else
  const double turns = ::rint(angle * 0.15915494309189535);
  double rest = ::fma(-turns, 6.283185307179586, angle);  // 2 pi in three parts
  rest = ::fma(-turns, 2.4492935982947064e-16, rest);
  rest = ::fma(-turns, -5.989539619436679e-33, rest);
  ::sincospi(rest * 0.3183098861837907, &sine, &cosine);
#endif
}

constexpr int kRotaryThreads = 256;

// table[time, half] = cosine and sine.
template <class T>
MICA_KERNEL(kRotaryThreads)
void angle_kernel(int64_t count, int half, int64_t offset, double base, bool inverse, Pack<T, 2>* __restrict__ table) {
  const int64_t at = int64_t{block_index().x} * kRotaryThreads + static_cast<int>(thread_index().x);
  if (at >= count) return;
  const int64_t t = at / half;
  const int i = to_int(at - t * half);
  const double frequency = ::pow(base, -2.0 * i / (2.0 * half));
  const double position = static_cast<double>(offset + t) * (inverse ? -1 : 1);
  double sine, cosine;
  sine_cosine(position * frequency, sine, cosine);
  table[at] = {{static_cast<T>(cosine), static_cast<T>(sine)}};
}

struct RotaryShape {
  int64_t time = 0;
  int steps = 0;             // of a block; all of them of one example
  unsigned step_blocks = 0;  // of an example
  unsigned row_blocks = 0;   // of a step, where it has more pairs than a block
  int half = 0;              // pairs of a head
  int rotated_pairs = 0;     // of a step, in packs
  FastDivide row_packs;      // packs of pairs in a step
  FastDivide half_packs;     // in a head
};

constexpr int kRotaryPacks = 4;  // of pairs that a thread turns

template <class T, int kWidth>
MICA_KERNEL(kRotaryThreads)
void rotary_kernel(const RotaryShape shape, const Pack<T, 2>* __restrict__ table, const T* __restrict__ x,
                   T* __restrict__ y) {
  unsigned block = block_index().x;
  const int part = to_int(block % shape.row_blocks) * (kRotaryThreads * kRotaryPacks);
  block /= shape.row_blocks;
  const int64_t first = int64_t{block % shape.step_blocks} * shape.steps;
  const int64_t row = int64_t{block / shape.step_blocks} * shape.time + first;
  const int steps = to_int(at_most(int64_t{shape.steps}, shape.time - first));
  const int64_t row_size = int64_t{shape.row_packs.divisor()} * (2 * kWidth);
  const int count = shape.row_blocks == 1 ? steps * shape.row_packs.divisor() : shape.row_packs.divisor();
  MICA_UNROLL
  for (int p = 0; p < kRotaryPacks; ++p) {
    int u = part + p * kRotaryThreads + static_cast<int>(thread_index().x);
    if (u >= count) break;
    const int step = shape.row_packs.divide(u);
    int i = u;
    const int head = shape.half_packs.divide(i);
    const int64_t at = (row + step) * row_size + int64_t{head} * (2 * shape.half) + i * kWidth;
    using Row = Pack<T, kWidth>;
    Row low = *reinterpret_cast<const Row*>(x + at), high = *reinterpret_cast<const Row*>(x + at + shape.half);
    if (u < shape.rotated_pairs) {
      const Pack<T, 2>* const angle = table + (first + step) * shape.half + i * kWidth;
      MICA_UNROLL
      for (int e = 0; e < kWidth; ++e) {
        const T cosine = angle[e].v[0], sine = angle[e].v[1], a = low.v[e], b = high.v[e];
        low.v[e] = a * cosine - b * sine;
        high.v[e] = b * cosine + a * sine;
      }
    }
    *reinterpret_cast<Row*>(y + at) = low;
    *reinterpret_cast<Row*>(y + at + shape.half) = high;
  }
}

template <class T, int kWidth>
void launch_rotary(Context& ctx, const RotaryArgs& a, const T* x, T* y) {
  const int64_t half = a.d / 2, packs = half / kWidth, row_packs = a.heads * packs;
  const Scratch scratch(ctx, static_cast<size_t>(a.time * half) * sizeof(Pack<T, 2>));
  Pack<T, 2>* const table = scratch.as<Pack<T, 2>>();
  launch(angle_kernel<T>, ceil_div(a.time * half, kRotaryThreads), {kRotaryThreads}, 0, ctx.stream, a.time * half,
         to_int(half), a.offset, a.base, a.inverse, table);
  constexpr int64_t kBlockPacks = kRotaryThreads * kRotaryPacks;
  RotaryShape shape;
  shape.time = a.time;
  shape.steps = to_int(at_most(at_least(kBlockPacks / row_packs, int64_t{1}), a.time));
  const int64_t step_blocks = ceil_div(a.time, shape.steps), row_blocks = ceil_div(row_packs, kBlockPacks);
  shape.step_blocks = static_cast<unsigned>(step_blocks);
  shape.row_blocks = static_cast<unsigned>(row_blocks);
  shape.half = to_int(half);
  shape.rotated_pairs = to_int(a.rotated * packs);
  shape.row_packs = FastDivide(row_packs);
  shape.half_packs = FastDivide(packs);
  launch(rotary_kernel<T, kWidth>, a.batch * step_blocks * row_blocks, {kRotaryThreads}, 0, ctx.stream, shape, table, x,
         y);
}

}  // namespace

void attention(Context& ctx, const AttentionArgs& args, const void* q, const void* k, const void* v, void* y,
               void* log_sum) {
  if (args.batch * args.heads * args.tq == 0) return;
  for_shape(args, [&](auto shape) { launch_attention<decltype(shape)>(ctx, args, q, k, v, y, log_sum); });
}

void rotary(Context& ctx, const RotaryArgs& args, const void* x, void* y) {
  if (args.batch * args.time * args.heads * args.d == 0) return;
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    const T* const from = static_cast<const T*>(x);
    T* const to = static_cast<T*>(y);
    if (is_aligned(16, x, y) && args.d / 2 % kPackWidth<T> == 0)
      launch_rotary<T, kPackWidth<T>>(ctx, args, from, to);
    else
      launch_rotary<T, 1>(ctx, args, from, to);
  });
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
