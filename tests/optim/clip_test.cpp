// Gradient clipping: as a function, and as an option of every optimizer.
#include "mica/optim/clip.h"

#include <limits>

#include "mica/core/threads.h"
#include "mica/optim/adam.h"
#include "mica/optim/adamw.h"
#include "mica/optim/rmsprop.h"
#include "mica/optim/sgd.h"
#include "support/devices.h"
#include "support/optimizers.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;
using Parameters = std::vector<Parameter>;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN(), kInf = std::numeric_limits<double>::infinity();

Parameters with_gradients(DType dtype, int packing) {
  Parameters parameters;
  for (const Shape& shape : {Shape{3, 5}, {1}, {0}, {33}, {70000}, {2, 2, 3}})
    parameters.emplace_back(sample(shape, dtype, 7));
  if (packing == 1) pack(parameters);
  if (packing == 2) pack({parameters.rbegin(), parameters.rend()});
  for (size_t i = 0; i < parameters.size(); ++i)
    set_gradient(parameters[i], sample(parameters[i].shape(), dtype, 20 + i));
  return parameters;
}

}  // namespace

TEST_CASE("clip_gradients returns the norm of all gradients and scales them to at most that") {
  const Parameter p(zeros({2})), q(zeros({1}));
  set_gradient(p, tensor({2, -3}));
  set_gradient(q, tensor({6}));
  CHECK(optim::clip_gradients({p, q}, 100) == 7);
  CHECK(close(p.gradient(), {2, -3}));
  CHECK(optim::clip_gradients({p, q}, 7) == 7);
  CHECK(close(q.gradient(), {6}));
  CHECK(optim::clip_gradients({p, q}, 3.5) == 7);
  CHECK(close(p.gradient(), {1, -1.5}));
  CHECK(close(q.gradient(), {3}));
  CHECK(optim::clip_gradients({}, 1) == 0);
  CHECK(optim::clip_gradients({p, q}, kInf) == 3.5);
}

TEST_CASE("the norm has the same bits for any packing and any number of threads, and so have the gradients") {
  for (const DType dtype : {float32, float64}) {
    double expected = 0;
    Tensors gradients;
    for (const int packing : {0, 1, 2})
      for (const int threads : thread_counts({1, 2, 8})) {
        CAPTURE(packing);
        CAPTURE(threads);
        const ThreadScope scope(threads);
        const Parameters parameters = with_gradients(dtype, packing);
        const double norm = optim::clip_gradients(parameters, 1);
        if (gradients.empty()) {
          double squares = 0;
          for (size_t i = 0; i < parameters.size(); ++i)
            for (const double g : doubles(sample(parameters[i].shape(), dtype, 20 + i))) squares += g * g;
          CHECK(norm == doctest::Approx(std::sqrt(squares)).epsilon(1e-12));
          expected = norm;
          for (const Parameter& p : parameters) gradients.push_back(p.gradient().clone());
        }
        CHECK(norm == expected);
        for (size_t i = 0; i < parameters.size(); ++i) CHECK(same_bits(parameters[i].gradient(), gradients[i]));
        CHECK(optim::clip_gradients(parameters, 1) == doctest::Approx(1).epsilon(1e-6));
      }
  }
}

TEST_CASE("a gradient whose square is above float32's largest number has a norm all the same") {
  const Parameter p(zeros({2}));
  set_gradient(p, tensor({3e30, 4e30}));
  CHECK(optim::clip_gradients({p}, 10) == doctest::Approx(5e30));
  CHECK(close(p.gradient(), {6, 8}, kPointwise));
}

TEST_CASE("parameters that are given twice count once; frozen ones and those without a gradient not at all") {
  const Parameter p(zeros({1})), frozen(zeros({1})), none(zeros({1}));
  set_gradient(p, tensor({4}));
  set_gradient(frozen, tensor({3}));
  frozen.set_trainable(false);
  CHECK(optim::clip_gradients({p, frozen, p, none}, 2) == 4);
  CHECK(close(p.gradient(), {2}));
  CHECK(close(frozen.gradient(), {3}));
  CHECK(!none.gradient().defined());
}

TEST_CASE("a norm that is NaN or infinite is returned, and nothing is scaled") {
  for (const double bad : {kNan, kInf, -kInf}) {
    const Parameter p(zeros({2}));
    set_gradient(p, ones({2}));
    Tensor gradient = p.gradient();
    gradient.copy_from(tensor({5, bad}));
    CHECK_FALSE(std::isfinite(optim::clip_gradients({p}, 1)));
    CHECK(close(p.gradient().slice(0, 1), {5}));
  }
}

TEST_CASE("an optimizer that clips by the norm refuses gradients without one, before anything changes") {
  const Parameter p(ones({2}));
  optim::Adam adam(Parameters{p}, {.clip_norm = 1});
  set_gradient(p, ones({2}));
  p.gradient().fill(kNan);
  CHECK(error_text([&] { adam.step(); }) == "[adam] the gradients cannot be clipped: their norm is nan");
  CHECK(adam.iterations() == 0);
  CHECK(close(p.value(), {1, 1}));
}

TEST_CASE("clipping by value cuts each element; infinity is cut, and NaN stays") {
  const Parameter p(zeros({5}));
  optim::SGD sgd(Parameters{p}, {.learning_rate = 1, .clip_value = 0.5});
  set_gradient(p, ones({5}));
  Tensor gradient = p.gradient();
  gradient.copy_from(tensor({0.25, 3, -3, kInf, kNan}));
  sgd.step();
  CHECK(close(p.value(), {-0.25, -0.5, 0.5, -0.5, kNan}));
  CHECK(close(p.gradient(), {0.25, 0.5, -0.5, 0.5, kNan}));
}

TEST_CASE("20 steps with clipped gradients are PyTorch's") {
  int cases = 0;
  for (const GoldenCase& c : golden("optim")) {
    if (!contains(c.op, "clipped")) continue;
    ++cases;
    const double norm = contains(c.name, "norm") ? c.number("clip_norm") : 0;
    const double value = contains(c.name, "value") ? c.number("clip_value") : 0;
    if (c.op == "clipped_sgd")
      replay_steps(c, optim::SGD({.learning_rate = 0.1, .clip_value = value, .clip_norm = norm}));
    if (c.op == "clipped_adam")
      replay_steps(c, optim::Adam({.learning_rate = 0.1, .clip_value = value, .clip_norm = norm}));
  }
  CHECK(cases == 4);
}

TEST_CASE("optimizers that clip keep the rules of every optimizer") {
  SUBCASE("by norm, SGD") {
    check_rules([] { return optim::SGD({.learning_rate = 0.1, .clip_norm = 100}); });
  }
  SUBCASE("by value, AdamW") {
    check_rules([] { return optim::AdamW({.learning_rate = 0.1, .clip_value = 0.5}); });
  }
}

TEST_CASE("steps that clip to a norm have the same bits for any packing") {
  Tensors expected;
  for (const int packing : {0, 1, 2}) {
    const Parameters parameters = with_gradients(float32, packing);
    const Tensors values = trajectory([] { return optim::RMSprop({.clip_norm = 0.1}); }, parameters);
    if (expected.empty()) expected = values;
    for (size_t i = 0; i < values.size(); ++i) CHECK(same_bits(values[i], expected[i]));
  }
}

TEST_CASE("clipping refuses limits that are none") {
  check_wrong_use({
      {"[clip_gradients] max_norm must be above 0, got 0", [] { optim::clip_gradients({}, 0); }},
      {"[clip_gradients] max_norm must be above 0, got nan", [] { optim::clip_gradients({}, kNan); }},
      {"[sgd] clip_norm must be finite and not negative, got -1", [] { optim::SGD({.clip_norm = -1}); }},
      {"[adamw] clip_value must be finite and not negative, got nan", [] { optim::AdamW({.clip_value = kNan}); }},
      {"[rmsprop] clip_value and clip_norm exclude each other",
       [] { optim::RMSprop({.clip_value = 1, .clip_norm = 1}); }},
  });
}
