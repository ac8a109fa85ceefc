// The gradient of attention, float32 and float64: Dao, "FlashAttention-2", ICLR 2024, algorithm 2, in two kernels of
// which each finds the probabilities anew from log_sum. In the one, blocks have queries and pass over the keys, which
// gives dq; in the other, blocks have keys and pass over the queries, which gives dk and dv. So nothing is added
// atomically, and the same bits come out each time.
#include "cuda/attention_tile.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

namespace {

template <class T>
struct GradientArgs {
  HeadOperand<const T> q, k, v, dy;
  HeadOperand<T> dq, dk, dv;
  AttentionView view;
  const T *log_sum = nullptr, *dot = nullptr;  // [B*N, Tq]
  unsigned tiles = 0, chunks = 0;              // of a head: of the block's rows, of the features
  bool resident = false;                       // the block's rows stay in shared memory
};

// dot[B*N, Tq] = the sum of y * dy over the features; a warp a query.
constexpr int kDotThreads = 128;

template <class T>
MICA_KERNEL(kDotThreads)
void dot_kernel(int64_t rows, unsigned heads, const HeadOperand<const T> y, const HeadOperand<const T> dy, T* dot) {
  const int warp = static_cast<int>(thread_index().x) / kWarpSize,
            lane = static_cast<int>(thread_index().x) % kWarpSize;
  const int64_t row = int64_t{block_index().x} * (kDotThreads / kWarpSize) + warp;
  if (row >= rows) return;
  const int64_t index = row / y.length;
  const HeadRows<const T> a = y.of(index / heads, index % heads), b = dy.of(index / heads, index % heads);
  const int64_t from = (row - index * y.length) * a.stride;
  T sum = T(0);
  for (int c = lane; c < a.features; c += kWarpSize) sum += a.data[from + c] * b.data[from + c];
  sum = warp_reduce(sum, Add{});
  if (lane == 0) dot[row] = sum;
}

// With `of_keys`, the block's rows are keys and the columns that it passes over queries, and it gives dk and dv; else
// the other way round, and it gives dq. (first, second): (k, v) and (q, dy), whose products are scores and the
// probabilities' gradients.
template <class Shape, bool of_keys, class T = typename Shape::T>
MICA_KERNEL(kTileThreads, Shape::kBlocks)
void gradient_kernel(const GradientArgs<T> args) {
  constexpr int kRows = Shape::kRows, kParts = Shape::kParts, kPart = Shape::kPart;
  MICA_DYNAMIC_SHARED(typename Shape::Memory, shared);

  // Causality leaves the first keys and the last queries the most to do.
  unsigned at = block_index().x;
  const int tile = to_int(at % args.tiles);
  const int first = (of_keys ? tile : to_int(args.tiles) - 1 - tile) * Shape::kTileRows;
  at /= args.tiles;
  const int feature = to_int(at % args.chunks) * Shape::kAccumulated;
  const unsigned index = at / args.chunks;
  const unsigned b = index / args.view.heads, n = index % args.view.heads;
  // Found anew where they are needed: the registers are the sums'.
  const auto view_of_head = [&] {
    return args.view.of(static_cast<unsigned>(opaque(to_int(b))), static_cast<unsigned>(opaque(to_int(n))));
  };
  const auto rows_of = [&](const HeadOperand<const T>& x) { return x.of(opaque(to_int(b)), opaque(to_int(n))); };
  const auto first_row = [&] { return rows_of(of_keys ? args.k : args.q); };
  const auto second_row = [&] { return rows_of(of_keys ? args.v : args.dy); };
  const auto first_column = [&] { return rows_of(of_keys ? args.q : args.k); };
  const auto second_column = [&] { return rows_of(of_keys ? args.dy : args.v); };
  const HeadView head = view_of_head();
  // The queries that see any of the block's keys, in whole tiles; the keys that any of the block's queries sees.
  const int begin = !of_keys || !head.causal ? 0 : at_least(first - head.tk + head.tq, 0) / kColumns * kColumns;
  const int end = of_keys ? head.tq : head.keys(at_most(first + Shape::kTileRows, head.tq) - 1);

  // What is wanted of the block. Scores take all features, and their gradients all of the values'.
  const bool of_scores = (of_keys ? args.dk : args.dq).data && feature < args.q.features;
  const bool of_values = of_keys && args.dv.data && feature < args.v.features;
  const int slices = (args.q.features + Shape::kFeatures - 1) / Shape::kFeatures;
  const int value_slices = (args.v.features + Shape::kFeatures - 1) / Shape::kFeatures;
  const int second_slices = of_scores ? value_slices : 0;

  // Shared memory: the rows where they are resident; two places for slices of columns, and else of rows with them; the
  // scores' gradients, and the probabilities, which with keys are wanted at the same time.
  const int slots = args.resident ? (slices + value_slices) * Shape::kRowSlice : 0;
  const int slot_size = Shape::kColumnSlice + (args.resident ? 0 : Shape::kRowSlice);
  const int weights = slots + 2 * slot_size, probabilities = weights + (of_keys ? Shape::kWeights : 0);

  // Starts to load what step `slice` of a tile's products takes: slices of the first pair, then of the second.
  const auto load_rows = [&](int slice, int to) {
    if (slice < slices)
      load_slice<Shape::kTileRows, kRows>(shared, to, first_row(), first, slice * Shape::kFeatures);
    else
      load_slice<Shape::kTileRows, kRows>(shared, to, second_row(), first, (slice - slices) * Shape::kFeatures);
  };
  const auto load_pair = [&](int column, int slice, int slot) {
    const int to = slots + slot * slot_size;
    if (slice < slices)
      load_slice<kColumns, 4>(shared, to, first_column(), column, slice * Shape::kFeatures);
    else
      load_slice<kColumns, 4>(shared, to, second_column(), column, (slice - slices) * Shape::kFeatures);
    if (!args.resident) load_rows(slice, to + Shape::kColumnSlice);
  };
  const auto load_part = [&](const HeadRows<const T>& column_rows, int column, int part, int slot) {
    load_slice<kColumns, 4>(shared, slots + slot * slot_size, column_rows, column,
                            feature + part * Shape::kPartFeatures);
  };
  const auto has_part = [&](int part, int features) { return feature + part * Shape::kPartFeatures < features; };

  T sum[kParts][kRows][kPart] = {};                      // of dq or dk
  T value_sum[of_keys ? kParts : 1][kRows][kPart] = {};  // of dv
  int slot = 0;
  const bool wanted = of_scores || of_values;
  if (wanted && begin < end) {
    if (args.resident)
      for (int slice = 0; slice < slices + second_slices; ++slice) load_rows(slice, slice * Shape::kRowSlice);
    load_pair(begin, 0, slot);
  }
  for (int column = begin; wanted && column < end; column += kColumns) {
    T score[kRows][4] = {};
    const auto multiply = [&](int slice, int features, T(&products)[kRows][4]) {
      wait_for_copies();
      barrier();
      if (slice + 1 < slices + second_slices)
        load_pair(column, slice + 1, slot ^ 1);
      else if (of_values)
        load_part(second_column(), column, 0, slot ^ 1);
      else
        load_part(first_column(), column, 0, slot ^ 1);
      const int columns_at = slots + slot * slot_size;
      add_products<Shape>(shared, args.resident ? slice * Shape::kRowSlice : columns_at + Shape::kColumnSlice,
                          columns_at, features, products);
      slot ^= 1;
    };
    for (int slice = 0; slice < slices; ++slice) multiply(slice, args.q.features - slice * Shape::kFeatures, score);

    // Scores become probabilities, negative where dropout drops them, and wait in shared memory until their gradients
    // are there. Of a query beyond the last they are 0.
    {
      const TilePlace place;
      const HeadView seer = view_of_head();
      const int row = first + place.group * kRows, own = column + place.lane * 4;
      const bool whole = of_keys ? seer.whole(column, first + Shape::kTileRows) : seer.whole(first, column + kColumns);
      const auto probability = [&](T s, bool seen, T log_sum) {
        return seen ? natural_exp(rounded_product(s, static_cast<T>(args.view.scale)) - log_sum) : T(0);
      };
      const auto log_sum_of = [&](int i) {
        return i < seer.tq ? args.log_sum[int64_t{opaque(to_int(index))} * seer.tq + i] : kInfinity<T>;
      };
      if constexpr (of_keys) {
        MICA_UNROLL
        for (int j = 0; j < 4; ++j) {
          const T log_sum = log_sum_of(own + j);
          MICA_UNROLL
          for (int i = 0; i < kRows; i += 4) {
            const unsigned seen = whole ? 15u : seer.seen(own + j, row + i);
            MICA_UNROLL
            for (int e = 0; e < 4; ++e) score[i + e][j] = probability(score[i + e][j], (seen >> e & 1) != 0, log_sum);
            if (args.view.rate > 0) {
              const unsigned dropped = args.view.dropped(seer, own + j, row + i);
              MICA_UNROLL
              for (int e = 0; e < 4; ++e)
                if (dropped >> e & 1) score[i + e][j] = -score[i + e][j];
            }
          }
        }
      } else {
        MICA_UNROLL
        for (int i = 0; i < kRows; ++i) {
          const T log_sum = log_sum_of(row + i);
          const unsigned seen = whole ? 15u : seer.seen(row + i, own);
          MICA_UNROLL
          for (int j = 0; j < 4; ++j) score[i][j] = probability(score[i][j], (seen >> j & 1) != 0, log_sum);
          if (args.view.rate > 0) {
            const unsigned dropped = args.view.dropped(seer, row + i, own);
            MICA_UNROLL
            for (int j = 0; j < 4; ++j)
              if (dropped >> j & 1) score[i][j] = -score[i][j];
          }
        }
      }
      MICA_UNROLL
      for (int i = 0; i < kRows; ++i) store_weights<Shape>(shared, probabilities, i, score[i]);
    }

    T gradient[kRows][4] = {};
    for (int slice = 0; slice < second_slices; ++slice)
      multiply(slices + slice, args.v.features - slice * Shape::kFeatures, gradient);

    {
      const TilePlace place;
      const T kept = static_cast<T>(args.view.kept);
      const auto dot_of = [&](int i) {
        return of_scores && i < head.tq ? args.dot[int64_t{opaque(to_int(index))} * head.tq + i] : T(0);
      };
      T dot[4] = {};
      if constexpr (of_keys) {
        MICA_UNROLL
        for (int j = 0; j < 4; ++j) dot[j] = dot_of(column + place.lane * 4 + j);
      }
      MICA_UNROLL
      for (int i = 0; i < kRows; ++i) {
        T p[4];
        load_weights<Shape>(shared, probabilities, i, p);
        if constexpr (!of_keys) dot[0] = dot_of(first + place.group * kRows + i);
        MICA_UNROLL
        for (int j = 0; j < 4; ++j) {
          const T factor = p[j] < T(0) ? T(0) : kept;
          p[j] = p[j] < T(0) ? -p[j] : p[j];
          gradient[i][j] = p[j] * (gradient[i][j] * factor - dot[of_keys ? j : 0]);
          p[j] *= factor;
        }
        if (of_values) store_weights<Shape>(shared, probabilities, i, p);
        if (of_scores) store_weights<Shape>(shared, weights, i, gradient[i]);
      }
    }

    const auto load_next = [&] {
      if (column + kColumns < end) load_pair(column + kColumns, 0, slot ^ 1);
    };
    if constexpr (of_keys) {
      MICA_UNROLL
      for (int p = 0; p < kParts; ++p) {
        if (!of_values || !has_part(p, args.v.features)) break;
        wait_for_copies();
        barrier();
        if (p + 1 < kParts && has_part(p + 1, args.v.features))
          load_part(second_column(), column, p + 1, slot ^ 1);
        else if (of_scores)
          load_part(first_column(), column, 0, slot ^ 1);
        else
          load_next();
        add_weighted<Shape>(shared, probabilities, slots + slot * slot_size, end - column, value_sum[p]);
        slot ^= 1;
      }
    }
    MICA_UNROLL
    for (int p = 0; p < kParts; ++p) {
      if (!of_scores || !has_part(p, args.q.features)) break;
      wait_for_copies();
      barrier();
      if (p + 1 < kParts && has_part(p + 1, args.q.features))
        load_part(first_column(), column, p + 1, slot ^ 1);
      else
        load_next();
      add_weighted<Shape>(shared, weights, slots + slot * slot_size, end - column, sum[p]);
      slot ^= 1;
    }
  }

  const TilePlace place;
  MICA_UNROLL
  for (int i = 0; i < kRows; ++i) {
    const int row = first + place.group * kRows + i;
    MICA_UNROLL
    for (int p = 0; p < kParts; ++p) {
      if (of_scores)
        store_part<Shape>((of_keys ? args.dk : args.dq).of(b, n), row, feature + p * Shape::kPartFeatures, sum[p][i],
                          static_cast<T>(args.view.scale));
      if constexpr (of_keys)
        if (of_values)
          store_part<Shape>(args.dv.of(b, n), row, feature + p * Shape::kPartFeatures, value_sum[p][i], T(1));
    }
  }
}

template <class Shape, bool of_keys, class T = typename Shape::T>
void launch_gradient(Context& ctx, const AttentionArgs& a, GradientArgs<T> args) {
  const int64_t rows = of_keys ? a.tk : a.tq;
  if (rows == 0) return;
  const int64_t tiles = ceil_div(rows, Shape::kTileRows);
  const int64_t chunks = ceil_div(of_keys && args.dv.data ? at_least(a.d, a.dv) : a.d, Shape::kAccumulated);
  args.tiles = static_cast<unsigned>(tiles);
  args.chunks = static_cast<unsigned>(chunks);
  constexpr int64_t kPackBytes = 16;
  const int64_t resident = (ceil_div(a.d, Shape::kFeatures) + ceil_div(a.dv, Shape::kFeatures)) * Shape::kRowSlice;
  const int64_t slots = 2 * Shape::kColumnSlice + (of_keys ? 2 : 1) * Shape::kWeights;
  args.resident = (resident + slots) * kPackBytes <= static_cast<int64_t>(kMaxShared);
  const int64_t shared = (slots + (args.resident ? resident : 2 * Shape::kRowSlice)) * kPackBytes;
  launch(gradient_kernel<Shape, of_keys>, a.batch * a.heads * tiles * chunks, {kTileThreads},
         static_cast<size_t>(shared), ctx.stream, args);
}

template <class T>
void gradient_of(Context& ctx, const AttentionArgs& a, const T* q, const T* k, const T* v, const T* y, const T* log_sum,
                 const T* dy, T* dq, T* dk, T* dv) {
  const int64_t rows = a.batch * a.heads * a.tq;
  const Scratch scratch(ctx, static_cast<size_t>(rows) * sizeof(T));
  GradientArgs<T> args{{q, a.q, a.tq, a.d},   {k, a.k, a.tk, a.d},  {v, a.v, a.tk, a.dv},
                       {dy, a.y, a.tq, a.dv}, {dq, a.q, a.tq, a.d}, {dk, a.k, a.tk, a.d},
                       {dv, a.v, a.tk, a.dv}, AttentionView(a),     log_sum,
                       scratch.as<T>()};
  if (rows > 0)
    launch(dot_kernel<T>, ceil_div(rows, kDotThreads / kWarpSize), {kDotThreads}, 0, ctx.stream, rows,
           static_cast<unsigned>(a.heads), HeadOperand<const T>(y, a.y, a.tq, a.dv), args.dy, scratch.as<T>());
  const auto launch_both = [&](auto query_shape, auto key_shape) {
    if (dq) launch_gradient<decltype(query_shape), false>(ctx, a, args);
    if (dk || dv) launch_gradient<decltype(key_shape), true>(ctx, a, args);
  };
  const int64_t widest = at_least(a.d, a.dv);
  if constexpr (sizeof(T) == 4) {
    if (widest <= 32) return launch_both(TileShape<T, 8, 1, true, 2>{}, TileShape<T, 8, 1, true, 2>{});
    if (widest <= 64) return launch_both(TileShape<T, 8, 1, false, 2>{}, TileShape<T, 8, 1, false, 2>{});
    launch_both(TileShape<T, 8, 2, false, 2>{}, TileShape<T, 8, 2, false, 2>{});
  } else {
    if (widest <= 32) return launch_both(TileShape<T, 4, 1, false, 2>{}, TileShape<T, 4, 1, false, 2>{});
    launch_both(TileShape<T, 4, 2, false, 2>{}, TileShape<T, 4, 2, false, 2>{});
  }
}

}  // namespace

void attention_gradient(Context& ctx, const AttentionArgs& args, const void* q, const void* k, const void* v,
                        const void* y, const void* log_sum, const void* dy, void* dq, void* dk, void* dv) {
  if (args.batch * args.heads == 0) return;
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    gradient_of(ctx, args, static_cast<const T*>(q), static_cast<const T*>(k), static_cast<const T*>(v),
                static_cast<const T*>(y), static_cast<const T*>(log_sum), static_cast<const T*>(dy),
                static_cast<T*>(dq), static_cast<T*>(dk), static_cast<T*>(dv));
  });
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
