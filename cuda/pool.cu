// Pooling: threads along the channels in packs of 16 bytes. Gradients are gathered: each pixel looks at the windows
// that cover it, in the order of the results.
#include "cuda/common.h"
#include "kernels/args.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

namespace {

constexpr int kThreads = 256;

// The pixels of one side of a pooling, from row `first` of all images' rows on; a thread has one pack of channels of
// one.
struct Pixels {
  FastDivide rows, row, packs;  // of an image; items of a row, which are its pixels' packs; packs of a pixel
  int64_t image;                // that `first` lies in
  int first;                    // row in that image
  int items;
};

struct Window {
  int h, w, c, oh, ow;
  int kh, kw, sh, sw, pad_top, pad_left;
  FastDivide by_sh, by_sw;

  explicit Window(const Pool2DArgs& a)
      : h(to_int(a.h)), w(to_int(a.w)), c(to_int(a.c)), oh(to_int(a.oh)), ow(to_int(a.ow)), kh(to_int(a.kh)),
        kw(to_int(a.kw)), sh(to_int(a.sh)), sw(to_int(a.sw)), pad_top(to_int(a.pad_top)), pad_left(to_int(a.pad_left)),
        by_sh(a.sh), by_sw(a.sw) {}
};

// Where a thread's item lies: image, row y and column x of it, and the first channel.
struct Item {
  int64_t image;
  int y, x, channel;

  MICA_DEVICE Item(const Pixels& pixels, int item, int width) {
    int rest = item;
    y = pixels.first + pixels.row.divide(rest);
    image = pixels.image + pixels.rows.divide(y);
    x = pixels.packs.divide(rest);
    channel = rest * width;
  }
};

MICA_DEVICE int item_of_thread() { return static_cast<int>(block_index().x * kThreads + thread_index().x); }

template <class T, int width>
MICA_DEVICE Pack<T, width> load_pack(const T* x) {
  return *reinterpret_cast<const Pack<T, width>*>(x);
}
template <class T, int width>
MICA_DEVICE void store_pack(T* y, const Pack<T, width>& value) {
  *reinterpret_cast<Pack<T, width>*>(y) = value;
}

// The maximum of each channel and its position: the first if several, NaN wins.
template <class T, int width>
class Maximum {
 public:
  MICA_DEVICE explicit Maximum(int first) {
    MICA_UNROLL
    for (int j = 0; j < width; ++j) {
      best_.v[j] = -kInfinity<T>;
      where_[j] = first;
    }
  }
  MICA_DEVICE void take(const Pack<T, width>& x, int position) {
    MICA_UNROLL
    for (int j = 0; j < width; ++j) {
      const bool better = best_.v[j] == best_.v[j] && !(x.v[j] <= best_.v[j]);
      best_.v[j] = better ? x.v[j] : best_.v[j];
      where_[j] = better ? position : where_[j];
    }
  }
  MICA_DEVICE Pack<T, width> result(int) const { return best_; }
  template <class I>
  MICA_DEVICE void store_index(I* index) const {
    Pack<I, width> pack;
    MICA_UNROLL
    for (int j = 0; j < width; ++j) pack.v[j] = static_cast<I>(where_[j]);
    store_pack(index, pack);
  }

 private:
  Pack<T, width> best_;
  int where_[width];
};

template <class T, int width>
class Mean {
 public:
  MICA_DEVICE explicit Mean(int) : sum_{} {}
  MICA_DEVICE void take(const Pack<T, width>& x, int) {
    MICA_UNROLL
    for (int j = 0; j < width; ++j) sum_.v[j] += x.v[j];
  }
  MICA_DEVICE Pack<T, width> result(int count) const {
    const T scale = T(1) / static_cast<T>(count);
    Pack<T, width> mean;
    MICA_UNROLL
    for (int j = 0; j < width; ++j) mean.v[j] = sum_.v[j] * scale;
    return mean;
  }
  MICA_DEVICE void store_index(void*) const {}

 private:
  Pack<T, width> sum_;
};

// kSide > 0: windows of that many pixels squared, whose loads are all on their way before the first is looked at. I is
// the type of the index.
template <template <class, int> class Pool, class T, int width, int kSide, class I>
MICA_KERNEL(kThreads, 3)
void pool_kernel(const Window window, const Pixels results, const T* __restrict__ x, T* __restrict__ y,
                 I* __restrict__ index) {
  const int number = item_of_thread();
  if (number >= results.items) return;
  const Item item(results, number, width);
  const int top = item.y * window.sh - window.pad_top, left = item.x * window.sw - window.pad_left;
  const int kh_begin = at_least(-top, 0), kw_begin = at_least(-left, 0);
  const int kh_end = at_most(window.kh, window.h - top), kw_end = at_most(window.kw, window.w - left);
  const int64_t pixel = window.c, row = pixel * window.w;
  const T* const corner = x + item.image * window.h * row + top * row + left * pixel + item.channel;

  Pool<T, width> pool(kh_begin * window.kw + kw_begin);
  if constexpr (kSide > 0) {
    Pack<T, width> in[kSide * kSide];
    MICA_UNROLL
    for (int k = 0; k < kSide * kSide; ++k)
      if (inside(top + k / kSide, window.h) && inside(left + k % kSide, window.w))
        in[k] = load_pack<T, width>(corner + k / kSide * row + k % kSide * pixel);
    MICA_UNROLL
    for (int k = 0; k < kSide * kSide; ++k)
      if (inside(top + k / kSide, window.h) && inside(left + k % kSide, window.w)) pool.take(in[k], k);
  } else {
    const T* line = corner + kh_begin * row + kw_begin * pixel;
    for (int kh = kh_begin; kh < kh_end; ++kh, line += row) {
      const T* at = line;
      for (int kw = kw_begin; kw < kw_end; ++kw, at += pixel) pool.take(load_pack<T, width>(at), kh * window.kw + kw);
    }
  }
  const int64_t to = ((item.image * window.oh + item.y) * window.ow + item.x) * pixel + item.channel;
  store_pack(y + to, pool.result((kh_end - kh_begin) * (kw_end - kw_begin)));
  if (index) pool.store_index(index + to);
}

// Writes or adds a pack of the gradient of a pixel.
template <class T, int width>
MICA_DEVICE void store_gradient(T* dx, Pack<T, width> value, bool accumulate) {
  if (accumulate) {
    const Pack<T, width> before = load_pack<T, width>(dx);
    MICA_UNROLL
    for (int j = 0; j < width; ++j) value.v[j] += before.v[j];
  }
  store_pack(dx, value);
}

// What a window gives to its pixels: load(at) reads at its first channel's place in dy, give() makes of that the share
// of the pixel at `position` in the window, whose corner is (top, left).
template <class T, int width, class I>
class FromMaximum {
 public:
  struct Loaded {
    Pack<T, width> dy;
    Pack<I, width> where;
  };

  MICA_DEVICE FromMaximum(const T* dy, const I* index) : dy_(dy), index_(index) {}
  MICA_DEVICE Loaded load(int64_t at) const {
    return {load_pack<T, width>(dy_ + at), load_pack<I, width>(index_ + at)};
  }
  MICA_DEVICE static Pack<T, width> give(const Loaded& of, const Window&, int position, int, int) {
    Pack<T, width> given;
    MICA_UNROLL
    for (int j = 0; j < width; ++j) given.v[j] = static_cast<int>(of.where.v[j]) == position ? of.dy.v[j] : T(0);
    return given;
  }

 private:
  const T* dy_;
  const I* index_;
};

template <class T, int width>
class FromMean {
 public:
  using Loaded = Pack<T, width>;

  MICA_DEVICE FromMean(const T* dy, const void*) : dy_(dy) {}
  MICA_DEVICE Loaded load(int64_t at) const { return load_pack<T, width>(dy_ + at); }
  MICA_DEVICE static Pack<T, width> give(const Loaded& of, const Window& window, int, int top, int left) {
    const int height = at_most(top + window.kh, window.h) - at_least(top, 0);
    const int breadth = at_most(left + window.kw, window.w) - at_least(left, 0);
    const T scale = T(1) / static_cast<T>(height * breadth);
    Pack<T, width> given;
    MICA_UNROLL
    for (int j = 0; j < width; ++j) given.v[j] = of.v[j] * scale;
    return given;
  }

 private:
  const T* dy_;
};

// dx, a pack of a pixel for each thread.
template <class Given, class T, int width, class I>
MICA_KERNEL(kThreads, 3)
void pool_gradient_kernel(const Window window, const Pixels pixels, const T* __restrict__ dy,
                          const I* __restrict__ index, T* __restrict__ dx, bool accumulate) {
  const int number = item_of_thread();
  if (number >= pixels.items) return;
  const Item item(pixels, number, width);
  const Given given(dy, index);
  // The pixel's place among the windows: those from the first that reaches it to the last that begins before it.
  const int y = item.y + window.pad_top, x = item.x + window.pad_left;
  const int oh_begin = y < window.kh ? 0 : window.by_sh.quotient(y - window.kh) + 1;
  const int ow_begin = x < window.kw ? 0 : window.by_sw.quotient(x - window.kw) + 1;
  const int oh_end = at_most(window.by_sh.quotient(y) + 1, window.oh);
  const int ow_end = at_most(window.by_sw.quotient(x) + 1, window.ow);
  const int64_t pixel = window.c;
  Pack<T, width> sum = {};
  for (int oh = oh_begin; oh < oh_end; ++oh) {
    const int64_t line = (item.image * window.oh + oh) * window.ow * pixel + item.channel;
    for (int ow = ow_begin; ow < ow_end; ++ow) {
      const int kh = y - oh * window.sh, kw = x - ow * window.sw;
      const Pack<T, width> more =
          Given::give(given.load(line + ow * pixel), window, kh * window.kw + kw, item.y - kh, item.x - kw);
      MICA_UNROLL
      for (int j = 0; j < width; ++j) sum.v[j] += more.v[j];
    }
  }
  const int64_t to = ((item.image * window.h + item.y) * window.w + item.x) * pixel + item.channel;
  store_gradient(dx + to, sum, accumulate);
}

// The same where windows of two by two lie side by side: a thread writes the four pixels of one. Pixels at the lower
// and right border that no window has are those of windows without a result.
template <class Given, class T, int width, class I>
MICA_KERNEL(kThreads)
void two_by_two_gradient_kernel(const Window window, const Pixels windows, const T* __restrict__ dy,
                                const I* __restrict__ index, T* __restrict__ dx, bool accumulate) {
  const int number = item_of_thread();
  if (number >= windows.items) return;
  const Item item(windows, number, width);
  const Given given(dy, index);
  const bool has_result = item.y < window.oh && item.x < window.ow;
  const int64_t pixel = window.c;
  const int64_t from = ((item.image * window.oh + item.y) * window.ow + item.x) * pixel + item.channel;
  const int64_t to = ((item.image * window.h + 2 * item.y) * window.w + 2 * item.x) * pixel + item.channel;
  typename Given::Loaded loaded = {};
  if (has_result) loaded = given.load(from);
  MICA_UNROLL
  for (int k = 0; k < 4; ++k) {
    if (2 * item.y + k / 2 >= window.h || 2 * item.x + k % 2 >= window.w) continue;
    Pack<T, width> value = {};
    if (has_result) value = Given::give(loaded, window, k, 2 * item.y, 2 * item.x);
    store_gradient(dx + to + (k / 2 * window.w + k % 2) * pixel, value, accumulate);
  }
}

// ---- On the host ----

// Calls body(pixels, blocks) for n images of h x w pixels of `packs` packs, in one launch or, where their items are
// more than an int can count, in several.
template <class F>
void for_pixels(int64_t n, int64_t h, int64_t w, int64_t packs, const F& body) {
  if (n * h * w * packs == 0) return;
  constexpr int64_t kMost = int64_t{1} << 30;
  const int64_t row = w * packs, rows = n * h;
  check(row <= kMost && h <= kMost, "pool2d", "the CUDA kernels take rows of up to 2^30 elements, not ", row);
  for (int64_t first = 0, most = kMost / row; first < rows; first += most) {
    Pixels pixels{FastDivide(h), FastDivide(row), FastDivide(packs), first / h, to_int(first % h), 0};
    pixels.items = to_int(at_most(most, rows - first) * row);
    body(pixels, ceil_div(pixels.items, kThreads));
  }
}

// Calls f with the width of packs, as a constant: 16 bytes where each pixel, of x and of the index, starts with one.
template <class T, class I, class F, class... Pointers>
void for_width(int64_t c, const I* index, const F& f, Pointers... pointers) {
  constexpr int kWidth = kPackWidth<T>;
  if (c % kWidth == 0 && is_aligned(16, pointers...) && is_aligned(kWidth * sizeof(I), index))
    f(std::integral_constant<int, kWidth>{});
  else
    f(std::integral_constant<int, 1>{});
}

template <template <class, int> class Pool, class T, class I>
void launch_pool(Context& ctx, const Pool2DArgs& a, const T* x, T* y, I* index) {
  const Window window(a);
  for_width<T>(
      a.c, index,
      [&](auto width) {
        constexpr int kWidth = width.value;
        for_pixels(a.n, a.oh, a.ow, a.c / kWidth, [&](const Pixels& results, int64_t blocks) {
          const auto run = [&](auto side) {
            launch(pool_kernel<Pool, T, kWidth, side.value, I>, blocks, {kThreads}, 0, ctx.stream, window, results, x,
                   y, index);
          };
          if constexpr (sizeof(I) == 1) {
            if (a.kh == 2 && a.kw == 2) return run(std::integral_constant<int, 2>{});
            if (a.kh == 3 && a.kw == 3) return run(std::integral_constant<int, 3>{});
          }
          run(std::integral_constant<int, 0>{});
        });
      },
      x, y);
}

template <template <class, int> class Given, class T, class I>
void launch_gradient(Context& ctx, const Pool2DArgs& a, const T* dy, const I* index, T* dx, Write write) {
  const Window window(a);
  const bool accumulate = write == Write::accumulate;
  const bool two_by_two = a.kh == 2 && a.kw == 2 && a.sh == 2 && a.sw == 2 && a.pad_top == 0 && a.pad_left == 0;
  for_width<T>(
      a.c, index,
      [&](auto width) {
        constexpr int kWidth = width.value;
        using G = Given<T, kWidth>;
        if (two_by_two)
          return for_pixels(a.n, ceil_div(a.h, 2), ceil_div(a.w, 2), a.c / kWidth,
                            [&](const Pixels& windows, int64_t blocks) {
                              launch(two_by_two_gradient_kernel<G, T, kWidth, I>, blocks, {kThreads}, 0, ctx.stream,
                                     window, windows, dy, index, dx, accumulate);
                            });
        for_pixels(a.n, a.h, a.w, a.c / kWidth, [&](const Pixels& pixels, int64_t blocks) {
          launch(pool_gradient_kernel<G, T, kWidth, I>, blocks, {kThreads}, 0, ctx.stream, window, pixels, dy, index,
                 dx, accumulate);
        });
      },
      dy, dx);
}

template <class T, int width>
using FromByte = FromMaximum<T, width, uint8_t>;
template <class T, int width>
using FromInt = FromMaximum<T, width, int32_t>;

}  // namespace

void max_pool2d(Context& ctx, const Pool2DArgs& args, const void* x, void* y, void* index) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    if (args.kh * args.kw <= 256)
      launch_pool<Maximum>(ctx, args, static_cast<const T*>(x), static_cast<T*>(y), static_cast<uint8_t*>(index));
    else
      launch_pool<Maximum>(ctx, args, static_cast<const T*>(x), static_cast<T*>(y), static_cast<int32_t*>(index));
  });
}

void max_pool2d_gradient(Context& ctx, const Pool2DArgs& args, const void* dy, const void* index, void* dx,
                         Write write) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    const T* d = static_cast<const T*>(dy);
    if (args.kh * args.kw <= 256)
      launch_gradient<FromByte>(ctx, args, d, static_cast<const uint8_t*>(index), static_cast<T*>(dx), write);
    else
      launch_gradient<FromInt>(ctx, args, d, static_cast<const int32_t*>(index), static_cast<T*>(dx), write);
  });
}

void average_pool2d(Context& ctx, const Pool2DArgs& args, const void* x, void* y) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    launch_pool<Mean>(ctx, args, static_cast<const T*>(x), static_cast<T*>(y), static_cast<uint8_t*>(nullptr));
  });
}

void average_pool2d_gradient(Context& ctx, const Pool2DArgs& args, const void* dy, void* dx, Write write) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    launch_gradient<FromMean>(ctx, args, static_cast<const T*>(dy), static_cast<const uint8_t*>(nullptr),
                              static_cast<T*>(dx), write);
  });
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
