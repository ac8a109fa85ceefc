// CPU attention and its gradient, a tile of scores at a time: memory is linear in the lengths. After Dao,
// "FlashAttention-2", 2023, algorithms 1 and 2. And rotary position embedding.
#include <limits>

#include "cpu/reduce.h"
#include "cpu/tile.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

namespace {

// A tile of scores: queries by keys. Its rows are a little longer than its keys, so that their columns, which the
// gradient reads, do not fall on each other in the cache.
constexpr int64_t kQueries = 4 * kTileRows, kKeys = 128, kRow = kKeys + 16;

template <class T>
constexpr T kInfinity = std::numeric_limits<T>::infinity();

// Cuts one block of memory into arrays; without a block it only counts.
class Cutter {
 public:
  explicit Cutter(char* block) : block_(block) {}
  template <class T>
  void cut(T*& array, int64_t count) {
    if (block_) array = reinterpret_cast<T*>(block_ + bytes_);
    bytes_ += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
  }
  int64_t bytes() const { return bytes_; }

 private:
  char* block_;
  int64_t bytes_ = 0;
};

// The width of `n` columns once packed.
template <class T>
int64_t packed_width(int64_t n) {
  return panels<T>(n) * kPanel<T>;
}

// One head of one example: what its queries may attend to, and where its random numbers begin.
struct Head {
  Head(const AttentionArgs& a, int64_t index)
      : args(a), b(index / a.heads), n(index % a.heads),
        mask(a.mask ? a.mask + b * a.mask_batch + n * a.mask_head : nullptr),
        position(static_cast<uint64_t>(index) * static_cast<uint64_t>(a.tq) * static_cast<uint64_t>(a.tk)) {}

  template <class T>
  T* of(T* x, const HeadStrides& s) const {
    return x ? x + b * s.batch + n * s.head : nullptr;
  }
  // The number of keys, from the first, that causality leaves query i.
  int64_t keys(int64_t i) const { return args.causal ? max(0, min(args.tk, i + 1 + args.tk - args.tq)) : args.tk; }
  // Sets to -inf what is hidden of query i's scores [columns] of the keys from j on, and what is after them up to a
  // multiple of kLanes, which is returned: rows of one length, without a remainder, are worth more than skipping.
  template <class T>
  int64_t hide(int64_t i, int64_t j, int64_t columns, T* scores) const {
    const int whole = static_cast<int>((columns + kLanes - 1) / kLanes * kLanes);
    const int seen = static_cast<int>(max(0, min(columns, keys(i) - j)));
    if (seen < whole)
      for (int c = 0; c < whole; ++c) scores[c] = c < seen ? scores[c] : -kInfinity<T>;
    if (mask) {
      const uint8_t* row = mask + i * args.mask_query + j;
#pragma GCC ivdep
      for (int64_t c = 0; c < columns; ++c) scores[c] = row[c] ? scores[c] : -kInfinity<T>;
    }
    return whole;
  }
  // By what dropout multiplies these probabilities. `room` holds kKeys + 8.
  template <class T>
  const T* kept(int64_t i, int64_t j, int64_t columns, T* room) const {
    const uint64_t first = position + static_cast<uint64_t>(i * args.tk + j);
    const int64_t lead = static_cast<int64_t>(first % 4), blocks = (lead + columns + 3) / 4;
    const float rate = static_cast<float>(args.dropout);
    const T scale = static_cast<T>(1 / (1 - args.dropout));
    for (int64_t block = 0; block < blocks; ++block) {
      const Philox4 words = philox(args.key, first / 4 + static_cast<uint64_t>(block));
      for (int64_t w = 0; w < 4; ++w) room[4 * block + w] = to_unit(words.v[w]) < rate ? T(0) : scale;
    }
    return room + lead;
  }

  const AttentionArgs& args;
  int64_t b, n;
  const uint8_t* mask;
  uint64_t position;
};

// Packed columns, of which a product may take the first steps alone.
template <class T>
struct Packed {
  const T* panels;
  int64_t steps;  // as packed
};

// c[m, n] (+)= a[m, steps] b. Rows of c have room for whole vectors, which are all written: a tile's last columns cost
// much more when they are not a vector.
template <class T>
void multiply(int64_t m, int64_t n, const T* a, int64_t row, int64_t step, int64_t steps,
              const std::type_identity_t<Packed<T>>& b, T* c, int64_t ldc, bool accumulate) {
  constexpr int64_t kWidth = Vector<T>::kWidth;
  Tile<T> panel{.a = a,
                .row_stride = row,
                .step_stride = step,
                .steps = steps,
                .b = b.panels,
                .c = c,
                .ldc = ldc,
                .columns = 0,
                .accumulate = accumulate};
  for (int64_t j = 0; j < n; j += kPanel<T>) {
    run_tiles(m, min(kPanel<T>, (n - j + kWidth - 1) / kWidth * kWidth), panel, UnaryOp::identity);
    panel.b += b.steps * kPanel<T>;
    panel.c += kPanel<T>;
  }
}

// y[rows, n] = x * scale.
template <class T>
void scale_rows(int64_t rows, int64_t n, const T* x, int64_t ldx, T scale, T* y, int64_t ldy) {
  for (int64_t i = 0; i < rows; ++i)
#pragma GCC ivdep
    for (int64_t c = 0; c < n; ++c) y[i * ldy + c] = x[i * ldx + c] * scale;
}

// Columns [length, n], packed by blocks of `block` rows.
template <class T>
void pack_blocks(int64_t length, int64_t n, const T* x, int64_t ldx, int64_t block, T* packed) {
  for (int64_t i = 0; i < length; i += block)
    pack_columns(min(block, length - i), n, x + i * ldx, ldx, false, packed + i * packed_width<T>(n));
}

template <class T>
void fill_zeros(T* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = T(0);
}

// What a thread needs for a head, whose keys and values are packed once, and for a tile.
template <class T>
struct ForwardScratch {
  ForwardScratch(const AttentionArgs& a, char* block) {
    Cutter c(block);
    c.cut(keys, packed_width<T>(a.tk) * a.d);
    c.cut(values, a.tk * packed_width<T>(a.dv));
    c.cut(q, kQueries * a.d);
    c.cut(scores, kQueries * kRow);
    c.cut(y, kQueries * packed_width<T>(a.dv));
    c.cut(largest, kQueries);
    c.cut(sum, kQueries);
    c.cut(room, kKeys + 8);
    bytes = c.bytes();
  }
  T *keys, *values, *q, *scores, *y, *largest, *sum, *room;
  int64_t bytes;
};

// Scores of query i and the keys from j on become exp(score - largest so far); what was summed before is scaled to it.
template <class T>
void online_softmax(const Head& head, int64_t i, int64_t j, int64_t columns, T* scores, T& largest, T& sum, T* y,
                    T* room) {
  const int64_t whole = head.hide(i, j, columns, scores);
  const T here = row_max(scores, whole), before = largest;
  largest = ((here > before) | (here != here)) ? here : before;
  const T shift = largest == -kInfinity<T> ? T(0) : largest;  // nothing seen yet
#pragma GCC ivdep
  for (int64_t c = 0; c < whole; ++c) scores[c] = math::exp(scores[c] - shift);
  const T decay = math::exp(before - shift);
  sum = sum * decay + static_cast<T>(row_sum(scores, whole));
  if (decay != T(1))
    for (int64_t c = 0; c < head.args.dv; ++c) y[c] *= decay;
  if (head.args.dropout > 0) {
    const T* kept = head.kept(i, j, columns, room);
    for (int64_t c = 0; c < columns; ++c) scores[c] *= kept[c];
  }
}

// Queries [i0, i0 + rows) of a head whose keys and values are packed.
template <class T>
void attend(const Head& head, int64_t i0, int64_t rows, const T* q, const ForwardScratch<T>& s, T* y, T* log_sum) {
  const AttentionArgs& a = head.args;
  const int64_t width = packed_width<T>(a.dv), end = head.keys(i0 + rows - 1);
  scale_rows(rows, a.d, q + i0 * a.q.time, a.q.time, static_cast<T>(a.scale), s.q, a.d);
  fill_zeros(s.y, rows * width);
  for (int64_t i = 0; i < rows; ++i) s.largest[i] = -kInfinity<T>, s.sum[i] = T(0);
  for (int64_t j = 0; j < end; j += kKeys) {
    const int64_t columns = min(kKeys, end - j);
    multiply(rows, columns, s.q, a.d, 1, a.d, {s.keys + j * a.d, a.d}, s.scores, kRow, false);
    for (int64_t i = 0; i < rows; ++i)
      online_softmax(head, i0 + i, j, columns, s.scores + i * kRow, s.largest[i], s.sum[i], s.y + i * width, s.room);
    multiply(rows, a.dv, s.scores, kRow, 1, columns, {s.values + j * width, min(kKeys, a.tk - j)}, s.y, width, true);
  }
  for (int64_t i = 0; i < rows; ++i) {
    const bool none = s.sum[i] == T(0);
    scale_rows(1, a.dv, s.y + i * width, width, none ? T(0) : 1 / s.sum[i], y + (i0 + i) * a.y.time, a.y.time);
    if (log_sum) log_sum[i0 + i] = none ? kInfinity<T> : s.largest[i] + math::log(s.sum[i]);
  }
}

// Parts that are worth a thread: as many as there are blocks of 65,536 multiplications.
int parts_for(const Context& ctx, const AttentionArgs& a, int64_t items) {
  const double work = static_cast<double>(a.batch * a.heads) * static_cast<double>(a.tq) *
                      static_cast<double>(max(a.tk, 1)) * static_cast<double>(a.d + a.dv) / 65536;
  return static_cast<int>(min(min(items, ctx.threads), work < 1e6 ? static_cast<int64_t>(work) + 1 : 1000000));
}

template <class T>
void attention_forward(Context& ctx, const AttentionArgs& a, const T* q, const T* k, const T* v, T* y, T* log_sum) {
  const int64_t heads = a.batch * a.heads, blocks = (a.tq + kQueries - 1) / kQueries, items = heads * blocks;
  if (items == 0) return;
  const int parts = parts_for(ctx, a, items);
  const int64_t bytes = ForwardScratch<T>(a, nullptr).bytes;
  const Workspace workspace = ctx.workspace(static_cast<size_t>(bytes * parts));
  // A part has a run of blocks, of as few heads as can be; where there are more parts than heads every so many blocks,
  // so that causality leaves all the same work.
  const bool spread = heads < parts;
  parallel::run(parts, [&](int part) {
    const ForwardScratch<T> s(a, workspace.as<char>(static_cast<size_t>(bytes * part)));
    const int64_t first = spread ? part : items * part / parts, last = spread ? items : items * (part + 1) / parts;
    int64_t packed = -1;
    for (int64_t item = first; item < last; item += spread ? parts : 1) {
      const int64_t index = item / blocks, i = item % blocks * kQueries;
      const Head head(a, index);
      if (index != packed) {
        pack_columns(a.d, a.tk, head.of(k, a.k), a.k.time, true, s.keys);
        pack_blocks(a.tk, a.dv, head.of(v, a.v), a.v.time, kKeys, s.values);
        packed = index;
      }
      attend(head, i, min(kQueries, a.tq - i), head.of(q, a.q), s, head.of(y, a.y),
             log_sum ? log_sum + index * a.tq : nullptr);
    }
  });
}

// What a thread needs for the gradient: all queries of a head, a block of its keys, and two tiles.
template <class T>
struct GradientScratch {
  GradientScratch(const AttentionArgs& a, char* block) {
    const int64_t d = packed_width<T>(a.d), dv = packed_width<T>(a.dv);
    Cutter c(block);
    c.cut(q, a.tq * a.d);
    c.cut(dy, a.tq * a.dv);
    c.cut(q_columns, a.tq * d);
    c.cut(dy_columns, a.tq * dv);
    c.cut(dot, a.tq);
    c.cut(dq, a.tq * d);
    c.cut(keys, kKeys * a.d);
    c.cut(values, kKeys * a.dv);
    c.cut(key_columns, kKeys * d);
    c.cut(dk, kKeys * d);
    c.cut(dvalues, kKeys * dv);
    c.cut(p, kQueries * kRow);
    c.cut(dp, kQueries * kRow);
    c.cut(room, kKeys + 8);
    bytes = c.bytes();
  }
  T *q, *dy, *q_columns, *dy_columns, *dot, *dq;
  T *keys, *values, *key_columns, *dk, *dvalues;
  T *p, *dp, *room;
  int64_t bytes;
};

// Of query i and the keys from j on: scores p become probabilities (those that dropout left), dp the scores' gradients.
template <class T>
void score_gradient(const Head& head, int64_t i, int64_t j, int64_t columns, T log_sum, T dot, T* p, T* dp, T* room) {
  const int64_t whole = head.hide(i, j, columns, p);
#pragma GCC ivdep
  for (int64_t c = 0; c < whole; ++c) p[c] = math::exp(p[c] - log_sum);
  if (head.args.dropout > 0) {
    const T* kept = head.kept(i, j, columns, room);
    for (int64_t c = 0; c < columns; ++c) {
      dp[c] = p[c] * (dp[c] * kept[c] - dot);
      p[c] *= kept[c];
    }
  } else {
#pragma GCC ivdep
    for (int64_t c = 0; c < columns; ++c) dp[c] = p[c] * (dp[c] - dot);
  }
}

// The queries of a head: scaled rows, rows of dy, both packed as columns, and each row's sum of y * dy.
template <class T>
void prepare_queries(const Head& head, const T* q, const T* y, const T* dy, const GradientScratch<T>& s) {
  const AttentionArgs& a = head.args;
  scale_rows(a.tq, a.d, q, a.q.time, static_cast<T>(a.scale), s.q, a.d);
  scale_rows(a.tq, a.dv, dy, a.y.time, T(1), s.dy, a.dv);
  pack_blocks(a.tq, a.d, s.q, a.d, kQueries, s.q_columns);
  pack_blocks(a.tq, a.dv, s.dy, a.dv, kQueries, s.dy_columns);
  for (int64_t i = 0; i < a.tq; ++i) {
    const T *row = y + i * a.y.time, *drow = s.dy + i * a.dv;
    s.dot[i] = static_cast<T>(lane_sum<T>(a.dv, [&](int64_t c) { return row[c] * drow[c]; }));
  }
  fill_zeros(s.dq, a.tq * packed_width<T>(a.d));
}

// What queries [i0, i0 + rows) and the block of keys from j0 on add to dq and to the block's dk and dv.
template <class T>
void add_tile(const Head& head, int64_t i0, int64_t rows, int64_t j0, const T* log_sum, const GradientScratch<T>& s) {
  const AttentionArgs& a = head.args;
  const int64_t d = packed_width<T>(a.d), dv = packed_width<T>(a.dv), block = min(kKeys, a.tk - j0);
  const int64_t columns = min(block, head.keys(i0 + rows - 1) - j0);
  if (columns <= 0) return;
  multiply(rows, columns, s.q + i0 * a.d, a.d, 1, a.d, {s.keys, a.d}, s.p, kRow, false);
  multiply(rows, columns, s.dy + i0 * a.dv, a.dv, 1, a.dv, {s.values, a.dv}, s.dp, kRow, false);
  for (int64_t i = 0; i < rows; ++i)
    score_gradient(head, i0 + i, j0, columns, log_sum[i0 + i], s.dot[i0 + i], s.p + i * kRow, s.dp + i * kRow, s.room);
  multiply(columns, a.dv, s.p, 1, kRow, rows, {s.dy_columns + i0 * dv, rows}, s.dvalues, dv, true);
  multiply(columns, a.d, s.dp, 1, kRow, rows, {s.q_columns + i0 * d, rows}, s.dk, d, true);
  multiply(rows, a.d, s.dp, kRow, 1, columns, {s.key_columns, block}, s.dq + i0 * d, d, true);
}

template <class T>
void attention_backward(Context& ctx, const AttentionArgs& a, const T* q, const T* k, const T* v, const T* y,
                        const T* log_sum, const T* dy, T* dq, T* dk, T* dv) {
  const int64_t heads = a.batch * a.heads;
  if (heads == 0) return;
  const int parts = parts_for(ctx, a, heads);
  const int64_t bytes = GradientScratch<T>(a, nullptr).bytes;
  const Workspace workspace = ctx.workspace(static_cast<size_t>(bytes * parts));
  const int64_t d_width = packed_width<T>(a.d), dv_width = packed_width<T>(a.dv);
  parallel::run(parts, [&](int part) {
    const GradientScratch<T> s(a, workspace.as<char>(static_cast<size_t>(bytes * part)));
    for (int64_t index = heads * part / parts; index < heads * (part + 1) / parts; ++index) {
      const Head head(a, index);
      prepare_queries(head, head.of(q, a.q), head.of(y, a.y), head.of(dy, a.y), s);
      for (int64_t j = 0; j < a.tk; j += kKeys) {
        const int64_t columns = min(kKeys, a.tk - j);
        const T *keys = head.of(k, a.k) + j * a.k.time, *values = head.of(v, a.v) + j * a.v.time;
        pack_columns(a.d, columns, keys, a.k.time, true, s.keys);
        pack_columns(a.dv, columns, values, a.v.time, true, s.values);
        pack_columns(columns, a.d, keys, a.k.time, false, s.key_columns);
        fill_zeros(s.dk, columns * d_width);
        fill_zeros(s.dvalues, columns * dv_width);
        for (int64_t i = 0; i < a.tq; i += kQueries)
          add_tile(head, i, min(kQueries, a.tq - i), j, log_sum + index * a.tq, s);
        if (dk) scale_rows(columns, a.d, s.dk, d_width, T(1), head.of(dk, a.k) + j * a.k.time, a.k.time);
        if (dv) scale_rows(columns, a.dv, s.dvalues, dv_width, T(1), head.of(dv, a.v) + j * a.v.time, a.v.time);
      }
      if (dq) scale_rows(a.tq, a.d, s.dq, d_width, static_cast<T>(a.scale), head.of(dq, a.q), a.q.time);
    }
  });
}

// The angles are float64 until their sines and cosines are taken, once for all the heads of a step.
template <class T>
void rotate(Context& ctx, const RotaryArgs& a, const T* x, T* y) {
  const int64_t half = a.d / 2, step = a.heads * a.d;
  if (a.batch * a.time * step == 0) return;
  const int64_t bytes = (2 * half * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64, shared = (half * 8 + 63) / 64 * 64;
  const Workspace workspace = ctx.workspace(static_cast<size_t>(shared + bytes * ctx.threads));
  double* frequency = workspace.as<double>();
  for (int64_t i = 0; i < half; ++i)
    frequency[i] = ::pow(a.base, -2.0 * static_cast<double>(i) / static_cast<double>(a.d));
  parallel::ranges(ctx.threads, a.time, max(1, kGrain / (a.batch * step)), [&](int64_t begin, int64_t end, int part) {
    T *cosine = workspace.as<T>(static_cast<size_t>(shared + bytes * part)), *sine = cosine + half;
    for (int64_t t = begin; t < end; ++t) {
      const double position = static_cast<double>(a.offset + t) * (a.inverse ? -1 : 1);
      for (int64_t i = 0; i < half; ++i) {
        cosine[i] = static_cast<T>(::cos(position * frequency[i]));
        sine[i] = static_cast<T>(::sin(position * frequency[i]));
      }
      for (int64_t b = 0; b < a.batch; ++b) {
        const T* in = x + (b * a.time + t) * step;
        T* out = y + (b * a.time + t) * step;
        for (int64_t g = 0; g < a.rotated; ++g, in += a.d, out += a.d) {
#pragma GCC ivdep
          for (int64_t i = 0; i < half; ++i) {
            const T first = in[i], second = in[half + i];
            out[i] = first * cosine[i] - second * sine[i];
            out[half + i] = second * cosine[i] + first * sine[i];
          }
        }
        for (int64_t i = 0; i < (a.heads - a.rotated) * a.d; ++i) out[i] = in[i];
      }
    }
  });
}

}  // namespace

void attention(Context& ctx, const AttentionArgs& args, const void* q, const void* k, const void* v, void* y,
               void* log_sum) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    attention_forward(ctx, args, static_cast<const T*>(q), static_cast<const T*>(k), static_cast<const T*>(v),
                      static_cast<T*>(y), static_cast<T*>(log_sum));
  });
}

void attention_gradient(Context& ctx, const AttentionArgs& args, const void* q, const void* k, const void* v,
                        const void* y, const void* log_sum, const void* dy, void* dq, void* dk, void* dv) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    attention_backward(ctx, args, static_cast<const T*>(q), static_cast<const T*>(k), static_cast<const T*>(v),
                       static_cast<const T*>(y), static_cast<const T*>(log_sum), static_cast<const T*>(dy),
                       static_cast<T*>(dq), static_cast<T*>(dk), static_cast<T*>(dv));
  });
}

void rotary(Context& ctx, const RotaryArgs& args, const void* x, void* y) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    rotate(ctx, args, static_cast<const T*>(x), static_cast<T*>(y));
  });
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
