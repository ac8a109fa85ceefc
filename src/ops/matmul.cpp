// Matrix products: checks, forward and gradient.
#include "mica/ops/matmul.h"

#include <algorithm>

#include "mica/ops/elementwise.h"
#include "mica/ops/manipulate.h"
#include "ops/product.h"

namespace MICA_EXPORT mica {

using kernels::Write;
using ops::Matrix;
using ops::product;

namespace {

// The leading axes of both broadcast together: the operands are repeated where they differ.
Tensor broadcast_matmul(const Tensor& a, const Tensor& b, MatmulOptions options) {
  const auto leading = [](const Shape& shape) {
    return Shape(std::span(shape.begin(), static_cast<size_t>(shape.rank() - 2)));
  };
  Shape batch = broadcast("matmul", leading(a.shape()), leading(b.shape()));
  const auto wide = [&](const Tensor& x) {
    int64_t sizes[Shape::kMaxRank];
    std::copy(batch.begin(), batch.end(), sizes);
    sizes[batch.rank()] = x.dim(-2);
    sizes[batch.rank() + 1] = x.dim(-1);
    return broadcast_to(x, Shape(std::span<const int64_t>(sizes, static_cast<size_t>(batch.rank() + 2))));
  };
  return matmul(wide(a), wide(b), options);
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b, MatmulOptions options) {
  ops::check_float("matmul", "the first operand", a);
  ops::check_like("matmul", "the second operand", b, a);
  const bool ta = options.transpose_a, tb = options.transpose_b;  // clang 14 lets no lambda capture a binding
  check(a.rank() >= 1 && b.rank() >= 1, "matmul", "operands must have at least one axis: ", a.shape(), " and ",
        b.shape());
  if (a.rank() == 1 || b.rank() == 1) {  // a vector is a row on the left, a column on the right
    check((a.rank() > 1 || !ta) && (b.rank() > 1 || !tb), "matmul", "a vector cannot be transposed: ", a.shape(),
          " and ", b.shape());
    const Tensor row = a.rank() == 1 ? expand_dims(a, 0) : a, column = b.rank() == 1 ? expand_dims(b, 1) : b;
    const Tensor y = matmul(row, column, options);
    const Tensor flat = b.rank() == 1 ? squeeze(y, -1) : y;
    return a.rank() == 1 ? squeeze(flat, b.rank() == 1 ? -1 : -2) : flat;
  }
  const int64_t m = a.dim(ta ? -1 : -2), k = a.dim(ta ? -2 : -1);
  const int64_t kb = b.dim(tb ? -1 : -2), n = b.dim(tb ? -2 : -1);
  check(k == kb, "matmul", "inner sizes must match: ", a.shape(), ta ? " transposed" : "", " and ", b.shape(),
        tb ? " transposed" : "");
  int64_t batch = 1;
  for (int i = 0; i < a.rank() - 2; ++i) batch *= a.dim(i);
  const bool shared = b.rank() == 2;  // one b for every a
  bool same = a.rank() == b.rank();
  for (int i = 0; same && i < a.rank() - 2; ++i) same = a.dim(i) == b.dim(i);
  if (!shared && !same) return broadcast_matmul(a, b, options);

  Shape shape = a.shape();
  shape[-2] = m;
  shape[-1] = n;
  Tensor c = empty(shape, {a.dtype(), a.device()});
  const int64_t b_stride = shared ? 0 : k * n;
  // With one b and plain rows, all the products are one.
  const bool flat = shared && !ta;
  const int64_t products = flat ? 1 : batch, a_rows = flat ? batch * m : a.dim(-2);
  product(products, {a, a_rows, a.dim(-1), ta}, m * k, {b, b.dim(-2), b.dim(-1), tb}, b_stride, c, Write::overwrite);

  if (Tape* tape = Tape::recording(a, b))
    tape->record("matmul", {&a, &b}, {&c}, {&a, &b}, [=](Gradients& g) {
      const Tensor &x = g.saved(0), &w = g.saved(1), &dy = g.dy();
      const int64_t dy_rows = flat ? batch * m : m;
      const Matrix W{w, w.dim(-2), w.dim(-1), !tb}, DY{dy, dy_rows, n, false};
      if (g.needs(0)) {
        Gradients::Out da = g.out(0);
        if (ta)  // a is [K, M]: op(b) dy^T
          product(batch, {w, w.dim(-2), w.dim(-1), tb}, b_stride, {dy, m, n, true}, m * n, da.tensor, ops::write(da));
        else
          product(products, DY, m * n, W, b_stride, da.tensor, ops::write(da));
      }
      if (!g.needs(1)) return;
      Gradients::Out db = g.out(1);
      const Matrix A{x, a_rows, x.dim(-1), !ta};
      const auto one = [&](Tensor& target, Write write) {
        if (tb)  // b is [N, K]: dy^T op(a)
          product(products, {dy, dy_rows, n, true}, m * n, {x, a_rows, x.dim(-1), ta}, m * k, target, write);
        else
          product(products, A, m * k, DY, m * n, target, write);
      };
      if (flat || !shared || batch == 1) {
        one(db.tensor, ops::write(db));
      } else {  // one b and transposed a's: the products' gradients add up
        Tensor each = empty(w.shape().with_first(batch), {w.dtype(), w.device()});
        one(each, Write::overwrite);
        Context ctx = context(w.device());
        kernels_for(w.device())
            .reduce_sum(ctx, {.dtype = w.dtype(), .outer = 1, .n = batch, .inner = w.elements()}, 1.0, each.raw(),
                        ops::out(db.tensor), ops::write(db));
      }
    });
  return c;
}

Tensor dense(const Tensor& x, const Tensor& w, const Tensor& bias, UnaryOp activation) {
  ops::check_float("dense", "the input", x);
  ops::check_like("dense", "the kernel", w, x);
  check(w.rank() == 2, "dense", "the kernel must have 2 axes, got ", w.shape());
  check(x.rank() >= 1 && x.dim(-1) == w.dim(0), "dense", "the input's last axis must match the kernel's first: input ",
        x.shape(), ", kernel ", w.shape());
  if (bias.defined()) {
    ops::check_like("dense", "the bias", bias, x);
    check(bias.shape() == Shape{w.dim(1)}, "dense", "the bias must have one value for each of the kernel's ", w.dim(1),
          " columns, got ", bias.shape());
  }
  if (!ops::fuses(activation)) return detail::unary(activation, dense(x, w, bias));
  const int64_t k = w.dim(0), n = w.dim(1);
  const int64_t rows = x.rank() == 1 ? 1 : x.shape().elements() / std::max<int64_t>(k, 1);
  Shape shape = x.shape();
  shape[-1] = n;
  const int64_t m = k > 0 ? rows : shape.elements() / std::max<int64_t>(n, 1);
  Tensor y = empty(shape, {x.dtype(), x.device()});
  product(1, {x, m, k, false}, 0, {w, k, n, false}, 0, y, Write::overwrite, bias.raw(), activation);
  if (Tape* tape = Tape::recording(x, w, bias))
    tape->record("dense", {&x, &w, &bias}, {&y}, {&x, &w, activation == UnaryOp::identity ? &w : &y},
                 [=](Gradients& g) {
                   const Tensor dz = ops::activation_gradient(g, activation, g.saved(2), 2);
                   if (g.needs(0)) {
                     Gradients::Out dx = g.out(0);
                     product(1, {dz, m, n, false}, 0, {g.saved(1), k, n, true}, 0, dx.tensor, ops::write(dx));
                   }
                   if (g.needs(1)) {
                     Gradients::Out dw = g.out(1);
                     product(1, {g.saved(0), m, k, true}, 0, {dz, m, n, false}, 0, dw.tensor, ops::write(dw));
                   }
                 });
  return y;
}

}  // namespace mica
