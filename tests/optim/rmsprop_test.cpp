// RMSprop: PyTorch's steps, and the rules of every optimizer.
#include "mica/optim/rmsprop.h"

#include "support/optimizers.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;
using optim::RMSprop;
using optim::RMSpropOptions;

TEST_CASE("20 steps of RMSprop are PyTorch's, with momentum, centered, and weight decay") {
  int cases = 0;
  for (const GoldenCase& c : golden("optim")) {
    if (c.op != "rmsprop") continue;
    ++cases;
    replay_steps(c, RMSprop({.learning_rate = c.number("learning_rate"),
                             .alpha = c.number("alpha"),
                             .epsilon = c.number("epsilon"),
                             .momentum = c.number("momentum"),
                             .centered = c.flag("centered"),
                             .weight_decay = c.number("weight_decay")}));
  }
  CHECK(cases == 6);
}

TEST_CASE("RMSprop keeps the rules of every optimizer") {
  check_rules([] { return RMSprop({.learning_rate = 0.01}); });
}

TEST_CASE("RMSprop with momentum, centered, keeps the rules of every optimizer") {
  check_rules([] { return RMSprop({.learning_rate = 0.01, .epsilon = 1e-2, .momentum = 0.9, .centered = true}); });
}

TEST_CASE("centered RMSprop stays finite where all gradients are equal, and NaN stays NaN") {
  const Parameter p(zeros({1}));
  RMSprop rmsprop(std::vector<Parameter>{p}, {.alpha = 0.3, .centered = true});
  for (int i = 0; i < 100; ++i) {
    set_gradient(p, full({1}, 0.1));
    rmsprop.step();
  }
  CHECK(std::isfinite(p.value().item()));
  set_gradient(p, full({1}, NAN));
  rmsprop.step();
  CHECK(std::isnan(p.value().item()));
}

TEST_CASE("RMSprop refuses rates that are negative or not finite, and shares outside of [0, 1)") {
  std::vector<WrongUse> table;
  const auto add = [&](const std::string& text, RMSpropOptions options) {
    table.push_back({"[rmsprop] " + text, [=] { RMSprop rmsprop(options); }});
  };
  add("the learning rate must be finite and not negative, got -0.1", {.learning_rate = -0.1});
  add("alpha must be in [0, 1), got 1", {.alpha = 1});
  add("epsilon must be finite and not negative, got -1", {.epsilon = -1});
  add("the momentum must be in [0, 1), got 1", {.momentum = 1});
  add("the weight decay must be finite and not negative, got -1", {.weight_decay = -1});
  check_wrong_use(table);
}
