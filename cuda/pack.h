// Elementwise kernels: which elements a thread has, and how they move in accesses of 16 bytes.
#pragma once

#include "cuda/common.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

/// The elements of a pack: 16 bytes, or 8 of single bytes, of which each takes a register.
template <class T>
inline constexpr int kMapWidth = sizeof(T) == 1 ? 8 : kPackWidth<T>;

/// Whether packs of n elements may start at each of the pointers.
template <int n, class... T>
bool holds_packs(const T*... x) {
  return (is_aligned(n * sizeof(T), x) && ...);
}

/// The elements of a thread in a kernel of kMapThreads threads a block: kMapPacks times n, which are neighbours where
/// they move as packs, and else a block's width apart, so that the threads of a warp touch neighbours.
inline constexpr int kMapThreads = 128;
inline constexpr int kMapPacks = 2;

inline int64_t map_blocks(int64_t count, int n) { return ceil_div(count, int64_t{kMapThreads} * kMapPacks * n); }

/// The packs of a thread.
template <class T, int n>
struct Packs {
  Pack<T, n> k[kMapPacks];
};

template <int n, class Index>
class ThreadElements {
 public:
  MICA_DEVICE ThreadElements(Index end, bool packed) : end_(end), packed_(packed) {
    const int thread = static_cast<int>(thread_index().x);
    first_ = static_cast<Index>(block_index().x) * (kMapThreads * kMapPacks * n) + (packed ? thread * n : thread);
  }

  /// The place of element j of pack k, which may lie beyond the end.
  MICA_DEVICE Index at(int k, int j) const { return first_ + k * (kMapThreads * n) + (packed_ ? j : j * kMapThreads); }
  MICA_DEVICE bool inside(int k, int j) const { return at(k, j) < end_; }
  /// Whether all of them are neighbours: one question, after which a thread's loads follow each other.
  MICA_DEVICE bool whole() const { return packed_ && inside(kMapPacks - 1, n - 1); }

  /// Of x whose packs are aligned, if they are packs here.
  template <class T>
  MICA_DEVICE Packs<T, n> load(const T* x, bool aligned = true) const {
    Packs<T, n> p = {};
    if (aligned && whole()) {
      MICA_UNROLL
      for (int k = 0; k < kMapPacks; ++k) p.k[k] = *reinterpret_cast<const Pack<T, n>*>(x + at(k, 0));
    } else {
      for_each([&](int k, int j) { p.k[k].v[j] = x[at(k, j)]; });
    }
    return p;
  }
  template <class T>
  MICA_DEVICE void store(T* y, const Packs<T, n>& p, bool aligned = true) const {
    if (aligned && whole()) {
      MICA_UNROLL
      for (int k = 0; k < kMapPacks; ++k) *reinterpret_cast<Pack<T, n>*>(y + at(k, 0)) = p.k[k];
    } else {
      for_each([&](int k, int j) { y[at(k, j)] = p.k[k].v[j]; });
    }
  }
  /// f(k, j) for those before the end.
  template <class F>
  MICA_DEVICE void for_each(const F& f) const {
    MICA_UNROLL
    for (int k = 0; k < kMapPacks; ++k) {
      MICA_UNROLL
      for (int j = 0; j < n; ++j)
        if (inside(k, j)) f(k, j);
    }
  }

 private:
  Index first_, end_;
  bool packed_;
};

/// f of the elements of each x: all of them, also those beyond the end, are made before one is stored.
template <class Y, int n, class F, class... X>
MICA_DEVICE Packs<Y, n> map_packs(const F& f, const Packs<X, n>&... x) {
  Packs<Y, n> y;
  MICA_UNROLL
  for (int k = 0; k < kMapPacks; ++k) {
    MICA_UNROLL
    for (int j = 0; j < n; ++j) y.k[k].v[j] = f(x.k[k].v[j]...);
  }
  return y;
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
