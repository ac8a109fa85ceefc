// Functional models: branches, shared layers, and what is refused.
#include "mica/nn/functional.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "mica/autograd/tape.h"
#include "mica/nn/conv2d.h"
#include "mica/nn/embedding.h"
#include "mica/nn/merge.h"
#include "mica/nn/norm.h"
#include "mica/nn/pool.h"
#include "mica/nn/reshape.h"
#include "mica/nn/sequential.h"
#include "mica/ops/manipulate.h"
#include "mica/ops/reduce.h"
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
  const nn::Graph graph({&x, 1}, y);
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

TEST_CASE("functional: several inputs are given in order, to fit, evaluate, predict and calls") {
  const nn::Symbol amounts = nn::Input({2}, float32, "amounts"), kind = nn::Input(Shape{}, int64);
  const nn::Symbol both = nn::Concatenate()({amounts, nn::Embedding(3, 4)(kind)});
  nn::Functional model({amounts, kind}, nn::Dense(1)(nn::Dense(16, {.activation = relu})(both)));
  const Task task = line(200);
  std::vector<int64_t> kinds;
  for (int64_t i = 0; i < 200; ++i) kinds.push_back(i % 3);
  const Tensor k = tensor(kinds, {200});
  const Tensor y = task.y + 2 * k.to(float32).reshape({200, 1});  // which the first input does not tell
  model.compile({.optimizer = optim::Adam({.learning_rate = 0.02}), .loss = losses::mean_squared_error});
  CHECK(model.evaluate({task.x, k}, y)["loss"] > 1);
  const TempDir dir;
  nn::FitOptions options{.epochs = 60,
                         .batch_size = 20,
                         .validation_split = 0.1,
                         .sample_weights = ones({200}),
                         .checkpoint = {.folder = dir.file("run")}};
  model.fit({task.x, k}, y, options);
  CHECK(model.evaluate({task.x, k}, y)["loss"] < 0.05);
  CHECK(model.fit({task.x, k}, y, {.validation_data = {{task.x, k}, y}})["val_loss"].size() == 1);
  const Tensor all = model.predict({task.x, k});
  CHECK(all.shape() == Shape{200, 1});
  CHECK(same_bits(model({task.x, k}), all));
  CHECK(same_bits(model.predict({task.x, k}, {.batch_size = 7}), all));

  model.save(dir.file("model.safetensors"));
  const nn::Model loaded = nn::Model::load(dir.file("model.safetensors"));
  CHECK(same_bits(loaded.predict({task.x, k}), all));
  REQUIRE(loaded.inputs().size() == 2);
  CHECK(loaded.inputs()[0].name == "amounts");
  CHECK(loaded.inputs()[1].name == "input");
  CHECK(loaded.inputs()[1].dtype == int64);
  CHECK(same_bits(loaded.clone().predict({task.x, k}), all));
  CHECK(contains(loaded.summary(), "amounts, embedding"));
}

TEST_CASE("functional: a model of several inputs stands in another, and is saved with it") {
  const nn::Symbol a = nn::Input({3}), b = nn::Input({3});
  const nn::Functional pair({a, b}, nn::Dense(2)(nn::Subtract()({a, b})));
  const nn::Symbol x = nn::Input({3}), y = nn::Input({3}), z = nn::Input({3});
  const nn::Layer shared = pair;
  const nn::Functional model({x, y, z}, nn::Add()({shared({x, y}), shared({y, z})}));
  CHECK(model.parameters().size() == 2);
  const Tensor p = sample({4, 3}, float32), q = sample({4, 3}, float32, 2), r = sample({4, 3}, float32, 3);
  CHECK(same_bits(model({p, q, r}), pair({p, q}) + pair({q, r})));
  const TempDir dir;
  model.save(dir.file("model.safetensors"));
  CHECK(same_bits(nn::Model::load(dir.file("model.safetensors"))({p, q, r}), model({p, q, r})));
}

TEST_CASE("functional: a layer of one's own takes several inputs without a graph") {
  struct Difference {
    nn::Dense out{2};
    Tensor forward(std::span<const Tensor> xs, nn::Call& call) const { return out.forward(xs[0] - xs[1], call); }
    void visit(nn::Visitor& v) { v("out", out); }
  };
  nn::Model model{nn::Layer(Difference())};
  model.compile({.optimizer = optim::Adam(), .loss = losses::mean_squared_error});
  const Tensor p = sample({4, 3}, float32), q = sample({4, 3}, float32, 2);
  model.fit({p, q}, zeros({4, 2}));
  CHECK(model.inputs().size() == 2);
  CHECK(model.predict({p, q}).shape() == Shape{4, 2});
}

TEST_CASE("functional: inputs that do not fit are refused") {
  const nn::Symbol a = nn::Input({3}), b = nn::Input({2}, float32, "amounts"), c = nn::Input({3});
  const nn::Symbol sum = nn::Add()({a, nn::Dense(3)(b)});
  nn::Functional model({a, b}, sum);
  model.compile({.optimizer = optim::Adam(), .loss = losses::mean_squared_error});
  const Tensor p = zeros({4, 3}), q = zeros({4, 2});
  CHECK(error_text([&] { model.predict(p); }) == "[predict] the model takes 2 inputs, got 1");
  CHECK(error_text([&] {
          model.predict({q, p});
        }) == "[predict] the model takes examples of [3] float32 for input, got [2] float32");
  CHECK(error_text([&] {
          model.predict({p, zeros({5, 2})});
        }) == "[predict] the inputs must be equal in number: 4 and 5");
  CHECK(error_text([&] { model.fit({p, zeros({3, 2})}, p); }) == "[fit] the inputs must be equal in number: 4 and 3");
  CHECK(error_text([&] {
          model.fit({p, q}, zeros({3, 3}));
        }) == "[fit] inputs and targets must be equal in number: 4 and 3");
  CHECK(error_text([&] {
          model.fit({p, data::Column()}, p);
        }) == "[fit] the inputs must have a first axis of examples");
  CHECK(error_text([&] { model({p}); }) == "[functional] the model takes 2 inputs, got 1");
  CHECK(error_text([&] { model.input(); }) == "[model] the model has 2 inputs: ask for inputs()");
  CHECK(error_text([&] {
          nn::Functional({a, b, c}, sum);
        }) == "[functional] the output does not depend on input \"input_1\"");
  CHECK(error_text([&] { nn::Functional({a, a}, sum); }) == "[functional] an Input is given twice");
  CHECK(error_text([&] { nn::Functional({a}, sum); }) ==
        "[functional] the output depends on another Input, of shape [2]");
  const nn::Symbol same = nn::Input({3}, float32, "amounts"), odd = nn::Input({3}, float32, "a:1");
  CHECK(error_text([&] {
          nn::Functional({same, b}, nn::Add()({same, nn::Dense(3)(b)}));
        }) == "[model] two inputs are called \"amounts\"");
  CHECK(error_text([&] { nn::Functional(odd, nn::Dense(3)(odd)); }) ==
        "[model] an input's name must be printable ASCII without a colon: a:1");
}

TEST_CASE("functional: a convolution and the pooling that alone reads it are one op") {
  using Names = std::vector<std::string>;
  const nn::Symbol image = nn::Input({9, 8, 2});
  const nn::Conv2D conv(4, {3, 3}, {.activation = relu});
  const nn::Symbol z = conv(image), pooled = nn::MaxPool2D({2, 2})(z);
  const nn::Functional alone(image, pooled);
  const nn::Functional read_twice(image, nn::Concatenate()({nn::Flatten()(pooled), nn::Flatten()(z)}));
  const Tensor x = random_uniform({3, 9, 8, 2}, -1, 1, {1, 0});
  CHECK(close(alone(x), max_pool2d(nn::Layer(conv)(x), 2), kExact));
  CHECK(ops_behind([&] { return sum(alone(x)); }) == Names{"sum", "conv2d_max_pool2d"});
  const Names both = ops_behind([&] { return sum(read_twice(x)); });
  CHECK(std::count(both.begin(), both.end(), "conv2d") == 1);
  CHECK(std::count(both.begin(), both.end(), "max_pool2d") == 1);
  // Whose error it is.
  CHECK(error_text([&] { alone(ones({3, 9, 8, 3})); }).find("conv2d") != std::string::npos);
}
