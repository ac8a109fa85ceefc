// What the tests of all optimizers share: golden steps, and the rules that hold for each of them.
#pragma once

#include <doctest/doctest.h>

#include "mica/optim/optimizer.h"
#include "support/error_text.h"
#include "support/golden.h"

namespace mica::test {

/// Sets a parameter's gradient, through the tape as training does.
inline void set_gradient(const Parameter& p, const Tensor& gradient) {
  p.zero_gradient();
  Tape tape;
  tape.backward(sum(p.tensor() * gradient));
}

/// make() with parameters whose gradients are (re)drawn before each of `steps` steps; the values after each step.
template <class Make>
Tensors trajectory(const Make& make, const std::vector<Parameter>& parameters, int steps = 5) {
  optim::Optimizer optimizer = make();
  optimizer.attach(parameters);
  Tensors values;
  for (int step = 0; step < steps; ++step) {
    for (size_t i = 0; i < parameters.size(); ++i) {
      const Tensor& value = parameters[i].value();
      set_gradient(parameters[i], sample(value.shape(), value.dtype(), static_cast<uint64_t>(step) * 100 + i));
    }
    optimizer.step();
    for (const Parameter& p : parameters) values.push_back(p.value().clone());
  }
  return values;
}

/// Replays 20 steps of a golden case with two parameters.
inline void replay_steps(const GoldenCase& c, const optim::Optimizer& configured) {
  CAPTURE(c.name);
  for (const DType dtype : {float32, float64})
    for (const bool packed : {false, true}) {
      CAPTURE(dtype);
      CAPTURE(packed);
      const Parameter p(c.input("p0", dtype).clone()), q(c.input("q0", dtype).clone());
      if (packed) pack({p, q});
      optim::Optimizer optimizer = configured.fresh();
      optimizer.attach({p, q});
      for (int64_t step = 0; step < 20; ++step) {
        CAPTURE(step);
        set_gradient(p, c.input("p_gradients", dtype)[step]);
        set_gradient(q, c.input("q_gradients", dtype)[step]);
        optimizer.step();
        CHECK(close(p.value(), c.expected("p")[step], tolerance_of(dtype, {1e-5, 1e-6})));
        CHECK(close(q.value(), c.expected("q")[step], tolerance_of(dtype, {1e-5, 1e-6})));
      }
      CHECK(optimizer.iterations() == 20);
    }
}

/// The rules that hold for every optimizer, whatever its update.
template <class Make>
void check_rules(const Make& make) {
  const Shape shapes[] = {{3, 5}, {1}, {0}, {33}, {2, 2, 3}, {20000}};
  SUBCASE("packed parameters, unpacked ones and ones packed in another order give the same bits") {
    for (const DType dtype : {float32, float64}) {
      Tensors expected;
      for (const int way : {0, 1, 2}) {
        CAPTURE(way);
        std::vector<Parameter> parameters;
        for (const Shape& shape : shapes) parameters.emplace_back(sample(shape, dtype, 7));
        if (way == 1) pack(parameters);
        if (way == 2) pack({parameters.rbegin(), parameters.rend()});
        const Tensors values = trajectory(make, parameters);
        if (way == 0) expected = values;
        for (size_t i = 0; i < values.size(); ++i) CHECK(same_bits(values[i], expected[i]));
      }
    }
  }
  SUBCASE("a parameter that is attached twice is updated once") {
    const Parameter once(sample({5}, float32, 7)), twice(sample({5}, float32, 7));
    const Tensors expected = trajectory(make, {once});
    optim::Optimizer optimizer = make();
    optimizer.attach({twice, twice});
    CHECK(optimizer.parameters().size() == 1);
    for (int step = 0; step < 5; ++step) {
      set_gradient(twice, sample({5}, float32, static_cast<uint64_t>(step) * 100));
      optimizer.step();
      CHECK(same_bits(twice.value(), expected[static_cast<size_t>(step)]));
    }
  }
  SUBCASE("parameters that lie side by side while their gradients do not are updated from their own") {
    const Tensor flat = sample({32}, float32, 7);
    const Parameter first(flat.clone().slice(0, 16)), second(flat.slice(16, 32).clone());
    const Tensor expected_first = trajectory(make, {first}).back();
    const Tensor together = flat.clone();
    const Parameter a(together.slice(0, 16)), b(together.slice(16, 32));
    trajectory(make, {a, b});
    CHECK(same_bits(a.value(), expected_first));
    CHECK(same_bits(trajectory(make, {Parameter(flat.slice(0, 16).clone()), second}).back(), b.value()));
  }
  SUBCASE("a parameter without a gradient, or frozen, is left untouched among others that are not") {
    for (const bool packed : {false, true}) {
      CAPTURE(packed);
      std::vector<Parameter> parameters;
      for (int i = 0; i < 5; ++i) parameters.emplace_back(sample({7}, float32, static_cast<uint64_t>(i)));
      if (packed) pack(parameters);
      Tensors before;
      for (const Parameter& p : parameters) before.push_back(p.value().clone());
      optim::Optimizer optimizer = make();
      optimizer.attach(parameters);
      for (const Parameter& p : parameters) set_gradient(p, ones({7}));
      parameters[1].zero_gradient();
      parameters[3].set_trainable(false);
      optimizer.step();
      for (size_t i = 0; i < parameters.size(); ++i)
        CHECK(static_cast<bool>(same_bits(parameters[i].value(), before[i])) == (i == 1 || i == 3));
    }
  }
  SUBCASE("zero_grad() forgets the gradients, after which a step changes nothing") {
    const Parameter p(sample({7}, float32));
    optim::Optimizer optimizer = make();
    optimizer.attach({p});
    set_gradient(p, ones({7}));
    optimizer.zero_grad();
    CHECK(!p.gradient().defined());
    const Tensor before = p.value().clone();
    optimizer.step();
    CHECK(same_bits(p.value(), before));
  }
  SUBCASE("the learning rate can be changed between steps; at 0 nothing moves") {
    const Parameter p(sample({7}, float32));
    optim::Optimizer optimizer = make();
    optimizer.attach({p});
    const auto step = [&](double rate) {
      const Tensor before = p.value().clone();
      optimizer.set_learning_rate(rate);
      set_gradient(p, ones({7}));
      optimizer.step();
      return before.at({0}) - p.value().at({0});
    };
    CHECK(step(0) == 0);
    CHECK(optimizer.learning_rate() == 0);
    CHECK(step(0.5) > 0);
    // Two of the same state, one with twice the rate, move twice as far.
    const Parameter q(p.value().clone()), r(p.value().clone());
    const auto moved = [&](const Parameter& parameter, double rate) {
      optim::Optimizer other = make();
      other.attach({parameter});
      other.set_learning_rate(rate);
      set_gradient(parameter, ones({7}));
      other.step();
      return p.value().at({0}) - parameter.value().at({0});
    };
    CHECK(moved(r, 0.02) == doctest::Approx(2 * moved(q, 0.01)).epsilon(1e-4));
  }
  SUBCASE("copies of an optimizer share its state; fresh() starts anew without parameters") {
    const Parameter p(sample({7}, float32));
    optim::Optimizer optimizer = make(), copy = optimizer;
    optimizer.attach({p});
    set_gradient(p, ones({7}));
    copy.step();
    CHECK(optimizer.iterations() == 1);
    CHECK(copy.fresh().iterations() == 0);
    CHECK(error_text([&] { copy.fresh().step(); }) ==
          "[step] the optimizer has no parameters: attach some, or compile a model");
  }
  SUBCASE("a step tells the tape that the parameters changed") {
    const Parameter p(sample({7}, float32));
    optim::Optimizer optimizer = make();
    optimizer.attach({p});
    set_gradient(p, ones({7}));
    Tape tape;
    const Tensor y = sum(square(p.tensor()));
    optimizer.step();
    CHECK(error_text([&] { tape.backward(y); }) ==
          "[square] a tensor saved for the gradient was written to since: shape [7]");
  }
  SUBCASE("rates that are negative or not finite, and parameters without a value, are refused") {
    optim::Optimizer optimizer = make();
    const double rate = optimizer.learning_rate();
    const std::string start = "[" + optimizer.name() + "] the learning rate must be finite and not negative, got ";
    CHECK(error_text([&] { optimizer.set_learning_rate(-1); }) == start + "-1");
    CHECK(error_text([&] { optimizer.set_learning_rate(NAN); }) == start + "nan");
    CHECK(error_text([&] { optimizer.set_learning_rate(INFINITY); }) == start + "inf");
    CHECK(optimizer.learning_rate() == rate);
    const Parameter none;
    none.set_name("w");
    CHECK(error_text([&] {
            optimizer.attach({Parameter(ones({1})), none});
          }) == "[" + optimizer.name() + "] a parameter has no value yet: build the layer first (w)");
  }
}

}  // namespace mica::test
