// Adam: PyTorch's steps, and the rules of every optimizer.
#include "mica/optim/adam.h"

#include <limits>

#include "support/optimizers.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;
using optim::Adam;
using optim::AdamOptions;

TEST_CASE("20 steps of Adam are PyTorch's") {
  int cases = 0;
  for (const GoldenCase& c : golden("optim")) {
    if (c.op != "adam") continue;
    ++cases;
    replay_steps(c, Adam({.learning_rate = c.number("learning_rate"),
                          .beta1 = c.number("beta1"),
                          .beta2 = c.number("beta2"),
                          .epsilon = c.number("epsilon"),
                          .weight_decay = c.number("weight_decay")}));
  }
  CHECK(cases >= 5);
}

TEST_CASE("Adam keeps the rules of every optimizer") {
  check_rules([] { return Adam({.learning_rate = 0.01}); });
}

TEST_CASE("Adam's first step is the learning rate, whatever the size of the gradient") {
  for (const double size : {1e-3, 1.0, 1e3}) {
    const Parameter p(zeros({2}));
    Adam adam(std::vector<Parameter>{p}, {.learning_rate = 0.1});
    set_gradient(p, tensor({size, -size}));
    adam.step();
    CHECK(close(p.value(), {-0.1, 0.1}, {1e-4, 0}));
  }
}

TEST_CASE("Adam refuses rates that are negative or not finite, and betas outside of [0, 1)") {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  std::vector<WrongUse> table;
  const auto add = [&](const std::string& text, AdamOptions options) {
    table.push_back({"[adam] " + text, [=] { Adam adam(options); }});
  };
  add("the learning rate must be finite and not negative, got nan", {.learning_rate = nan});
  add("the learning rate must be finite and not negative, got -0.001", {.learning_rate = -1e-3});
  add("the learning rate must be finite and not negative, got inf", {.learning_rate = inf});
  add("beta1 must be in [0, 1), got 1", {.beta1 = 1});
  add("beta1 must be in [0, 1), got nan", {.beta1 = nan});
  add("beta2 must be in [0, 1), got 1", {.beta2 = 1});
  add("beta2 must be in [0, 1), got -0.5", {.beta2 = -0.5});
  add("epsilon must be finite and not negative, got -1", {.epsilon = -1});
  add("epsilon must be finite and not negative, got nan", {.epsilon = nan});
  add("the weight decay must be finite and not negative, got -1", {.weight_decay = -1});
  add("the weight decay must be finite and not negative, got inf", {.weight_decay = inf});
  check_wrong_use(table);
  CHECK(Adam({.learning_rate = 0, .beta1 = 0, .beta2 = 0, .epsilon = 0}).defined());
}
