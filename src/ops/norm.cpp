// Normalization: checks, forward and gradient.
#include "mica/ops/norm.h"

#include <cmath>

#include "mica/ops/elementwise.h"
#include "ops/common.h"

namespace MICA_EXPORT mica {

namespace {

// gamma and the like are [n], n the size of x's last axis.
void check_each(const char* op, const char* what, const Tensor& parameter, const Tensor& x) {
  ops::check_like(op, what, parameter, x);
  check(parameter.shape() == Shape{x.dim(-1)}, op, what, " must have one value for each of the last axis' ", x.dim(-1),
        ", got ", parameter.shape());
}

void check_norm(const char* op, const Tensor& x, const Tensor& gamma, const Tensor& beta, double epsilon) {
  ops::check_float(op, "the input", x);
  check(x.rank() >= 1, op, "the input must have an axis to normalize, shape ", x.shape());
  if (gamma.defined()) check_each(op, "gamma", gamma, x);
  if (beta.defined()) check_each(op, "beta", beta, x);
  check(std::isfinite(epsilon) && epsilon >= 0, op, "epsilon must be finite and not negative, got ", epsilon);
}

int64_t rows_of(const Tensor& x) {
  int64_t rows = 1;
  for (int i = 0; i < x.rank() - 1; ++i) rows *= x.dim(i);
  return rows;
}

// Where the gradient of input `i` goes: there, or, as these kernels only overwrite, to a tensor that is added after.
class Target {
 public:
  Target(Gradients& g, int i, const Shape& shape, const Tensor& like) : g_(g), i_(i) {
    if (g.needs(i)) x_ = empty(shape, {like.dtype(), like.device()});
  }
  void* data() { return x_.defined() ? ops::out(x_) : nullptr; }
  void add() {
    if (x_.defined()) g_.add(i_, std::move(x_));
  }

 private:
  Gradients& g_;
  int i_;
  Tensor x_;
};

// y, recorded with gradients of x, gamma and beta; `inverse` is 1 / sqrt(variance + epsilon).
Tensor normalized(const Tensor& x, const Tensor& mean, const Tensor& inverse, const Tensor& gamma, const Tensor& beta,
                  bool of_batch) {
  const int64_t n = x.dim(-1), rows = rows_of(x);
  Tensor y = empty_like(x);
  Context ctx = context(x.device());
  kernels_for(x.device())
      .batch_norm(ctx, x.dtype(), rows, n, x.raw(), mean.raw(), inverse.raw(), gamma.raw(), beta.raw(), ops::out(y));
  if (Tape* tape = Tape::recording(x, gamma, beta)) {
    const Tensor& scale = gamma.defined() ? gamma : mean;  // the record saves no undefined tensor
    tape->record("batch_norm", {&x, &gamma, &beta}, {&y}, {&x, &mean, &inverse, &scale},
                 [=, scaled = gamma.defined()](Gradients& g) {
                   const Tensor& in = g.saved(0);
                   Target dx(g, 0, in.shape(), in), dgamma(g, 1, {n}, in), dbeta(g, 2, {n}, in);
                   Context c = context(in.device());
                   kernels_for(in.device())
                       .batch_norm_gradient(c, in.dtype(), rows, n, of_batch, in.raw(), g.saved(1).raw(),
                                            g.saved(2).raw(), scaled ? g.saved(3).raw() : nullptr, g.dy().raw(),
                                            dx.data(), dgamma.data(), dbeta.data());
                   for (Target* each : {&dx, &dgamma, &dbeta}) each->add();
                 });
  }
  return y;
}

}  // namespace

BatchNormResult batch_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double epsilon) {
  check_norm("batch_norm", x, gamma, beta, epsilon);
  const int64_t n = x.dim(-1), rows = rows_of(x);
  Tensor mean = empty({n}, {x.dtype(), x.device()}), variance = empty_like(mean);
  Context ctx = context(x.device());
  kernels_for(x.device()).column_moments(ctx, x.dtype(), rows, n, x.raw(), ops::out(mean), ops::out(variance));
  return {normalized(x, mean, rsqrt(variance + epsilon), gamma, beta, true), mean, variance};
}

Tensor batch_norm_inference(const Tensor& x, const Tensor& mean, const Tensor& variance, const Tensor& gamma,
                            const Tensor& beta, double epsilon) {
  check_norm("batch_norm_inference", x, gamma, beta, epsilon);
  check_each("batch_norm_inference", "the mean", mean, x);
  check_each("batch_norm_inference", "the variance", variance, x);
  return normalized(x, mean.detach(), rsqrt(variance.detach() + epsilon), gamma, beta, false);
}

Tensor layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double epsilon) {
  check_norm("layer_norm", x, gamma, beta, epsilon);
  const int64_t n = x.dim(-1), rows = rows_of(x);
  Tensor y = empty_like(x), mean = empty({rows}, {x.dtype(), x.device()}), inverse = empty_like(mean);
  Context ctx = context(x.device());
  kernels_for(x.device())
      .layer_norm(ctx, x.dtype(), rows, n, epsilon, x.raw(), gamma.raw(), beta.raw(), ops::out(y), ops::out(mean),
                  ops::out(inverse));
  if (Tape* tape = Tape::recording(x, gamma, beta)) {
    const Tensor& scale = gamma.defined() ? gamma : mean;
    tape->record("layer_norm", {&x, &gamma, &beta}, {&y}, {&x, &mean, &inverse, &scale},
                 [=, scaled = gamma.defined()](Gradients& g) {
                   const Tensor& in = g.saved(0);
                   Target dx(g, 0, in.shape(), in), dgamma(g, 1, {n}, in), dbeta(g, 2, {n}, in);
                   Context c = context(in.device());
                   kernels_for(in.device())
                       .layer_norm_gradient(c, in.dtype(), rows, n, in.raw(), g.saved(1).raw(), g.saved(2).raw(),
                                            scaled ? g.saved(3).raw() : nullptr, g.dy().raw(), dx.data(), dgamma.data(),
                                            dbeta.data());
                   for (Target* each : {&dx, &dgamma, &dbeta}) each->add();
                 });
  }
  return y;
}

}  // namespace mica
