// Convolutions as products (tile.h): operands that are the windows of images, read where they lie. No window is ever
// gathered in memory ("implicit GEMM": Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning", 2014).
#pragma once

#include "cuda/tile.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

// Windows of images, of which a group's channels are read: pixel (y, x) of `lines` x `columns` has at tap (i, j) the
// element (y * stride_h + corner_h + i * step_h, x * stride_w + corner_w + j * step_w), or 0 outside of the image.
template <class T>
struct Windows {
  const T* data = nullptr;
  int h = 0, w = 0;
  int64_t image_stride = 0, pixel_stride = 0, group_stride = 0;
  int stride_h = 1, stride_w = 1, step_h = 1, step_w = 1;
  FastDivide image, line;  // lines * columns, columns
  FastDivide channels;
  int pixels = 0;
  bool packs = false;
};

// Which taps there are.
struct Taps {
  int corner_h = 0, corner_w = 0;
  FastDivide row;  // taps of a row, times channels
};

// Slices of the windows as a matrix [pixels, taps * channels].
template <class Tile, class Map>
class WindowLoader {
  using T = typename Tile::T;

 public:
  MICA_DEVICE WindowLoader(const Windows<T>& windows, const Taps& taps, int64_t group, int extent, int first, int begin,
                           int depth)
      : windows_(windows), taps_(taps) {
    depth_left_ = depth - map_.k;
    k_ = begin + map_.k;
    const int64_t channel = group * windows.group_stride;
    if constexpr (Map::kAlongDepth) {
      MICA_UNROLL
      for (int r = 0; r < Map::kRows; ++r) {
        int x = first + map_.i + map_.row(r);
        const bool is_there = x < extent;
        const int image = windows.image.divide(x), y = windows.line.divide(x);
        base_[r] = image * windows.image_stride + channel;
        y_[r] = is_there ? y * windows.stride_h + taps.corner_h : kNowhere;
        x_[r] = x * windows.stride_w + taps.corner_w;
      }
    } else {
      i_ = first + map_.i;
      extent_ = extent;
      base_[0] = channel;
      if (Tile::kPacksOnly || windows.packs) place(i_, y_[0], x_[0], base_[0]);
    }
  }

  MICA_DEVICE void load() {
    MICA_UNROLL
    for (int n = 0; n < Map::kLoads; ++n) {
      const bool is_there = map_.depth(n) < depth_left_;
      if constexpr (Map::kAlongDepth) {
        const int r = n % Map::kRows;
        if (Tile::kPacksOnly || windows_.packs) {
          int y, x;
          int64_t at = base_[r];
          tap(k_ + map_.depth(n), y, x, at);
          value_[n] = read(is_there, y + y_[r], x + x_[r], at);
        } else {
          MICA_UNROLL
          for (int e = 0; e < Map::kPack; ++e) {
            int y, x;
            int64_t at = base_[r];
            tap(k_ + map_.depth(n) + e, y, x, at);
            value_[n].v[e] = read_one(map_.depth(n) + e < depth_left_, y + y_[r], x + x_[r], at);
          }
        }
      } else {
        int x = k_ + map_.depth(n);
        const int64_t image = windows_.image.divide(x) * windows_.image_stride;
        const int y = windows_.line.divide(x) * windows_.stride_h;
        x *= windows_.stride_w;
        if (Tile::kPacksOnly || windows_.packs) {
          value_[n] = read(is_there && i_ < extent_, y + y_[0], x + x_[0], image + base_[0]);
        } else {
          MICA_UNROLL
          for (int e = 0; e < Map::kPack; ++e) {
            int tap_y, tap_x;
            int64_t at = image + base_[0];
            place(i_ + e, tap_y, tap_x, at);
            value_[n].v[e] = read_one(is_there && i_ + e < extent_, y + tap_y, x + tap_x, at);
          }
        }
      }
    }
    k_ += Map::kSliceDepth;
    depth_left_ -= Map::kSliceDepth;
  }
  template <class Slice>
  MICA_DEVICE void store(Slice&& slice) const {
    map_.store(value_, slice);
  }

 private:
  static constexpr int kNowhere = -(1 << 30);

  // Where the tap of column k of the matrix lies from the window's corner; its channel is added to `at`.
  MICA_DEVICE void tap(int k, int& y, int& x, int64_t& at) const {
    y = taps_.row.divide(k) * windows_.step_h;
    x = windows_.channels.divide(k) * windows_.step_w;
    at += k;
  }
  MICA_DEVICE void place(int k, int& y, int& x, int64_t& at) const {
    tap(k, y, x, at);
    y += taps_.corner_h;
    x += taps_.corner_w;
  }
  MICA_DEVICE Pack<T> read(bool is_there, int y, int x, int64_t at) const {
    Pack<T> value = {};
    if (is_there && inside(y, windows_.h) && inside(x, windows_.w))
      value = *reinterpret_cast<const Pack<T>*>(windows_.data + at + (y * windows_.w + x) * windows_.pixel_stride);
    return value;
  }
  MICA_DEVICE T read_one(bool is_there, int y, int x, int64_t at) const {
    const bool reads = is_there && inside(y, windows_.h) && inside(x, windows_.w);
    return reads ? windows_.data[at + (y * windows_.w + x) * windows_.pixel_stride] : T(0);
  }

  Map map_;
  const Windows<T>& windows_;
  Taps taps_;
  int depth_left_, k_;
  int i_ = 0, extent_ = 0;
  int64_t base_[Map::kRows];
  int y_[Map::kRows], x_[Map::kRows];
  Pack<T> value_[Map::kLoads];
};

// y[pixels, O] = windows [pixels, taps * C] w[taps * C, O], for each group.
template <class T>
struct ForwardOperands {
  Windows<T> x;
  Taps taps;
  Matrix<T> w;
  int depth = 0;

  bool packs() const { return x.packs && w.packs; }
  MICA_HD int64_t depth_of(int64_t) const { return depth; }
  template <class Tile>
  MICA_DEVICE auto load_a(int64_t group, int first, int64_t begin, int depth_left) const {
    using Map = Along<true, T, Tile::kRows, Tile::kDepth, Tile::kThreads>;
    return WindowLoader<Tile, Map>(x, taps, group, x.pixels, first, to_int(begin), depth_left);
  }
  template <class Tile>
  MICA_DEVICE auto load_b(int64_t group, int first, int64_t begin, int depth_left) const {
    using Map = Along<false, T, Tile::kColumns, Tile::kDepth, Tile::kThreads>;
    return MatrixLoader<Tile, Map>(w, group, first, begin, depth_left);
  }
};

// dw[taps * C, O] = windows' [taps * C, pixels] dy[pixels, O], for each group.
template <class T>
struct FilterGradientOperands {
  static constexpr bool kFindsWindows = true;
  Windows<T> x;
  Taps taps;
  Matrix<T> dy;
  int rows = 0;  // taps * C

  bool packs() const { return x.packs && dy.packs; }
  MICA_HD int64_t depth_of(int64_t) const { return x.pixels; }
  template <class Tile>
  MICA_DEVICE auto load_a(int64_t group, int first, int64_t begin, int depth_left) const {
    using Map = Along<false, T, Tile::kRows, Tile::kDepth, Tile::kThreads>;
    return WindowLoader<Tile, Map>(x, taps, group, rows, first, to_int(begin), depth_left);
  }
  template <class Tile>
  MICA_DEVICE auto load_b(int64_t group, int first, int64_t begin, int depth_left) const {
    using Map = Along<false, T, Tile::kColumns, Tile::kDepth, Tile::kThreads>;
    return MatrixLoader<Tile, Map>(dy, group, first, begin, depth_left);
  }
};

// ---- The gradient of the input ----
//
// Pixel h of x is read by result oh through tap k where h + pad = oh * stride + k * dilation: of a phase, the pixels
// first, first + stride, first + 2 * stride, ..., each has the same taps, k = tap, tap + tap_step, ..., and their
// results lie side by side. So a phase's gradient is the product of windows of dy, whose taps run backwards, and the
// phase's part of the filters; without strides there is one phase.

struct Phase {
  int first = 0;
  int tap = 0, taps = 0;
  int corner = 0;  // the result that reads pixel `first` through `tap`
};

// The phases along one axis.
class PhaseAxis {
 public:
  PhaseAxis() = default;
  PhaseAxis(int64_t size, int64_t window, int64_t stride, int64_t dilation, int64_t pad)
      : size_(to_int(size)), window_(to_int(window)), stride_(to_int(stride)), dilation_(to_int(dilation)),
        pad_(to_int(pad)) {
    common_ = stride_;
    for (int rest = dilation_; rest != 0;) {
      const int next = common_ % rest;
      common_ = rest;
      rest = next;
    }
    const int64_t step = tap_step(), factor = dilation / common_ % step;
    while (inverse_ < step && inverse_ * factor % step != 1 % step) ++inverse_;
  }
  MICA_HD int size() const { return size_; }
  MICA_HD int stride() const { return stride_; }
  MICA_HD int tap_step() const { return stride_ / common_; }
  int result_step() const { return -dilation_ / common_; }  // from tap to tap
  int count() const { return at_most(stride_, size_); }
  int pixels() const { return to_int(ceil_div(size_, stride_)); }  // of a phase, at most
  int most_taps() const { return to_int(ceil_div(window_, tap_step())); }

  MICA_HD Phase phase(int first) const {
    const int at = first + pad_, rest = at % stride_;
    Phase p;
    p.first = first;
    if (rest % common_ != 0) return p;  // no tap ends there
    p.tap = static_cast<int>(int64_t{rest / common_} * inverse_ % tap_step());
    if (p.tap >= window_) return p;
    p.taps = static_cast<int>(ceil_div(window_ - p.tap, tap_step()));
    p.corner = (at - p.tap * dilation_) / stride_;
    return p;
  }

 private:
  int size_ = 0, window_ = 0, stride_ = 1, dilation_ = 1, pad_ = 0;
  int common_ = 1;       // divisor of stride and dilation, the greatest
  int64_t inverse_ = 0;  // of dilation / common_, modulo tap_step()
};

// The phases of images; the batch of products is [groups, phases of h, phases of w].
struct Phases {
  PhaseAxis h, w;
  unsigned count_h = 1, count_w = 1;

  MICA_HD Phase of_h(int64_t batch) const {
    return h.phase(static_cast<int>(static_cast<unsigned>(batch) / count_w % count_h));
  }
  MICA_HD Phase of_w(int64_t batch) const { return w.phase(static_cast<int>(static_cast<unsigned>(batch) % count_w)); }
  MICA_HD int64_t group(int64_t batch) const { return static_cast<unsigned>(batch) / (count_h * count_w); }
};

// Filters w[KH,KW,C,O] transposed, as columns c of depth [taps, o].
template <class T>
struct Filters {
  const T* data = nullptr;
  int extent = 0;  // C of a group
  int64_t row_stride = 0, tap_stride = 0, column_stride = 0, group_stride = 0;
  bool packs = false;
};

template <class Tile, class Map>
class FilterLoader {
  using T = typename Tile::T;

 public:
  MICA_DEVICE FilterLoader(const Filters<T>& filters, FastDivide row, FastDivide channels, int64_t row_step,
                           int64_t tap_step, int64_t start, int first, int begin, int depth)
      : filters_(filters), row_(row), channels_(channels), row_step_(row_step), tap_step_(tap_step) {
    depth_left_ = depth - map_.k;
    k_ = begin + map_.k;
    extent_left_ = filters.extent - first - map_.i;
    base_ = start + (first + map_.i) * filters.column_stride;
  }
  MICA_DEVICE void load() {
    MICA_UNROLL
    for (int n = 0; n < Map::kLoads; ++n) {
      const bool is_there = map_.row(n) < extent_left_;
      value_[n] = {};
      if (Tile::kPacksOnly || filters_.packs) {
        if (is_there && map_.depth(n) < depth_left_)
          value_[n] = *reinterpret_cast<const Pack<T>*>(filters_.data + at(n, 0));
      } else {
        MICA_UNROLL
        for (int e = 0; e < Map::kPack; ++e)
          if (is_there && map_.depth(n) + e < depth_left_) value_[n].v[e] = filters_.data[at(n, e)];
      }
    }
    k_ += Map::kSliceDepth;
    depth_left_ -= Map::kSliceDepth;
  }
  template <class Slice>
  MICA_DEVICE void store(Slice&& slice) const {
    map_.store(value_, slice);
  }

 private:
  MICA_DEVICE int64_t at(int n, int e) const {
    int k = k_ + map_.depth(n) + e;
    const int row = row_.divide(k), tap = channels_.divide(k);
    return base_ + map_.row(n) * filters_.column_stride + row * row_step_ + tap * tap_step_ + k;
  }

  Map map_;
  const Filters<T>& filters_;
  FastDivide row_, channels_;
  int64_t row_step_, tap_step_, base_;
  int depth_left_, extent_left_, k_;
  Pack<T> value_[Map::kLoads];
};

// dx[pixels, C] = windows of dy [pixels, taps * O] w'[taps * O, C], for each group and phase.
template <class T>
struct InputGradientOperands {
  static constexpr bool kFindsWindows = true;
  Windows<T> dy;
  Filters<T> w;
  Phases phases;
  FastDivide most, fewer;  // taps of a row, times O of a group: phases have one of two counts
  int most_taps = 0;
  int group_channels = 0;  // O of a group

  bool packs() const { return dy.packs && w.packs; }
  MICA_HD int64_t depth_of(int64_t batch) const {
    return int64_t{phases.of_h(batch).taps} * phases.of_w(batch).taps * group_channels;
  }
  template <class Tile>
  MICA_DEVICE auto load_a(int64_t batch, int first, int64_t begin, int depth_left) const {
    using Map = Along<true, T, Tile::kRows, Tile::kDepth, Tile::kThreads>;
    return WindowLoader<Tile, Map>(dy, taps(batch), phases.group(batch), dy.pixels, first, to_int(begin), depth_left);
  }
  template <class Tile>
  MICA_DEVICE auto load_b(int64_t batch, int first, int64_t begin, int depth_left) const {
    using Map = Along<true, T, Tile::kColumns, Tile::kDepth, Tile::kThreads>;
    const Phase h = phases.of_h(batch), v = phases.of_w(batch);
    return FilterLoader<Tile, Map>(w, v.taps == most_taps ? most : fewer, dy.channels,
                                   phases.h.tap_step() * w.row_stride, phases.w.tap_step() * w.tap_stride,
                                   h.tap * w.row_stride + v.tap * w.tap_stride + phases.group(batch) * w.group_stride,
                                   first, to_int(begin), depth_left);
  }
  MICA_DEVICE Taps taps(int64_t batch) const {
    const Phase h = phases.of_h(batch), v = phases.of_w(batch);
    return {h.corner, v.corner, v.taps == most_taps ? most : fewer};
  }
};

// The results of a phase lie `stride` pixels apart.
template <class T>
struct PhaseOutput : MatrixOutput<T> {
  Phases phases;
  FastDivide image, line;  // pixels of a phase in an image, in a line
  int64_t image_stride = 0, row_stride = 0, pixel_stride = 0, group_stride = 0;

  MICA_DEVICE int64_t at(int64_t batch, int row) const {
    if (row >= this->rows) return -1;
    int x = row;
    const int64_t n = image.divide(x);
    const int y = line.divide(x);
    const int h = phases.of_h(batch).first + y * phases.h.stride();
    const int w = phases.of_w(batch).first + x * phases.w.stride();
    if (h >= phases.h.size() || w >= phases.w.size()) return -1;
    return phases.group(batch) * group_stride + n * image_stride + h * row_stride + w * pixel_stride;
  }
};

}  // namespace mica::kernels::MICA_CUDA_BACKEND
