// Learning rates that change with the number of updates.
#include "mica/optim/schedule.h"

#include <limits>

#include "mica/optim/adam.h"
#include "mica/optim/sgd.h"
#include "support/optimizers.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;
using optim::LearningRate;

namespace {

double halved(int64_t iteration) { return iteration < 2 ? 1 : 0.5; }

}  // namespace

TEST_CASE("learning rates are those of PyTorch's schedulers, with and without a warmup") {
  int cases = 0;
  for (const GoldenCase& c : golden("schedule")) {
    CAPTURE(c.name);
    ++cases;
    const auto whole = [&](const char* name) { return static_cast<int64_t>(c.number(name)); };
    const optim::ScheduleOptions options{.warmup = whole("warmup"), .minimum = c.number("minimum")};
    const double rate = c.number("rate"), factor = c.number("factor");
    const int64_t steps = whole("steps");
    const LearningRate schedule = c.op == "step_decay"          ? optim::step_decay(rate, steps, factor, options)
                                  : c.op == "exponential_decay" ? optim::exponential_decay(rate, steps, factor, options)
                                                                : optim::cosine_decay(rate, steps, options);
    const Tensor expected = c.expected("y");
    for (int64_t i = 0; i < expected.elements(); ++i)
      CHECK(schedule.at(i) == doctest::Approx(expected.at({i})).epsilon(1e-12));
  }
  CHECK(cases == 12);
}

TEST_CASE("a warmup grows from the first update on and meets the decay at the whole rate") {
  const LearningRate rate = optim::cosine_decay(1, 10, {.warmup = 3});
  CHECK(rate.at(0) == 0.25);
  CHECK(rate.at(1) == 0.5);
  CHECK(rate.at(2) == 0.75);
  CHECK(rate.at(3) == 1);
  CHECK(rate.at(8) == doctest::Approx(0.5));
}

TEST_CASE("a decay ends at its minimum and stays there") {
  CHECK(optim::cosine_decay(1, 10, {.minimum = 0.1}).at(10) == 0.1);
  CHECK(optim::cosine_decay(1, 10, {.minimum = 0.1}).at(1'000'000'000'000) == 0.1);
  CHECK(optim::exponential_decay(1, 1, 0.5, {.minimum = 0.1}).at(100) == 0.1);
  CHECK(optim::step_decay(1, 5, 0.1, {.minimum = 0.05}).at(9) == doctest::Approx(0.1));
  CHECK(optim::step_decay(1, 5, 0.1, {.minimum = 0.05}).at(10) == 0.05);
}

TEST_CASE("an optimizer takes a number, a schedule or a function, and each update has the rate of its iteration") {
  const auto moves = [](const LearningRate& rate) {
    const Parameter p(zeros({1}, {float64}));
    optim::SGD sgd(std::vector<Parameter>{p}, {.learning_rate = rate});
    std::vector<double> values;
    for (int i = 0; i < 4; ++i) {
      const double before = p.value().item(), told = sgd.learning_rate();
      set_gradient(p, ones({1}, {float64}));
      sgd.step();
      values.push_back(before - p.value().item());
      CHECK(values.back() == doctest::Approx(told));
    }
    return values;
  };
  using Values = std::vector<double>;
  CHECK(moves(1) == Values{1, 1, 1, 1});
  CHECK(moves(0.5) == Values{0.5, 0.5, 0.5, 0.5});
  CHECK(moves(optim::step_decay(1, 2, 0.5)) == Values{1, 1, 0.5, 0.5});
  CHECK(moves(halved) == Values{1, 1, 0.5, 0.5});
  CHECK(moves([](int64_t i) { return i == 3 ? 0.0 : 2.0; }) == Values{2, 2, 2, 0});
}

TEST_CASE("set_learning_rate replaces a schedule, fresh() keeps it, and attach begins it anew") {
  const Parameter p(zeros({1}));
  optim::Adam adam(std::vector<Parameter>{p}, {.learning_rate = optim::step_decay(1, 1, 0.5)});
  set_gradient(p, ones({1}));
  adam.step();
  CHECK(adam.learning_rate() == 0.5);
  CHECK(adam.fresh().learning_rate() == 1);
  adam.set_learning_rate(0.25);
  adam.step();
  CHECK(adam.learning_rate() == 0.25);
  adam.set_learning_rate(optim::step_decay(8, 2, 0.5));
  CHECK(adam.learning_rate() == 4);  // after two updates
  adam.attach({p});
  CHECK(adam.learning_rate() == 8);
}

TEST_CASE("an update with a rate of one's own that is no rate is refused before anything changes") {
  const Parameter p(zeros({1}));
  optim::Adam adam(std::vector<Parameter>{p}, {.learning_rate = [](int64_t i) { return i == 0 ? 0.1 : -1.0; }});
  set_gradient(p, ones({1}));
  adam.step();
  const Tensor before = p.value().clone();
  CHECK(error_text([&] { adam.step(); }) == "[adam] the learning rate must be finite and not negative, got -1");
  CHECK(adam.iterations() == 1);
  CHECK(same_bits(p.value(), before));
}

TEST_CASE("schedules refuse what is none") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  check_wrong_use({
      {"[step_decay] the rate must be finite and not negative, got -1", [] { optim::step_decay(-1, 10); }},
      {"[step_decay] steps must be at least 1, got 0", [] { optim::step_decay(1, 0); }},
      {"[step_decay] the factor must be in [0, 1], got 1.5", [] { optim::step_decay(1, 10, 1.5); }},
      {"[exponential_decay] the rate must be finite and not negative, got nan",
       [=] { optim::exponential_decay(nan, 10, 0.5); }},
      {"[exponential_decay] the factor must be in [0, 1], got nan", [=] { optim::exponential_decay(1, 10, nan); }},
      {"[exponential_decay] the warmup must not be negative, got -1",
       [] { optim::exponential_decay(1, 10, 0.5, {.warmup = -1}); }},
      {"[cosine_decay] steps must be at least 1, got -3", [] { optim::cosine_decay(1, -3); }},
      {"[cosine_decay] the minimum must be finite and not negative, got -1",
       [] { optim::cosine_decay(1, 10, {.minimum = -1}); }},
      {"[cosine_decay] the minimum must not be above the rate: 2 and 1",
       [] { optim::cosine_decay(1, 10, {.minimum = 2}); }},
      {"[learning_rate] the function is null", [] { optim::Adam({.learning_rate = LearningRate::Function{nullptr}}); }},
      {"[adam] the learning rate must be finite and not negative, got -2",
       [] { optim::Adam({.learning_rate = [](int64_t) { return -2.0; }}); }},
  });
}
