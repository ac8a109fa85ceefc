// Functions of each element: checks, forward and gradient.
#include "mica/ops/elementwise.h"

#include <cmath>

#include "mica/ops/reduce.h"
#include "ops/common.h"

namespace mica::ops {

kernels::BroadcastDims broadcast_dims(const Shape& shape, const Shape& a, const Shape& b) {
  kernels::BroadcastDims dims;
  int64_t a_run = 1, b_run = 1;  // elements of each operand inside of the axes seen so far
  // From the innermost axis outwards, into reversed order.
  for (int i = 1; i <= shape.rank(); ++i) {
    const int64_t size = shape[-i];
    if (size == 1) continue;
    const bool a_has = i <= a.rank() && a[-i] != 1, b_has = i <= b.rank() && b[-i] != 1;
    const int64_t a_stride = a_has ? a_run : 0, b_stride = b_has ? b_run : 0;
    const int last = dims.rank - 1;
    const bool merges = last >= 0 && a_stride == dims.a_stride[last] * dims.size[last] &&
                        b_stride == dims.b_stride[last] * dims.size[last];
    if (merges) {
      dims.size[last] *= size;
    } else {
      dims.size[dims.rank] = size;
      dims.a_stride[dims.rank] = a_stride;
      dims.b_stride[dims.rank] = b_stride;
      ++dims.rank;
    }
    if (a_has) a_run *= size;
    if (b_has) b_run *= size;
  }
  if (dims.rank == 0) dims = {.rank = 1, .size = {1}, .a_stride = {1}, .b_stride = {1}};
  for (int i = 0, j = dims.rank - 1; i < j; ++i, --j) {
    std::swap(dims.size[i], dims.size[j]);
    std::swap(dims.a_stride[i], dims.a_stride[j]);
    std::swap(dims.b_stride[i], dims.b_stride[j]);
  }
  return dims;
}

Tensor activation_gradient(UnaryOp op, const Tensor& y, const Tensor& dy) {
  if (op == UnaryOp::identity) return dy;
  Tensor dz = empty_like(dy);
  Context ctx = context(dy.device());
  kernels_for(dy.device())
      .unary_gradient(ctx, op, dy.dtype(), dy.elements(), y.raw(), dy.raw(), out(dz), kernels::Write::overwrite);
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

}  // namespace mica::ops

namespace MICA_EXPORT mica {

namespace {

const char* name_of(UnaryOp op) {
#define MICA_NAME(function, Functor) #function,
  static constexpr const char* names[] = {MICA_UNARY_OPS(MICA_NAME)};
  return names[static_cast<int>(op)];
}

const char* name_of(BinaryOp op) {
  static constexpr const char* names[] = {MICA_BINARY_OPS(MICA_NAME)};
#undef MICA_NAME
  return names[static_cast<int>(op)];
}

scalar::Saves saves(UnaryOp op) {
#define MICA_SAVES(function, Functor) scalar::Functor::saves,
  static constexpr scalar::Saves all[] = {MICA_UNARY_OPS(MICA_SAVES)};
#undef MICA_SAVES
  return all[static_cast<int>(op)];
}

}  // namespace

namespace detail {

Tensor unary(UnaryOp op, const Tensor& x) {
  const char* name = name_of(op);
  ops::check_float(name, "the input", x);
  Tensor y = empty_like(x);
  Context ctx = context(x.device());
  kernels_for(x.device()).unary(ctx, op, x.dtype(), x.elements(), x.raw(), ops::out(y));
  if (Tape* tape = Tape::recording(x)) {
    const auto gradient = [op](Gradients& g) {
      Gradients::Out dx = g.out(0);
      Context c = context(g.dy().device());
      kernels_for(g.dy().device())
          .unary_gradient(c, op, g.dy().dtype(), g.dy().elements(), g.saved(0).raw(), g.dy().raw(), ops::out(dx.tensor),
                          ops::write(dx));
    };
    if (op == UnaryOp::sigmoid)  // binary cross-entropy reads the logits from the record
      tape->record(ops::kSigmoid, {&x}, {&y}, {&y, &x}, gradient);
    else
      tape->record(name, {&x}, {&y}, {saves(op) == scalar::Saves::input ? &x : &y}, gradient);
  }
  return y;
}

Tensor binary(BinaryOp op, const Tensor& a, const Tensor& b) {
  const char* name = name_of(op);
  check(a.defined(), name, "the first operand is undefined");
  ops::check_like(name, "the second operand", b, a);
  check(a.dtype() != uint8 && a.dtype() != bfloat16, name, "not defined for ", a.dtype());
  const Shape shape = broadcast(name, a.shape(), b.shape());
  const kernels::BroadcastDims dims = ops::broadcast_dims(shape, a.shape(), b.shape());
  Tensor y = empty(shape, {a.dtype(), a.device()});
  Context ctx = context(a.device());
  kernels_for(a.device()).binary(ctx, op, a.dtype(), dims, a.raw(), b.raw(), ops::out(y));
  if (Tape* tape = is_floating(a.dtype()) ? Tape::recording(a, b) : nullptr) {
    if (op == BinaryOp::add || op == BinaryOp::subtract) {
      tape->record(name, {&a, &b}, {&y}, {}, [op, a_shape = a.shape(), b_shape = b.shape()](Gradients& g) {
        if (g.needs(0)) g.add(0, sum_to(g.dy(), a_shape));
        if (g.needs(1)) g.add(1, sum_to(op == BinaryOp::add ? g.dy() : negative(g.dy()), b_shape));
      });
    } else {
      tape->record(name, {&a, &b}, {&y}, {&a, &b}, [op, dims](Gradients& g) {
        Context c = context(g.dy().device());
        for (int i = 0; i < 2; ++i) {
          if (!g.needs(i)) continue;
          Tensor dx = empty_like(g.dy());
          kernels_for(dx.device())
              .binary_gradient(c, op, i, dx.dtype(), dims, g.saved(0).raw(), g.saved(1).raw(), g.dy().raw(),
                               ops::out(dx));
          g.add(i, sum_to(dx, g.saved(i).shape()));
        }
      });
    }
  }
  return y;
}

Tensor scalar_like(double value, const Tensor& x) {
  check(is_floating(x.dtype()) || value == std::trunc(value), "scalar", "a tensor of ", x.dtype(), " and ", value,
        " do not mix: convert the tensor with .to(float32) first");
  return full({}, value, {x.dtype(), x.device()});
}

}  // namespace detail
}  // namespace mica
