// Kernels over rows: a few lanes, a warp or a block to each row, which is read once and kept in registers where it
// fits, else read again for each pass over it. Kernels are written once for all layouts.
#pragma once

#include "cuda/common.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

// How rows are dealt to threads: a team of `team` threads for each, of which every one has `packs` packs of `width`
// neighbours: the whole row (kept), or a chunk of it at a time.
template <int team, int packs, int width, bool kept>
struct RowLayout {
  static constexpr int kTeam = team, kPacks = packs, kWidth = width;
  static constexpr bool kKept = kept;
  static constexpr bool kBlock = team > kWarpSize;  // else within a warp
  static constexpr int kThreads = kBlock ? team : 128;
  static constexpr int kBlocks = 512 / kThreads;  // of a multiprocessor at least: 128 registers
  static constexpr int kRows = kThreads / team;   // of a block
  static constexpr int kChunk = team * packs * width;
};

// What sums over a row are made in. A thread adds up to 32 elements of a chunk in T; chunks, of which long rows have
// many, in float64.
template <class Layout, class T>
using RowSum = std::conditional_t<Layout::kKept, T, double>;

// A thread's share of a row.
template <class Layout>
class Row {
 public:
  MICA_DEVICE Row(int64_t rows, int64_t n)
      : index(int64_t{block_index().x} * Layout::kRows + static_cast<int>(thread_index().x) / Layout::kTeam),
        inside_(index < rows), n_(inside_ ? n : 0), rank_(static_cast<int>(thread_index().x) % Layout::kTeam) {}

  // Visits the chunks of the row.
  template <class F>
  MICA_DEVICE void chunks(const F& visit) const {
    if constexpr (Layout::kKept) {
      visit(int64_t{0});
    } else {
      for (int64_t base = 0; base < n_; base += Layout::kChunk) visit(base);
    }
  }

  // Visits this thread's packs in the chunk at `base`: visit(pack, position of its first element).
  template <class F>
  MICA_DEVICE void packs(int64_t base, const F& visit) const {
    using Index = std::conditional_t<Layout::kKept, int, int64_t>;
    const Index first = static_cast<Index>(base) + rank_ * Layout::kWidth, n = static_cast<Index>(n_);
    MICA_UNROLL
    for (int p = 0; p < Layout::kPacks; ++p) {
      const Index i = first + p * (Layout::kTeam * Layout::kWidth);
      if (i < n) visit(p, i);
    }
  }

  // Whether this thread writes what there is one of for each row.
  MICA_DEVICE bool leads() const { return rank_ == 0 && inside_; }
  // What x has for this row; anything where the block has no more rows.
  template <class T>
  MICA_DEVICE T one_of(const T* x) const {
    return inside_ ? x[index] : T(0);
  }

  const int64_t index;

 private:
  bool inside_;
  int64_t n_;
  int rank_;
};

// This thread's elements of a row of x, which has `n` in each: of the whole row, or of the chunk last fetched.
template <class Layout, class T>
class RowValues {
 public:
  using Vector = Pack<T, Layout::kWidth>;

  MICA_DEVICE RowValues(const Row<Layout>& row, int64_t n, const T* x) : row_(row), x_(x + row.index * n) {
    if constexpr (Layout::kKept) load(0);
  }
  // To be called first in a visit of chunks.
  MICA_DEVICE void fetch(int64_t base) {
    if constexpr (!Layout::kKept) load(base);
  }
  MICA_DEVICE Vector& operator[](int pack) { return values_[pack]; }

 private:
  MICA_DEVICE void load(int64_t base) {
    row_.packs(base, [&](int p, auto i) { values_[p] = *reinterpret_cast<const Vector*>(x_ + i); });
  }

  const Row<Layout>& row_;
  const T* x_;
  Vector values_[Layout::kPacks] = {};
};

// Writes or adds what make(pack, position, lane) returns to this thread's elements of y in the chunk at `base`.
template <class Layout, class T, class F>
MICA_DEVICE void write_row(const Row<Layout>& row, int64_t n, int64_t base, T* y, bool accumulate, const F& make) {
  using Vector = Pack<T, Layout::kWidth>;
  T* const to = y + row.index * n;
  row.packs(base, [&](int p, auto i) {
    Vector* const at = reinterpret_cast<Vector*>(to + i);
    Vector made;
    if (accumulate) made = *at;
    MICA_UNROLL
    for (int j = 0; j < Layout::kWidth; ++j) {
      const T value = make(p, i, j);
      made.v[j] = accumulate ? made.v[j] + value : value;
    }
    *at = made;
  });
}

// Shared memory for the reductions of a row, `count` in all, each with a place of its own so that no barrier has to
// guard it: MICA_SHARED(T, parts, [count][kRowParts<Layout>]).
template <class Layout>
inline constexpr int kRowParts = Layout::kThreads / kWarpSize;

// The combination of each thread's value over the row's team, to each of them.
template <class Layout, class T, class Combine, class Parts>
MICA_DEVICE T reduce_row(T value, Combine combine, Parts&& parts) {
  if constexpr (Layout::kBlock) {
    return block_reduce<Layout::kThreads>(value, combine, parts);
  } else {
    MICA_UNROLL
    for (int mask = Layout::kTeam / 2; mask > 0; mask /= 2) value = combine(value, shuffle_xor(value, mask));
    return value;
  }
}

// The sum of term(pack, position, lane) over the row. fetch(base) loads what term reads.
template <class T, class Layout, class Fetch, class Term, class Parts>
MICA_DEVICE RowSum<Layout, T> sum_row(const Row<Layout>& row, const Fetch& fetch, const Term& term, Parts&& parts) {
  RowSum<Layout, T> sum = 0;
  row.chunks([&](int64_t base) {
    fetch(base);
    T part = 0;
    row.packs(base, [&](int p, auto i) {
      MICA_UNROLL
      for (int j = 0; j < Layout::kWidth; ++j) part += term(p, i, j);
    });
    sum += part;
  });
  return reduce_row<Layout>(sum, Add{}, parts);
}

// ---- On the host ----

template <int team, int packs, int width, bool kept, class F>
void with_layout(int64_t rows, const F& f) {
  using Layout = RowLayout<team, packs, width, kept>;
  f(Layout{}, ceil_div(rows, Layout::kRows));
}

// Calls f(layout, blocks) with the layout for `rows` > 0 rows of n elements of T; `vectors`: rows start at, and consist
// of, whole packs of 16 bytes.
template <class T, class F>
void for_row_layout(int64_t rows, int64_t n, bool vectors, const F& f) {
  if constexpr (sizeof(T) == 8) {  // there to check gradients: fewer layouts, less to compile
    if (n <= 128) return with_layout<32, 4, 1, true>(rows, f);
    if (n <= 2048) return with_layout<256, 8, 1, true>(rows, f);
    with_layout<512, 4, 1, false>(rows, f);
  } else if (vectors) {
    if (n <= 32) return with_layout<8, 1, 4, true>(rows, f);
    if (n <= 128) return with_layout<32, 1, 4, true>(rows, f);
    if (n <= 256) return with_layout<32, 2, 4, true>(rows, f);
    if (n <= 512) return with_layout<32, 4, 4, true>(rows, f);
    if (n <= 1024) return with_layout<32, 8, 4, true>(rows, f);
    if (n <= 4096) return with_layout<256, 4, 4, true>(rows, f);
    if (n <= 16384) return with_layout<512, 8, 4, true>(rows, f);
    with_layout<512, 4, 4, false>(rows, f);
  } else {
    if (n <= 16) return with_layout<8, 2, 1, true>(rows, f);
    if (n <= 128) return with_layout<32, 4, 1, true>(rows, f);
    if (n <= 512) return with_layout<32, 16, 1, true>(rows, f);
    if (n <= 4096) return with_layout<256, 16, 1, true>(rows, f);
    with_layout<512, 8, 1, false>(rows, f);
  }
}

// Whether rows of n elements of T at these addresses consist of whole packs.
template <class T, class... Pointers>
bool whole_packs(int64_t n, Pointers... pointers) {
  return n % kPackWidth<T> == 0 && is_aligned(16, pointers...);
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
