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

}  // namespace direct
}  // namespace mica::kernels::MICA_CUDA_BACKEND
