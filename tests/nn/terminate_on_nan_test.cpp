// A loss that is not finite: where it is said to come from, and what is left.
#include <doctest/doctest.h>

#include <cmath>
#include <optional>

#include "core/finite.h"
#include "mica/autograd/tape.h"
#include "mica/nn/callbacks.h"
#include "mica/nn/dropout.h"
#include "mica/nn/sequential.h"
#include "mica/ops/reduce.h"
#include "mica/optim/sgd.h"
#include "nn/helpers.h"
#include "support/error_text.h"

using namespace mica;
using namespace mica::test;

namespace {

Tensor logarithm(const Tensor& x) { return log(x); }

// log(dense(x)): the inputs decide which example has no logarithm.
nn::Sequential fragile() {
  nn::Sequential model{nn::Input({1}), nn::Dense(1, {.use_bias = false, .kernel_initializer = nn::init::ones}),
                       nn::Activation(logarithm)};
  model.compile({.optimizer = optim::SGD({.learning_rate = 1e-3}), .loss = losses::mean_squared_error});
  return model;
}

std::string ended(nn::Model& model, const Tensor& x, const Tensor& y, nn::FitOptions options = {}) {
  options.batch_size = 1;
  options.shuffle = false;
  options.callbacks = {callbacks::TerminateOnNaN()};
  return error_text([&] { model.fit(x, y, options); });
}

}  // namespace

TEST_CASE("a loss that is not finite ends training, and the layer, op and step are named") {
  nn::Sequential model = fragile();
  const Tensor x = tensor({1, 2, 0, 1}).reshape({4, 1}), y = zeros({4, 1});
  CHECK(ended(model, x, y) ==
        "[fit] the loss of step 2 (epoch 1, batch 3) is inf: activation: [log] the result is not finite: element [0,0] "
        "of shape [1,1] is -inf, of finite inputs");
  CHECK(std::isfinite(model.parameters()[0].value().item()));
}

TEST_CASE("after a loss that is not finite the model is as it was before that batch") {
  const Tensor x = tensor({1, 2, 0, 1}).reshape({4, 1}), y = zeros({4, 1});
  nn::Sequential stopped = fragile(), whole = fragile();
  ended(stopped, x, y);
  whole.fit(x.slice(0, 2), y.slice(0, 2), {.batch_size = 1, .shuffle = false});
  CHECK(same_bits(snapshot(stopped.parameters()), snapshot(whole.parameters())));
}

TEST_CASE("data, weights and parameters that are not finite are named as such") {
  nn::Sequential model = fragile();
  const Tensor good = ones({2, 1}), bad = tensor({1, NAN}).reshape({2, 1});
  CHECK(
      ended(model, bad, good) ==
      "[fit] the loss of step 1 (epoch 1, batch 2) is nan: the inputs are not finite: element [0,0] of shape [1,1] is "
      "nan");
  CHECK(ended(model, good, bad) ==
        "[fit] the loss of step 3 (epoch 1, batch 2) is nan: the targets are not finite: element [0,0] of shape [1,1] "
        "is nan");
  CHECK(ended(model, good, good, {.sample_weights = tensor({1, NAN})}) ==
        "[fit] the loss of step 5 (epoch 1, batch 2) is nan: the weights are not finite: element [0] of shape [1] is "
        "nan");
  model.parameters()[0].value().fill(INFINITY);
  CHECK(
      ended(model, good, good) ==
      "[fit] the loss of step 6 (epoch 1, batch 1) is inf: the parameter dense.kernel was not finite before this step: "
      "element [0,0] of shape [1,1] is inf");
}

TEST_CASE("a loss that nothing recorded made is said to be that") {
  nn::Sequential model = fragile();
  model.compile(
      {.optimizer = optim::SGD(), .loss = [](const Tensor& p, const Tensor&) { return sum(p) * 0.0 + Tensor(1.0); }});
  struct Says : nn::Callback {
    std::string origin;
    double loss = 0;
    uint64_t step = 99;
    void on_nonfinite_loss(const nn::Progress&, const nn::NonfiniteLoss& bad) override {
      origin = bad.origin();
      loss = bad.loss;
      step = bad.step;
    }
  };
  const auto says = std::make_shared<Says>();
  model.fit(ones({1, 1}), ones({1, 1}), {.callbacks = {says}});
  CHECK(says->step == 99);  // a finite loss is not told of
  model.compile({.optimizer = optim::SGD({.learning_rate = 0}), .loss = [](const Tensor& p, const Tensor&) {
                   Tape::Pause pause;
                   return sum(p) * double{INFINITY};
                 }});
  CHECK_THROWS(model.fit(exp(ones({1, 1})), ones({1, 1}), {.callbacks = {says}}));  // nothing to go back from
  CHECK(says->origin == "it was made by something that the tape does not record");
  CHECK(says->loss == INFINITY);
  CHECK(says->step == 1);
}

TEST_CASE("the batch is run again with the same random numbers") {
  struct Inverse : nn::Module<Inverse> {
    std::shared_ptr<std::optional<int64_t>> first = std::make_shared<std::optional<int64_t>>();
    nn::Dense dense{1};
    nn::Dropout dropout{0.1};
    Tensor forward(const Tensor& x, nn::Call& call) const {
      const Tensor y = 1.0 / dropout.forward(x + 0.0 * dense.forward(x, call), call);
      if (call.training() && !first->has_value()) *first = first_nonfinite(y);
      return sum(y, 1, true);
    }
    void visit(nn::Visitor& v) {
      v("dense", dense);
      v("dropout", dropout);
    }
  };
  const Inverse inverse;
  nn::Model model(inverse, nn::Input({500}));
  model.compile({.optimizer = optim::SGD(), .loss = losses::mean_squared_error});
  const std::string text = ended(model, ones({1, 500}), ones({1, 1}), {.seed = 77});
  REQUIRE(inverse.first->has_value());
  CHECK(contains(text,
                 "[divide] the result is not finite: element [0," + std::to_string(**inverse.first) + "] of shape"));
}
