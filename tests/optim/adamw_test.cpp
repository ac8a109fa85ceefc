// AdamW: PyTorch's steps, and what sets it apart from Adam.
#include "mica/optim/adamw.h"

#include "mica/optim/adam.h"
#include "support/optimizers.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;
using optim::AdamW;
using optim::AdamWOptions;

TEST_CASE("20 steps of AdamW are PyTorch's") {
  int cases = 0;
  for (const GoldenCase& c : golden("optim")) {
    if (c.op != "adamw") continue;
    ++cases;
    replay_steps(c, AdamW({.learning_rate = c.number("learning_rate"),
                           .beta1 = c.number("beta1"),
                           .beta2 = c.number("beta2"),
                           .epsilon = c.number("epsilon"),
                           .weight_decay = c.number("weight_decay")}));
  }
  CHECK(cases == 4);
}

TEST_CASE("AdamW keeps the rules of every optimizer") {
  check_rules([] { return AdamW({.learning_rate = 0.01}); });
}

TEST_CASE("AdamW without decay is Adam, to the bit") {
  const auto run = [](const auto& optimizer) {
    return trajectory([&] { return optimizer; }, {Parameter(sample({33}, float32, 7))});
  };
  CHECK(same_bits(run(AdamW({.weight_decay = 0})).back(), run(optim::Adam()).back()));
}

TEST_CASE("AdamW's decay shrinks the parameters by the rate times the decay, whatever the gradient") {
  const Parameter p(tensor({1, -2}, {float64}));
  AdamW adamw(std::vector<Parameter>{p}, {.learning_rate = 0.1, .weight_decay = 0.5});
  set_gradient(p, zeros({2}, {float64}));
  adamw.step();
  CHECK(close(p.value(), {0.95, -1.9}, kFloat64));
}

TEST_CASE("AdamW refuses what Adam refuses, in its own name") {
  std::vector<WrongUse> table;
  const auto add = [&](const std::string& text, AdamWOptions options) {
    table.push_back({"[adamw] " + text, [=] { AdamW adamw(options); }});
  };
  add("the learning rate must be finite and not negative, got -0.001", {.learning_rate = -1e-3});
  add("beta1 must be in [0, 1), got 1", {.beta1 = 1});
  add("beta2 must be in [0, 1), got -0.5", {.beta2 = -0.5});
  add("epsilon must be finite and not negative, got -1", {.epsilon = -1});
  add("the weight decay must be finite and not negative, got -1", {.weight_decay = -1});
  check_wrong_use(table);
}
