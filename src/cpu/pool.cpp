// CPU pooling: images over the threads, channels in the vector lanes.
#include <cstring>

#include "cpu/vector.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

namespace {

// Calls visit(position, offset) for the elements of the window at (oh, ow) that lie inside of the image, in order;
// offset is that of the pixel's first channel.
template <class F>
[[gnu::always_inline]] inline void for_window(const Pool2DArgs& a, int64_t oh, int64_t ow, const F& visit) {
  for (int64_t kh = 0; kh < a.kh; ++kh) {
    const int64_t y = oh * a.sh - a.pad_top + kh;
    if (y < 0 || y >= a.h) continue;
    for (int64_t kw = 0; kw < a.kw; ++kw) {
      const int64_t x = ow * a.sw - a.pad_left + kw;
      if (x >= 0 && x < a.w) visit(kh * a.kw + kw, (y * a.w + x) * a.c);
    }
  }
}

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

// A vector's worth of channels, with the positions of their maxima, through the whole window in registers.
template <class T, class I>
void maximum(Context& ctx, const Pool2DArgs& a, const T* x, T* y, I* index) {
  using V = Vector<T>;
  using Type = typename V::Type;
  using Mask = decltype(Type{} < Type{});
  typedef I Positions __attribute__((vector_size(sizeof(I) * V::kWidth)));
  for_output_rows(ctx, a, [&](int64_t n, int64_t oh) {
    const T* image = x + n * a.h * a.w * a.c;
    for (int64_t ow = 0; ow < a.ow; ++ow) {
      const int64_t out = ((n * a.oh + oh) * a.ow + ow) * a.c;
      int64_t c = 0;
      for (; c + V::kWidth <= a.c; c += V::kWidth) {
        Type best = {};
        Mask where = {};
        bool first = true;
        for_window(a, oh, ow, [&](int64_t position, int64_t offset) {
          const Type v = V::load(image + offset + c);
          const Mask p = Mask{} + static_cast<decltype(Mask{}[0] + 0)>(position);
          const Mask better = first ? (Mask{} == Mask{}) : (v > best) | ((v != v) & (best == best));
          best = better ? v : best;
          where = better ? p : where;
          first = false;
        });
        V::store(y + out + c, best);
        if (!index) continue;
        const Positions narrow = __builtin_convertvector(where, Positions);
        std::memcpy(index + out + c, &narrow, sizeof narrow);
      }
      for (; c < a.c; ++c) {
        T best = 0;
        int64_t where = -1;
        for_window(a, oh, ow, [&](int64_t position, int64_t offset) {
          const T v = image[offset + c];
          if (where >= 0 && !(v > best || (v != v && best == best))) return;
          best = v;
          where = position;
        });
        y[out + c] = best;
        if (index) index[out + c] = static_cast<I>(where);
      }
    }
  });
}

template <class T, class I>
void maximum_gradient(Context& ctx, const Pool2DArgs& a, const T* dy, const I* index, T* dx, Write write) {
  const int64_t image_size = a.h * a.w * a.c;
  for_images(ctx, a, [&](int64_t n) {
    T* image = dx + n * image_size;
    if (write == Write::overwrite)
      for (int64_t i = 0; i < image_size; ++i) image[i] = T(0);
    for (int64_t oh = 0; oh < a.oh; ++oh)
      for (int64_t ow = 0; ow < a.ow; ++ow) {
        const int64_t out = ((n * a.oh + oh) * a.ow + ow) * a.c;
        const T* in = dy + out;
        const I* where = index + out;
        for_window(a, oh, ow, [&](int64_t position, int64_t offset) {
          T* to = image + offset;
          const I p = static_cast<I>(position);
#pragma GCC ivdep
          for (int64_t c = 0; c < a.c; ++c) to[c] += where[c] == p ? in[c] : T(0);
        });
      }
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
      maximum(ctx, args, static_cast<const T*>(x), static_cast<T*>(y), static_cast<I*>(index));
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
double weight(const Pool2DArgs& a, int64_t oh, int64_t ow) {
  const int64_t y = oh * a.sh - a.pad_top, x = ow * a.sw - a.pad_left;
  const int64_t rows = min(y + a.kh, a.h) - max(y, 0), cols = min(x + a.kw, a.w) - max(x, 0);
  return 1.0 / static_cast<double>(rows * cols);
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
        for_window(a, oh, ow, [&](int64_t, int64_t offset) {
          const T* in = image + offset;
#pragma GCC ivdep
          for (int64_t c = 0; c < a.c; ++c) out[c] += in[c];
        });
        const T scale = static_cast<T>(weight(a, oh, ow));
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
          const T scale = static_cast<T>(weight(a, oh, ow));
          for_window(a, oh, ow, [&](int64_t, int64_t offset) {
            T* to = image + offset;
#pragma GCC ivdep
            for (int64_t c = 0; c < a.c; ++c) to[c] += in[c] * scale;
          });
        }
    });
  });
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
