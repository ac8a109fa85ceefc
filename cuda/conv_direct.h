// Convolutions that are computed without tiles, a thread for some results: what their kernels share.
#pragma once

#include "cuda/conv.h"
#include "cuda/tile.h"

namespace mica::kernels::MICA_CUDA_BACKEND {
namespace direct {

inline constexpr int kThreads = 256;
inline constexpr int kRun = 4;  // pixels of a row that a thread computes

// Conv2DArgs as the kernels need them.
struct Shape {
  int h, w, c, o, kh, kw, sh, sw, oh, ow, pad_top, pad_left, dh, dw, results;  // results of a channel
  int images;
  UnaryOp activation;
  bool accumulate;
  FastDivide lanes, runs, rows, stride_h, stride_w, of_channel;
};

inline Shape shape_of(const Conv2DArgs& a, bool accumulate) {
  Shape s = {};
  const auto set = [](int& to, int64_t from) { to = to_int(from); };
  set(s.h, a.h), set(s.w, a.w), set(s.c, a.c), set(s.o, a.o), set(s.kh, a.kh), set(s.kw, a.kw);
  set(s.sh, a.sh), set(s.sw, a.sw), set(s.oh, a.oh), set(s.ow, a.ow), set(s.dh, a.dh), set(s.dw, a.dw);
  set(s.pad_top, a.pad_top), set(s.pad_left, a.pad_left), set(s.results, at_least<int64_t>(1, a.o / a.c)),
      set(s.images, a.n);
  s.activation = a.activation;
  s.accumulate = accumulate;
  s.stride_h = FastDivide(a.sh);
  s.stride_w = FastDivide(a.sw);
  s.of_channel = FastDivide(s.results);
  return s;
}

// A thread's place among `lanes` of channels, runs of pixels, rows and images.
struct Place {
  MICA_DEVICE explicit Place(const Shape& s) {
    const int64_t thread = int64_t{block_index().x} * kThreads + thread_index().x;
    int i = static_cast<int>(thread);
    const int rest = s.lanes.divide(i);
    lane = i;
    i = rest;
    const int line = s.runs.divide(i);
    run = i * kRun;
    i = line;
    image = s.rows.divide(i);
    row = i;
  }
  int lane, run, row, image;
};

template <class T>
MICA_DEVICE T activate(UnaryOp activation, T x) {
  if (activation == UnaryOp::relu) return scalar::Relu::forward(x);
  if (activation == UnaryOp::tanh) return scalar::Tanh::forward(x);
  return x;
}

template <int kPack, class T>
MICA_DEVICE Pack<T, kPack> load(const T* from) {
  return *reinterpret_cast<const Pack<T, kPack>*>(from);
}

template <class T>
inline constexpr int kLines = sizeof(T) == 4 ? 8 : 4;  // lines of dy, side by side in a block

// Sets what Place needs; returns the number of threads.
inline int64_t share_out(Shape& s, int64_t lanes, int64_t width, int64_t rows) {
  const int64_t runs = ceil_div(width, kRun);
  s.lanes = FastDivide(lanes);
  s.runs = FastDivide(runs);
  s.rows = FastDivide(rows);
  const int64_t threads = lanes * runs * rows * s.images;
  check(threads <= std::numeric_limits<int32_t>::max() - kThreads, "conv2d", "too many results for one launch");
  return threads;
}

// The windows of kChannels, which all results share; of 0: each result has a channel of its own.
template <class T, int kPack, int kChannels>
MICA_KERNEL(kThreads, sizeof(T) == 8 ? 1 : 2)
void forward_kernel(const Shape s, int64_t threads, const T* __restrict__ x, const T* __restrict__ w,
                    const T* __restrict__ bias, T* __restrict__ y) {
  if (int64_t{block_index().x} * kThreads + thread_index().x >= threads) return;
  using Lanes = Pack<T, kPack>;
  constexpr int kReads = kChannels > 0 ? kChannels : 1;  // of a pixel, for each result
  const Place at(s);
  const int o = at.lane * kPack;
  const T* const image = x + int64_t{at.image} * s.h * s.w * s.c + (kChannels > 0 ? 0 : s.of_channel.quotient(o));
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
      const T* const filter_at = w + int64_t{i * s.kw + j} * kReads * s.o + o;
      MICA_UNROLL
      for (int c = 0; c < kReads; ++c) {
        const Lanes filter = load<kPack>(filter_at + int64_t{c} * s.o);
        MICA_UNROLL
        for (int p = 0; p < kRun; ++p) {
          const int column = left + p * s.sw + j * s.dw;
          if (!inside(column, s.w)) continue;
          const T* const pixel = line + int64_t{column} * s.c + c;
          Lanes value;
          if constexpr (kChannels == 0) value = load<kPack>(pixel);
          MICA_UNROLL
          for (int e = 0; e < kPack; ++e) sum[p].v[e] += (kChannels == 0 ? value.v[e] : pixel[0]) * filter.v[e];
        }
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

template <int kChannels, int kPack, class T>
void forward(Context& ctx, const Conv2DArgs& args, const T* x, const T* w, const T* bias, T* y) {
  Shape s = shape_of(args, false);
  const int64_t threads = share_out(s, args.o / kPack, args.ow, args.oh);
  launch(forward_kernel<T, kPack, kChannels>, ceil_div(threads, kThreads), {kThreads}, 0, ctx.stream, s, threads, x, w,
         bias, y);
}

// dw by `kernel`, a block of which takes some lines of dy, kRows x kColumns taps and `filters`, and writes its sums of
// them; a second launch adds those.
template <int kRows, int kColumns, class T, class Kernel>
void filter_gradient(Context& ctx, Kernel* kernel, int64_t filters, const Conv2DArgs& a, const T* x, const T* dy, T* dw,
                     bool accumulate) {
  constexpr int64_t kBlocks = 1024;
  Shape s = shape_of(a, accumulate);
  s.rows = FastDivide(at_least<int64_t>(1, a.oh));
  const int64_t values = a.kh * a.kw * (a.c / a.groups) * a.o, filter_blocks = ceil_div(a.o, filters);
  const int64_t tap_columns = ceil_div(a.kw, kColumns), groups = ceil_div(a.kh, kRows) * tap_columns;
  const int64_t lines = a.n * a.oh, wanted = at_least<int64_t>(1, kBlocks / (filter_blocks * groups));
  const int64_t chunk = round_up(at_least<int64_t>(1, ceil_div(lines, wanted)), kLines<T>);
  const int64_t chunks = at_least<int64_t>(1, ceil_div(lines, chunk));
  const Scratch scratch(ctx, sizeof(T) * static_cast<size_t>(chunks * values));
  T* const sums = scratch.as<T>();
  launch(kernel, chunks * groups * filter_blocks, {32 * kLines<T>}, 0, ctx.stream, s, to_int(chunks), to_int(chunk),
         to_int(groups), FastDivide(tap_columns), x, dy, sums);
  MatrixOutput<T> output;
  output.c = dw;
  output.rows = 1;
  output.columns = to_int(values);
  output.accumulate = accumulate;
  add_splits(ctx, sums, to_int(chunks), 1, output);
}

}  // namespace direct
}  // namespace mica::kernels::MICA_CUDA_BACKEND
