// Walks over StridedDims: what broadcasts, strided copies, selections and comparisons share.
#pragma once

#include "cuda/pack.h"
#include "kernels/args.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

/// What one launch goes through at most, in elements and from the first to the last one of an operand: indices and
/// offsets are then ints.
inline constexpr int64_t kMostPerLaunch = int64_t{1} << 30;

inline int64_t count_of(const StridedDims& dims) {
  int64_t count = 1;
  for (int i = 0; i < dims.rank; ++i) count *= dims.size[i];
  return count;
}

/// Calls f(part, first, a, b) for parts of the walk that one launch can go through: the number of the part's first
/// element in the walk, and where it lies in both operands. Not at all where there are no elements.
template <class F>
void for_parts(const StridedDims& dims, const F& f, int64_t first = 0, int64_t a = 0, int64_t b = 0) {
  const int64_t count = count_of(dims);
  if (count == 0) return;
  int64_t reach = count;
  for (const int64_t* strides : {dims.a_stride, dims.b_stride}) {
    int64_t last = 0;
    for (int i = 0; i < dims.rank; ++i) last += (dims.size[i] - 1) * (strides[i] < 0 ? -strides[i] : strides[i]);
    reach = at_least(reach, last);
  }
  if (reach <= kMostPerLaunch) return f(dims, first, a, b);
  int axis = 0;
  while (dims.size[axis] == 1) ++axis;
  const int64_t size = dims.size[axis];
  const int64_t cut = size < 64 ? size / 2 : round_up(size / 2, 32);  // packs of the second part stay aligned
  StridedDims part = dims;
  part.size[axis] = cut;
  for_parts(part, f, first, a, b);
  part.size[axis] = size - cut;
  for_parts(part, f, first + cut * (count / size), a + cut * dims.a_stride[axis], b + cut * dims.b_stride[axis]);
}

/// A part of a walk as kernels see it: from the number of an element to its place in both operands.
class Walk {
 public:
  explicit Walk(const StridedDims& dims) : outer_(dims.rank - 1) {
    for (int i = 0; i < dims.rank; ++i) {  // the innermost axis first
      const int from = outer_ - i;
      size_[i] = FastDivide(dims.size[from]);
      a_stride_[i] = to_int(dims.a_stride[from]);
      b_stride_[i] = to_int(dims.b_stride[from]);
    }
  }

  /// Whether packs of n elements do not go beyond the row that they start in, unless that ends the walk.
  bool packs_in_rows(int n) const { return outer_ == 0 || size_[0].divisor() % n == 0; }
  /// Whether an operand's packs of n neighbours are where packs may be, if the first one is.
  bool packs_in_a(int n) const { return packs_in(n, a_stride_); }
  bool packs_in_b(int n) const { return packs_in(n, b_stride_); }

  MICA_DEVICE int a_step() const { return a_stride_[0]; }
  MICA_DEVICE int b_step() const { return b_stride_[0]; }
  MICA_DEVICE void find(int i, int& a, int& b) const {
    a = b = 0;
    for (int axis = 0; axis < outer_; ++axis) {
      const int outer = size_[axis].divide(i);
      a += i * a_stride_[axis];
      b += i * b_stride_[axis];
      i = outer;
    }
    a += i * a_stride_[outer_];
    b += i * b_stride_[outer_];
  }

 private:
  bool packs_in(int n, const int* strides) const {
    bool in = strides[0] == 1;
    for (int i = 1; i <= outer_; ++i) in = in && strides[i] % n == 0;
    return in;
  }

  int outer_;
  FastDivide size_[kMaxDims];
  int a_stride_[kMaxDims] = {}, b_stride_[kMaxDims] = {};
};

/// A thread's elements of an operand whose packs are rows of neighbours, or repeat one element, from x + at[k] on.
template <int n, class T, class Elements>
MICA_DEVICE void load_rows(const Elements& elements, const T* x, const int* at, int step, bool packed, Packs<T, n>& p) {
  if (packed && elements.whole()) {
    MICA_UNROLL
    for (int k = 0; k < kMapPacks; ++k) p.k[k] = *reinterpret_cast<const Pack<T, n>*>(x + at[k]);
  } else if (step == 0) {
    MICA_UNROLL
    for (int k = 0; k < kMapPacks; ++k) {
      const T value = elements.inside(k, 0) ? x[at[k]] : T{};
      MICA_UNROLL
      for (int j = 0; j < n; ++j) p.k[k].v[j] = value;
    }
  } else {
    elements.for_each([&](int k, int j) { p.k[k].v[j] = x[at[k] + j * step]; });
  }
}

// y[...] = f(a[...], b[...], same...[...]): a and b by the walk, the others as y.
template <class F, class Y, class T, class... Same>
MICA_KERNEL(kMapThreads)
void broadcast_kernel(const F f, const Walk walk, int count, bool packed, bool a_packed, bool b_packed, const T* a,
                      const T* b, Y* y, const Same*... same) {
  constexpr int n = kMapWidth<T>;
  const ThreadElements<n, int> elements(count, packed);
  Packs<T, n> p = {}, q = {};
  if (packed) {
    int at_a[kMapPacks], at_b[kMapPacks];
    MICA_UNROLL
    for (int k = 0; k < kMapPacks; ++k) walk.find(elements.at(k, 0), at_a[k], at_b[k]);
    load_rows<n>(elements, a, at_a, walk.a_step(), a_packed, p);
    load_rows<n>(elements, b, at_b, walk.b_step(), b_packed, q);
  } else {
    elements.for_each([&](int k, int j) {
      int at_a, at_b;
      walk.find(elements.at(k, j), at_a, at_b);
      p.k[k].v[j] = a[at_a];
      q.k[k].v[j] = b[at_b];
    });
  }
  elements.store(y, map_packs<Y>(f, p, q, elements.load(same)...));
}

/// y[...] = f(a[...], b[...], same...[...]), a and b broadcast by `dims`, the others of the result's shape.
template <class F, class Y, class T, class... Same>
void broadcast(Context& ctx, const StridedDims& dims, F f, const T* a, const T* b, Y* y, const Same*... same) {
  constexpr int n = kMapWidth<T>;
  for_parts(dims, [&](const StridedDims& part, int64_t first, int64_t at_a, int64_t at_b) {
    const Walk walk(part);
    const int64_t count = count_of(part);
    const bool packed = walk.packs_in_rows(n) && holds_packs<n>(y + first, (same + first)...);
    launch(broadcast_kernel<F, Y, T, Same...>, map_blocks(count, n), {kMapThreads}, 0, ctx.stream, f, walk,
           to_int(count), packed, walk.packs_in_a(n) && holds_packs<n>(a + at_a),
           walk.packs_in_b(n) && holds_packs<n>(b + at_b), a + at_a, b + at_b, y + first, (same + first)...);
  });
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
