// gradcheck itself: it must find what is wrong, and pass what is right.
#include "mica/autograd/gradcheck.h"

#include <doctest/doctest.h>

#include "mica/autograd/tape.h"
#include "mica/ops/elementwise.h"
#include "mica/ops/reduce.h"
#include "support/error_text.h"
#include "support/tensors.h"

using namespace mica;
using namespace mica::test;

namespace {

// x^2, whose gradient function returns `factor` times the right gradient, from element `first` on.
Tensor square_with_error(const Tensor& x, double factor, int64_t first = 0) {
  return custom_op(
      "mine", {x}, [&] { return square(x); },
      [=](const Tensor& dy) {
        Tensor dx = 2 * x * dy;
        const std::vector<double> right = doubles(dx);
        for (int64_t i = first; i < dx.elements(); ++i) put(dx, i, right[static_cast<size_t>(i)] * factor);
        return dx;
      });
}

}  // namespace

TEST_CASE("gradcheck passes a right gradient and returns the largest error") {
  const double error = gradcheck([](const Tensors& x) { return exp(x[0]) * x[1]; }, {sample({3, 5}), sample({5})});
  CHECK(error >= 0);
  CHECK(error < 1e-7);
}

TEST_CASE("gradcheck finds a gradient that is off by a part in ten thousand, and says where") {
  const Tensor x = full({2, 3}, 1.5, {float64});
  const auto text = [&](double factor, int64_t first) {
    return error_text(
        [&] { gradcheck([&](const Tensors& xs) { return square_with_error(xs[0], factor, first); }, {x}); });
  };
  CHECK(text(1, 0) == "no error");
  for (const double factor : {1.0001, 0.9999, 0.0, -1.0, 2.0}) {
    CAPTURE(factor);
    CHECK(contains(text(factor, 0), "[gradcheck] input 0 of shape [2,3], element 0: the gradient is "));
    CHECK(contains(text(factor, 5), "[gradcheck] input 0 of shape [2,3], element 5: the gradient is "));
  }
}

TEST_CASE("gradcheck finds a wrong gradient of the second input, of one output among many, and NaN") {
  const auto fails = [](const auto& f, const Tensors& xs) {
    return contains(error_text([&] { gradcheck(f, xs); }), "input ");
  };
  CHECK(fails([](const Tensors& x) { return x[0] + square_with_error(x[1], 1.01); },
              {sample({3}), full({3}, 1, {float64})}));
  // Gradients that are swapped between elements: a plain sum of the results would not tell.
  CHECK(fails(
      [](const Tensors& x) {
        return custom_op(
            "mine", {x[0]}, [&] { return x[0].clone(); },
            [](const Tensor& dy) {
              Tensor dx = dy.clone();
              dx[0].copy_from(dy[1]);
              dx[1].copy_from(dy[0]);
              return dx;
            });
      },
      {sample({2})}));
  CHECK(fails([](const Tensors& x) { return sqrt(x[0] - 1); }, {sample({2})}));
}

TEST_CASE("a tolerance can be set") {
  const auto f = [](const Tensors& x) { return square_with_error(x[0], 1.01); };
  CHECK(gradcheck(f, {ones({2}, {float64})}, {.tolerance = 0.05}) == doctest::Approx(0.01).epsilon(0.5));
}

TEST_CASE("gradcheck leaves its inputs and the tape outside as they were") {
  Tape tape;
  Tensor x = sample({3});
  tape.watch(x);
  const Tensor before = x.detach().clone();
  gradcheck([](const Tensors& xs) { return xs[0] * 2; }, {x});
  CHECK(same_bits(x, before));
  CHECK(Tape::current() == &tape);
  CHECK(close(tape.gradient(sum(x * 3), {x})[0], {3, 3, 3}));
}

TEST_CASE("gradcheck refuses inputs that are not float64, and results that depend on none") {
  const auto f = [](const Tensors& x) { return x[0] * 2; };
  CHECK(error_text([&] { gradcheck(f, {ones({2})}); }) == "[gradcheck] inputs must be float64");
  CHECK(error_text([&] { gradcheck(f, {Tensor()}); }) == "[gradcheck] inputs must be float64");
  CHECK(error_text([&] { gradcheck([](const Tensors&) { return ones({2}, {float64}); }, {sample({2})}); }) ==
        "[gradcheck] the result does not depend on the inputs through recorded ops");
}
