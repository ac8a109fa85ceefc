// Stochastic gradient descent: PyTorch's steps, and the rules of every optimizer.
#include "mica/optim/sgd.h"

#include <limits>

#include "support/optimizers.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;
using optim::SGD;
using optim::SGDOptions;

TEST_CASE("20 steps of SGD are PyTorch's, with momentum, Nesterov's, and weight decay") {
  int cases = 0;
  for (const GoldenCase& c : golden("optim")) {
    if (c.op != "sgd") continue;
    ++cases;
    replay_steps(c, SGD({.learning_rate = c.number("learning_rate"),
                         .momentum = c.number("momentum"),
                         .nesterov = c.flag("nesterov"),
                         .weight_decay = c.number("weight_decay")}));
  }
  CHECK(cases >= 5);
}

TEST_CASE("plain SGD keeps the rules of every optimizer") {
  check_rules([] { return SGD({.learning_rate = 0.1}); });
}

TEST_CASE("SGD with momentum keeps the rules of every optimizer") {
  check_rules([] { return SGD({.learning_rate = 0.1, .momentum = 0.9}); });
}

TEST_CASE("SGD with Nesterov's momentum and weight decay keeps the rules of every optimizer") {
  check_rules([] { return SGD({.learning_rate = 0.1, .momentum = 0.9, .nesterov = true, .weight_decay = 0.01}); });
}

TEST_CASE("plain SGD subtracts the learning rate times the gradient") {
  const Parameter p(tensor({1, 2}));
  SGD sgd(std::vector<Parameter>{p}, {.learning_rate = 0.5});
  set_gradient(p, tensor({2, -4}));
  sgd.step();
  CHECK(close(p.value(), {0, 4}));
}

TEST_CASE("SGD refuses rates that are negative or not finite, momentum outside of [0, 1), and Nesterov's without any") {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  std::vector<WrongUse> table;
  const auto add = [&](const std::string& text, SGDOptions options) {
    table.push_back({"[sgd] " + text, [=] { SGD sgd(options); }});
  };
  add("the learning rate must be finite and not negative, got nan", {.learning_rate = nan});
  add("the learning rate must be finite and not negative, got -0.1", {.learning_rate = -0.1});
  add("the learning rate must be finite and not negative, got inf", {.learning_rate = inf});
  add("the momentum must be in [0, 1), got 1", {.momentum = 1});
  add("the momentum must be in [0, 1), got -0.5", {.momentum = -0.5});
  add("the momentum must be in [0, 1), got nan", {.momentum = nan});
  add("the weight decay must be finite and not negative, got -1", {.weight_decay = -1});
  add("Nesterov's momentum needs a momentum above 0", {.nesterov = true});
  check_wrong_use(table);
}
