// Convolution of images of up to four channels, direct: a tile would be mostly empty. In the forward pass, and in the
// filters' gradient, threads lie along the filters, in packs of 16 bytes where memory allows, and neighbours read the
// same pixels; in the images' gradient some threads share a pixel and its sum over the filters.
#include "cuda/conv_direct.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

namespace {

using namespace direct;

constexpr int kSharers = 8;  // threads of one pixel of dx, or of the filters of one result

// Each of a pixel's threads takes some of the filters of the results that the pixel is part of.
template <class T, int kPack, int kChannels>
MICA_KERNEL(kThreads, 1)
void gradient_input_kernel(const Shape s, int64_t threads, const T* __restrict__ dy, const T* __restrict__ w,
                           T* __restrict__ dx) {
  const bool is_there = int64_t{block_index().x} * kThreads + thread_index().x < threads;
  const Place at(s);
  const T* const image = dy + int64_t{at.image} * s.oh * s.ow * s.o;
  T sum[kRun][kChannels] = {};
  for (int i = 0; i < s.kh && is_there; ++i) {
    const int from_row = at.row + s.pad_top - i * s.dh;
    if (from_row < 0) break;
    const int oh = s.stride_h.quotient(from_row);
    if (oh * s.sh != from_row || oh >= s.oh) continue;
    const T* const line = image + int64_t{oh} * s.ow * s.o;
    for (int j = 0; j < s.kw; ++j) {
      const T* const filter_at = w + int64_t{i * s.kw + j} * kChannels * s.o;
      int place[kRun];  // of the result that a pixel is part of at this tap; -1: none
      MICA_UNROLL
      for (int p = 0; p < kRun; ++p) {
        const int from = at.run + p + s.pad_left - j * s.dw, ow = from < 0 ? s.ow : s.stride_w.quotient(from);
        place[p] = ow < s.ow && ow * s.sw == from ? ow : -1;
      }
      for (int o = at.lane * kPack; o < s.o; o += kSharers * kPack) {
        Pack<T, kPack> filters[kChannels];
        MICA_UNROLL
        for (int c = 0; c < kChannels; ++c) filters[c] = load<kPack>(filter_at + int64_t{c} * s.o + o);
        MICA_UNROLL
        for (int p = 0; p < kRun; ++p) {
          if (place[p] < 0) continue;
          const Pack<T, kPack> value = load<kPack>(line + int64_t{place[p]} * s.o + o);
          MICA_UNROLL
          for (int c = 0; c < kChannels; ++c) {
            MICA_UNROLL
            for (int e = 0; e < kPack; ++e) sum[p][c] += value.v[e] * filters[c].v[e];
          }
        }
      }
    }
  }
  MICA_UNROLL
  for (int p = 0; p < kRun; ++p) {
    MICA_UNROLL
    for (int c = 0; c < kChannels; ++c) {
      MICA_UNROLL
      for (int mask = kSharers / 2; mask > 0; mask /= 2) sum[p][c] += shuffle_xor(sum[p][c], mask);
    }
  }
  if (!is_there || at.lane > 0) return;
  T* const pixels = dx + ((int64_t{at.image} * s.h + at.row) * s.w + at.run) * kChannels;
  MICA_UNROLL
  for (int p = 0; p < kRun; ++p) {
    if (at.run + p >= s.w) break;
    MICA_UNROLL
    for (int c = 0; c < kChannels; ++c) {
      T& target = pixels[p * kChannels + c];
      target = s.accumulate ? target + sum[p][c] : sum[p][c];
    }
  }
}

// sums[chunk, KH*KW*C, O]: the sums over some lines of dy of its products with kRows x kColumns taps of x, from the tap
// of the block on. A warp takes a line, its quarters every fourth pixel of it.
template <class T, int kPack, int kChannels, int kRows, int kColumns>
MICA_KERNEL(32 * kLines<T>, 1)
void gradient_filter_kernel(const Shape s, int chunks, int chunk, int groups, FastDivide tap_columns,
                            const T* __restrict__ x, const T* __restrict__ dy, T* __restrict__ sums) {
  constexpr int kValues = kRows * kColumns * kChannels, kFilters = kSharers * kPack, kQuarters = 32 / kSharers;
  MICA_SHARED(T, parts, [kLines<T>][kValues][kFilters]);
  const int thread = static_cast<int>(thread_index().x), warp = thread / 32;
  const int sharer = thread % kSharers, quarter = thread % 32 / kSharers;
  const int part = static_cast<int>(block_index().x) % chunks, rest = static_cast<int>(block_index().x) / chunks;
  int tap_column = rest % groups;
  const int first_row = tap_columns.divide(tap_column) * kRows, first_column = tap_column * kColumns;
  const int first_filter = rest / groups * kFilters, o = first_filter + sharer * kPack;
  Pack<T, kPack> sum[kValues] = {};
  const int last = at_most((part + 1) * chunk, s.images * s.oh);
  for (int line = part * chunk + warp; line < last && o < s.o; line += kLines<T>) {
    int row = line;
    const T* const image = x + int64_t{s.rows.divide(row)} * s.h * s.w * kChannels;
    const T* const results = dy + int64_t{line} * s.ow * s.o + o;
    const int top = row * s.sh - s.pad_top + first_row * s.dh;
    for (int ow = quarter; ow < s.ow; ow += kQuarters) {
      const Pack<T, kPack> d = load<kPack>(results + int64_t{ow} * s.o);
      const int left = ow * s.sw - s.pad_left + first_column * s.dw;
      MICA_UNROLL
      for (int i = 0; i < kRows; ++i) {
        const int h = top + i * s.dh;
        MICA_UNROLL
        for (int j = 0; j < kColumns; ++j) {
          const int column = left + j * s.dw;
          if (!inside(h, s.h) || !inside(column, s.w)) continue;
          const T* const pixel = image + int64_t{h * s.w + column} * kChannels;
          MICA_UNROLL
          for (int c = 0; c < kChannels; ++c) {
            const T value = pixel[c];
            MICA_UNROLL
            for (int e = 0; e < kPack; ++e) sum[(i * kColumns + j) * kChannels + c].v[e] += value * d.v[e];
          }
        }
      }
    }
  }
  MICA_UNROLL
  for (int v = 0; v < kValues; ++v) {
    MICA_UNROLL
    for (int e = 0; e < kPack; ++e) {
      T total = sum[v].v[e];
      MICA_UNROLL
      for (int mask = kSharers; mask < 32; mask *= 2) total += shuffle_xor(total, mask);
      if (quarter == 0) parts[warp][v][sharer * kPack + e] = total;
    }
  }
  barrier();
  for (int i = thread; i < kValues * kFilters; i += 32 * kLines<T>) {
    const int v = i / kFilters, filter = i % kFilters, tap = v / kChannels;
    const int row = first_row + tap / kColumns, column = first_column + tap % kColumns;
    if (row >= s.kh || column >= s.kw || first_filter + filter >= s.o) continue;
    T total = parts[0][v][filter];
    MICA_UNROLL
    for (int l = 1; l < kLines<T>; ++l) total += parts[l][v][filter];
    const int64_t value = (int64_t{part} * s.kh * s.kw + row * s.kw + column) * kChannels + v % kChannels;
    sums[value * s.o + first_filter + filter] = total;
  }
}

// f(channels, width of packs), both as constants.
template <class T, class F>
void for_channels(const Conv2DArgs& args, bool packs, const F& f) {
  for_width<T>(packs, [&](auto width) {
    switch (args.c) {
      case 1: return f(std::integral_constant<int, 1>{}, width);
      case 2: return f(std::integral_constant<int, 2>{}, width);
      case 3: return f(std::integral_constant<int, 3>{}, width);
      default: return f(std::integral_constant<int, kFewChannels>{}, width);
    }
  });
}

}  // namespace

void few_channels(Context& ctx, const Conv2DArgs& args, const void* x, const void* w, const void* bias, void* y) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    for_channels<T>(args, keeps_packs<T>(w, args.o) && keeps_packs<T>(y), [&](auto channels, auto width) {
      forward<channels.value, width.value>(ctx, args, static_cast<const T*>(x), static_cast<const T*>(w),
                                           static_cast<const T*>(bias), static_cast<T*>(y));
    });
  });
}

void few_channels_gradient_input(Context& ctx, const Conv2DArgs& args, const void* dy, const void* w, void* dx,
                                 Write write) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    for_channels<T>(args, keeps_packs<T>(w, args.o) && keeps_packs<T>(dy), [&](auto channels, auto width) {
      Shape s = shape_of(args, write == Write::accumulate);
      const int64_t threads = share_out(s, kSharers, args.w, args.h);
      launch(gradient_input_kernel<T, width.value, channels.value>, ceil_div(threads, kThreads), {kThreads}, 0,
             ctx.stream, s, threads, static_cast<const T*>(dy), static_cast<const T*>(w), static_cast<T*>(dx));
    });
  });
}

void few_channels_gradient_filter(Context& ctx, const Conv2DArgs& args, const void* x, const void* dy, void* dw,
                                  Write write) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    for_channels<T>(args, keeps_packs<T>(dy, args.o), [&](auto channels, auto width) {
      const auto run = [&](auto rows, auto columns) {
        filter_gradient<rows.value, columns.value>(
            ctx, gradient_filter_kernel<T, width.value, channels.value, rows.value, columns.value>,
            kSharers * width.value, args, static_cast<const T*>(x), static_cast<const T*>(dy), static_cast<T*>(dw),
            write == Write::accumulate);
      };
      if constexpr (channels.value == 1) {  // more would take too many registers
        if (args.kh == 3 && args.kw == 3)
          return run(std::integral_constant<int, 3>{}, std::integral_constant<int, 3>{});
      }
      run(std::integral_constant<int, 1>{}, std::integral_constant<int, 3>{});
    });
  });
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
