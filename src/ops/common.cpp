// What the ops share.
#include "ops/common.h"

#include <cmath>

namespace mica::ops {

kernels::StridedDims strided_dims(const Shape& shape, const int64_t* a_strides, const int64_t* b_strides) {
  kernels::StridedDims dims;
  for (int i = 0; i < shape.rank(); ++i) {
    const int64_t size = shape[i], a = a_strides[i], b = b_strides[i];
    if (size == 1) continue;
    const int last = dims.rank - 1;
    if (last >= 0 && dims.a_stride[last] == a * size && dims.b_stride[last] == b * size) {
      dims.size[last] *= size;
      dims.a_stride[last] = a;
      dims.b_stride[last] = b;
      continue;
    }
    dims.size[dims.rank] = size;
    dims.a_stride[dims.rank] = a;
    dims.b_stride[dims.rank] = b;
    ++dims.rank;
  }
  if (dims.rank == 0) return {.rank = 1, .size = {1}, .a_stride = {1}, .b_stride = {1}};
  return dims;
}

kernels::StridedDims broadcast_dims(const Shape& shape, const Shape& a, const Shape& b) {
  int64_t a_strides[Shape::kMaxRank] = {}, b_strides[Shape::kMaxRank] = {};
  const auto fill = [&](const Shape& from, int64_t* strides) {
    const Strides own(from);
    for (int i = 1; i <= from.rank(); ++i) strides[shape.rank() - i] = from[-i] == 1 ? 0 : own.of[from.rank() - i];
  };
  fill(a, a_strides);
  fill(b, b_strides);
  return strided_dims(shape, a_strides, b_strides);
}

Tensor activation_gradient(Gradients& g, UnaryOp op, const Tensor& y, int bias) {
  if (op == UnaryOp::identity) {
    if (g.needs(bias)) bias_gradient(g, bias, g.dy());
    return g.dy();
  }
  constexpr int64_t kColumns = 16;  // below, a pass for each of the two is faster
  const Tensor& dy = g.dy();
  const int64_t n = dy.dim(-1);
  Tensor dz = g.in_place_of_dy();
  Context ctx = context(dy.device());
  const kernels::Table& k = kernels_for(dy.device());
  if (!g.needs(bias) || n < kColumns) {
    k.unary_gradient(ctx, op, dy.dtype(), dy.elements(), y.raw(), dy.raw(), out(dz), kernels::Write::overwrite);
    if (g.needs(bias)) bias_gradient(g, bias, dz);
    return dz;
  }
  Gradients::Out db = g.out(bias);
  k.activation_gradient(ctx, op, dy.dtype(), n ? dy.elements() / n : 0, n, y.raw(), dy.raw(), out(dz), out(db.tensor),
                        write(db));
  return dz;
}

void bias_gradient(Gradients& g, int input, const Tensor& dy) {
  Gradients::Out db = g.out(input);
  const int64_t n = dy.dim(-1);
  Context ctx = context(dy.device());
  kernels_for(dy.device())
      .reduce_sum(ctx, {.dtype = dy.dtype(), .outer = 1, .n = n ? dy.elements() / n : 0, .inner = n}, 1.0, dy.raw(),
                  out(db.tensor), write(db));
}

bool holds(DType dtype, double value) {
  switch (dtype) {
    case DType::float32:
    case DType::float64:
    case DType::bfloat16: return true;
    case DType::int32: return value == std::trunc(value) && value >= -0x1p31 && value < 0x1p31;
    case DType::int64: return value == std::trunc(value) && value >= -0x1p63 && value < 0x1p63;
    case DType::uint8: return value == std::trunc(value) && value >= 0 && value < 256;
  }
  return false;
}

void check_size(const char* op, const Shape& shape) {
  int64_t elements = 1;
  for (const int64_t size : shape)
    check(size == 0 || (!__builtin_mul_overflow(elements, size, &elements) && elements < (int64_t{1} << 46)), op,
          "too many elements: ", shape);
}

void check_number(const char* op, const Tensor& x) {
  check(x.defined(), op, "the input is undefined");
  check(x.dtype() != bfloat16, op, "not defined for ", x.dtype());
}

int checked_axis(const char* op, const Shape& shape, int axis) {
  check(axis >= -shape.rank() && axis < shape.rank(), op, "axis ", axis, " is out of range for shape ", shape);
  return axis < 0 ? axis + shape.rank() : axis;
}

Shape with_size(Shape shape, int axis, int64_t size) {
  shape[axis] = size;
  return shape;
}

Shape without_axis(const Shape& shape, int axis) {
  int64_t sizes[Shape::kMaxRank];
  size_t rank = 0;
  for (int i = 0; i < shape.rank(); ++i)
    if (i != axis) sizes[rank++] = shape[i];
  return Shape(std::span<const int64_t>(sizes, rank));
}

Shape with_axis(const char* op, const Shape& shape, int axis, int64_t size) {
  check(axis >= -shape.rank() - 1 && axis <= shape.rank(), op, "there is no place ", axis, " for an axis in shape ",
        shape);
  check(shape.rank() < Shape::kMaxRank, op, "a tensor has at most 8 axes: ", shape);
  const int place = axis < 0 ? axis + shape.rank() + 1 : axis;
  Shape wider = shape.with_first(size);
  for (int i = 0; i < place; ++i) std::swap(wider[i], wider[i + 1]);
  return wider;
}

namespace {

// Integers as int64; each must be in [low, high).
Tensor checked_integers(const char* op, const char* what, const char* plural, const Tensor& x, int64_t low,
                        int64_t high, bool& negative) {
  check(x.defined() && !is_floating(x.dtype()), op, plural, " must be integers, got ", x.dtype());
  const Tensor wide = x.to(Device::cpu()).to(int64);
  const int64_t* values = wide.data<int64_t>();
  int64_t outside = 0, below = 0;  // counted without a branch, looked for afterwards
  for (int64_t i = 0; i < wide.elements(); ++i) {
    outside += values[i] < low || values[i] >= high;
    below += values[i] < 0;
  }
  for (int64_t i = 0; outside > 0 && i < wide.elements(); ++i)
    check(values[i] >= low && values[i] < high, op, what, " ", values[i], " at position ", i, " is outside of ", low,
          "..", high - 1);
  negative = below > 0;
  return wide;
}

}  // namespace

Tensor checked_indices(const char* op, const Tensor& indices, int64_t n) {
  bool negative = false;
  Tensor wide = checked_integers(op, "index", "indices", indices, -n, n, negative);
  if (negative) {
    Tensor wrapped = empty_like(wide);
    auto* to = static_cast<int64_t*>(out(wrapped));
    const int64_t* from = wide.data<int64_t>();
    for (int64_t i = 0; i < wide.elements(); ++i) to[i] = from[i] < 0 ? from[i] + n : from[i];
    wide = wrapped;
  }
  return wide.to(indices.device());
}

Tensor checked_labels(const char* op, const Tensor& labels, int64_t classes) {
  bool negative = false;
  return checked_integers(op, "label", "labels", labels, 0, classes, negative).to(labels.device());
}

Tensor checked_tokens(const char* op, const Tensor& tokens, int64_t count) {
  bool negative = false;
  return checked_integers(op, "token", "tokens", tokens, 0, count, negative).to(tokens.device());
}

}  // namespace mica::ops
