// Augmentation: checks, forward and gradient. Each op is its own gradient, with the images' places turned round.
#include "mica/ops/augment.h"

#include <utility>

#include "ops/common.h"

namespace MICA_EXPORT mica {

namespace {

void check_images(const char* op, const Tensor& x) {
  check(x.defined(), op, "the input is undefined");
  check(x.rank() == 4, op, "the input must be images [N,H,W,C], got ", x.shape());
}

// `values` (named `what`) must be one for each image.
void check_each(const char* op, const char* what, const Tensor& values, DType dtype, const Tensor& x) {
  check(values.defined(), op, what, " are undefined");
  check(values.dtype() == dtype && values.shape() == Shape{x.dim(0)}, op, what, " must be ", dtype, " ",
        Shape{x.dim(0)}, ", one for each image, got ", values.dtype(), " ", values.shape());
  check(values.device() == x.device(), op, what, " must be on ", x.device());
}

kernels::CropArgs crop_args(const Tensor& x, Size2 size) {
  return {.dtype = x.dtype(), .n = x.dim(0), .h = x.dim(1), .w = x.dim(2), .c = x.dim(3), .oh = size.h, .ow = size.w};
}

const int64_t* places(const Tensor& x) { return static_cast<const int64_t*>(x.raw()); }
const uint8_t* switches(const Tensor& x) { return x.defined() ? static_cast<const uint8_t*>(x.raw()) : nullptr; }

}  // namespace

Tensor crop2d(const Tensor& x, const Tensor& rows, const Tensor& columns, Size2 size) {
  check_images("crop2d", x);
  check_each("crop2d", "rows", rows, int64, x);
  check_each("crop2d", "columns", columns, int64, x);
  check(size.h >= 0 && size.w >= 0, "crop2d", "sizes must not be negative, got ", size.h, " and ", size.w);
  const Shape shape{x.dim(0), size.h, size.w, x.dim(3)};
  ops::check_size("crop2d", shape);
  const kernels::CropArgs args = crop_args(x, size);
  Tensor y = empty(shape, {x.dtype(), x.device()});
  Context ctx = context(x.device());
  kernels_for(x.device()).crop2d(ctx, args, places(rows), places(columns), x.raw(), ops::out(y));
  if (Tape* tape = is_floating(x.dtype()) ? Tape::recording(x) : nullptr)
    tape->record("crop2d", {&x}, {&y}, {&rows, &columns}, [args](Gradients& g) {
      // dx is the window of dy that begins at minus the corner, of x's size.
      kernels::CropArgs back = args;
      std::swap(back.h, back.oh);
      std::swap(back.w, back.ow);
      back.sign = -1;
      Tensor dx = empty({args.n, args.h, args.w, args.c}, {args.dtype, g.dy().device()});
      Context c = context(dx.device());
      kernels_for(dx.device()).crop2d(c, back, places(g.saved(0)), places(g.saved(1)), g.dy().raw(), ops::out(dx));
      g.add(0, dx);
    });
  return y;
}

Tensor flip2d(const Tensor& x, const Tensor& vertical, const Tensor& horizontal) {
  check_images("flip2d", x);
  if (vertical.defined()) check_each("flip2d", "vertical", vertical, uint8, x);
  if (horizontal.defined()) check_each("flip2d", "horizontal", horizontal, uint8, x);
  const kernels::CropArgs args = crop_args(x, {x.dim(1), x.dim(2)});
  Tensor y = empty_like(x);
  Context ctx = context(x.device());
  kernels_for(x.device()).flip2d(ctx, args, switches(vertical), switches(horizontal), x.raw(), ops::out(y));
  if (Tape* tape = is_floating(x.dtype()) ? Tape::recording(x) : nullptr)
    tape->record("flip2d", {&x}, {&y}, {&vertical, &horizontal}, [args](Gradients& g) {
      Tensor dx = empty_like(g.dy());
      Context c = context(dx.device());
      kernels_for(dx.device()).flip2d(c, args, switches(g.saved(0)), switches(g.saved(1)), g.dy().raw(), ops::out(dx));
      g.add(0, dx);
    });
  return y;
}

}  // namespace mica
