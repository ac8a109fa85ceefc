// The tape's search for what is not finite.
#include <doctest/doctest.h>

#include <cmath>

#include "core/finite.h"
#include "mica/autograd/tape.h"
#include "mica/nn/dense.h"
#include "mica/nn/sequential.h"
#include "mica/ops/elementwise.h"
#include "mica/ops/reduce.h"
#include "support/error_text.h"
#include "support/tensors.h"

using namespace mica;
using namespace mica::test;

TEST_CASE("first_nonfinite finds NaN and infinity in every floating dtype, and integers have none") {
  for (const DType dtype : {float32, float64, bfloat16})
    for (const double bad : {std::nan(""), double{INFINITY}, double{-INFINITY}}) {
      CHECK(first_nonfinite(tensor({1, 2, bad, bad}).to(dtype)) == 2);
      CHECK(first_nonfinite(tensor({1, 2, 3}).to(dtype)) == -1);
    }
  CHECK(first_nonfinite(tensor({1e300}, {float64})) == -1);
  CHECK(first_nonfinite(tensor({1, 2}, {int64})) == -1);
  CHECK(first_nonfinite(zeros({0})) == -1);
  CHECK(first_nonfinite({}) == -1);
  CHECK(nonfinite_text(tensor({{1, 2, 3}, {4, INFINITY, 6}}), 4) == "element [1,1] of shape [2,3] is inf");
}

TEST_CASE("with detect_anomaly on, an op whose result is not finite throws, and says whether its inputs were") {
  const Parameter w(tensor({1, 0}));
  const auto logarithm = [&](bool on) {
    Tape tape;
    tape.set_detect_anomaly(on);
    return log(w.tensor());
  };
  CHECK(error_text([&] { logarithm(true); }) ==
        "[log] the result is not finite: element [1] of shape [2] is -inf, of finite inputs");
  CHECK(error_text([&] { logarithm(false); }) == "no error");
  CHECK(error_text([&] {
          Tape tape;
          tape.set_detect_anomaly(true);
          tensor({1, NAN}) * w;
        }) ==
        "[multiply] the result is not finite: element [1] of shape [2] is nan, and so is input 0: element [1] of shape "
        "[2] is nan");
}

TEST_CASE("with detect_anomaly on, backward throws where a gradient is not finite, and names what is near") {
  const Parameter w(tensor({4, 0}));
  w.set_name("dense.kernel");
  const auto run = [&](bool on, const auto& f) {
    return error_text([&] {
      Tape tape;
      tape.set_detect_anomaly(on);
      tape.backward(f());
    });
  };
  const auto root = [&] { return sum(sqrt(w.tensor())); };
  CHECK(run(true, root) ==
        "[sqrt] the gradient of input 0, dense.kernel, is not finite: element [1] of shape [2] is inf");
  CHECK(!w.gradient().defined());  // what was begun is no gradient
  CHECK(run(false, root) == "no error");
  w.zero_gradient();
  CHECK(run(true, [&] { return sum(sqrt(w * 2.0)); }) ==
        "[sqrt] the gradient of input 0, soon after dense.kernel was used, is not finite: element [1] of shape [2] is "
        "inf");
  Tape tape;
  tape.set_detect_anomaly(true);
  Tensor x = tensor({0, 1});
  tape.watch(x);
  CHECK(error_text([&] { tape.gradient(sum(sqrt(x)), {x}); }) ==
        "[sqrt] the gradient of input 0 is not finite: element [0] of shape [2] is inf");
}

TEST_CASE("with detect_anomaly on, the layer's name stands before the op's") {
  nn::Sequential model{nn::Input({2}), nn::Dense(2, {.activation = relu}),
                       nn::Dense(1, {.activation = [](const Tensor& z) { return log(z * 0.0); }})};
  Tape tape;
  tape.set_detect_anomaly(true);
  CHECK(error_text([&] {
          model(ones({1, 2}));
        }) == "dense_1: [log] the result is not finite: element [0,0] of shape [1,1] is -inf, of finite inputs");
}

TEST_CASE("with detect_anomaly on, what is finite has the same bits as without") {
  nn::Sequential model{nn::Input({3}), nn::Dense(4, {.activation = tanh}), nn::Dense(1)};
  const auto gradient = [&](bool on) {
    for (const Parameter& p : model.parameters()) p.zero_gradient();
    Tape tape;
    tape.set_detect_anomaly(on);
    tape.backward(sum(square(model(sample({5, 3}, float32)))));
    return model.parameters()[0].gradient().clone();
  };
  const Tensor without = gradient(false);
  CHECK(same_bits(gradient(true), without));
}
