// What attention and its gradient share: tiles of scores in registers, rows of heads that stream through shared memory,
// what hides scores and what drops probabilities.
//
// A block has kRowGroups * rows rows (queries, or keys where their gradients are wanted) of one head and passes over
// the other operand's rows, the tile's columns, kColumns at a time. A thread has rows x 4 scores of a tile: those of
// its group, which kLanes threads share, so that a row's maximum is a matter of shuffles. Features move in slices of
// kSlicePacks packs of 16 bytes, of which two have room: the next one is on its way from global memory while this one
// is multiplied, and one barrier a slice says both that it is there and that the one before it is no longer read.
#pragma once

#include "cuda/common.h"
#include "kernels/args.h"
#include "mica/core/random.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

inline constexpr int kTileThreads = 128;
inline constexpr int kLanes = 16;
inline constexpr int kRowGroups = kTileThreads / kLanes;
inline constexpr int kColumns = 4 * kLanes;
inline constexpr int kSlicePacks = 16;

/// The sizes of a tile. A slice is followed by a spare pack after each group of rows that one thread reads, which puts
/// the groups that a warp reads together into different banks.
template <class Value, int rows, int parts, bool half, int blocks>
struct TileShape {
  using T = Value;
  static constexpr int kPack = kPackWidth<T>;
  using Memory = Pack<T, kPack>;                              // what shared memory is an array of
  static constexpr int kRows = rows;                          // of a thread
  static constexpr int kTileRows = kRowGroups * rows;         // of a block
  static constexpr int kFeatures = kSlicePacks * kPack;       // of a slice
  static constexpr int kParts = parts;                        // slices of features that a block accumulates
  static constexpr int kPart = half ? kPack / 2 : kPack;      // features of a part that a thread has
  static constexpr int kPartFeatures = kLanes * kPart;        // all of a part
  static constexpr int kAccumulated = parts * kPartFeatures;  // all of a block
  static constexpr int kBlocks = blocks;                      // that fit a multiprocessor

  // In packs.
  static constexpr int kRowGroup = rows * kSlicePacks + 1;
  static constexpr int kRowSlice = kRowGroups * kRowGroup;
  static constexpr int kColumnGroup = 4 * kSlicePacks + 1;
  static constexpr int kColumnSlice = kLanes * kColumnGroup;
  static constexpr int kWeightRow = kColumns / kPack;
  static constexpr int kWeightGroup = rows * kWeightRow + 1;
  static constexpr int kWeights = kRowGroups * kWeightGroup;
};

/// The rows of one head.
template <class T>
struct HeadRows {
  T* data = nullptr;
  int64_t stride = 0;
  int length = 0, features = 0;
  bool packed = false;  // moves in packs
};

/// An operand [B, length, N, features] by its strides.
template <class T>
struct HeadOperand {
  T* data = nullptr;
  HeadStrides strides = {};
  int length = 0, features = 0;
  bool packed = false;

  HeadOperand() = default;
  HeadOperand(T* x, const HeadStrides& s, int64_t rows, int64_t columns)
      : data(x), strides(s), length(to_int(rows)), features(to_int(columns)),
        packed(is_aligned(16, x) && (s.batch | s.head | s.time | columns) % kPackWidth<T> == 0) {}

  MICA_DEVICE HeadRows<T> of(int64_t b, int64_t n) const {
    return {data + b * strides.batch + n * strides.head, strides.time, length, features, packed};
  }
};

/// What the queries of a head may attend to, and where its random numbers are.
struct HeadView {
  const uint8_t* mask = nullptr;  // of the head
  int64_t mask_query = 0;
  bool mask_packed = false;  // four keys' bytes move as one
  bool causal = false;
  int tq = 0, tk = 0;
  uint64_t position = 0;

  // The number of keys, from the first, that causality leaves query i.
  MICA_DEVICE int keys(int i) const { return causal ? at_least(at_most(tk, i + 1 + tk - tq), 0) : tk; }

  // Whether all of the queries from i on see all keys before `end`.
  MICA_DEVICE bool whole(int i, int end) const { return !mask && end <= keys(i); }

  // Bit e: whether query i sees key j + e, for 4 keys, j a multiple of 4.
  MICA_DEVICE unsigned seen(int i, int j) const {
    const int left = i < tq ? keys(i) - j : 0;
    if (left <= 0) return 0;
    unsigned bits = left >= 4 ? 15u : (1u << left) - 1;
    if (mask) {
      const uint8_t* at = mask + i * mask_query + j;
      if (mask_packed) {
        const uint32_t word = *reinterpret_cast<const uint32_t*>(at);
        MICA_UNROLL
        for (int e = 0; e < 4; ++e)
          if ((word >> (8 * e) & 0xff) == 0) bits &= ~(1u << e);
      } else {
        MICA_UNROLL
        for (int e = 0; e < 4; ++e)
          if (e < left && at[e] == 0) bits &= ~(1u << e);
      }
    }
    return bits;
  }
};

/// All heads' views, and dropout.
struct AttentionView {
  const uint8_t* mask = nullptr;
  int64_t mask_batch = 0, mask_head = 0, mask_query = 0;
  bool mask_packed = false, causal = false;
  int tq = 0, tk = 0;
  unsigned heads = 0;
  RandomKey key = {};
  float rate = 0;
  double scale = 1, kept = 1;

  explicit AttentionView(const AttentionArgs& a)
      : mask(a.mask), mask_batch(a.mask_batch), mask_head(a.mask_head), mask_query(a.mask_query),
        mask_packed(is_aligned(4, a.mask) && (a.mask_batch | a.mask_head | a.mask_query | a.tk) % 4 == 0),
        causal(a.causal), tq(to_int(a.tq)), tk(to_int(a.tk)), heads(static_cast<unsigned>(a.heads)), key(a.key),
        rate(static_cast<float>(a.dropout)), scale(a.scale), kept(1 / (1 - a.dropout)) {}

  MICA_DEVICE HeadView of(unsigned b, unsigned n) const {
    const uint64_t position = (uint64_t{b} * heads + n) * static_cast<uint64_t>(tq) * static_cast<uint64_t>(tk);
    return {mask ? mask + b * mask_batch + n * mask_head : nullptr, mask_query, mask_packed, causal, tq, tk, position};
  }

  // Bit e: whether dropout drops query i's probability of key j + e, for 4 keys.
  MICA_DEVICE unsigned dropped(const HeadView& head, int i, int j) const {
    const uint64_t first =
        head.position + static_cast<uint64_t>(i) * static_cast<uint64_t>(tk) + static_cast<uint64_t>(j);
    const unsigned lead = static_cast<unsigned>(first % 4);
    // The rounds' keys are cheaper to add up again than to keep in registers.
    const RandomKey stream{key.stream + static_cast<unsigned>(opaque(0)), key.step};
    Philox4 words = philox(stream, first / 4);
    if (lead != 0) {
      const Philox4 next = philox(stream, first / 4 + 1);
      MICA_UNROLL
      for (int e = 0; e < 4; ++e) {
        const uint32_t one = e + 1 < 4 ? words.v[(e + 1) % 4] : next.v[(e + 1) % 4];
        const uint32_t two = e + 2 < 4 ? words.v[(e + 2) % 4] : next.v[(e + 2) % 4];
        const uint32_t three = e + 3 < 4 ? words.v[(e + 3) % 4] : next.v[(e + 3) % 4];
        words.v[e] = lead == 1 ? one : lead == 2 ? two : three;
      }
    }
    unsigned bits = 0;
    MICA_UNROLL
    for (int e = 0; e < 4; ++e)
      if (to_unit(words.v[e]) < rate) bits |= 1u << e;
    return bits;
  }
};

// a * b rounded, which no addition after it is fused with: the gradient must find the scores that attention saw, to the
// bit, or exp(score - log_sum) of large ones is far off.
MICA_DEVICE float rounded_product(float a, float b) {
#if defined(MICA_EMULATED)
  return a * b;
#else
  return __fmul_rn(a, b);
#endif
}
MICA_DEVICE double rounded_product(double a, double b) {
#if defined(MICA_EMULATED)
  return a * b;
#else
  return __dmul_rn(a, b);
#endif
}

MICA_DEVICE float natural_exp(float x) { return ::expf(x); }
MICA_DEVICE double natural_exp(double x) { return ::exp(x); }

/// Where the calling thread stands in a tile; asked for where it is needed, and not kept in registers between.
struct TilePlace {
  int thread = opaque(static_cast<int>(thread_index().x));
  int group = thread / kLanes, lane = thread % kLanes;
};

// Starts the copy of features [feature, feature + a slice) of rows [first, first + count) into shared memory from pack
// `at` on; zeros beyond the edges. Rows lie in groups of `group`, each followed by a spare pack.
template <int count, int group, class T, class Shared>
MICA_DEVICE void load_slice(Shared&& shared, int at, const HeadRows<const T>& x, int first, int feature) {
  constexpr int kPack = kPackWidth<T>, kStep = kTileThreads / kSlicePacks;
  const int thread = opaque(static_cast<int>(thread_index().x));
  const int column = thread % kSlicePacks, row = thread / kSlicePacks;
  const int left = x.features - feature - column * kPack;
  static_assert(kStep % group == 0);
  const int place = at + row / group * (group * kSlicePacks + 1) + row % group * kSlicePacks + column;
  const int64_t step = kStep * x.stride;
  int64_t from = (first + row) * x.stride + feature + column * kPack;
  MICA_UNROLL
  for (int n = 0; n < count / kStep; ++n, from += step) {
    auto* const to = &shared[place + n * (kStep / group) * (group * kSlicePacks + 1)];
    const bool inside = first + row + n * kStep < x.length;
    if (x.packed) {
      const bool here = inside && left > 0;
      copy_async(to, reinterpret_cast<const Pack<T, kPack>*>(here ? x.data + from : x.data), here);
    } else {
      MICA_UNROLL
      for (int e = 0; e < kPack; ++e) {
        const bool here = inside && e < left;
        copy_async(&to->v[e], here ? x.data + from + e : x.data, here);
      }
    }
  }
}

// scores += the products of a slice of the block's rows with one of the columns, over its first `features`, which are
// padded by zeros to whole packs, four at a time. Along the features in ascending order.
template <class Shape, class Shared, class T = typename Shape::T>
MICA_DEVICE void add_products(Shared&& shared, int rows_at, int columns_at, int features,
                              T (&scores)[Shape::kRows][4]) {
  constexpr int kPack = Shape::kPack;
  const TilePlace place;
  const int packs = at_most((features + kPack - 1) / kPack, kSlicePacks);
  const int a = rows_at + place.group * Shape::kRowGroup, b = columns_at + place.lane * Shape::kColumnGroup;
  for (int first = 0; first < packs; first += 4) {
    MICA_UNROLL
    for (int c = 0; c < 4; ++c) {
      Pack<T, kPack> column[4];
      MICA_UNROLL
      for (int j = 0; j < 4; ++j) column[j] = shared[b + j * kSlicePacks + first + c];
      MICA_UNROLL
      for (int i = 0; i < Shape::kRows; ++i) {
        const Pack<T, kPack> row = shared[a + i * kSlicePacks + first + c];
        MICA_UNROLL
        for (int e = 0; e < kPack; ++e) {
          MICA_UNROLL
          for (int j = 0; j < 4; ++j) scores[i][j] += row.v[e] * column[j].v[e];
        }
      }
    }
  }
}

// sum += the block's weights [rows, columns] times a slice of the columns, of which there are `count`.
template <class Shape, class Shared, class T = typename Shape::T>
MICA_DEVICE void add_weighted(Shared&& shared, int weights_at, int columns_at, int count,
                              T (&sum)[Shape::kRows][Shape::kPart]) {
  constexpr int kPack = Shape::kPack, kPart = Shape::kPart, kShare = kPack / kPart;
  const TilePlace place;
  const int a = weights_at + place.group * Shape::kWeightGroup, b = columns_at + place.lane / kShare;
  const int groups = at_most((count + 3) / 4, kLanes);
  for (int g = 0; g < groups; ++g) {
    MICA_UNROLL
    for (int n = 0; n < 4; n += kPack) {
      Pack<T, kPack> weight[Shape::kRows];
      MICA_UNROLL
      for (int i = 0; i < Shape::kRows; ++i) weight[i] = shared[a + i * Shape::kWeightRow + (g * 4 + n) / kPack];
      MICA_UNROLL
      for (int e = 0; e < kPack; ++e) {
        const auto* const pack = &shared[b + g * Shape::kColumnGroup + (n + e) * kSlicePacks];
        const Pack<T, kPart> value = reinterpret_cast<const Pack<T, kPart>*>(pack)[place.lane % kShare];
        MICA_UNROLL
        for (int i = 0; i < Shape::kRows; ++i) {
          MICA_UNROLL
          for (int c = 0; c < kPart; ++c) sum[i][c] += weight[i].v[e] * value.v[c];
        }
      }
    }
  }
}

// Pack n of the thread's weights of row i.
template <class Shape>
MICA_DEVICE int weight_pack(int weights_at, int i, int n) {
  const TilePlace place;
  return weights_at + place.group * Shape::kWeightGroup + i * Shape::kWeightRow + place.lane * (4 / Shape::kPack) + n;
}

// Writes the thread's weights of row i, and reads them.
template <class Shape, class Shared, class T = typename Shape::T>
MICA_DEVICE void store_weights(Shared&& shared, int weights_at, int i, const T (&weights)[4]) {
  MICA_UNROLL
  for (int n = 0; n < 4 / Shape::kPack; ++n) {
    typename Shape::Memory pack;
    MICA_UNROLL
    for (int e = 0; e < Shape::kPack; ++e) pack.v[e] = weights[n * Shape::kPack + e];
    shared[weight_pack<Shape>(weights_at, i, n)] = pack;
  }
}
template <class Shape, class Shared, class T = typename Shape::T>
MICA_DEVICE void load_weights(Shared&& shared, int weights_at, int i, T (&weights)[4]) {
  MICA_UNROLL
  for (int n = 0; n < 4 / Shape::kPack; ++n) {
    const typename Shape::Memory pack = shared[weight_pack<Shape>(weights_at, i, n)];
    MICA_UNROLL
    for (int e = 0; e < Shape::kPack; ++e) weights[n * Shape::kPack + e] = pack.v[e];
  }
}

// y[row, the thread's features of the part that begins at `feature`] = values * factor.
template <class Shape, class T = typename Shape::T>
MICA_DEVICE void store_part(const HeadRows<T>& y, int row, int feature, const T (&values)[Shape::kPart], T factor) {
  constexpr int kPart = Shape::kPart;
  const int column = feature + TilePlace().lane * kPart;
  if (row >= y.length) return;
  T* const to = y.data + row * y.stride + column;
  if (y.packed) {
    if (column >= y.features) return;
    Pack<T, kPart> pack;
    MICA_UNROLL
    for (int c = 0; c < kPart; ++c) pack.v[c] = values[c] * factor;
    *reinterpret_cast<Pack<T, kPart>*>(to) = pack;
  } else {
    MICA_UNROLL
    for (int c = 0; c < kPart; ++c)
      if (column + c < y.features) to[c] = values[c] * factor;
  }
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
