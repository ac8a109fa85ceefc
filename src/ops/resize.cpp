// Resizing: made of gathers and products, from which its gradient comes by itself.
#include "mica/ops/resize.h"

#include <algorithm>
#include <cmath>

#include "mica/ops/elementwise.h"
#include "mica/ops/index.h"
#include "ops/common.h"

namespace MICA_EXPORT mica {

namespace {

// Where the centre of each of `to` pixels lies among `from`, in pixels' centres.
double centre(int64_t i, int64_t from, int64_t to) {
  return (static_cast<double>(i) + 0.5) * static_cast<double>(from) / static_cast<double>(to) - 0.5;
}

Tensor nearest(const Tensor& x, int axis, int64_t to) {
  const int64_t from = x.dim(axis);
  Tensor index = empty({to}, {int64, Device::cpu()});
  for (int64_t i = 0; i < to; ++i)  // exact: floor((i + 1/2) * from / to)
    index.mutable_data<int64_t>()[i] = std::min(from - 1, (2 * i + 1) * from / (2 * to));
  return take(x, index.to(x.device()), axis);
}

Tensor linear(const Tensor& x, int axis, int64_t to) {
  const int64_t from = x.dim(axis);
  const Shape along = ops::with_size({1, 1, 1, 1}, axis, to);  // `to` at the axis, 1 elsewhere
  const TensorOptions integers{int64, Device::cpu()};
  Tensor low = empty({to}, integers), high = empty({to}, integers), weight = empty({to}, {float64, Device::cpu()});
  for (int64_t i = 0; i < to; ++i) {
    const double at = std::max(0.0, centre(i, from, to)), floor = std::floor(at);
    low.mutable_data<int64_t>()[i] = static_cast<int64_t>(floor);
    high.mutable_data<int64_t>()[i] = std::min(from - 1, static_cast<int64_t>(floor) + 1);
    weight.mutable_data<double>()[i] = at - floor;
  }
  const Tensor w = weight.to(x.dtype()).to(x.device()).reshape(along);
  return take(x, low.to(x.device()), axis) * (1 - w) + take(x, high.to(x.device()), axis) * w;
}

}  // namespace

Tensor resize2d(const Tensor& x, Size2 size, Interpolation interpolation) {
  ops::check_float("resize2d", "the input", x);
  check(x.rank() == 4, "resize2d", "the input must be images [N,H,W,C], got ", x.shape());
  constexpr int64_t kMost = int64_t{1} << 30;
  check(size.h >= 1 && size.w >= 1 && size.h < kMost && size.w < kMost, "resize2d",
        "sizes must be at least 1 and not huge, got ", size.h, " and ", size.w);
  check(x.dim(1) >= 1 && x.dim(2) >= 1, "resize2d", "the images have no pixels: ", x.shape());
  ops::check_size("resize2d", {x.dim(0), size.h, size.w, x.dim(3)});
  const auto along = interpolation == Interpolation::nearest ? nearest : linear;
  Tensor y = x;
  if (size.h != x.dim(1)) y = along(y, 1, size.h);
  if (size.w != x.dim(2)) y = along(y, 2, size.w);
  return y.shares_storage_with(x) ? y.clone() : y;
}

}  // namespace mica
