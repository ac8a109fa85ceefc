// CPU depthwise convolution, direct: too little arithmetic for the register tile, so channels lie in the vector lanes,
// and a filter's value serves several pixels of a row at once. Padding is not copied: rows and pixels at the border
// meet fewer taps. With several results a channel, images are spread to as many channels first.
#include "cpu/conv.h"
#include "cpu/tile.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

namespace {

// A vector of one, for the channels that fill none.
template <class T>
struct Single {
  using Type = T;
  static constexpr int64_t kWidth = 1;
  [[gnu::always_inline]] static T load(const T* p) { return *p; }
  [[gnu::always_inline]] static void store(T* p, T v) { *p = v; }
};

// Calls body(lanes, c) for vectors of channels, then for single ones.
template <class T, class Body>
[[gnu::always_inline]] inline void for_channels(int64_t channels, const Body& body) {
  constexpr int64_t kWidth = Vector<T>::kWidth;
  int64_t c = 0;
  for (; c + kWidth <= channels; c += kWidth) body(Vector<T>{}, c);
  for (; c < channels; ++c) body(Single<T>{}, c);
}

[[gnu::always_inline]] inline int64_t ceil_div(int64_t a, int64_t b) { return a <= 0 ? 0 : (a + b - 1) / b; }

struct Range {
  int64_t first, last;
};
// The taps k of a window whose elements corner + k*dilation lie in [0, size).
[[gnu::always_inline]] inline Range inside(int64_t corner, int64_t taps, int64_t dilation, int64_t size) {
  const int64_t last = min(taps, ceil_div(size - corner, dilation));
  return {min(last, ceil_div(-corner, dilation)), last};
}
// The windows i, of `count`, whose elements i*stride + low and i*stride + high both lie in [0, size).
[[gnu::always_inline]] inline Range interior(int64_t low, int64_t high, int64_t stride, int64_t size, int64_t count) {
  const int64_t first = min(count, ceil_div(-low, stride));
  return {first, max(first, min(count, ceil_div(size - high, stride)))};
}

// One row of results y [ow, c] from rows x [w, c] of the image, each of which meets one row of the filters.
template <class T>
struct Row {
  int64_t c = 0, w = 0, ow = 0, kw = 0, sw = 1, dw = 1, pad_left = 0;
  int64_t rows = 0, x_stride = 0;  // as many rows of the image, their distance
  const T* x = nullptr;
  const T* filter = nullptr;  // [rows][kw][c]
  T* y = nullptr;
  const T* bias = nullptr;
  bool accumulate = false, relu = false;
  int64_t channels = 0;  // so many of c, from the first
};

// P pixels from ow on, from the taps [first, last) of each row.
template <int P, class T>
void pixels(const Row<T>& r, int64_t ow, int64_t first, int64_t last) {
  const int64_t rows = first < last ? r.rows : 0, step = r.sw * r.c;
  for_channels<T>(r.channels, [&](auto lanes, int64_t c) {
    using V = decltype(lanes);
    typename V::Type sum[P];
    T* out = r.y + ow * r.c + c;
    for (int p = 0; p < P; ++p) {
      sum[p] = r.bias ? V::load(r.bias + c) : typename V::Type{};
      if (r.accumulate) sum[p] += V::load(out + p * r.c);
    }
    for (int64_t i = 0; i < rows; ++i) {
      const T* x = r.x + i * r.x_stride + (ow * r.sw - r.pad_left + first * r.dw) * r.c + c;
      const T* filter = r.filter + (i * r.kw + first) * r.c + c;
      for (int64_t k = first; k < last; ++k, x += r.dw * r.c, filter += r.c) {
        const typename V::Type value = V::load(filter);
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p) sum[p] += V::load(x + p * step) * value;
      }
    }
    const typename V::Type zero = {};
    for (int p = 0; p < P; ++p) {
      if (r.relu) sum[p] = sum[p] < zero ? zero : sum[p];
      V::store(out + p * r.c, sum[p]);
    }
  });
}

template <class T>
void convolve(const Row<T>& row) {
  const Range whole = interior(-row.pad_left, (row.kw - 1) * row.dw - row.pad_left, row.sw, row.w, row.ow);
  // As many channels at once as have their filters in half of the nearest cache.
  constexpr int64_t kWidth = Vector<T>::kWidth, kBytes = 16384;
  const int64_t filter_bytes = max(1, row.rows * row.kw) * kWidth * static_cast<int64_t>(sizeof(T));
  const int64_t chunk = max(1, kBytes / filter_bytes) * kWidth;
  Row<T> r = row;
  for (int64_t c = 0; c < row.c; c += chunk) {
    r.channels = min(chunk, row.c - c);
    r.x = row.x + c;
    r.filter = row.filter + c;
    r.y = row.y + c;
    if (row.bias) r.bias = row.bias + c;
    const auto at_border = [&](int64_t ow) {
      const Range taps = inside(ow * r.sw - r.pad_left, r.kw, r.dw, r.w);
      pixels<1>(r, ow, taps.first, taps.last);
    };
    int64_t ow = 0;
    for (; ow < whole.first; ++ow) at_border(ow);
    for (; ow + 4 <= whole.last; ow += 4) pixels<4>(r, ow, 0, r.kw);
    for (; ow < whole.last; ++ow) pixels<1>(r, ow, 0, r.kw);
    for (; ow < r.ow; ++ow) at_border(ow);
  }
}

// The sums over a row of dy of the products with K taps of one row of the image, from tap k0 on, added to sum [kw, c].
template <int K, class T>
void products(const Row<T>& r, const T* dy, int64_t k0, T* sum) {
  const int64_t corner = k0 * r.dw - r.pad_left;  // of pixel 0
  const Range whole = interior(corner, corner + (K - 1) * r.dw, r.sw, r.w, r.ow);
  for_channels<T>(r.c, [&](auto lanes, int64_t c) {
    using V = decltype(lanes);
    typename V::Type total[K] = {};
    const auto at_border = [&](int64_t ow) {
      const typename V::Type d = V::load(dy + ow * r.c + c);
      for (int k = 0; k < K; ++k) {
        const int64_t at = ow * r.sw + corner + k * r.dw;
        if (at >= 0 && at < r.w) total[k] += V::load(r.x + at * r.c + c) * d;
      }
    };
    for (int64_t ow = 0; ow < whole.first; ++ow) at_border(ow);
    for (int64_t ow = whole.first; ow < whole.last; ++ow) {
      const typename V::Type d = V::load(dy + ow * r.c + c);
      const T* x = r.x + (ow * r.sw + corner) * r.c + c;
#pragma GCC unroll 4
      for (int k = 0; k < K; ++k) total[k] += V::load(x + k * r.dw * r.c) * d;
    }
    for (int64_t ow = whole.last; ow < r.ow; ++ow) at_border(ow);
    for (int k = 0; k < K; ++k) {
      T* to = sum + (k0 + k) * r.c + c;
      V::store(to, V::load(to) + total[k]);
    }
  });
}

// The sums over the m results of each channel.
template <class T>
void fold(int64_t pixels, int64_t c, int64_t m, const T* y, T* x, bool accumulate) {
  for (int64_t i = 0; i < pixels * c; ++i) {
    T sum = 0;
    for (int64_t j = 0; j < m; ++j) sum += y[i * m + j];
    store(x[i], sum, accumulate);
  }
}

// Scratch of `elements` for each part.
template <class T>
struct Scratch {
  Scratch(Context& ctx, int64_t parts, int64_t elements)
      : size((elements * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64),
        workspace(ctx.workspace(static_cast<size_t>(size * parts))) {}
  T* of(int64_t part) const { return workspace.as<T>(static_cast<size_t>(size * part)); }
  int64_t size;
  Workspace workspace;
};

// Images with as many channels as there are results: themselves, or spread in a part's scratch.
template <class T>
class Spread {
 public:
  Spread(Context& ctx, const Conv2DArgs& a, int64_t parts, const T* x)
      : a_(a), x_(x), scratch_(ctx, parts, a.o == a.c ? 0 : a.h * a.w * a.o) {}
  const T* image(int64_t n, int part) const {
    const T* image = x_ + n * a_.h * a_.w * a_.c;
    if (a_.o == a_.c) return image;
    const int64_t m = a_.o / a_.c;
    T* out = scratch_.of(part);
    for (int64_t i = 0; i < a_.h * a_.w * a_.c; ++i)
      for (int64_t j = 0; j < m; ++j) out[i * m + j] = image[i];
    return out;
  }

 private:
  const Conv2DArgs& a_;
  const T* x_;
  Scratch<T> scratch_;
};

int64_t grain(const Conv2DArgs& a, int64_t width) { return max(1, kGrain / max(1, width * a.o * a.kh * a.kw)); }

template <class T>
void forward(Context& ctx, const Conv2DArgs& a, const T* x, const T* w, const T* bias, T* y) {
  const Spread<T> images(ctx, a, ctx.threads, x);
  const bool relu = a.activation == UnaryOp::relu, activates = a.activation != UnaryOp::identity && !relu;
  parallel::ranges(ctx.threads, a.n * a.oh, grain(a, a.ow), [&](int64_t begin, int64_t end, int part) {
    const T* image = nullptr;
    int64_t loaded = -1;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t n = i / a.oh, corner = i % a.oh * a.sh - a.pad_top;
      const Range rows = inside(corner, a.kh, a.dh, a.h);
      Row<T> r{.c = a.o, .w = a.w, .ow = a.ow, .kw = a.kw, .sw = a.sw, .dw = a.dw, .pad_left = a.pad_left};
      r.rows = rows.last - rows.first;
      if (loaded != n) image = images.image(loaded = n, part);
      r.x_stride = a.dh * a.w * a.o;
      r.x = image + (r.rows ? corner + rows.first * a.dh : 0) * a.w * a.o;
      r.filter = w + rows.first * a.kw * a.o;
      r.y = y + i * a.ow * a.o;
      r.bias = bias;
      r.relu = relu;
      convolve(r);
      if (activates) activate(a.ow, a.o, r.y, a.o, a.activation);
    }
  });
}

// A row of dx [w, o] (o = c * m) is made of the rows of dy whose windows it lies in. Without strides that is a
// convolution with the filters turned about.
template <class T>
void gradient_input(Context& ctx, const Conv2DArgs& a, const T* dy, const T* w, T* dx, Write write) {
  const int64_t m = a.o / a.c, taps = a.kh * a.kw;
  const bool dense = a.sh == 1 && a.sw == 1, add = write == Write::accumulate;
  const Scratch<T> turned(ctx, 1, dense ? taps * a.o : 0);
  const Scratch<T> scratch(ctx, ctx.threads, m == 1 ? 0 : a.w * a.o);
  if (dense)
    for (int64_t k = 0; k < taps; ++k)
      for (int64_t o = 0; o < a.o; ++o) turned.of(0)[k * a.o + o] = w[(taps - 1 - k) * a.o + o];
  parallel::ranges(ctx.threads, a.n * a.h, grain(a, a.w), [&](int64_t begin, int64_t end, int part) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t n = i / a.h, h = i % a.h;
      T *target = dx + i * a.w * a.c, *row = m == 1 ? target : scratch.of(part);
      const bool accumulate = m == 1 && add;
      if (dense) {
        const int64_t corner = h + a.pad_top - (a.kh - 1) * a.dh;
        const Range rows = inside(corner, a.kh, a.dh, a.oh);
        Row<T> r{.c = a.o, .w = a.ow, .ow = a.w, .kw = a.kw, .sw = 1, .dw = a.dw};
        r.pad_left = (a.kw - 1) * a.dw - a.pad_left;
        r.rows = rows.last - rows.first;
        r.x_stride = a.dh * a.ow * a.o;
        r.x = dy + (n * a.oh + (r.rows ? corner + rows.first * a.dh : 0)) * a.ow * a.o;
        r.filter = turned.of(0) + rows.first * a.kw * a.o;
        r.y = row;
        r.accumulate = accumulate;
        convolve(r);
      } else {
        if (!accumulate)
          for (int64_t j = 0; j < a.w * a.o; ++j) row[j] = T(0);
        for (int64_t kh = 0; kh < a.kh; ++kh) {
          const int64_t from = h + a.pad_top - kh * a.dh;  // oh * SH
          if (from < 0 || from % a.sh != 0 || from / a.sh >= a.oh) continue;
          for (int64_t kw = 0; kw < a.kw; ++kw) {
            const int64_t shift = kw * a.dw - a.pad_left;
            const Range range = interior(shift, shift, a.sw, a.w, a.ow);
            const T *d = dy + (n * a.oh + from / a.sh) * a.ow * a.o, *filter = w + (kh * a.kw + kw) * a.o;
            for (int64_t ow = range.first; ow < range.last; ++ow) {
              T* to = row + (ow * a.sw + shift) * a.o;
#pragma GCC ivdep
              for (int64_t o = 0; o < a.o; ++o) to[o] += d[ow * a.o + o] * filter[o];
            }
          }
        }
      }
      if (m != 1) fold(a.w, a.c, m, row, target, add);
    }
  });
}

// Each part sums over its rows of dy, and the parts' sums are added in their order.
template <class T>
void gradient_filter(Context& ctx, const Conv2DArgs& a, const T* x, const T* dy, T* dw, Write write) {
  const int64_t size = a.kh * a.kw * a.o, rows = a.n * a.oh;
  const int parts = static_cast<int>(max(1, min(ctx.threads, rows)));
  const Scratch<T> sums(ctx, parts, size);
  const Spread<T> images(ctx, a, parts, x);
  parallel::run(parts, [&](int part) {
    T* sum = sums.of(part);
    for (int64_t i = 0; i < size; ++i) sum[i] = T(0);
    const T* image = nullptr;
    int64_t loaded = -1;
    for (int64_t i = rows * part / parts; i < rows * (part + 1) / parts; ++i) {
      const int64_t n = i / a.oh, corner = i % a.oh * a.sh - a.pad_top;
      const Range inner = inside(corner, a.kh, a.dh, a.h);
      if (loaded != n) image = images.image(loaded = n, part);
      const T* d = dy + i * a.ow * a.o;
      Row<T> r{.c = a.o, .w = a.w, .ow = a.ow, .kw = a.kw, .sw = a.sw, .dw = a.dw, .pad_left = a.pad_left};
      for (int64_t kh = inner.first; kh < inner.last; ++kh) {
        r.x = image + (corner + kh * a.dh) * a.w * a.o;
        T* to = sum + kh * a.kw * a.o;
        int64_t k = 0;
        for (; k + 4 <= a.kw; k += 4) products<4>(r, d, k, to);
        if (a.kw - k == 3) products<3>(r, d, k, to);
        if (a.kw - k == 2) products<2>(r, d, k, to);
        if (a.kw - k == 1) products<1>(r, d, k, to);
      }
    }
  });
  for (int part = 0; part < parts; ++part) {
    const bool accumulate = part > 0 || write == Write::accumulate;
    for (int64_t i = 0; i < size; ++i) store(dw[i], sums.of(part)[i], accumulate);
  }
}

}  // namespace

void depthwise(Context& ctx, const Conv2DArgs& args, const void* x, const void* w, const void* bias, void* y) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    forward(ctx, args, static_cast<const T*>(x), static_cast<const T*>(w), static_cast<const T*>(bias),
            static_cast<T*>(y));
  });
}

void depthwise_gradient_input(Context& ctx, const Conv2DArgs& args, const void* dy, const void* w, void* dx,
                              Write write) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    gradient_input(ctx, args, static_cast<const T*>(dy), static_cast<const T*>(w), static_cast<T*>(dx), write);
  });
}

void depthwise_gradient_filter(Context& ctx, const Conv2DArgs& args, const void* x, const void* dy, void* dw,
                               Write write) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    gradient_filter(ctx, args, static_cast<const T*>(x), static_cast<const T*>(dy), static_cast<T*>(dw), write);
  });
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
