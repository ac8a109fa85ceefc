// Activations: functions with names.
#include "mica/nn/activation.h"

#include <doctest/doctest.h>

#include "mica/ops/elementwise.h"
#include "nn/helpers.h"
#include "support/error_text.h"

using namespace mica;
using namespace mica::test;

namespace {

Tensor leaky(const Tensor& x) { return maximum(x, 0.1 * x); }
Tensor nameless(const Tensor& x) { return 2 * x; }

}  // namespace

TEST_CASE("activation: Mica's functions have the names that they have in the code, both ways") {
  const Tensor x = tensor({{-1, 0.5, 2}});
#define MICA_CHECK(f, Functor)                         \
  CHECK(nn::Activation(f).name() == #f);               \
  CHECK(nn::Activation::named(#f).op() == UnaryOp::f); \
  CHECK(same_bits(nn::Activation::named(#f)(square(x)), f(square(x))));
  MICA_UNARY_OPS(MICA_CHECK)
#undef MICA_CHECK
#define MICA_CHECK(f)                    \
  CHECK(nn::Activation(f).name() == #f); \
  CHECK(same_bits(nn::Activation::named(#f)(x), f(x)));
  MICA_OTHER_ACTIVATIONS(MICA_CHECK)
#undef MICA_CHECK
  CHECK(nn::Activation().name() == "identity");
}

TEST_CASE("activation: a scalar function is one that kernels can fuse; others are applied after") {
  const Tensor x = tensor({-1, 2});
  CHECK(nn::Activation(relu).op() == UnaryOp::relu);
  CHECK(nn::Activation(relu).after(x).shares_storage_with(x));
  CHECK(nn::Activation(softmax).op() == UnaryOp::identity);
  CHECK(same_bits(nn::Activation(softmax).after(x), softmax(x)));
}

TEST_CASE("activation: a function of one's own works at once, and has a name once it is registered") {
  const nn::Activation own(leaky);
  CHECK(floats(own(tensor({-10, 3}))) == std::vector<float>{-1, 3});
  CHECK(own.op() == UnaryOp::identity);
  nn::register_activation("leaky", leaky);
  CHECK(own.name() == "leaky");
  CHECK(same_bits(nn::Activation::named("leaky")(tensor({-10, 3})), leaky(tensor({-10, 3}))));
}

TEST_CASE("activation: a lambda without captures is one, too") {
  const nn::Activation twice = [](const Tensor& x) { return 2 * x; };
  CHECK(floats(twice(tensor({1, 2}))) == std::vector<float>{2, 4});
}

TEST_CASE("activation: wrong names") {
  CHECK(error_text([] { nn::Activation::named("relo"); }) ==
        "[activation] there is no activation \"relo\": register_activation names one's own");
  CHECK(error_text([] { nn::Activation(nameless).name(); }) ==
        "[activation] the function has no name: give it one with register_activation");
  CHECK(error_text([] { nn::register_activation("relu", nameless); }) ==
        "[register_activation] \"relu\" is one of Mica's own functions");
  CHECK(error_text([] { nn::register_activation("softmax", nameless); }) ==
        "[register_activation] \"softmax\" is one of Mica's own functions");
}
