// Layers: calls and their mode, building, and what visitors see.
#include "mica/nn/layer.h"

#include <doctest/doctest.h>

#include "mica/autograd/tape.h"
#include "mica/nn/activation.h"
#include "mica/nn/conv2d.h"
#include "mica/nn/dropout.h"
#include "mica/nn/sequential.h"
#include "mica/ops/reduce.h"
#include "nn/helpers.h"
#include "support/error_text.h"

using namespace mica;
using namespace mica::test;

namespace {

// Notes how it is called.
struct Probe {
  static inline bool training = false, building = false;
  static inline uint64_t step = 0;
  Tensor forward(const Tensor& x, nn::Call& call) const {
    training = call.training();
    building = call.building();
    step = call.step();
    return x;
  }
  void visit(nn::Visitor&) {}
};

// Two inputs to two outputs.
struct Swap {
  Tensors forward(std::span<const Tensor> xs, nn::Call&) const { return {xs[1], xs[0]}; }
  void visit(nn::Visitor&) {}
};

// Writes down everything that it is shown.
class Lister final : public nn::Visitor {
 public:
  std::vector<std::string> seen;

 private:
  void parameter(const char* name, Parameter&) override { add("parameter", name); }
  void stream(const char* name, nn::RandomStream&) override { add("stream", name); }
  void buffer(const char* name, nn::Buffer&) override { add("buffer", name); }
  void config(const char* name, int64_t&) override { add("int64", name); }
  void config(const char* name, double&) override { add("double", name); }
  void config(const char* name, bool&) override { add("bool", name); }
  void config(const char* name, std::string&) override { add("string", name); }
  void config(const char* name, Shape&) override { add("shape", name); }
  void config(const char* name, Size2&) override { add("size", name); }
  void config(const char* name, Padding&) override { add("padding", name); }
  void config(const char* name, nn::Activation&) override { add("activation", name); }
  void config(const char* name, nn::Initializer&) override { add("initializer", name); }
  void enter(const char* name) override { add("enter", name); }
  void leave() override { add("leave", ""); }
  void add(const std::string& kind, const std::string& name) {
    seen.push_back(name.empty() ? kind : kind + " " + name);
  }
};

using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE("call: trains under a tape, infers without one, and ModeScope overrides both") {
  const nn::Layer layer = Probe();
  const Tensor x = zeros({1});
  layer(x);
  CHECK_FALSE(Probe::training);
  {
    Tape tape;
    layer(x);
    CHECK(Probe::training);
    const nn::ModeScope inference(nn::Mode::inference);
    layer(x);
    CHECK_FALSE(Probe::training);
  }
  const nn::ModeScope training(nn::Mode::training);
  layer(x);
  CHECK(Probe::training);
}

TEST_CASE("call: layers inside of a layer are in the outer one's call") {
  CHECK(nn::Call::current() == nullptr);
  const nn::CallScope outer(nn::CallScope::Training{17, 0});
  const nn::Layer layer = Probe();
  const nn::ModeScope inference(nn::Mode::inference);
  layer(zeros({1}));
  CHECK(Probe::training);
  CHECK(Probe::step == 17);
}

TEST_CASE("call: ends with its scope, also after an error") {
  const nn::Conv2D layer(1, {1, 1});
  CHECK_THROWS_AS(layer(zeros({1})), Error);
  CHECK(nn::Call::current() == nullptr);
}

TEST_CASE("build: calls the layer once on one example of zeros, in inference, and gives its output's shape") {
  nn::Layer layer = Probe();
  CHECK(nn::build(layer, nn::Input{{3, 2}, int64}) == Shape{3, 2});
  CHECK(Probe::building);
  CHECK_FALSE(Probe::training);
  CHECK(nn::build(layer, nn::Input(Shape{})) == Shape{});
}

TEST_CASE("build: the same seed gives the same parameters, another seed others; each parameter has its own numbers") {
  const auto built = [](uint64_t seed) {
    nn::Chain chain;
    chain.add(nn::Dense(4));
    chain.add(nn::Dense(4));
    nn::build(chain, {4}, seed);
    return snapshot(nn::parameters(chain));
  };
  CHECK(same_bits(built(1), built(1)));
  CHECK_FALSE(same_bits(built(1)[0], built(2)[0]));
  CHECK_FALSE(same_bits(built(1)[0], built(1)[2]));
}

TEST_CASE("build: the process's seed counts where none is given") {
  const uint64_t before = seed();
  set_seed(5);
  nn::Dense by_default(3), by_hand(3);
  nn::build(by_default, {2});
  set_seed(before);
  nn::build(by_hand, {2}, 5);
  CHECK(same_bits(by_default.kernel().value(), by_hand.kernel().value()));
}

TEST_CASE("build: parameters that are there keep their values") {
  nn::Dense layer(3);
  nn::build(layer, {2}, 1);
  const Tensors before = snapshot(nn::parameters(layer));
  nn::build(layer, {2}, 2);
  CHECK(same_bits(before, snapshot(nn::parameters(layer))));
  CHECK(error_text([&] { nn::build(layer, {5}); }) == "[layer] kernel has shape [2,3], but this input needs [5,3]");
}

TEST_CASE("build: leaves no gradients, and nothing on a tape around it") {
  Tape tape;
  nn::Dense layer(3);
  nn::build(layer, {2});
  CHECK_FALSE(layer.kernel().gradient().defined());
  CHECK(Tape::current() == &tape);
}

TEST_CASE("build: packs the parameters, so that an update is one pass") {
  nn::Chain chain;
  chain.add(nn::Dense(3));
  chain.add(nn::Dense(5));
  nn::build(chain, {2});
  const auto parameters = nn::parameters(chain);
  REQUIRE(parameters.size() == 4);
  for (const Parameter& p : parameters) {
    CHECK(p.value().shares_storage_with(parameters[0].value()));
    CHECK(reinterpret_cast<uintptr_t>(p.value().raw()) % 64 == 0);
  }
}

TEST_CASE("visit: a layer's configuration, then its parameters, in a fixed order") {
  nn::Conv2D conv(8, {3, 3});
  Lister lister;
  conv.visit(lister);
  CHECK(lister.seen == Lines{"int64 filters", "size kernel_size", "size strides", "padding padding", "size dilation",
                             "int64 groups", "activation activation", "bool use_bias", "initializer kernel_initializer",
                             "initializer bias_initializer", "parameter kernel", "parameter bias"});
}

TEST_CASE("visit: children are entered and left, by value or type-erased") {
  nn::Chain chain;
  chain.add(Residual());
  chain.add(nn::Dropout(0.5));
  Lister lister;
  chain.visit(lister);
  CHECK(lister.seen == Lines{"enter residual", "enter inner", "int64 units", "activation activation", "bool use_bias",
                             "initializer kernel_initializer", "initializer bias_initializer", "parameter kernel",
                             "parameter bias", "leave", "leave", "enter dropout", "double rate", "stream stream",
                             "leave"});
}

TEST_CASE("layer: a type-erased copy shares the layer; as<T> finds it again") {
  nn::Layer layer = nn::Dense(3);
  const nn::Layer copy = layer;
  CHECK(copy == layer);
  CHECK(copy.as<nn::Dense>() == layer.as<nn::Dense>());
  CHECK(layer.as<nn::Conv2D>() == nullptr);
  CHECK_FALSE(layer == nn::Layer(nn::Dense(3)));
  CHECK_FALSE(nn::Layer().defined());
  CHECK(error_text([] { nn::Layer()(zeros({1})); }) == "[layer] the layer is empty");
  CHECK(error_text([] { nn::Layer().type(); }) == "[layer] the layer is empty");
  CHECK(layer.type() == "Dense");
  CHECK(contains(nn::Layer(Probe()).type(), "Probe"));
}

TEST_CASE("layer: several inputs and outputs go through spans; one input is one input") {
  const nn::Layer swap = Swap(), dense = nn::Dense(2);
  nn::CallScope scope;
  const Tensor a = zeros({1}), b = zeros({2});
  const Tensors swapped = swap.forward(std::vector<Tensor>{a, b}, scope.call());
  CHECK(swapped[0].shares_storage_with(b));
  CHECK(swapped[1].shares_storage_with(a));
  CHECK(error_text([&] {
          dense.forward(std::vector<Tensor>{a, b}, scope.call());
        }) == "[layer] the layer takes one input, got 2");
}

TEST_CASE("parameter: a handle; copies share the value, the gradient and the name") {
  nn::Dense layer(2);
  nn::build(layer, {3});
  const Parameter kernel = layer.kernel();
  CHECK(kernel == layer.kernel());
  CHECK(kernel != layer.bias());
  {
    Tape tape;
    tape.backward(sum(layer(ones({4, 3}))));
  }
  CHECK(same_bits(kernel.gradient(), full({3, 2}, 4)));
  layer.kernel().zero_gradient();
  CHECK_FALSE(kernel.gradient().defined());
}

TEST_CASE("parameter: one that is not trainable gets no gradient") {
  nn::Dense layer(2);
  nn::build(layer, {3});
  layer.kernel().set_trainable(false);
  Tape tape;
  tape.backward(sum(layer(ones({4, 3}))));
  CHECK_FALSE(layer.kernel().gradient().defined());
  CHECK(same_bits(layer.bias().gradient(), full({2}, 4)));
}
