// Weights of examples and classes in fit.
#include <doctest/doctest.h>

#include <limits>

#include "mica/nn/sequential.h"
#include "mica/ops/index.h"
#include "mica/ops/reduce.h"
#include "mica/optim/sgd.h"
#include "nn/helpers.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;

namespace {

nn::Sequential weighted_model(int64_t units, nn::Activation activation, losses::Loss loss) {
  nn::Sequential model{nn::Input({2}), nn::Dense(units, {.activation = activation})};
  model.compile({.optimizer = optim::SGD({.learning_rate = 0.1}), .loss = loss, .metrics = {metrics::accuracy}});
  return model;
}

nn::Sequential three_classes() { return weighted_model(3, softmax, losses::sparse_categorical_crossentropy); }

double largest_change(const nn::Model& a, const nn::Model& b) {
  double most = 0;
  for (const Parameter& p : a.parameters())
    most = std::max(most, largest_difference(p.value(), b.parameter(p.name()).value()));
  return most;
}

}  // namespace

TEST_CASE("fit: examples keep their weights wherever the shuffle puts them") {
  const Task task = spiral(30, 3);
  const Tensor w = task.y.to(float32);
  nn::Sequential weighted = three_classes(), by_class = three_classes();
  const auto a = weighted.fit(task.x, task.y, {.epochs = 3, .batch_size = 4, .sample_weights = w});
  const auto b = by_class.fit(task.x, task.y, {.epochs = 3, .batch_size = 4, .class_weights = {0, 1, 2}});
  CHECK(same_bits(snapshot(weighted.parameters()), snapshot(by_class.parameters())));
  CHECK(a["loss"] == b["loss"]);
}

TEST_CASE("fit: a weight of 0 leaves an example out, and equal weights scale the loss") {
  const Task task = spiral(8, 2);
  nn::Sequential some = three_classes(), all = three_classes(), doubled = three_classes();
  const Tensor half = tensor({1, 1, 1, 1, 0, 0, 0, 0});
  // Left out, they still count as examples: the mean is over 8.
  const auto a = some.fit(task.x, task.y, {.batch_size = 8, .shuffle = false, .sample_weights = half});
  const auto b = all.fit(task.x.slice(0, 4), task.y.slice(0, 4), {.batch_size = 4, .shuffle = false});
  CHECK(a["loss"][0] == doctest::Approx(b["loss"][0] / 2).epsilon(1e-6));
  const auto c = doubled.fit(task.x.slice(0, 4), task.y.slice(0, 4),
                             {.batch_size = 4, .shuffle = false, .sample_weights = full({4}, 0.5)});
  CHECK(c["loss"][0] == doctest::Approx(a["loss"][0]).epsilon(1e-6));
  CHECK(largest_change(some, doubled) < 1e-6);
}

TEST_CASE("fit: class weights find the class in labels, one-hot rows and numbers of two classes") {
  const Task task = spiral(12, 3);
  nn::Sequential sparse = three_classes(), dense = weighted_model(3, softmax, losses::categorical_crossentropy);
  sparse.fit(task.x, task.y, {.class_weights = {1, 5, 0.5}});
  dense.fit(task.x, one_hot(task.y, 3), {.class_weights = {1, 5, 0.5}});
  CHECK(largest_change(sparse, dense) < 1e-6);

  const Task two = spiral(12, 2);
  const Tensor yes = two.y.to(float32).reshape({12, 1});
  nn::Sequential binary = weighted_model(1, sigmoid, losses::binary_crossentropy),
                 by_hand = weighted_model(1, sigmoid, losses::binary_crossentropy);
  binary.fit(two.x, yes, {.class_weights = {1, 3}});
  by_hand.fit(two.x, yes, {.sample_weights = (1 + 2 * two.y.to(float32))});
  CHECK(largest_change(binary, by_hand) < 1e-6);
}

TEST_CASE("fit: weights of examples and classes are multiplied") {
  const Task task = spiral(12, 3);
  const Tensor w = random_uniform({12}, 0, 2, {.stream = 5});
  const Tensor product = w * (1 + task.y.to(float32));
  nn::Sequential both = three_classes(), one = three_classes();
  both.fit(task.x, task.y, {.batch_size = 5, .sample_weights = w, .class_weights = {1, 2, 3}});
  one.fit(task.x, task.y, {.batch_size = 5, .sample_weights = product});
  CHECK(same_bits(snapshot(both.parameters()), snapshot(one.parameters())));
}

TEST_CASE("fit: weights reach neither the metrics nor the validation") {
  const Task task = spiral(12, 3);
  nn::Sequential model = three_classes();
  const auto h =
      model.fit(task.x, task.y, {.validation_split = 0.25, .sample_weights = zeros({12}), .class_weights = {9, 9, 9}});
  CHECK(h["loss"][0] == 0);
  CHECK(h["val_loss"][0] > 0);
  CHECK(h["val_loss"][0] == model.evaluate(task.x.slice(9, 12), task.y.slice(9, 12))["loss"]);
  CHECK(h["accuracy"][0] == model.evaluate(task.x.slice(0, 9), task.y.slice(0, 9))["accuracy"]);
}

TEST_CASE("fit: one weight for each step of a sequence") {
  nn::Sequential model{nn::Input({4, 2}), nn::Dense(3, {.activation = softmax})};
  const Tensor x = random_uniform({6, 4, 2}, -1, 1, {.stream = 3}), y = zeros({6, 4}, {int64});
  model.compile({.optimizer = optim::SGD({.learning_rate = 0}), .loss = losses::sparse_categorical_crossentropy});
  const double loss = model.evaluate(x, y)["loss"];
  CHECK(model.fit(x, y, {.sample_weights = full({6, 4}, 0.5)})["loss"][0] == doctest::Approx(loss / 2));
  CHECK(model.fit(x, y, {.sample_weights = full({6}, 0.5), .class_weights = {4, 1, 1}})["loss"][0] ==
        doctest::Approx(loss * 2));
}

TEST_CASE("fit: weights that do not fit are refused, and nothing is trained") {
  const Task task = spiral(6, 3);
  nn::Sequential model = three_classes();
  const Tensors before = snapshot(model.parameters());
  const auto refused = [&](nn::FitOptions options) { return error_text([&] { model.fit(task.x, task.y, options); }); };
  CHECK(refused({.sample_weights = ones({5})}) ==
        "[fit] sample_weights must have one weight for each of the 6 examples, got shape [5]");
  CHECK(refused({.sample_weights = Tensor(1.0)}) ==
        "[fit] sample_weights must have one weight for each of the 6 examples, got shape []");
  CHECK(refused({.sample_weights = ones({6, 2})}) ==
        "[sparse_categorical_crossentropy] weights must have the losses' shape or a beginning of it: weights [6,2], "
        "losses [6]");
  CHECK(refused({.class_weights = {1, -1, 1}}) == "[fit] class_weights must be finite and not negative, got -1");
  CHECK(refused({.class_weights = {1, std::numeric_limits<double>::quiet_NaN()}}) ==
        "[fit] class_weights must be finite and not negative, got nan");
  CHECK(refused({.class_weights = {1, 1}}) ==
        "[class_weights] there must be one weight for each of the 3 classes, got 2");
  CHECK(error_text([&] {
          model.fit(task.x, full({6}, 3, {int64}), {.class_weights = {1, 1, 1}});
        }) == "[class_weights] label 3 at position 0 is outside of 0..2");
  CHECK(same_bits(before, snapshot(model.parameters())));
  model.compile({.optimizer = optim::SGD(), .loss = [](const Tensor& p, const Tensor&) { return sum(p); }});
  CHECK(refused({.sample_weights = ones({6})}) ==
        "[loss] weights need a loss that returns a value for each example: this one returned one number for the batch");
}
