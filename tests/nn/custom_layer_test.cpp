// Layers of one's own: structs that are called and that list what they own.
#include <doctest/doctest.h>

#include "mica/mica.h"
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

// Parameters of its own, made with values.
struct Scale {
  Parameter scale{ones({3})};
  Tensor operator()(const Tensor& x) const { return x * scale; }
  void visit(nn::Visitor& v) { v("scale", scale); }
};

// Parameters of its own, whose sizes follow from the input.
struct Affine {
  Parameter scale, offset;
  Tensor forward(const Tensor& x, nn::Call& call) const {
    const Shape size{x.dim(-1)};
    return x * call.parameter(scale, size, nn::init::ones) + call.parameter(offset, size, nn::init::zeros);
  }
  void visit(nn::Visitor& v) {
    v("scale", scale);
    v("offset", offset);
  }
};

// Forgets one of its children, or one of its parameters.
struct Forgetful {
  nn::Dense listed{3}, unlisted{3};
  Tensor operator()(const Tensor& x) const { return unlisted(listed(x)); }
  void visit(nn::Visitor& v) { v("listed", listed); }
};
struct ForgetfulScale {
  Parameter scale{ones({3})};
  Tensor operator()(const Tensor& x) const { return x * scale; }
  void visit(nn::Visitor&) {}
};

// A whole network as one struct, with a model inside and one layer used twice.
struct Network {
  nn::Dense first{8, {.activation = tanh}};
  nn::Layer shared = nn::Dense(8);
  nn::Sequential head{nn::Dense(4, {.activation = relu}), nn::Dense(2)};
  Tensor operator()(const Tensor& x) const { return head(shared(shared(first(x)))); }
  void visit(nn::Visitor& v) {
    v("first", first);
    v("shared", shared);
    v("head", head);
  }
};

// Children in a row.
struct Tower {
  std::vector<Residual> blocks{3};
  Tensor operator()(const Tensor& x) const {
    Tensor y = x;
    for (const Residual& block : blocks) y = block(y);
    return y;
  }
  void visit(nn::Visitor& v) { v("blocks", blocks); }
};

// A class of one's own that is a model.
struct Regressor : nn::Model {
  explicit Regressor(int64_t features) : Model(nn::Layer(Network()), nn::Input({features})) {}
};

}  // namespace

TEST_CASE("custom layer: a struct that is called and visited is a layer, as any other") {
  nn::Sequential model{nn::Input({4}), Residual(), nn::Dense(2)};
  CHECK(names(model) == Names{"residual.inner.kernel", "residual.inner.bias", "dense.kernel", "dense.bias"});
  const Tensor x = random_normal({5, 4}, 0, 1, {.stream = 1});
  const Tensor inner = relu(dense(x, model.parameter("residual.inner.kernel"), model.parameter("residual.inner.bias")));
  const Tensor expected = dense(x + inner, model.parameter("dense.kernel"), model.parameter("dense.bias"));
  CHECK(largest_difference(model.predict(x), expected) < 1e-6);
}

TEST_CASE("custom layer: it trains") {
  nn::Sequential model{nn::Input({4}), Residual(), nn::Dense(1)};
  model.compile({.optimizer = optim::Adam({.learning_rate = 0.02}), .loss = losses::mean_squared_error});
  const Tensor x = random_normal({256, 4}, 0, 1, {.stream = 2});
  const Tensor y = sum(maximum(x, 0), -1, true);
  const auto history = model.fit(x, y, {.epochs = 40});
  CHECK(history["loss"].back() < 0.1 * history["loss"].front());
}

TEST_CASE("custom layer: parameters with values, and parameters made at build, train too") {
  nn::Sequential model{nn::Input({3}), Scale(), Affine(), nn::Dense(1)};
  CHECK(names(model) == Names{"scale.scale", "affine.scale", "affine.offset", "dense.kernel", "dense.bias"});
  const Tensors before = snapshot(model.parameters());
  model.compile({.optimizer = optim::SGD({.learning_rate = 0.1}), .loss = losses::mean_squared_error});
  const auto history = model.fit(random_normal({64, 3}, 0, 1, {.stream = 3}), ones({64, 1}), {.epochs = 20});
  CHECK(history["loss"].back() < 0.1 * history["loss"].front());
  const auto after = model.parameters();
  for (size_t i = 0; i < after.size(); ++i) {
    CAPTURE(after[i].name());
    CHECK_FALSE(same_bits(before[i], after[i].value()));
  }
}

TEST_CASE("custom layer: a parameter that forward uses and visit does not list is an error at build") {
  CHECK(error_text([] {
          nn::Sequential{nn::Input({3}), Forgetful()};
        }) == "forgetful: [build] a layer uses a parameter of shape [3,3] that its visit() does not list");
  CHECK(error_text([] {
          nn::Sequential{nn::Input({3}), ForgetfulScale()};
        }) == "[build] a layer uses a parameter of shape [3] that its visit() does not list");
}

TEST_CASE("custom layer: children in a row have their numbers for names") {
  const nn::Model model(Tower(), nn::Input({4}));
  CHECK(names(model) == Names{"blocks.0.inner.kernel", "blocks.0.inner.bias", "blocks.1.inner.kernel",
                              "blocks.1.inner.bias", "blocks.2.inner.kernel", "blocks.2.inner.bias"});
  CHECK(model.predict(zeros({2, 4})).shape() == Shape{2, 4});
}

TEST_CASE("custom layer: a parameter may be shared by two places, and keeps the name of the first") {
  struct Tied {
    Affine one, two;
    Tied() { two.scale = one.scale; }
    Tensor operator()(const Tensor& x) const { return x; }
    void visit(nn::Visitor& v) {
      v("one", one);
      v("two", two);
    }
  };
  Tied tied;
  CHECK(nn::parameters(tied).size() == 3);
}

TEST_CASE("custom model: a network as one struct has fit, predict, save and the rest") {
  nn::Model model(Network(), nn::Input({2}));
  CHECK(names(model) == Names{"first.kernel", "first.bias", "shared.kernel", "shared.bias", "head.dense.kernel",
                              "head.dense.bias", "head.dense_1.kernel", "head.dense_1.bias"});
  CHECK(model.predict(zeros({5, 2})).shape() == Shape{5, 2});
  const Task task = spiral(200, 2);
  model.compile({.optimizer = optim::Adam({.learning_rate = 0.01}),
                 .loss = losses::SparseCategoricalCrossentropy{true},
                 .metrics = {metrics::accuracy}});
  CHECK(model.fit(task.x, task.y, {.epochs = 60, .batch_size = 20})["accuracy"].back() > 0.95);
}

TEST_CASE("custom model: a class of one's own derives from Model") {
  Regressor model(2);
  CHECK(model.built());
  CHECK(model.input().shape == Shape{2});
  model.compile({.optimizer = optim::SGD(), .loss = losses::mean_squared_error});
  CHECK(model.fit(zeros({4, 2}), zeros({4, 2})).size() == 1);
}

TEST_CASE("custom model: clone copies what is inside of structs, and models in structs, too") {
  const nn::Model model(Network(), nn::Input({2}));
  const nn::Model clone = model.clone();
  CHECK(names(clone) == names(model));
  const Tensor x = random_normal({5, 2}, 0, 1, {.stream = 4}), before = model.predict(x);
  CHECK(same_bits(clone.predict(x), before));
  for (const Parameter& p : clone.parameters()) {
    for (const Parameter& q : model.parameters()) CHECK(p != q);
    p.value().fill(0);
  }
  CHECK(same_bits(model.predict(x), before));
  CHECK_FALSE(same_bits(clone.predict(x), before));
}

TEST_CASE("custom layer: the gradient of an op of one's own reaches the parameters before it") {
  struct Cube {
    Tensor operator()(const Tensor& x) const {
      return custom_op(
          "cube", {x}, [&] { return x * x * x; }, [x](const Tensor& dy) { return 3 * x * x * dy; });
    }
    void visit(nn::Visitor&) {}
  };
  nn::Sequential model{nn::Input({2}), nn::Dense(2, {.kernel_initializer = nn::init::ones}), Cube()};
  {
    Tape tape;
    tape.backward(sum(model(ones({1, 2}))));
  }
  // y = (a + b)^3 in each of 2 columns: dy/dw = 3 * 2^2 * 1.
  CHECK(same_bits(model.parameter("dense.kernel").gradient(), full({2, 2}, 12)));
}
