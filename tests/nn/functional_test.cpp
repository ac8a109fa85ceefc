// Functional models: branches, shared layers, and what is refused.
#include "mica/nn/functional.h"

#include <doctest/doctest.h>

#include "mica/autograd/tape.h"
#include "mica/nn/conv2d.h"
#include "mica/nn/merge.h"
#include "mica/nn/norm.h"
#include "mica/nn/reshape.h"
#include "mica/nn/sequential.h"
#include "mica/ops/manipulate.h"
#include "mica/optim/adam.h"
#include "nn/helpers.h"
#include "support/error_text.h"
#include "support/temp_dir.h"

using namespace mica;
using namespace mica::test;

namespace {

// Halves of the last axis.
struct Halves {
  static constexpr const char* kType = "Halves";
  Tensors forward(std::span<const Tensor> xs, nn::Call&) const { return split(xs[0], 2, -1); }
  void visit(nn::Visitor&) {}
};

nn::Functional residual() {
  const nn::Symbol x = nn::Input({4});
  const nn::Symbol h = nn::Dense(4, {.activation = relu})(x);
  const nn::Symbol sum = nn::Add()({x, h});
  return nn::Functional(x, nn::Dense(3)(nn::Concatenate()({sum, h})));
}

}  // namespace

TEST_CASE("functional: computes what its layers compute") {
  const nn::Functional model = residual();
  const Tensor x = sample({5, 4}, float32);
  const auto at = [&](const char* name) { return model.parameter(name).value(); };
  const Tensor h = dense(x, at("dense.kernel"), at("dense.bias"), UnaryOp::relu);
  const Tensor y = dense(concat({x + h, h}, 1), at("dense_1.kernel"), at("dense_1.bias"));
  CHECK(same_bits(model(x), y));
  CHECK(model.predict(zeros({0, 4})).shape() == Shape{0, 3});
}

TEST_CASE("functional: trains, saves, loads and clones as any model") {
  const Task task = spiral(120, 3);
  const nn::Symbol x = nn::Input({2});
  const nn::Symbol h = nn::Dense(32, {.activation = tanh})(x);
  const nn::Symbol deep = nn::Dense(32, {.activation = relu})(nn::Add()({h, nn::Dense(32)(h)}));
  nn::Functional model(x, nn::Dense(3)(nn::Concatenate()({deep, x})));
  model.compile({.optimizer = optim::Adam({.learning_rate = 0.02}),
                 .loss = losses::SparseCategoricalCrossentropy{.from_logits = true},
                 .metrics = {metrics::accuracy}});
  model.fit(task.x, task.y, {.epochs = 40, .batch_size = 20});
  CHECK(model.evaluate(task.x, task.y)["accuracy"] > 0.95);
  const TempDir dir;
  model.save(dir.file("model.safetensors"));
  CHECK(same_bits(nn::Model::load(dir.file("model.safetensors")).predict(task.x), model.predict(task.x)));
  const nn::Model copy = model.clone();
  CHECK(same_bits(copy.predict(task.x), model.predict(task.x)));
  copy.parameter("dense.bias").value().fill(9);
  CHECK(!same_bits(copy.predict(task.x), model.predict(task.x)));
}

TEST_CASE("functional: a layer that is called twice, or a copy of it, is one layer with one set of parameters") {
  const TempDir dir;
  for (const bool erased : {false, true}) {
    const nn::Symbol x = nn::Input({4});
    const nn::Dense tower(4);
    const nn::Layer shared = tower;
    const nn::Symbol once = erased ? shared(x) : tower(x), twice = erased ? shared(once) : tower(once);
    const nn::Functional model(x, twice);
    CHECK(model.parameters().size() == 2);
    const Tensor in = sample({3, 4}, float32);
    const auto layer = [&](const Tensor& t) {
      return dense(t, model.parameter("dense.kernel").value(), model.parameter("dense.bias").value());
    };
    CHECK(same_bits(model(in), layer(layer(in))));
    model.save(dir.file("shared.safetensors"));
    const nn::Model loaded = nn::Model::load(dir.file("shared.safetensors"));
    CHECK(loaded.parameters().size() == 2);
    CHECK(same_bits(loaded.predict(in), model.predict(in)));
  }
}

TEST_CASE("functional: thousands of layers with parameters are told apart in no time") {
  nn::Chain chain;
  for (int i = 0; i < 10'000; ++i) chain.add(nn::Dense(1));
  CHECK(chain.names().back() == "dense_9999");
}

TEST_CASE("sequential: a layer and a copy of it are one as well, and saved once") {
  const TempDir dir;
  const nn::Dense layer(4);
  const nn::Sequential model{nn::Input({4}), layer, layer};
  CHECK(model.parameters().size() == 2);
  model.save(dir.file("twice.safetensors"));
  CHECK(nn::Model::load(dir.file("twice.safetensors")).parameters().size() == 2);
}

TEST_CASE("functional: a layer may have several outputs") {
  nn::register_layer<Halves>();
  const nn::Symbol x = nn::Input({6});
  const nn::Symbol halves = nn::Layer(Halves())(x);
  const nn::Functional model(x, nn::Subtract()({halves.output(1), halves}));
  const Tensor in = tensor({{1, 2, 3, 10, 20, 30}});
  CHECK(floats(model(in)) == std::vector<float>{9, 18, 27});
  const TempDir dir;
  model.save(dir.file("halves.safetensors"));
  CHECK(floats(nn::Model::load(dir.file("halves.safetensors"))(in)) == std::vector<float>{9, 18, 27});
  CHECK(error_text([&] { nn::Functional(x, halves.output(2)); }) ==
        "halves: [functional] the layer has 2 outputs, of which number 2 is used");
}

TEST_CASE("functional: models may stand in models") {
  const nn::Symbol x = nn::Input({4});
  nn::Functional block(x, nn::Add()({x, nn::Dense(4)(x)}));
  nn::Sequential model{nn::Input({4}), block, nn::Dense(2)};
  const TempDir dir;
  model.save(dir.file("nested.safetensors"));
  const Tensor in = sample({2, 4}, float32);
  CHECK(same_bits(nn::Model::load(dir.file("nested.safetensors")).predict(in), model.predict(in)));
}

TEST_CASE("functional: a summary names each layer, its shape, and what it takes") {
  const std::string text = residual().summary();
  for (const char* part : {"input (float32)", "dense (Dense)", "[n,4]", "add (Add)", "concatenate (Concatenate)",
                           "[n,8]", "dense_1 (Dense)", "[n,3]", "47 parameters", "input, dense", "add, dense"}) {
    CAPTURE(part);
    CHECK(text.find(part) != std::string::npos);
  }
}

TEST_CASE("functional: a chain of 20,000 layers is described, run and taken apart without deep recursion") {
  const nn::Layer layer = nn::Activation(relu);
  const nn::Symbol x = nn::Input({1});
  nn::Symbol y = x;
  for (int i = 0; i < 20'000; ++i) y = layer(y);
  const nn::Graph graph(x, y);
  CHECK(graph.nodes().size() == 20'000);
}

TEST_CASE("functional: wrong use") {
  const nn::Symbol x = nn::Input({4}), other = nn::Input({3});
  const nn::Symbol h = nn::Dense(2)(x);
  CHECK(error_text([&] {
          nn::Functional(x, nn::Concatenate()({h, other}));
        }) == "[functional] the output depends on another Input, of shape [3]");
  CHECK(error_text([&] { nn::Functional(h, nn::Dense(2)(h)); }) == "[functional] the model must begin at an Input");
  CHECK(error_text([&] {
          nn::Functional(x, nn::Add()({h, nn::Dense(3)(x)}));
        }) == "add: [add] shapes do not broadcast: [1,2] and [1,3]");
  CHECK(error_text([&] { nn::Layer()(x); }) == "[symbol] the layer is empty");
  CHECK(error_text([&] { nn::Add()(std::initializer_list<nn::Symbol>{}); }) ==
        "[symbol] the layer must be called with at least one value");
  CHECK(error_text([&] {
          nn::Functional(x, nn::Dense(2)({x, h}));
        }) == "dense_1: [layer] the layer takes one input, got 2");
  CHECK(error_text([&] { x.output(0); }) == "[symbol] there is no output 0");
}
