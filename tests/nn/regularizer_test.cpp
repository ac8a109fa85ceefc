// Regularizers: which parameters they punish, and what training makes of it.
#include "mica/nn/regularizer.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "mica/autograd/tape.h"
#include "mica/nn/conv2d.h"
#include "mica/nn/embedding.h"
#include "mica/nn/sequential.h"
#include "mica/ops/reduce.h"
#include "mica/optim/sgd.h"
#include "nn/helpers.h"
#include "support/error_text.h"
#include "support/temp_dir.h"

using namespace mica;
using namespace mica::test;

namespace {

nn::Sequential regularized() {
  return nn::Sequential{nn::Input({2}), nn::Dense(3, {.kernel_regularizer = nn::regularizers::l2(0.5)}), nn::Dense(4),
                        nn::Dense(1, {.bias_initializer = nn::init::constant(3),
                                      .kernel_regularizer = nn::regularizers::l1_l2(0.25, 2),
                                      .bias_regularizer = nn::regularizers::l1(0.1)})};
}

double squares(const Parameter& p) { return sum(square(p.value())).item(); }
double magnitudes(const Parameter& p) { return sum(abs(p.value())).item(); }

}  // namespace

TEST_CASE("regularizer: the penalty is l1 |w| + l2 w^2 of the parameters that have one, in every layer") {
  const nn::Sequential model = regularized();
  const double expected = 0.5 * squares(model.parameter("dense.kernel")) +
                          0.25 * magnitudes(model.parameter("dense_2.kernel")) +
                          2 * squares(model.parameter("dense_2.kernel")) + 0.1 * 3;
  CHECK(model.penalty().item() == doctest::Approx(expected).epsilon(1e-5));
  CHECK(!nn::Sequential{nn::Input({2}), nn::Dense(3)}.penalty().defined());
}

TEST_CASE("regularizer: its gradient is l1 sign(w) + 2 l2 w, of what has one alone") {
  const nn::Sequential model = regularized();
  Tape tape;
  tape.backward(model.penalty());
  const Parameter kernel = model.parameter("dense_2.kernel");
  CHECK(close(kernel.gradient(), 0.25 * sign(kernel.value()) + 4 * kernel.value(), kPointwise));
  CHECK(close(model.parameter("dense_2.bias").gradient(), tensor({0.1}), kPointwise));
  CHECK(!model.parameter("dense_1.kernel").gradient().defined());
}

TEST_CASE("regularizer: fit and evaluate add the penalty to the loss") {
  const Task task = line(64);
  nn::Sequential model = regularized();
  model.compile({.optimizer = optim::SGD({.learning_rate = 0}), .loss = losses::mean_squared_error});
  const double plain = losses::mean_squared_error(model.predict(task.x), task.y).item();
  const double all = plain + model.penalty().item();
  CHECK(model.fit(task.x, task.y, {.epochs = 1, .batch_size = 64})["loss"][0] == doctest::Approx(all).epsilon(1e-5));
  CHECK(model.evaluate(task.x, task.y)["loss"] == doctest::Approx(all).epsilon(1e-5));
}

TEST_CASE("regularizer: with SGD, l2(f) is a weight decay of 2 f") {
  const Task task = line(64);
  const auto trained = [&](nn::Regularizer regularizer, double decay) {
    nn::Sequential model{nn::Input({2}), nn::Dense(1, {.use_bias = false, .kernel_regularizer = regularizer})};
    model.compile(
        {.optimizer = optim::SGD({.learning_rate = 0.1, .weight_decay = decay}), .loss = losses::mean_squared_error});
    model.fit(task.x, task.y, {.epochs = 5, .batch_size = 16});
    return model.parameter("dense.kernel").value();
  };
  CHECK(close(trained(nn::regularizers::l2(0.05), 0), trained({}, 0.1), kPointwise));
}

TEST_CASE("regularizer: saved, loaded and cloned with the layer") {
  const TempDir dir;
  const nn::Sequential model = regularized();
  model.save(dir.file("model.safetensors"));
  const double expected = model.penalty().item();
  CHECK(nn::Model::load(dir.file("model.safetensors")).penalty().item() == expected);
  CHECK(model.clone().penalty().item() == expected);
}

TEST_CASE("regularizer: convolutions and embeddings have them as well") {
  nn::Conv2D conv(2, {3, 3}, {.kernel_regularizer = nn::regularizers::l2(1)});
  nn::build(conv, {5, 5, 1});
  nn::Layer layer(conv);
  CHECK(nn::penalty(nn::regularized_parameters(layer)).item() == doctest::Approx(squares(conv.kernel())));
  nn::Layer embedding = nn::Embedding(5, 2, {.table_regularizer = nn::regularizers::l1(1)});
  nn::build(embedding, nn::Input({3}, int64));
  CHECK(nn::regularized_parameters(embedding).size() == 1);
}

TEST_CASE("regularizer: factors that are negative or not finite are refused") {
  CHECK(error_text([] { nn::regularizers::l1(-1); }) ==
        "[regularizer] the factor must be finite and not negative, got -1");
  CHECK(error_text([] { nn::regularizers::l2(std::numeric_limits<double>::quiet_NaN()); }) ==
        "[regularizer] the factor must be finite and not negative, got nan");
  CHECK(error_text([] { nn::regularizers::l1_l2(0, std::numeric_limits<double>::infinity()); }) ==
        "[regularizer] the factor must be finite and not negative, got inf");
}
