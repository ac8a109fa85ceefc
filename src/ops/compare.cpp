// Comparisons, logic and selection: checks, forward and gradient.
#include "mica/ops/compare.h"

#include <cmath>
#include <limits>

#include "mica/ops/manipulate.h"
#include "ops/common.h"

namespace MICA_EXPORT mica {

namespace detail {

Tensor compare(CompareOp op, const Tensor& a, const Tensor& b) {
#define MICA_NAME(function, Functor) #function,
  static constexpr const char* names[] = {MICA_COMPARE_OPS(MICA_NAME)};
#undef MICA_NAME
  const char* name = names[static_cast<int>(op)];
  check(a.defined(), name, "the first operand is undefined");
  ops::check_like(name, "the second operand", b, a);
  check(a.dtype() != bfloat16, name, "not defined for ", a.dtype());
  const Shape shape = broadcast(name, a.shape(), b.shape());
  Tensor y = empty(shape, {uint8, a.device()});
  Context ctx = context(a.device());
  kernels_for(a.device())
      .compare(ctx, op, a.dtype(), ops::broadcast_dims(shape, a.shape(), b.shape()), a.raw(), b.raw(),
               static_cast<uint8_t*>(ops::out(y)));
  return y;
}

}  // namespace detail

namespace {

// |x| compared with infinity; integers are finite.
Tensor magnitude(const char* op, const Tensor& x, Tensor (*test)(const Tensor&, double), bool of_integers) {
  ops::check_number(op, x);
  if (!is_floating(x.dtype())) return full(x.shape(), of_integers, {uint8, x.device()});
  return test(abs(x.detach()), std::numeric_limits<double>::infinity());
}

}  // namespace

Tensor isfinite(const Tensor& x) { return magnitude("isfinite", x, less, true); }
Tensor isinf(const Tensor& x) { return magnitude("isinf", x, equal, false); }

Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  check(condition.defined() && condition.dtype() == uint8, "where",
        "the condition must be uint8, as comparisons give, got ", condition.dtype());
  check(a.defined(), "where", "the first choice is undefined");
  ops::check_like("where", "the second choice", b, a);
  check(condition.device() == a.device(), "where", "devices must match: ", condition.device(), " and ", a.device());
  const Shape shape = broadcast("where", condition.shape(), broadcast("where", a.shape(), b.shape()));
  const Tensor mask = broadcast_to(condition, shape);
  Tensor y = empty(shape, {a.dtype(), a.device()});
  Context ctx = context(a.device());
  kernels_for(a.device())
      .select(ctx, a.dtype(), ops::broadcast_dims(shape, a.shape(), b.shape()), static_cast<const uint8_t*>(mask.raw()),
              a.raw(), b.raw(), ops::out(y));
  if (Tape* tape = is_floating(a.dtype()) ? Tape::recording(a, b) : nullptr)
    tape->record("where", {&a, &b}, {&y}, {&mask}, [a_shape = a.shape(), b_shape = b.shape()](Gradients& g) {
      const Tensor nothing = zeros({}, {g.dy().dtype(), g.dy().device()});
      if (g.needs(0)) g.add(0, ops::sum_to(where(g.saved(0), g.dy(), nothing), a_shape));
      if (g.needs(1)) g.add(1, ops::sum_to(where(g.saved(0), nothing, g.dy()), b_shape));
    });
  return y;
}

Tensor clip(const Tensor& x, double low, double high) {
  ops::check_float("clip", "the input", x);
  check(low <= high, "clip", "the bounds must be in order, got ", low, " and ", high);
  Tensor y = minimum(maximum(x.detach(), low), high);
  if (Tape* tape = Tape::recording(x))
    tape->record("clip", {&x}, {&y}, {&x}, [low, high](Gradients& g) {
      const Tensor& v = g.saved(0);
      g.add(0, where(logical_and(greater(v, low), less(v, high)), g.dy(), 0));
    });
  return y;
}

}  // namespace mica
