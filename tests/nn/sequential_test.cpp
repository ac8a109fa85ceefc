// Sequential: names, shapes, nesting, sharing, copies.
#include "mica/nn/sequential.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "mica/autograd/tape.h"
#include "mica/nn/conv2d.h"
#include "mica/nn/dropout.h"
#include "mica/nn/pool.h"
#include "mica/nn/reshape.h"
#include "mica/nn/sequence.h"
#include "mica/ops/reduce.h"
#include "mica/optim/sgd.h"
#include "nn/helpers.h"
#include "support/error_text.h"

using namespace mica;
using namespace mica::test;

namespace {

std::vector<std::string> names(const nn::Model& model) {
  std::vector<std::string> result;
  for (const Parameter& p : model.parameters()) result.push_back(p.name());
  return result;
}

using Names = std::vector<std::string>;

nn::Sequential mnist_model() {
  return nn::Sequential{
      nn::Input({28, 28, 1}),
      nn::Conv2D(32, {3, 3}, {.activation = relu}),
      nn::MaxPool2D({2, 2}),
      nn::Conv2D(64, {3, 3}, {.activation = relu}),
      nn::MaxPool2D({2, 2}),
      nn::Flatten(),
      nn::Dense(128, {.activation = relu}),
      nn::Dense(10, {.activation = softmax}),
  };
}

}  // namespace

TEST_CASE("sequential: with an Input it is built at once, and all sizes follow from it") {
  const nn::Sequential model = mnist_model();
  CHECK(model.built());
  CHECK(model.input().shape == Shape{28, 28, 1});
  CHECK(model.parameter("conv2d.kernel").shape() == Shape{3, 3, 1, 32});
  CHECK(model.parameter("conv2d_1.kernel").shape() == Shape{3, 3, 32, 64});
  CHECK(model.parameter("dense.kernel").shape() == Shape{1600, 128});
  CHECK(model.parameter("dense_1.kernel").shape() == Shape{128, 10});
  CHECK(model.predict(zeros({2, 28, 28, 1})).shape() == Shape{2, 10});
}

TEST_CASE("sequential: names come from the position, not from what else the process made") {
  const Names expected{"conv2d.kernel", "conv2d.bias", "conv2d_1.kernel", "conv2d_1.bias",
                       "dense.kernel",  "dense.bias",  "dense_1.kernel",  "dense_1.bias"};
  CHECK(names(mnist_model()) == expected);
  CHECK(names(mnist_model()) == expected);
  CHECK(error_text([] { mnist_model().parameter("dense_2.kernel"); }) ==
        "[model] there is no parameter \"dense_2.kernel\"");
}

TEST_CASE("sequential: names are the types in snake case, numbered where one comes again") {
  struct LSTM : Residual {};
  struct Dense_1 : Residual {};
  nn::Sequential model;
  for (const nn::Layer& layer :
       {nn::Layer(nn::Dense(4)), nn::Layer(LSTM()), nn::Layer(Dense_1()), nn::Layer(nn::Dense(4))})
    model.add(layer);
  const auto& chain = *model.layer().as<nn::Chain>();
  CHECK(chain.names()[0] == "dense");
  CHECK(contains(chain.names()[1], "lstm"));
  CHECK(std::set<std::string>(chain.names().begin(), chain.names().end()).size() == 4);
}

TEST_CASE("sequential: without an Input, build or the data say what it is fed") {
  nn::Sequential model{nn::Dense(3), nn::Dense(2)};
  CHECK_FALSE(model.built());
  model.build({{5}});
  CHECK(model.parameter("dense.kernel").shape() == Shape{5, 3});
  nn::Sequential other{nn::Dense(1)};
  other.compile({.optimizer = optim::SGD(), .loss = losses::mean_squared_error});
  other.fit(zeros({8, 7}), zeros({8, 1}));
  CHECK(other.parameter("dense.kernel").shape() == Shape{7, 1});
}

TEST_CASE("sequential: errors carry the names of the layers that they come from") {
  CHECK(error_text([] {
          nn::Sequential{nn::Input({8, 8, 1}), nn::Conv2D(4, {3, 3}), nn::Conv2D(4, {7, 7})};
        }) == "conv2d_1: [conv2d] the window (7) must not be larger than the input (6) without padding");
  CHECK(error_text([] {
          nn::Sequential{nn::Input({8}), nn::Dense(4), nn::MaxPool2D({2, 2})};
        }) == "max_pool2d: [max_pool2d] the input must be images [N,H,W,C], got [1,4]");
  CHECK(error_text([] {
          nn::Sequential{nn::Input({4, 4, 1}), nn::Conv2D(4, {3, 3}), nn::MaxPool2D({3, 3})};
        }) == "max_pool2d: [max_pool2d] the window (3) must not be larger than the input (2) without padding");
  const nn::Sequential inner{nn::Dense(4), nn::Conv2D(4, {3, 3})};
  nn::Sequential outer;
  outer.add(nn::Flatten());
  outer.add(inner);
  CHECK(error_text([&] {
          outer.build({{2, 2}});
        }) == "sequential: conv2d: [conv2d] the input must be images [N,H,W,C], got [1,4]");
  const nn::Sequential model{nn::Input({4}), nn::Dense(2)};
  CHECK(error_text([&] {
          model(zeros({1, 5}));
        }) == "dense: [layer] dense.kernel has shape [4,2], but this input needs [5,2]");
}

TEST_CASE("sequential: a build that fails leaves it as it was, ready for an input that fits") {
  nn::Sequential model{nn::Dense(4), nn::Conv2D(2, {1, 1})};
  CHECK_THROWS_AS(model.build({{3}}), Error);
  CHECK_FALSE(model.built());
  for (const Parameter& p : model.parameters()) CHECK_FALSE(p.defined());
  model.build({{5, 5, 2}});
  CHECK(model.parameter("dense.kernel").shape() == Shape{2, 4});
}

TEST_CASE("sequential: built again for another shape, it throws and stays as it was") {
  nn::Sequential model{nn::Input({4}), nn::Dense(2)};
  const Tensor x = ones({1, 4}), before = model(x);
  CHECK(error_text([&] { model.build({{5}}); }) ==
        "dense: [layer] dense.kernel has shape [4,2], but this input needs [5,2]");
  CHECK(model.input().shape == Shape{4});
  CHECK(same_bits(model(x), before));
  model.build({{4}}, 99);  // parameters that are there keep their values
  CHECK(same_bits(model(x), before));
}

TEST_CASE("sequential: a convolution and the pooling after it are one op, unless somebody looks at each") {
  for (const nn::Activation activation : {nn::Activation(relu), nn::Activation(tanh), nn::Activation(gelu),
                                          nn::Activation([](const Tensor& z) { return -z; })}) {
    const nn::Conv2D conv(4, {3, 3}, {.activation = activation});
    const nn::Layer first = conv, second = nn::MaxPool2D({2, 2});
    const nn::Sequential model{nn::Input({9, 8, 2}), first, second};
    const Tensor x = random_uniform({3, 9, 8, 2}, -1, 1, {1, 0});
    CHECK(close(model(x), second(first(x)), kExact));
    Tape tape;
    OpWatcher watcher;
    tape.set_observer(&watcher);
    tape.backward(sum(model(x)));
    CHECK(std::count(watcher.ops.begin(), watcher.ops.end(), "max_pool2d") == 1);
    CHECK(std::count(watcher.ops.begin(), watcher.ops.end(), "conv2d") == 1);
  }
  const nn::Sequential model{nn::Input({9, 8, 2}), nn::Conv2D(4, {3, 3}, {.activation = relu}), nn::MaxPool2D({2, 2})};
  const auto ops_of = [&](bool detect_anomaly) {
    return ops_behind([&] { return sum(model(ones({3, 9, 8, 2}))); }, detect_anomaly);
  };
  CHECK(ops_of(false) == Names{"sum", "conv2d_max_pool2d"});
  CHECK(ops_of(true) == Names{"sum", "max_pool2d", "conv2d"});
}

TEST_CASE("sequential: the mask of a sequence ends at a convolution that is pooled, too") {
  struct Ask : nn::Module<Ask> {
    Tensor forward(const Tensor& x, nn::Call& call) const {
      *masked = call.mask().defined();
      return x;
    }
    void visit(nn::Visitor&) {}
    std::shared_ptr<bool> masked = std::make_shared<bool>(true);
  };
  const Ask ask;
  const nn::Sequential model{nn::Input({8, 6}),     nn::Masking(),         nn::Reshape({8, 6, 1}),
                             nn::Conv2D(2, {3, 3}), nn::MaxPool2D({2, 2}), ask};
  model(ones({2, 8, 6}));
  CHECK(!*ask.masked);
}

TEST_CASE("sequential: wrong use") {
  CHECK(error_text([] {
          nn::Sequential{nn::Dense(1), nn::Input({3})};
        }) == "[sequential] the Input must come first, and once");
  CHECK(error_text([] {
          nn::Sequential{nn::Input({3}), nn::Input({3}), nn::Dense(1)};
        }) == "[sequential] the Input must come first, and once");
  CHECK(error_text([] { nn::Sequential().add(nn::Layer()); }) == "[sequential] a layer is empty");
  nn::Sequential model{nn::Input({3}), nn::Dense(1)};
  model.compile({.optimizer = optim::SGD(), .loss = losses::mean_squared_error});
  CHECK(error_text([&] { model.add(nn::Dense(1)); }) ==
        "[sequential] the model is compiled: layers can be added only before");
  CHECK(error_text([] { nn::Sequential().input(); }) ==
        "[model] the model has no input yet: give it an Input, or build it");
  CHECK(error_text([] {
          nn::Sequential{nn::Dense(1)}(zeros({1, 2}));
        }) == "dense: [layer] the layer is not built yet: give the model an Input, or call build()");
}

TEST_CASE("sequential: layers can be added one by one, and none is the identity") {
  nn::Sequential model{nn::Input({3})};
  CHECK_FALSE(model.built());
  model.add(nn::Dense(4));
  CHECK(model.built());
  const Tensor kernel = model.parameter("dense.kernel").value().clone();
  model.add(nn::Dense(5));
  CHECK(same_bits(model.parameter("dense.kernel").value(), kernel));
  CHECK(model.predict(zeros({2, 3})).shape() == Shape{2, 5});
  nn::Sequential nothing;
  nothing.build({{3}});
  const Tensor x = ones({2, 3});
  CHECK(same_bits(nothing.predict(x), x));
}

TEST_CASE("sequential: a model added to another nests, and its names with it") {
  nn::Sequential encoder{nn::Dense(8, {.activation = relu}), nn::Dense(4)};
  nn::Sequential model;
  model.add(encoder);
  model.add(nn::Dense(2));
  model.build({{3}});
  CHECK(names(model) == Names{"sequential.dense.kernel", "sequential.dense.bias", "sequential.dense_1.kernel",
                              "sequential.dense_1.bias", "dense.kernel", "dense.bias"});
  // In braces with others, too.
  const nn::Sequential braces{nn::Input({3}), nn::Sequential{nn::Dense(8), nn::Dense(4)}, nn::Dense(2)};
  CHECK(names(braces) == names(model));
}

TEST_CASE("sequential: braces around one model copy it; the copy shares everything") {
  nn::Sequential model{nn::Input({3}), nn::Dense(2)};
  nn::Sequential copy{model};
  CHECK(names(copy) == Names{"dense.kernel", "dense.bias"});
  CHECK(copy.parameter("dense.kernel") == model.parameter("dense.kernel"));
  copy.parameter("dense.kernel").value().fill(0);
  CHECK(same_bits(model.predict(ones({1, 3})), zeros({1, 2})));
  const nn::Model handle = model;
  CHECK(handle.parameter("dense.bias") == model.parameter("dense.bias"));
}

TEST_CASE("sequential: copies of a layer share its parameters") {
  nn::Dense dense(3);
  const nn::Sequential a{nn::Input({3}), dense}, b{nn::Input({3}), dense};
  CHECK(a.parameter("dense.kernel") == b.parameter("dense.kernel"));
  CHECK(dense.kernel() == a.parameter("dense.kernel"));
}

TEST_CASE("sequential: one Layer in two places is one set of parameters, with the gradients of both added") {
  const nn::Layer shared = nn::Dense(2, {.use_bias = false, .kernel_initializer = nn::init::ones});
  const nn::Sequential model{nn::Input({2}), shared, nn::Activation(square), shared};
  CHECK(names(model) == Names{"dense.kernel"});
  // y = sum over columns of ((a + b)^2 + (a + b)^2), twice.
  CHECK(floats(model.predict(tensor({{1, 2}}))) == std::vector<float>{18, 18});
  {
    Tape tape;
    tape.backward(sum(model(tensor({{1, 2}}))));
  }
  // d/dw of the last use: h_i = 9 for each of the columns; of the first: x_i * 2 h' * (1 + 1) with h' = 3.
  CHECK(same_bits(model.parameter("dense.kernel").gradient(),
                  tensor({{9 + 1 * 12, 9 + 1 * 12}, {9 + 2 * 12, 9 + 2 * 12}})));
}

TEST_CASE("sequential: clone has parameters of its own with the same values, and shares what was shared") {
  const nn::Layer shared = nn::Dense(3);
  nn::Sequential inner{nn::Dense(3), nn::Dropout(0.5)};
  nn::Sequential model{nn::Input({3}), shared, inner, shared};
  model.parameter("dense.bias").set_trainable(false);
  const nn::Model clone = model.clone();
  CHECK(names(clone) == names(model));
  CHECK(clone.input().shape == Shape{3});
  CHECK_FALSE(clone.parameter("dense.bias").trainable());
  const Tensor x = random_normal({4, 3}, 0, 1, {.stream = 1}), before = model.predict(x);
  CHECK(same_bits(clone.predict(x), before));
  clone.parameter("dense.kernel").value().fill(0);
  clone.parameter("sequential.dense.kernel").value().fill(0);
  CHECK(same_bits(model.predict(x), before));
  CHECK_FALSE(same_bits(clone.predict(x), before));
  CHECK(error_text([&] { nn::Model(clone).fit(x, x); }) == "[fit] the model is not compiled: call compile() first");
}

TEST_CASE("sequential: a model that is not built can be cloned, too") {
  const nn::Sequential model{nn::Dense(3)};
  nn::Model clone = model.clone();
  clone.build({{2}});
  CHECK_FALSE(model.built());
  CHECK_FALSE(model.parameters()[0].defined());
}
