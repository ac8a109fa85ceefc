// Ops of one's own, and what is seen of a record while the tape walks it.
#include <doctest/doctest.h>

#include <functional>
#include <stdexcept>

#include "mica/autograd/gradcheck.h"
#include "mica/autograd/tape.h"
#include "mica/ops/elementwise.h"
#include "mica/ops/matmul.h"
#include "mica/ops/reduce.h"
#include "support/error_text.h"
#include "support/tensors.h"

using namespace mica;
using namespace mica::test;

namespace {

Tensor cube(const Tensor& x) {
  return custom_op(
      "cube", {x}, [&] { return x * x * x; }, [x](const Tensor& dy) { return 3 * x * x * dy; });
}

// An op whose gradient function returns whatever it is given.
template <class Result>
std::string error_of_gradient(std::initializer_list<Tensor> inputs, const Result& result) {
  Tape tape;
  Tensors xs(inputs);
  for (Tensor& x : xs) tape.watch(x);
  const Tensor y =
      xs.size() == 1
          ? custom_op(
                "mine", {xs[0]}, [&] { return xs[0].clone(); }, [=](const Tensor&) { return result; })
          : custom_op(
                "mine", {xs[0], xs[1]}, [&] { return xs[0].clone(); }, [=](const Tensor&) { return result; });
  return error_text([&] { tape.gradient(sum(y), xs); });
}

struct Watcher final : Tape::Observer {
  void observe(const Tape::Step& step) override { see(step); }
  std::function<void(const Tape::Step&)> see;
};

}  // namespace

TEST_CASE("an op of one's own passes a gradient check") {
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{7}, Shape{0}, Shape{3, 5}})
    CHECK(gradcheck([](const Tensors& x) { return cube(x[0]) + cube(x[0]); }, {sample(shape)}) <= 1e-6);
}

TEST_CASE("an op of one's own runs its forward function unrecorded, and is one record") {
  Tape tape;
  Tensor x = tensor({2});
  tape.watch(x);
  const Tensor y = cube(x);
  REQUIRE(tape.producer(y) != nullptr);
  CHECK(std::string(tape.producer(y)->op) == "cube");
  CHECK(tape.producer(y)->previous == tape.producer(x));
}

TEST_CASE("an op of several inputs gives each its gradient, and asks for none that nobody wants") {
  const auto weighted = [](const Tensor& a, const Tensor& b) {
    return custom_op(
        "weighted", {a, b}, [&] { return a * b; },
        [a, b](const Tensor& dy) {
          return Tensors{dy * b, dy * a};
        });
  };
  CHECK(gradcheck([&](const Tensors& x) { return weighted(x[0], x[1]); },
                  {sample({3, 5}), sample({3, 5}, float64, 1)}) <= 1e-6);
  CHECK(gradcheck([&](const Tensors& x) { return weighted(x[0], x[0]); }, {sample({7})}) <= 1e-6);
  const Tensor constant = sample({3});
  CHECK(gradcheck([&](const Tensors& x) { return weighted(x[0], constant); }, {sample({3}, float64, 1)}) <= 1e-6);
}

TEST_CASE("without a tape, or on inputs that it does not follow, an op of one's own is its forward function") {
  CHECK(close(cube(tensor({2})), {8}));
  Tape tape;
  CHECK(!tape.wants(cube(tensor({2}))));
}

TEST_CASE("gradients of the wrong shape, dtype or number are refused in the op's name") {
  const Tensor x = ones({2, 3}), y = ones({4});
  CHECK(error_of_gradient({x}, ones({3, 2})) ==
        "[mine] the gradient of input 0 must be [2,3] float32, got [3,2] float32");
  CHECK(error_of_gradient({x}, ones({})) == "[mine] the gradient of input 0 must be [2,3] float32, got [] float32");
  CHECK(error_of_gradient({x}, ones({2, 3}, {float64})) ==
        "[mine] the gradient of input 0 must be [2,3] float32, got [2,3] float64");
  CHECK(error_of_gradient({x}, Tensor()) == "[mine] the gradient of input 0 must be [2,3] float32, got [] float32");
  CHECK(error_of_gradient({x, y}, Tensors{x, x}) ==
        "[mine] the gradient of input 1 must be [4] float32, got [2,3] float32");
  CHECK(error_of_gradient({x, y}, Tensors{x}) == "[mine] the gradient function returned 1 tensors for 2 inputs");
  CHECK(error_of_gradient({x, y}, x) == "[mine] the gradient function returns one tensor for 2 inputs");
  CHECK(error_of_gradient({x}, x) == "no error");
  CHECK(error_of_gradient({x, y}, Tensors{x, y}) == "no error");
}

TEST_CASE("an exception in a gradient function ends the walk, and the next step is as if it had not been") {
  const Parameter first(ones({2})), second(ones({2}));
  bool fails = true;
  const auto step = [&] {
    Tape tape;
    const Tensor x = square(first.tensor());
    const Tensor y = custom_op(
        "mine", {x}, [&] { return x.clone(); },
        [&](const Tensor& dy) {
          if (fails) throw std::runtime_error("mine");
          return dy;
        });
    const Tensor loss = sum(y * second);
    try {
      tape.backward(loss);
    } catch (const std::runtime_error&) {
      CHECK(Tape::current() == &tape);
      CHECK(error_text([&] { tape.backward(loss); }) ==
            "[backward] the tape's record is consumed: backward or gradient was called before");
      throw;
    }
  };
  CHECK_THROWS_AS(step(), std::runtime_error);
  CHECK(Tape::current() == nullptr);
  CHECK(!first.gradient().defined());
  for (const Parameter& p : {first, second}) p.zero_gradient();
  fails = false;
  step();
  CHECK(close(first.gradient(), {2, 2}));
  CHECK(close(second.gradient(), {1, 1}));
}

TEST_CASE("an exception in a forward function leaves the tape recording") {
  Tape tape;
  Tensor x = ones({2});
  tape.watch(x);
  const auto thrower = [&]() -> Tensor { throw std::runtime_error("mine"); };
  CHECK_THROWS_AS(custom_op("mine", {x}, thrower, [](const Tensor& dy) { return dy; }), std::runtime_error);
  CHECK(Tape::current() == &tape);
  CHECK(close(tape.gradient(sum(x * 2), {x})[0], {2, 2}));
}

TEST_CASE("an observer sees each record that the gradient comes by, last first, with its parameters") {
  const Parameter w(ones({3, 2})), b(ones({2}));
  Tape tape;
  const Tensor unused = square(w.tensor());
  const Tensor loss = sum(relu(dense(ones({4, 3}), w, b)));
  std::vector<std::string> ops;
  Watcher watcher;
  watcher.see = [&](const Tape::Step& step) {
    ops.push_back(step.op);
    if (ops.back() != "dense") return;
    CHECK(step.inputs[1].leaf == w.leaf());
    CHECK(step.inputs[2].leaf == b.leaf());
    CHECK(step.saved[0].tensor.shape() == Shape{4, 3});
    CHECK(step.dy.shape() == Shape{4, 2});
    CHECK(!w.gradient().defined());  // before the gradient function runs
  };
  tape.set_observer(&watcher);
  tape.backward(loss);
  CHECK(ops == std::vector<std::string>{"sum", "relu", "dense"});
}

TEST_CASE("gradients per sample, from what an observer sees of a dense layer, are those of each sample by itself") {
  const Parameter w(sample({5, 3}, float64, 1)), b(sample({3}, float64, 2));
  const Tensor x = sample({4, 5}, float64, 3), target = sample({4, 3}, float64, 4);
  const auto loss_of = [&](const Tensor& inputs, const Tensor& targets) {
    return sum(square(tanh(dense(inputs, w, b)) - targets));
  };
  Tensors kernel_gradients, bias_gradients;
  {
    Tape tape;
    Watcher watcher;
    watcher.see = [&](const Tape::Step& step) {
      if (step.inputs.size() < 2 || step.inputs[1].leaf != w.leaf()) return;
      for (int64_t i = 0; i < 4; ++i) {
        const Tensor dy = step.dy.slice(i, i + 1);
        kernel_gradients.push_back(matmul(step.saved[0].tensor.slice(i, i + 1), dy, {.transpose_a = true}));
        bias_gradients.push_back(dy.reshape({3}));
      }
    };
    tape.set_observer(&watcher);
    tape.backward(loss_of(x, target));
  }
  REQUIRE(kernel_gradients.size() == 4);
  for (int64_t i = 0; i < 4; ++i) {
    for (const Parameter& p : {w, b}) p.zero_gradient();
    Tape tape;
    tape.backward(loss_of(x.slice(i, i + 1), target.slice(i, i + 1)));
    CHECK(close(kernel_gradients[static_cast<size_t>(i)], w.gradient(), kFloat64));
    CHECK(close(bias_gradients[static_cast<size_t>(i)], b.gradient(), kFloat64));
  }
}
