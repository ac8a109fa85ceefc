// Dropout: when it drops, and which elements.
#include "mica/nn/dropout.h"

#include <doctest/doctest.h>

#include "mica/autograd/tape.h"
#include "mica/nn/sequential.h"
#include "mica/ops/reduce.h"
#include "nn/helpers.h"
#include "support/error_text.h"

using namespace mica;
using namespace mica::test;

namespace {

nn::Sequential model_of(double rate) { return nn::Sequential{nn::Input({1000}), nn::Dropout(rate)}; }

Tensor in_training(const nn::Model& model, const Tensor& x) {
  const nn::ModeScope training(nn::Mode::training);
  return model(x);
}

}  // namespace

TEST_CASE("dropout layer: active in training only") {
  const nn::Sequential model = model_of(0.5);
  const Tensor x = ones({4, 1000});
  CHECK(same_bits(model(x), x));
  CHECK(same_bits(model.predict(x), x));
  Tape tape;
  CHECK_FALSE(same_bits(model(x), x));
}

TEST_CASE("dropout layer: drops the rate's share, and scales the rest so that the mean stays") {
  for (const double rate : {0.1, 0.5, 0.9}) {
    CAPTURE(rate);
    const Tensor y = in_training(model_of(rate), ones({100, 1000}));
    int64_t dropped = 0;
    for (const double v : doubles(y)) {
      dropped += v == 0;
      if (v != 0 && std::fabs(v - 1 / (1 - rate)) > 1e-5) FAIL("scaled by ", v);
    }
    CHECK(static_cast<double>(dropped) / 100'000 == doctest::Approx(rate).epsilon(0.03));
  }
  CHECK(same_bits(in_training(model_of(0), ones({2, 1000})), ones({2, 1000})));
}

TEST_CASE("dropout layer: ModeScope overrides the tape both ways, and ends with its braces") {
  const nn::Sequential model = model_of(0.5);
  const Tensor x = ones({1, 1000});
  {
    const nn::ModeScope training(nn::Mode::training);
    CHECK_FALSE(same_bits(model(x), x));  // Monte Carlo dropout
    {
      const nn::ModeScope inference(nn::Mode::inference);
      CHECK(same_bits(model(x), x));
    }
    CHECK_FALSE(same_bits(model(x), x));
  }
  CHECK(same_bits(model(x), x));
  Tape tape;
  const nn::ModeScope inference(nn::Mode::inference);
  CHECK(same_bits(model(x), x));
  const nn::ModeScope automatic(nn::Mode::automatic);
  CHECK_FALSE(same_bits(model(x), x));
}

TEST_CASE("dropout layer: each step and each place drops other elements; the same seed drops the same again") {
  const auto run = [](uint64_t seed) {
    nn::Sequential model{nn::Dropout(0.5), nn::Dropout(0.5)};
    model.build({{1000}}, seed);
    const Tensor first = in_training(model, ones({1, 1000})), second = in_training(model, ones({1, 1000}));
    return Tensors{first, second};
  };
  const Tensors a = run(1), b = run(1), c = run(2);
  CHECK(same_bits(a, b));
  CHECK_FALSE(same_bits(a[0], a[1]));
  CHECK_FALSE(same_bits(a[0], c[0]));
  // Two layers that dropped the same elements would keep half; two that do not, a quarter.
  int64_t kept = 0;
  for (const float v : floats(a[0])) kept += v != 0;
  CHECK(kept > 180);
  CHECK(kept < 320);
}

TEST_CASE("dropout layer: alone, too, each call drops other elements") {
  const nn::Dropout layer(0.5);
  const nn::ModeScope training(nn::Mode::training);
  CHECK_FALSE(same_bits(layer(ones({1000})), layer(ones({1000}))));
}

TEST_CASE("dropout layer: the gradient passes where the value did") {
  const nn::Sequential model = model_of(0.25);
  Tensor x = ones({1, 1000});
  Tape tape;
  tape.watch(x);
  const Tensor y = model(x);
  const Tensors dx = tape.gradient(sum(y), {x});
  CHECK(same_bits(dx[0], y));
}

TEST_CASE("dropout layer: the rate is in [0, 1)") {
  CHECK(error_text([] { nn::Dropout(1.0); }) == "[dropout] the rate must be in [0, 1), got 1");
  CHECK(error_text([] { nn::Dropout(-0.1); }) == "[dropout] the rate must be in [0, 1), got -0.1");
  CHECK(contains(error_text([] { nn::Dropout(std::nan("")); }), "[dropout] the rate must be in [0, 1), got "));
}

TEST_CASE("dropout layer: one that stands twice in a model drops other elements each time") {
  struct Twice {
    nn::Dropout layer{0.5};
    Tensor operator()(const Tensor& x) const { return layer(x) - layer(x); }
    void visit(nn::Visitor& v) { v("layer", layer); }
  };
  const nn::Model model(Twice{}, nn::Input({1000}));
  CHECK(sum(abs(in_training(model, ones({1, 1000})))).item() > 0);
}
