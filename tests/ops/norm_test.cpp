// Batch and layer normalization against PyTorch's, and their gradients.
#include "mica/ops/norm.h"

#include <limits>

#include "mica/autograd/gradcheck.h"
#include "mica/ops/manipulate.h"
#include "support/golden.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;

namespace {

Tensor at(const Tensors& x, size_t i) { return i < x.size() ? x[i] : Tensor(); }

}  // namespace

TEST_CASE("batch_norm, by the batch and by given statistics, and layer_norm are PyTorch's, with their gradients") {
  for (const GoldenCase& c : golden("norm"))
    replay(c, kSums, [&](const Tensors& x) {
      if (c.op == "batch_norm") return batch_norm(x[0], at(x, 1), at(x, 2)).y;
      if (c.op == "layer_norm") return layer_norm(x[0], at(x, 1), at(x, 2));
      return batch_norm_inference(x[0], x[1], x[2], at(x, 3), at(x, 4));
    });
}

TEST_CASE("normalizations pass a gradient check, with gamma and beta and without") {
  const Shape shapes[] = {{4, 3}, {2, 1}, {0, 3}, {3, 0}, {2, 3, 5}, {5, 2, 2, 3}, {3, 65}};
  for (const Shape& shape : shapes) {
    CAPTURE(shape);
    const Tensor x = sample(shape, float64, 1), gamma = sample({shape[-1]}, float64, 2), beta = sample({shape[-1]}),
                 mean = sample({shape[-1]}, float64, 3), variance = sample({shape[-1]}, float64, 4, 0.5, 2);
    CHECK(gradcheck([](const Tensors& t) { return batch_norm(t[0], t[1], t[2]).y; }, {x, gamma, beta}) <= 1e-6);
    CHECK(gradcheck([](const Tensors& t) { return batch_norm(t[0]).y; }, {x}) <= 1e-6);
    CHECK(gradcheck([](const Tensors& t) { return batch_norm(t[0], t[1]).y; }, {x, gamma}) <= 1e-6);
    CHECK(gradcheck([&](const Tensors& t) { return batch_norm_inference(t[0], mean, variance, t[1], t[2]); },
                    {x, gamma, beta}) <= 1e-6);
    CHECK(gradcheck([](const Tensors& t) { return layer_norm(t[0], t[1], t[2]); }, {x, gamma, beta}) <= 1e-6);
    CHECK(gradcheck([](const Tensors& t) { return layer_norm(t[0]); }, {x}) <= 1e-6);
  }
}

TEST_CASE("batch_norm gives the batch's mean and its variance, which divides by the number of values") {
  const BatchNormResult r = batch_norm(tensor({{1, 10}, {3, 10}, {5, 40}}));
  CHECK(close(r.mean, {3, 20}));
  CHECK(close(r.variance, tensor({8.0 / 3, 200}), kPointwise));
  CHECK(close(mean(r.y, 0), tensor({0, 0}), {0, 1e-6}));
}

TEST_CASE("statistics of values far from 0 keep their digits") {
  for (const DType dtype : {float32, float64}) {
    const Tensor x = sample({100000, 2}, dtype, 1) + 1000;
    const BatchNormResult r = batch_norm(x);
    CHECK(close(r.variance, var(x.to(float64), 0), {1e-5, 0}));
    CHECK(close(var(layer_norm(transpose(x)), 1), tensor({1, 1}), {1e-3, 0}));
  }
}

TEST_CASE("a column or row of one value is its beta") {
  CHECK(close(batch_norm(full({1, 2}, 7), {}, tensor({3, 4})).y, {3, 4}));
  CHECK(close(layer_norm(full({2, 1}, 7), tensor({5}), tensor({3})), {3, 3}));
}

TEST_CASE("statistics of the batch are not the tape's: nothing follows them") {
  Tape tape;
  Tensor x = sample({4, 2}, float32);
  tape.watch(x);
  const BatchNormResult r = batch_norm(x);
  CHECK(tape.wants(r.y));
  CHECK(!tape.wants(r.mean));
  CHECK(!tape.wants(r.variance));
}

TEST_CASE("normalizations refuse what does not fit") {
  const Tensor x = ones({2, 3}), three = ones({3});
  check_wrong_use({
      {"[batch_norm] gamma must have one value for each of the last axis' 3, got [2]",
       [=] { batch_norm(x, ones({2})); }},
      {"[batch_norm] beta must have one value for each of the last axis' 3, got [1,3]",
       [=] {
         batch_norm(x, three, ones({1, 3}));
       }},
      {"[batch_norm_inference] the mean must have one value for each of the last axis' 3, got [1]",
       [=] { batch_norm_inference(x, ones({1}), three, {}, {}); }},
      {"[batch_norm_inference] the variance is undefined", [=] { batch_norm_inference(x, three, {}, {}, {}); }},
      {"[batch_norm] epsilon must be finite and not negative, got -1", [=] { batch_norm(x, {}, {}, -1); }},
      {"[batch_norm] the input must be float32 or float64, got int32", [=] { batch_norm(x.to(int32)); }},
      {"[layer_norm] the input must have an axis to normalize, shape []", [=] { layer_norm(ones({})); }},
      {"[layer_norm] dtypes must match: float32 and float64 (gamma)", [=] { layer_norm(x, three.to(float64)); }},
      {"[layer_norm] epsilon must be finite and not negative, got nan",
       [=] { layer_norm(x, {}, {}, std::numeric_limits<double>::quiet_NaN()); }},
  });
}
