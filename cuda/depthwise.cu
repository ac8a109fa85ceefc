// Depthwise convolution, direct: too little arithmetic for tiles. Threads lie along the channels, and each computes
// some pixels of a row, so that a filter's value is read once for them. Channels move in packs of 16 bytes where each
// has one result and memory is aligned.
#include "cuda/conv_direct.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

namespace {

using namespace direct;

template <class T, int kPack>
MICA_KERNEL(kThreads, sizeof(T) == 8 ? 1 : 2)
void forward_kernel(const Shape s, int64_t threads, const T* __restrict__ x, const T* __restrict__ w,
                    const T* __restrict__ bias, T* __restrict__ y) {
  if (int64_t{block_index().x} * kThreads + thread_index().x >= threads) return;
  using Lanes = Pack<T, kPack>;
  const Place at(s);
  const int o = at.lane * kPack;
  const T* const image = x + int64_t{at.image} * s.h * s.w * s.c + s.of_channel.quotient(o);
  Lanes sum[kRun] = {};
  MICA_UNROLL
  for (int e = 0; e < kPack; ++e) {
    const T start = bias ? bias[o + e] : T(0);
    MICA_UNROLL
    for (int p = 0; p < kRun; ++p) sum[p].v[e] = start;
  }
  const int top = at.row * s.sh - s.pad_top, left = at.run * s.sw - s.pad_left;
  for (int i = 0; i < s.kh; ++i) {
    const int h = top + i * s.dh;
    if (!inside(h, s.h)) continue;
    const T* const line = image + int64_t{h} * s.w * s.c;
    for (int j = 0; j < s.kw; ++j) {
      const Lanes filter = load<kPack>(w + int64_t{i * s.kw + j} * s.o + o);
      MICA_UNROLL
      for (int p = 0; p < kRun; ++p) {
        const int column = left + p * s.sw + j * s.dw;
        if (!inside(column, s.w)) continue;
        const Lanes value = load<kPack>(line + int64_t{column} * s.c);
        MICA_UNROLL
        for (int e = 0; e < kPack; ++e) sum[p].v[e] += value.v[e] * filter.v[e];
      }
    }
  }
  T* const results = y + ((int64_t{at.image} * s.oh + at.row) * s.ow + at.run) * s.o + o;
  MICA_UNROLL
  for (int p = 0; p < kRun; ++p) {
    if (at.run + p >= s.ow) break;
    MICA_UNROLL
    for (int e = 0; e < kPack; ++e) sum[p].v[e] = activate(s.activation, sum[p].v[e]);
    *reinterpret_cast<Lanes*>(results + int64_t{p} * s.o) = sum[p];
  }
}

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

template <class T>
void gradient_filter(Context& ctx, const Conv2DArgs& a, const T* x, const T* dy, T* dw, bool accumulate) {
  constexpr int64_t kBlocks = 1024;
  Shape s = shape_of(a, accumulate);
  s.rows = FastDivide(at_least<int64_t>(1, a.oh));
  const int64_t taps = a.kh * a.kw, columns = ceil_div(a.o, 32), lines = a.n * a.oh;
  const auto run = [&](auto rows_of, auto columns_of) {
    constexpr int kRows = decltype(rows_of)::value, kColumns = decltype(columns_of)::value;
    const int64_t tap_columns = ceil_div(a.kw, kColumns), groups = ceil_div(a.kh, kRows) * tap_columns;
    const int64_t wanted = at_least<int64_t>(1, kBlocks / (columns * groups));
    const int64_t chunk = round_up(at_least<int64_t>(1, ceil_div(lines, wanted)), kLines<T>);
    const int64_t chunks = at_least<int64_t>(1, ceil_div(lines, chunk));
    const Scratch scratch(ctx, sizeof(T) * static_cast<size_t>(chunks * taps * a.o));
    T* const sums = scratch.as<T>();
    launch(gradient_filter_kernel<T, kRows, kColumns>, chunks * groups * columns, {32 * kLines<T>}, 0, ctx.stream, s,
           to_int(chunks), to_int(chunk), to_int(groups), FastDivide(tap_columns), x, dy, sums);
    MatrixOutput<T> output;
    output.c = dw;
    output.rows = 1;
    output.columns = to_int(taps * a.o);
    output.accumulate = accumulate;
    add_splits(ctx, sums, to_int(chunks), 1, output);
  };
  if (a.kh == 3 && a.kw == 3)
    run(std::integral_constant<int, 3>{}, std::integral_constant<int, 3>{});
  else if (a.kh == 5 && a.kw == 5)
    run(std::integral_constant<int, 5>{}, std::integral_constant<int, 5>{});
  else
    run(std::integral_constant<int, 1>{}, std::integral_constant<int, 4>{});
}

}  // namespace

void depthwise(Context& ctx, const Conv2DArgs& args, const void* x, const void* w, const void* bias, void* y) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    const bool packs = args.o == args.c && keeps_packs<T>(x, args.c) && keeps_packs<T>(w) && keeps_packs<T>(y);
    for_width<T>(packs, [&](auto width) {
      Shape s = shape_of(args, false);
      const int64_t threads = share_out(s, args.o / width.value, args.ow, args.oh);
      launch(forward_kernel<T, width.value>, ceil_div(threads, kThreads), {kThreads}, 0, ctx.stream, s, threads,
             static_cast<const T*>(x), static_cast<const T*>(w), static_cast<const T*>(bias), static_cast<T*>(y));
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
    gradient_filter(ctx, args, static_cast<const T*>(x), static_cast<const T*>(dy), static_cast<T*>(dw),
                    write == Write::accumulate);
  });
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
