// Depthwise convolution, direct: too little arithmetic for tiles. Threads lie along the channels, and each computes
// some pixels of a row, so that a filter's value is read once for them. Channels move in packs of 16 bytes where each
// has one result and memory is aligned.
#include "cuda/conv_direct.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

namespace {

using namespace direct;

// Each pixel of dx gathers from the results that it is part of.
template <class T, int kPack>
MICA_KERNEL(kThreads, 1)
void gradient_input_kernel(const Shape s, int64_t threads, const T* __restrict__ dy, const T* __restrict__ w,
                           T* __restrict__ dx) {
  if (int64_t{block_index().x} * kThreads + thread_index().x >= threads) return;
  using Lanes = Pack<T, kPack>;
  const Place at(s);
  const int c = at.lane * kPack;
  const T* const image = dy + int64_t{at.image} * s.oh * s.ow * s.o + int64_t{c} * s.results;
  const T* const filters = w + int64_t{c} * s.results;
  Lanes sum[kRun] = {};
  for (int i = 0; i < s.kh; ++i) {
    const int from_row = at.row + s.pad_top - i * s.dh;
    if (from_row < 0) break;
    const int oh = s.stride_h.quotient(from_row);
    if (oh * s.sh != from_row || oh >= s.oh) continue;
    const T* const line = image + int64_t{oh} * s.ow * s.o;
    for (int j = 0; j < s.kw; ++j) {
      const T* const filter_at = filters + int64_t{i * s.kw + j} * s.o;
      MICA_UNROLL
      for (int p = 0; p < kRun; ++p) {
        const int from = at.run + p + s.pad_left - j * s.dw;
        if (from < 0) continue;
        const int ow = s.stride_w.quotient(from);
        if (ow * s.sw != from || ow >= s.ow) continue;
        const T* const result = line + int64_t{ow} * s.o;
        for (int m = 0; m < s.results; ++m) {
          const Lanes value = load<kPack>(result + m), filter = load<kPack>(filter_at + m);
          MICA_UNROLL
          for (int e = 0; e < kPack; ++e) sum[p].v[e] += value.v[e] * filter.v[e];
        }
      }
    }
  }
  T* const pixels = dx + ((int64_t{at.image} * s.h + at.row) * s.w + at.run) * s.c + c;
  MICA_UNROLL
  for (int p = 0; p < kRun; ++p) {
    if (at.run + p >= s.w) break;
    Lanes& target = *reinterpret_cast<Lanes*>(pixels + int64_t{p} * s.c);
    if (s.accumulate) {
      const Lanes before = target;
      MICA_UNROLL
      for (int e = 0; e < kPack; ++e) sum[p].v[e] += before.v[e];
    }
    target = sum[p];
  }
}

// sums[chunk, KH*KW, O]: the sums over some lines of dy of its products with kRows x kColumns taps of x, from the tap
// of the block on. A warp takes 32 results of a line.
template <class T, int kRows, int kColumns>
MICA_KERNEL(32 * kLines<T>)
void gradient_filter_kernel(const Shape s, int chunks, int chunk, int groups, FastDivide tap_columns,
                            const T* __restrict__ x, const T* __restrict__ dy, T* __restrict__ sums) {
  constexpr int kTaps = kRows * kColumns;
  MICA_SHARED(T, parts, [kLines<T>][kTaps][32]);
  const int lane = static_cast<int>(thread_index().x) % 32, warp = static_cast<int>(thread_index().x) / 32;
  const int part = static_cast<int>(block_index().x) % chunks, rest = static_cast<int>(block_index().x) / chunks;
  int tap_column = rest % groups;
  const int first_row = tap_columns.divide(tap_column) * kRows, first_column = tap_column * kColumns;
  const int o = rest / groups * 32 + lane;
  T sum[kTaps] = {};
  const int last = at_most((part + 1) * chunk, s.images * s.oh);
  for (int line = part * chunk + warp; line < last && o < s.o; line += kLines<T>) {
    int row = line;
    const T* const image = x + int64_t{s.rows.divide(row)} * s.h * s.w * s.c + s.of_channel.quotient(o);
    const T* const results = dy + int64_t{line} * s.ow * s.o + o;
    const int top = row * s.sh - s.pad_top + first_row * s.dh;
    for (int ow = 0; ow < s.ow; ++ow) {
      const T d = results[int64_t{ow} * s.o];
      const int left = ow * s.sw - s.pad_left + first_column * s.dw;
      MICA_UNROLL
      for (int i = 0; i < kRows; ++i) {
        const int h = top + i * s.dh;
        MICA_UNROLL
        for (int j = 0; j < kColumns; ++j) {
          const int column = left + j * s.dw;
          if (inside(h, s.h) && inside(column, s.w))
            sum[i * kColumns + j] += image[int64_t{h * s.w + column} * s.c] * d;
        }
      }
    }
  }
  MICA_UNROLL
  for (int t = 0; t < kTaps; ++t) parts[warp][t][lane] = sum[t];
  barrier();
  if (o >= s.o) return;
  for (int t = warp; t < kTaps; t += kLines<T>) {
    const int row = first_row + t / kColumns, column = first_column + t % kColumns;
    if (row >= s.kh || column >= s.kw) continue;
    T total = parts[0][t][lane];
    MICA_UNROLL
    for (int l = 1; l < kLines<T>; ++l) total += parts[l][t][lane];
    sums[(int64_t{part} * s.kh * s.kw + row * s.kw + column) * s.o + o] = total;
  }
}

}  // namespace

void depthwise(Context& ctx, const Conv2DArgs& args, const void* x, const void* w, const void* bias, void* y) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    const bool packs = args.o == args.c && keeps_packs<T>(x, args.c) && keeps_packs<T>(w) && keeps_packs<T>(y);
    for_width<T>(packs, [&](auto width) {
      forward<0, width.value>(ctx, args, static_cast<const T*>(x), static_cast<const T*>(w),
                              static_cast<const T*>(bias), static_cast<T*>(y));
    });
  });
}

void depthwise_gradient_input(Context& ctx, const Conv2DArgs& args, const void* dy, const void* w, void* dx,
                              Write write) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    const bool packs = args.o == args.c && keeps_packs<T>(dx, args.c) && keeps_packs<T>(w) && keeps_packs<T>(dy);
    for_width<T>(packs, [&](auto width) {
      Shape s = shape_of(args, write == Write::accumulate);
      const int64_t threads = share_out(s, args.c / width.value, args.w, args.h);
      launch(gradient_input_kernel<T, width.value>, ceil_div(threads, kThreads), {kThreads}, 0, ctx.stream, s, threads,
             static_cast<const T*>(dy), static_cast<const T*>(w), static_cast<T*>(dx));
    });
  });
}

void depthwise_gradient_filter(Context& ctx, const Conv2DArgs& args, const void* x, const void* dy, void* dw,
                               Write write) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    const auto run = [&](auto rows, auto columns) {
      filter_gradient<rows.value, columns.value>(ctx, gradient_filter_kernel<T, rows.value, columns.value>, 32, args,
                                                 static_cast<const T*>(x), static_cast<const T*>(dy),
                                                 static_cast<T*>(dw), write == Write::accumulate);
    };
    if (args.kh == 3 && args.kw == 3)
      run(std::integral_constant<int, 3>{}, std::integral_constant<int, 3>{});
    else if (args.kh == 5 && args.kw == 5)
      run(std::integral_constant<int, 5>{}, std::integral_constant<int, 5>{});
    else
      run(std::integral_constant<int, 1>{}, std::integral_constant<int, 4>{});
  });
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
