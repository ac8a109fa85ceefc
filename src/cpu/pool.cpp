// CPU pooling: images over the threads, channels in the vector lanes.
#include <cstring>

#include "cpu/vector.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

namespace {

// The part of the window at (oh, ow) that lies inside of the image: rows [top, bottom), columns [left, right).
struct Part {
  Part(const Pool2DArgs& a, int64_t oh, int64_t ow)
      : y(oh * a.sh - a.pad_top), x(ow * a.sw - a.pad_left), top(max(0, -y)), left(max(0, -x)),
        bottom(min(a.kh, a.h - y)), right(min(a.kw, a.w - x)) {}
  bool whole(const Pool2DArgs& a) const { return top == 0 && left == 0 && bottom == a.kh && right == a.kw; }
  int64_t y, x, top, left, bottom, right;
};

// Calls visit(position, offset) for the elements of that part in order; offset is that of the pixel's first channel.
template <class F>
[[gnu::always_inline]] inline void for_window(const Pool2DArgs& a, const Part& part, const F& visit) {
  for (int64_t kh = part.top; kh < part.bottom; ++kh)
    for (int64_t kw = part.left; kw < part.right; ++kw)
      visit(kh * a.kw + kw, ((part.y + kh) * a.w + part.x + kw) * a.c);
}

// The window that most have: two by two, inside of the image.
bool is_two_by_two(const Pool2DArgs& a, const Part& part) { return a.kh == 2 && a.kw == 2 && part.whole(a); }

// Rows of results over the threads: body(image, oh).
template <class F>
void for_output_rows(Context& ctx, const Pool2DArgs& a, const F& body) {
  const int64_t work = max(1, a.ow * a.c * a.kh * a.kw);
  parallel::ranges(ctx.threads, a.n * a.oh, max(1, kGrain / work), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) body(i / a.oh, i % a.oh);
  });
}

// Images over the threads, since windows may overlap: body(image).
template <class F>
void for_images(Context& ctx, const Pool2DArgs& a, const F& body) {
  const int64_t work = max(1, a.h * a.w * a.c);
  parallel::ranges(ctx.threads, a.n, max(1, kGrain / work), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) body(i);
  });
}

// The positions of maxima in memory, and in the lanes of a vector of T.
template <class T, class I>
struct Positions {
  using V = Vector<T>;
  using Type = typename V::Type;
  using Lanes = decltype(Type{} < Type{});
  using Lane = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;

  [[gnu::always_inline]] static Lanes all(int64_t position) { return Lanes{} + static_cast<Lane>(position); }
  // Loops, as __builtin_convertvector goes element by element in g++ 12.
  [[gnu::always_inline]] static Lanes load(const I* from) {
    Lane wide[V::kWidth];
    for (int64_t l = 0; l < V::kWidth; ++l) wide[l] = from[l];
    Lanes lanes;
    std::memcpy(&lanes, wide, sizeof lanes);
    return lanes;
  }
  [[gnu::always_inline]] static void store(I* to, Lanes lanes) {
    Lane wide[V::kWidth];
    std::memcpy(wide, &lanes, sizeof lanes);
    for (int64_t l = 0; l < V::kWidth; ++l) to[l] = static_cast<I>(wide[l]);
  }
};

// The maxima of a vector's worth of channels, through the whole window in registers; I is void where nobody asks for
// their positions.
template <class T, class I>
struct Maximum {
  using V = Vector<T>;
  using Type = typename V::Type;
  static constexpr bool kIndexed = !std::is_void_v<I>;
  using At = Positions<T, std::conditional_t<kIndexed, I, uint8_t>>;

  explicit Maximum(const T* first, int64_t position) : best(V::load(first)), where(At::all(position)) {}
  [[gnu::always_inline]] void take(const T* from, int64_t position) {
    const Type v = V::load(from);
    const auto better = (best == best) & ~(v <= best);  // greater, or the first that is NaN
    best = better ? v : best;
    if constexpr (kIndexed) where = better ? At::all(position) : where;
  }
  [[gnu::always_inline]] void store(T* y, I* index) const {
    V::store(y, best);
    if constexpr (kIndexed) At::store(index, where);
  }

 private:
  Type best;
  typename At::Lanes where;
};

// The same of four pixels, of windows of two by two.
template <class T, class I>
[[gnu::always_inline]] inline void maximum_of_four(const T* upper, const T* lower, int64_t pixel, T* y, I* index) {
  using V = Vector<T>;
  using Type = typename V::Type;
  const Type a = V::load(upper), b = V::load(upper + pixel), c = V::load(lower), d = V::load(lower + pixel);
  if (V::any_nan((a + b) + (c + d))) {
    Maximum<T, I> best(upper, 0);
    best.take(upper + pixel, 1);
    best.take(lower, 2);
    best.take(lower + pixel, 3);
    return best.store(y, index);
  }
  const Type best = V::max(V::max(d, c), V::max(b, a));
  V::store(y, best);
  if constexpr (!std::is_void_v<I>) {
    using At = Positions<T, I>;
    At::store(index, a == best ? At::all(0) : b == best ? At::all(1) : c == best ? At::all(2) : At::all(3));
  }
}

template <class T, class I>
void maximum(Context& ctx, const Pool2DArgs& a, const T* x, T* y, I* index) {
  constexpr int64_t kWidth = Vector<T>::kWidth;
  // Where element `at` of the index lies.
  const auto position = [=](int64_t at) -> I* {
    if constexpr (std::is_void_v<I>)
      return nullptr;
    else
      return index + at;
  };
  for_output_rows(ctx, a, [&](int64_t n, int64_t oh) {
    const T* image = x + n * a.h * a.w * a.c;
    for (int64_t ow = 0; ow < a.ow; ++ow) {
      const Part part(a, oh, ow);
      const int64_t out = ((n * a.oh + oh) * a.ow + ow) * a.c, row = a.w * a.c;
      const T* first = image + ((part.y + part.top) * a.w + part.x + part.left) * a.c;
      int64_t c = 0;
      if (is_two_by_two(a, part)) {
        for (; c + kWidth <= a.c; c += kWidth)
          maximum_of_four<T, I>(first + c, first + row + c, a.c, y + out + c, position(out + c));
      }
      for (; c + kWidth <= a.c; c += kWidth) {
        Maximum<T, I> best(first + c, part.top * a.kw + part.left);
        for_window(a, part, [&](int64_t at, int64_t offset) { best.take(image + offset + c, at); });
        best.store(y + out + c, position(out + c));
      }
      for (; c < a.c; ++c) {
        T best = 0;
        int64_t where = -1;
        for_window(a, part, [&](int64_t at, int64_t offset) {
          const T v = image[offset + c];
          if (where >= 0 && !(v > best || (v != v && best == best))) return;
          best = v;
          where = at;
        });
        y[out + c] = best;
        if constexpr (!std::is_void_v<I>) index[out + c] = static_cast<I>(where);
      }
    }
  });
}

// Writes what one vector of results brings to the four pixels of its window.
template <class T, class I>
[[gnu::always_inline]] inline void spread(const T* dy, const I* index, T* upper, T* lower, int64_t pixel) {
  using V = Vector<T>;
  using At = Positions<T, I>;
  const typename V::Type d = V::load(dy), zero = {};
  const typename At::Lanes where = At::load(index);
  V::store(upper, where == At::all(0) ? d : zero);
  V::store(upper + pixel, where == At::all(1) ? d : zero);
  V::store(lower, where == At::all(2) ? d : zero);
  V::store(lower + pixel, where == At::all(3) ? d : zero);
}

template <class T, class I>
void maximum_gradient(Context& ctx, const Pool2DArgs& a, const T* dy, const I* index, T* dx, Write write) {
  const int64_t image_size = a.h * a.w * a.c;
  // Windows that lie side by side write each pixel once; what no window reaches is zero.
  const bool apart = write == Write::overwrite && a.sh == a.kh && a.sw == a.kw && a.pad_top == 0 && a.pad_left == 0;
  const auto fill = [](T* x, int64_t count) {
    if (count > 0) std::memset(x, 0, static_cast<size_t>(count) * sizeof(T));
  };
  for_images(ctx, a, [&](int64_t n) {
    T* image = dx + n * image_size;
    if (write == Write::overwrite && !apart) fill(image, image_size);
    for (int64_t oh = 0; oh < a.oh; ++oh) {
      for (int64_t ow = 0; ow < a.ow; ++ow) {
        const Part part(a, oh, ow);
        const int64_t out = ((n * a.oh + oh) * a.ow + ow) * a.c;
        const T* in = dy + out;
        const I* where = index + out;
        if (apart && is_two_by_two(a, part)) {
          constexpr int64_t kWidth = Vector<T>::kWidth;
          T *upper = image + (part.y * a.w + part.x) * a.c, *lower = upper + a.w * a.c;
          int64_t c = 0;
          for (; c + kWidth <= a.c; c += kWidth) spread(in + c, where + c, upper + c, lower + c, a.c);
          for (; c < a.c; ++c) {
            const I p = where[c];
            const T d = in[c];
            upper[c] = p == 0 ? d : T(0);
            upper[a.c + c] = p == 1 ? d : T(0);
            lower[c] = p == 2 ? d : T(0);
            lower[a.c + c] = p == 3 ? d : T(0);
          }
          continue;
        }
        for_window(a, part, [&](int64_t position, int64_t offset) {
          T* to = image + offset;
          const I p = static_cast<I>(position);
          if (apart) {
#pragma GCC ivdep
            for (int64_t c = 0; c < a.c; ++c) to[c] = where[c] == p ? in[c] : T(0);
          } else {
#pragma GCC ivdep
            for (int64_t c = 0; c < a.c; ++c) to[c] += where[c] == p ? in[c] : T(0);
          }
        });
      }
      if (apart)
        for (int64_t y = oh * a.sh; y < min((oh + 1) * a.sh, a.h); ++y)
          fill(image + (y * a.w + a.ow * a.sw) * a.c, (a.w - a.ow * a.sw) * a.c);
    }
    if (apart) fill(image + a.oh * a.sh * a.w * a.c, (a.h - a.oh * a.sh) * a.w * a.c);
  });
}

template <class F>
[[gnu::always_inline]] inline void for_index(const Pool2DArgs& args, const F& f) {
  if (args.kh * args.kw <= 256)
    f(uint8_t{});
  else
    f(int32_t{});
}

}  // namespace

void max_pool2d(Context& ctx, const Pool2DArgs& args, const void* x, void* y, void* index) {
  for_float(args.dtype, [&](auto t) {
    for_index(args, [&](auto i) {
      using T = decltype(t);
      using I = decltype(i);
      if (index)
        maximum(ctx, args, static_cast<const T*>(x), static_cast<T*>(y), static_cast<I*>(index));
      else
        maximum<T, void>(ctx, args, static_cast<const T*>(x), static_cast<T*>(y), nullptr);
    });
  });
}

void max_pool2d_gradient(Context& ctx, const Pool2DArgs& args, const void* dy, const void* index, void* dx,
                         Write write) {
  for_float(args.dtype, [&](auto t) {
    for_index(args, [&](auto i) {
      using T = decltype(t);
      using I = decltype(i);
      maximum_gradient(ctx, args, static_cast<const T*>(dy), static_cast<const I*>(index), static_cast<T*>(dx), write);
    });
  });
}

namespace {

// One over the number of the window's elements inside of the image.
double weight(const Part& part) {
  return 1.0 / static_cast<double>((part.bottom - part.top) * (part.right - part.left));
}

}  // namespace

void average_pool2d(Context& ctx, const Pool2DArgs& args, const void* x, void* y) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    const Pool2DArgs& a = args;
    for_output_rows(ctx, a, [&](int64_t n, int64_t oh) {
      const T* image = static_cast<const T*>(x) + n * a.h * a.w * a.c;
      for (int64_t ow = 0; ow < a.ow; ++ow) {
        T* out = static_cast<T*>(y) + ((n * a.oh + oh) * a.ow + ow) * a.c;
        for (int64_t c = 0; c < a.c; ++c) out[c] = T(0);
        for_window(a, Part(a, oh, ow), [&](int64_t, int64_t offset) {
          const T* in = image + offset;
#pragma GCC ivdep
          for (int64_t c = 0; c < a.c; ++c) out[c] += in[c];
        });
        const T scale = static_cast<T>(weight(Part(a, oh, ow)));
        for (int64_t c = 0; c < a.c; ++c) out[c] *= scale;
      }
    });
  });
}

void average_pool2d_gradient(Context& ctx, const Pool2DArgs& args, const void* dy, void* dx, Write write) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    const Pool2DArgs& a = args;
    const int64_t image_size = a.h * a.w * a.c;
    for_images(ctx, a, [&](int64_t n) {
      T* image = static_cast<T*>(dx) + n * image_size;
      if (write == Write::overwrite)
        for (int64_t i = 0; i < image_size; ++i) image[i] = T(0);
      for (int64_t oh = 0; oh < a.oh; ++oh)
        for (int64_t ow = 0; ow < a.ow; ++ow) {
          const T* in = static_cast<const T*>(dy) + ((n * a.oh + oh) * a.ow + ow) * a.c;
          const T scale = static_cast<T>(weight(Part(a, oh, ow)));
          for_window(a, Part(a, oh, ow), [&](int64_t, int64_t offset) {
            T* to = image + offset;
#pragma GCC ivdep
            for (int64_t c = 0; c < a.c; ++c) to[c] += in[c] * scale;
          });
        }
    });
  });
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
