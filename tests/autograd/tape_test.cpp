// The tape: where gradients go, how they add up, what is refused, and what is released when.
#include "mica/autograd/tape.h"

#include <doctest/doctest.h>

#include <stdexcept>

#include "mica/core/device_memory.h"
#include "mica/ops/conv.h"
#include "mica/ops/elementwise.h"
#include "mica/ops/matmul.h"
#include "mica/ops/pool.h"
#include "mica/ops/reduce.h"
#include "mica/ops/softmax.h"
#include "support/error_text.h"
#include "support/tensors.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;

namespace {

// The gradient of sum(f(x)) to x.
template <class F>
Tensor gradient_of(const F& f, Tensor x) {
  Tape tape;
  tape.watch(x);
  return tape.gradient(sum(f(x)), {x})[0];
}

Parameter parameter(std::initializer_list<double> values) {
  std::vector<float> floats;
  for (const double v : values) floats.push_back(static_cast<float>(v));
  return Parameter(tensor(floats, {static_cast<int64_t>(floats.size())}));
}

}  // namespace

TEST_CASE("backward gives gradients to the parameters that the loss depends on, and to no others") {
  const Parameter w = parameter({1, 2}), b = parameter({3, 4}), other = parameter({5});
  const Tensor x = tensor({10, 20});
  Tape tape;
  tape.backward(sum(x * w + b));
  CHECK(close(w.gradient(), {10, 20}));
  CHECK(close(b.gradient(), {1, 1}));
  CHECK(!other.gradient().defined());
}

TEST_CASE("gradients of parameters add up until they are zeroed") {
  const Parameter w = parameter({1, 2});
  const auto step = [&](double factor) {
    Tape tape;
    tape.backward(sum(w.tensor() * factor));
  };
  step(1);
  step(10);
  CHECK(close(w.gradient(), {11, 11}));
  w.zero_gradient();
  CHECK(!w.gradient().defined());
  step(3);
  CHECK(close(w.gradient(), {3, 3}));
}

TEST_CASE("gradient() leaves the parameters' own gradients alone") {
  const Parameter w = parameter({1, 2}), b = parameter({3, 4});
  {
    Tape tape;
    tape.backward(sum(w.tensor() * 7.0));
  }
  Tape tape;
  Tensor x = tensor({10, 20});
  tape.watch(x);
  const Tensor wt = w;
  const Tensors d = tape.gradient(sum(x * wt + b), {x, wt});
  CHECK(close(d[0], {1, 2}));
  CHECK(close(d[1], {10, 20}));
  CHECK(close(w.gradient(), {7, 7}));
  CHECK(!b.gradient().defined());
}

TEST_CASE("gradient() is also of results on the way, of y itself, and zero where y does not depend") {
  Tape tape;
  Tensor x = tensor({1, 2}), unused = tensor({1, 2, 3});
  tape.watch(x);
  tape.watch(unused);
  const Tensor middle = square(x), y = sum(middle * 3);
  const Tensors d = tape.gradient(y, {x, middle, y, unused, middle});
  CHECK(close(d[0], {6, 12}));
  CHECK(close(d[1], {3, 3}));
  CHECK(close(d[2], {1}));
  CHECK(close(d[3], {0, 0, 0}));
  CHECK(close(d[4], {3, 3}));
}

TEST_CASE("what is used twice gets the sum of both gradients") {
  const Tensor x = tensor({1, -2, 3});
  CHECK(close(gradient_of([](const Tensor& t) { return t + t; }, x), {2, 2, 2}));
  CHECK(close(gradient_of([](const Tensor& t) { return t - t; }, x), {0, 0, 0}));
  CHECK(close(gradient_of([](const Tensor& t) { return t * t; }, x), {2, -4, 6}));
  CHECK(close(gradient_of([](const Tensor& t) { return t + t * t + 3 * t; }, x), {6, 0, 10}));
  CHECK(close(gradient_of([](const Tensor& t) { return t.reshape({3, 1}) * t.reshape({1, 3}); }, x), {4, 4, 4}));
  CHECK(close(gradient_of([](const Tensor& t) { return t.slice(0, 2) * t.slice(1, 3) + t[0]; }, x), {0, 4, -2}));
}

TEST_CASE("a diamond: both ways from x to y count once each") {
  const Tensor x = tensor({2});
  CHECK(close(gradient_of(
                  [](const Tensor& t) {
                    const Tensor shared = square(t), left = shared * 3, right = shared + t;
                    return left * right;  // 3 t^2 (t^2 + t)
                  },
                  x),
              {12.0 * 8 + 9 * 4}));
}

TEST_CASE("a gradient handed to two inputs is added to in neither's name") {
  // Each of these passes dy itself on; whoever adds to it in place must not change the other's.
  Tape tape;
  Tensor a = tensor({1, 2}), b = tensor({3, 4}), c = tensor({5, 6});
  for (Tensor* t : {&a, &b, &c}) tape.watch(*t);
  const Tensor ab = a + b, copy = ab.clone(), view = ab.reshape({2, 1});
  const Tensor y = sum(ab + copy) + sum(view) + sum(a * 10) + sum(c + ab.reshape({2}));
  const Tensors d = tape.gradient(y, {a, b, c, ab, copy, view});
  CHECK(close(d[0], {14, 14}));
  CHECK(close(d[1], {4, 4}));
  CHECK(close(d[2], {1, 1}));
  CHECK(close(d[3], {4, 4}));
  CHECK(close(d[4], {1, 1}));
  CHECK(close(d[5], {1, 1}));
}

TEST_CASE("a kernel that adds to a gradient adds to a copy where two inputs share it") {
  Tape tape;
  Tensor a = tensor({1, 2}), b = tensor({3, 4});
  tape.watch(a);
  tape.watch(b);
  const Tensor squares = square(a), both = a + b;  // going back, + comes first and hands both its dy
  const Tensors d = tape.gradient(sum(squares) + sum(both), {a, b});
  CHECK(close(d[0], {3, 5}));
  CHECK(close(d[1], {1, 1}));
}

TEST_CASE("gradients are values that no tape follows") {
  const Parameter w = parameter({1, 2});
  Tape tape;
  Tensor x = tensor({3, 4});
  tape.watch(x);
  const Tensor y = custom_op(
      "mine", {x}, [&] { return x.clone(); }, [w](const Tensor&) { return w.tensor(); });
  const Tensor d = tape.gradient(sum(y), {x})[0];
  Tape next;
  CHECK(!next.wants(d));
}

TEST_CASE("y = x + x of a parameter, in one step and again in the next") {
  const Parameter w = parameter({1, 2});
  for (const double expected : {2.0, 4.0}) {
    Tape tape;
    tape.backward(sum(w.tensor() + w.tensor()));
    CHECK(close(w.gradient(), {expected, expected}));
  }
}

TEST_CASE("the gradients that gradient() returned stay as they are when more is computed") {
  Tensors kept;
  const Parameter w = parameter({1, 2});
  for (int step = 0; step < 3; ++step) {
    Tape tape;
    const Tensor wt = w;
    kept.push_back(tape.gradient(sum(wt * (step + 1)), {wt})[0]);
  }
  for (int step = 0; step < 3; ++step) CHECK(close(kept[static_cast<size_t>(step)], {step + 1.0, step + 1.0}));
}

TEST_CASE("without a tape nothing is recorded, and a tape records nothing that needs no gradient") {
  const Parameter w = parameter({1, 2});
  CHECK(Tape::current() == nullptr);
  const Tensor before = w.tensor() * 2;
  Tape tape;
  CHECK(Tape::current() == &tape);
  CHECK(!tape.wants(before));
  CHECK(!tape.wants(tensor({1}) + 1));
  CHECK(tape.wants(w.tensor()));
  CHECK(tape.wants(w.tensor() * 2));
  CHECK(!tape.wants((w.tensor() * 2).detach()));
}

TEST_CASE("Pause stops recording while in scope") {
  const Parameter w = parameter({1, 2});
  Tape tape;
  {
    const Tape::Pause pause;
    CHECK(Tape::current() == nullptr);
    CHECK(!tape.wants(w.tensor() * 2));
  }
  CHECK(Tape::current() == &tape);
  CHECK(tape.wants(w.tensor() * 2));
}

TEST_CASE("tapes nest: the innermost records, and what belongs to an outer one is a constant to it") {
  const Parameter w = parameter({3});
  Tape outer;
  const Tensor before = w.tensor() * 2;
  {
    Tape inner;
    const Tensor y = w.tensor() * before;
    CHECK(inner.wants(y));
    CHECK(!outer.wants(y));
    CHECK(!inner.wants(before));
    CHECK(!inner.wants(before * 2));
    inner.backward(sum(y));
    CHECK(close(w.gradient(), {6}));
  }
  CHECK(Tape::current() == &outer);
  w.zero_gradient();
  outer.backward(sum(before));
  CHECK(close(w.gradient(), {2}));
}

TEST_CASE("what gradient functions compute is recorded by no tape") {
  const Parameter w = parameter({3});
  Tape outer;
  const Tensor x = w;
  const Tensor y = custom_op(
      "mine", {x}, [&] { return square(x); }, [x](const Tensor& dy) { return 2 * x * dy; });
  Tape inner;
  outer.backward(y);
  CHECK(close(w.gradient(), {6}));
  int recorded = 0;
  inner.for_each_leaf([&](const auto&) { ++recorded; });
  CHECK(recorded == 0);
}

TEST_CASE("a result that outlives its tape is a constant to the next one") {
  Tensor y;
  const Parameter w = parameter({3});
  {
    Tape tape;
    y = w.tensor() * 2;
  }
  Tape tape;
  CHECK(!tape.wants(y));
  CHECK(error_text([&] { tape.backward(sum(y)); }) ==
        "[backward] the tensor was not computed on this tape from a parameter or a watched tensor");
}

TEST_CASE("the tape refuses what has no gradient") {
  const Parameter w = parameter({1, 2}), frozen = parameter({1});
  frozen.set_trainable(false);
  const Tensor x = tensor({1, 2});
  Tensor integers = tensor({1}, {int32}), undefined, half = tensor({1}, {bfloat16});
  Tape tape;
  const Tensor y = sum(w.tensor() * 2), wide = w.tensor() * 2;
  check_wrong_use({
      {"[backward] gradients start from one number, got shape [2]", [&] { tape.backward(wide); }},
      {"[backward] gradients start from one number, got shape []", [&] { tape.backward({}); }},
      {"[backward] the tensor was not computed on this tape from a parameter or a watched tensor",
       [&] { tape.backward(sum(x)); }},
      {"[gradient] gradients start from one number, got shape [2]", [&] { tape.gradient(wide, {w}); }},
      {"[gradient] a tensor of shape [2] is not on this tape: watch it first", [&] { tape.gradient(y, {x}); }},
      {"[gradient] parameter [1] is frozen: no op was recorded on it", [&] { tape.gradient(y, {frozen}); }},
      {"[watch] only float32 and float64 tensors have gradients", [&] { tape.watch(integers); }},
      {"[watch] only float32 and float64 tensors have gradients", [&] { tape.watch(half); }},
      {"[watch] only float32 and float64 tensors have gradients", [&] { tape.watch(undefined); }},
  });
  tape.backward(y);  // none of this spoiled the record
  CHECK(close(w.gradient(), {2, 2}));
}

TEST_CASE("a record is used once: a second backward throws, and changes nothing") {
  const Parameter w = parameter({1, 2});
  Tape tape;
  Tensor x = tensor({1});
  const Tensor y = sum(square(w.tensor()));
  tape.backward(y);
  const std::string consumed = "the tape's record is consumed";
  check_wrong_use({
      {"[backward] " + consumed + ": backward or gradient was called before", [&] { tape.backward(y); }},
      {"[gradient] " + consumed + ": backward or gradient was called before", [&] { tape.gradient(y, {w}); }},
      {"[watch] " + consumed, [&] { tape.watch(x); }},
  });
  CHECK(close(w.gradient(), {2, 4}));
  CHECK(!tape.wants(w.tensor() * 2));
}

TEST_CASE("a saved tensor that was written to is refused before any gradient is touched, in the op's name") {
  const auto refusal = [](const std::string& op, const std::string& shape) {
    return "[" + op + "] a tensor saved for the gradient was written to since: shape " + shape;
  };
  const Parameter w = parameter({1, 2}), last = parameter({3, 4});
  Tensor x = tensor({5, 6});
  for (const int way : {0, 1, 2, 3}) {
    CAPTURE(way);
    Tape tape;
    const Tensor y = sum(w.tensor() * x * last);
    if (way == 0) x.fill(7);
    if (way == 1) x.mutable_data<float>();
    if (way == 2) x.copy_from(tensor({1, 2}));
    if (way == 3) x.slice(0, 1).fill(7);  // through a view
    CHECK(error_text([&] { tape.backward(y); }) == refusal("multiply", "[2]"));
    CHECK(!w.gradient().defined());
    CHECK(!last.gradient().defined());
  }
  {
    Tape tape;
    const Tensor y = sum(exp(w.tensor()));
    w.value().fill(0);  // exp kept its result: that the parameter is another now is nothing to it
    tape.backward(y);
    CHECK(w.gradient().defined());
  }
  w.zero_gradient();
  {
    Tape tape;
    const Tensor y = sum(square(w.tensor()));
    w.value().fill(1);
    CHECK(error_text([&] { tape.backward(y); }) == refusal("square", "[2]"));
  }
  {
    Tape tape;
    const Tensor unused = w.tensor() * x, y = sum(last.tensor() + 1);
    x.fill(1);  // saved by an op that backward does not come by
    tape.backward(y);
    CHECK(close(last.gradient(), {1, 1}));
  }
}

TEST_CASE("frozen parameters get no gradient and are not recorded") {
  const Parameter w = parameter({1, 2}), frozen = parameter({3, 4});
  frozen.set_trainable(false);
  Tape tape;
  CHECK(!tape.wants(frozen.tensor()));
  tape.backward(sum(w.tensor() * frozen));
  CHECK(close(w.gradient(), {3, 4}));
  CHECK(!frozen.gradient().defined());
}

TEST_CASE("a parameter without a value is no bias, and gets no gradient") {
  const Parameter none;
  Tape tape;
  CHECK(!tape.wants(none.tensor()));
  const Parameter x(ones({1, 2, 2, 1})), w(ones({2, 2, 1, 3}));
  tape.backward(sum(conv2d(x, w, none)) + sum(dense(x.tensor().reshape({2, 2}), ones({2, 5}), none)));
  CHECK(close(x.gradient().reshape({-1}), {8, 8, 8, 8}));
  CHECK(!none.gradient().defined());
}

TEST_CASE("saved tensors are released as backward comes by them") {
  constexpr int64_t kBytes = 4 << 20;
  Tensor x = ones({kBytes / 4});
  const auto in_use = [&] { return memory_statistics(x.device()).in_use; };
  const int64_t before = in_use();
  {
    Tape tape;
    tape.watch(x);
    int64_t held = 0;
    Tensor y = custom_op(
        "probe", {x}, [&] { return x.clone(); },
        [&](const Tensor& dy) {
          held = in_use() - before;
          return dy;
        });
    for (int i = 0; i < 10; ++i) y = square(y);  // each keeps its input
    Tensor loss = sum(y);
    y = Tensor();
    CHECK(in_use() - before > 10 * kBytes);
    tape.gradient(loss, {x});
    CHECK(held < 4 * kBytes);
  }
  CHECK(in_use() - before < kBytes / 4);
}

TEST_CASE("in_place_of_dy is dy itself where nobody else holds it, else a tensor like it") {
  for (const bool held : {false, true}) {
    Tensor x = ones({3}), y = ones({3}), kept;
    bool same = false;
    Tape tape;
    tape.watch(x);
    tape.record("probe", {&x}, {&y}, {}, [&](Gradients& g) {
      if (held) kept = g.dy();
      const Tensor place = g.in_place_of_dy();
      same = place.raw() == g.dy().raw();
      CHECK(place.shape() == g.dy().shape());
      g.add(0, zeros({3}));
    });
    tape.gradient(sum(y * 2), {x});
    CHECK(same == !held);
  }
}

TEST_CASE("an activation's gradient is written over dy, unless somebody holds dy") {
  const Parameter w(sample({20, 32}, float64, 1)), b(sample({32}, float64, 2));
  const Tensor x = sample({9, 20}, float64, 3), factor = sample({9, 32}, float64, 4);
  const auto layer = [&] { return dense(x, w.tensor(), b.tensor(), UnaryOp::tanh); };
  const Tensor y = layer();
  const Tensor db = sum(factor * (1 - y * y), 0);
  {
    Tape tape;
    tape.backward(sum(layer() * factor));
    CHECK(close(b.gradient(), db, kFloat64));
  }
  {  // asked for beside the parameters' gradients
    Tape tape;
    const Tensor result = layer();
    const Tensors d = tape.gradient(sum(result * factor), {result, b.tensor()});
    CHECK(close(d[0], factor, kFloat64));
    CHECK(close(d[1], db, kFloat64));
  }
  {  // kept by an observer
    struct Keeper : Tape::Observer {
      void observe(const Tape::Step& step) override { dys.push_back(step.dy); }
      Tensors dys;
    };
    Tape tape;
    Keeper keeper;
    tape.set_observer(&keeper);
    tape.backward(sum(layer() * factor));
    CHECK(close(keeper.dys.back(), factor, kFloat64));
  }
  for (const Parameter& p : {w, b}) p.zero_gradient();
  {  // one gradient for two results, and for a view of one
    Tape tape;
    const Tensor one = layer(), two = layer();
    tape.backward(sum((one + two) * factor) + sum(one.reshape({9, 4, 8}) * factor.reshape({9, 4, 8})));
    CHECK(close(b.gradient(), db * 3, kFloat64));
  }
}

TEST_CASE("a tape that is never walked releases what it recorded") {
  const int64_t before = memory_statistics().in_use;
  {
    Tape tape;
    Tensor x = ones({1000});
    tape.watch(x);
    Tensor y = x;
    for (int i = 0; i < 100; ++i) y = exp(square(y));
  }
  CHECK(memory_statistics().in_use == before);
}

TEST_CASE("a chain of 10,000 ops is walked without recursion") {
  Tape tape;
  Tensor x = tensor({1});
  tape.watch(x);
  Tensor y = x;
  for (int i = 0; i < 10000; ++i) y = y + x;
  CHECK(close(tape.gradient(y, {x})[0], {10001}));
}

#if !defined(__SANITIZE_ADDRESS__)  // under which nothing is cached
TEST_CASE("a warm step takes no memory from the system") {
  const Parameter w(sample({3, 3, 1, 8}, float32)), b(sample({8}, float32)), v(sample({8 * 5 * 5, 10}, float32));
  const Tensor images = sample({16, 12, 12, 1}, float32);
  const auto step = [&] {
    Tape tape;
    const Tensor features = max_pool2d(conv2d(images, w, b, {.activation = UnaryOp::relu}), 2);
    tape.backward(mean(log_softmax(dense(features.reshape({16, -1}), v))));
    for (const Parameter& p : {w, b, v}) p.zero_gradient();
  };
  for (int i = 0; i < 3; ++i) step();
  const int64_t before = memory_statistics().system_allocations;
  for (int i = 0; i < 5; ++i) step();
  CHECK(memory_statistics().system_allocations == before);
}
#endif
