// Functions of each element: checks, forward and gradient.
#include "mica/ops/elementwise.h"

#include <cmath>

#include "mica/ops/reduce.h"
#include "ops/common.h"

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
  check(is_floating(a.dtype()) || of_integers(op), name, "not defined for ", a.dtype());
  const Shape shape = broadcast(name, a.shape(), b.shape());
  const kernels::StridedDims dims = ops::broadcast_dims(shape, a.shape(), b.shape());
  Tensor y = empty(shape, {a.dtype(), a.device()});
  Context ctx = context(a.device());
  kernels_for(a.device()).binary(ctx, op, a.dtype(), dims, a.raw(), b.raw(), ops::out(y));
  if (Tape* tape = is_floating(a.dtype()) ? Tape::recording(a, b) : nullptr) {
    if (op == BinaryOp::add || op == BinaryOp::subtract) {
      tape->record(name, {&a, &b}, {&y}, {}, [op, a_shape = a.shape(), b_shape = b.shape()](Gradients& g) {
        if (g.needs(0)) g.add(0, ops::sum_to(g.dy(), a_shape));
        if (g.needs(1)) g.add(1, ops::sum_to(op == BinaryOp::add ? g.dy() : negative(g.dy()), b_shape));
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
          g.add(i, ops::sum_to(dx, g.saved(i).shape()));
        }
      });
    }
  }
  return y;
}

Tensor scalar_like(double value, const Tensor& x) {
  check(ops::holds(x.dtype(), value), "scalar", "a tensor of ", x.dtype(), " and ", value,
        " do not mix: convert the tensor with .to(float32) first");
  return full({}, value, {x.dtype(), x.device()});
}

}  // namespace detail
}  // namespace mica
