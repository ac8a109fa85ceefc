// Attention against PyTorch's and against the softmax of all scores, its masks, its dropout, its caches; and rotary.
#include "mica/ops/attention.h"

#include <limits>

#include "mica/autograd/gradcheck.h"
#include "mica/core/threads.h"
#include "mica/ops/dropout.h"
#include "mica/ops/einsum.h"
#include "mica/ops/index.h"
#include "mica/ops/manipulate.h"
#include "mica/ops/softmax.h"
#include "support/devices.h"
#include "support/golden.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;

namespace {

constexpr RandomKey kKey{42, 7};

Tensor attend(const Tensors& x, const AttentionOptions& options = {}) {
  return scaled_dot_product_attention(x[0], x[1], x[2], options);
}

// q, k, v.
Tensors operands(int64_t b, int64_t tq, int64_t tk, int64_t n, int64_t d, int64_t dv, DType dtype = float64) {
  return {sample({b, tq, n, d}, dtype, 1), sample({b, tk, n, d}, dtype, 2), sample({b, tk, n, dv}, dtype, 3)};
}

Tensor mask_of(const Shape& shape, uint64_t seed = 1) { return random_bernoulli(shape, 0.6, {seed, 0}, {uint8}); }

// y and the gradients of sum(y * dy), for a dy that depends on its shape alone.
template <class F>
Tensors with_gradients(const F& f, Tensors xs) {
  Tape tape;
  for (Tensor& x : xs) tape.watch(x);
  Tensors all = {f(xs)};
  for (Tensor& g : tape.gradient(sum(all[0] * sample(all[0].shape(), all[0].dtype(), 9)), xs)) all.push_back(g);
  return all;
}

void check_same_bits(const Tensors& actual, const Tensors& expected) {
  REQUIRE(actual.size() == expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    CAPTURE(i);
    CHECK(same_bits(actual[i], expected[i]));
  }
}

// Steps [begin, end) of an axis.
Tensor narrow(const Tensor& x, int axis, int64_t begin, int64_t end) {
  std::vector<Range> ranges(static_cast<size_t>(axis));
  ranges.push_back({begin, end});
  return slice(x, ranges);
}

bool all_finite(const Tensor& x) {
  for (const double v : doubles(x))
    if (!std::isfinite(v)) return false;
  return true;
}

// The three slices [B, T, N, D] of a projection.
Tensors slices(const Tensor& qkv, int64_t heads) {
  const int64_t d = qkv.dim(2) / 3 / heads;
  const Tensor x = qkv.reshape({qkv.dim(0), qkv.dim(1), 3, heads, d});
  Tensors parts;
  for (int64_t i = 0; i < 3; ++i) parts.push_back(squeeze(narrow(x, 2, i, i + 1), 2));
  return parts;
}

}  // namespace

TEST_CASE("scaled_dot_product_attention, under every kind of mask, and rotary are PyTorch's, with their gradients") {
  for (const GoldenCase& c : golden("attention")) {
    const size_t gradients = replay(c, kSums, [&](const Tensors& x) {
      if (c.op == "rotary")
        return rotary(x[0], {.heads = static_cast<int64_t>(c.number("heads")),
                             .offset = static_cast<int64_t>(c.number("offset")),
                             .base = c.number("base")});
      return attend(x,
                    {.causal = c.flag("causal"), .mask = x.size() > 3 ? x[3] : Tensor(), .scale = c.number("scale")});
    });
    CHECK(gradients == (c.op == "rotary" ? 1 : 3));
  }
}

TEST_CASE("attention passes a gradient check, with masks, causal, with dropout and without") {
  struct Sizes {
    int64_t b, tq, tk, n, d, dv;
  };
  const Sizes all[] = {{1, 1, 1, 1, 1, 1}, {2, 3, 3, 2, 4, 4}, {1, 5, 3, 2, 3, 2}, {2, 2, 7, 1, 2, 5},
                       {0, 3, 3, 2, 4, 4}, {2, 0, 3, 1, 2, 2}, {2, 3, 0, 1, 2, 2}, {1, 2, 131, 1, 2, 1},
                       {1, 3, 3, 0, 2, 2}, {1, 3, 4, 1, 2, 0}};
  for (const Sizes& sizes : all) {
    const int64_t b = sizes.b, tq = sizes.tq, tk = sizes.tk, n = sizes.n;
    CAPTURE(b);
    CAPTURE(tq);
    CAPTURE(tk);
    CAPTURE(n);
    const Tensors x = operands(b, tq, tk, n, sizes.d, sizes.dv);
    const AttentionOptions ways[] = {{},
                                     {.causal = true},
                                     {.scale = 0.7},
                                     {.mask = mask_of({b, tk})},
                                     {.mask = mask_of({1, tq, tk}), .dropout = 0.3, .key = kKey},
                                     {.causal = true, .mask = mask_of({b, n, tq, tk})},
                                     {.causal = true, .dropout = 0.5, .key = kKey}};
    for (const AttentionOptions& way : ways) {
      CAPTURE(&way - ways);
      CHECK(gradcheck([&](const Tensors& t) { return attend(t, way); }, x) <= 1e-6);
    }
    CHECK(gradcheck([&](const Tensors& t) { return attend({t[0], t[0], t[0]}); }, {x[0]}) <= 1e-6);
  }
}

TEST_CASE("self_attention and rotary pass a gradient check") {
  for (const Shape& shape : {Shape{2, 3, 12}, Shape{1, 1, 6}, Shape{0, 2, 6}, Shape{2, 0, 6}, Shape{1, 5, 30}}) {
    CAPTURE(shape);
    CHECK(gradcheck([](const Tensors& x) { return self_attention(x[0], 2, {.causal = true}); }, {sample(shape)}) <=
          1e-6);
    const Shape heads{shape[0], shape[1], 3, shape[2] / 3 / 2 * 2};
    CHECK(gradcheck([](const Tensors& x) { return rotary(x[0], {.heads = 2, .offset = 3}); }, {sample(heads)}) <= 1e-6);
  }
}

TEST_CASE("attention is the product of softmax(scale q k') and v, gradients included, in tiles of any size and head") {
  struct Sizes {
    int64_t tq, tk, d, dv;
  };
  for (const Sizes& sizes : {Sizes{5, 7, 8, 4}, {150, 150, 70, 70}, {61, 200, 33, 40}, {300, 129, 3, 5}})
    for (const bool causal : {false, true})
      for (const DType dtype : {float32, float64}) {
        const int64_t tq = sizes.tq, tk = sizes.tk;
        CAPTURE(tq);
        CAPTURE(tk);
        CAPTURE(causal);
        CAPTURE(dtype);
        const Tensors x = operands(1, tq, tk, 2, sizes.d, sizes.dv, dtype);
        const Tensor seen = causal ? tri(tq, tk, tk - tq, {dtype}) : ones({tq, tk}, {dtype});
        const Tensors expected = with_gradients(
            [&](const Tensors& t) {
              const Tensor scores =
                  einsum("bind,bjnd->bnij", {t[0], t[1]}) / std::sqrt(static_cast<double>(t[0].dim(3)));
              const Tensor p = softmax(scores + (seen - 1) * 1e30) * max(seen, 1, true);  // 0 where nothing is seen
              return einsum("bnij,bjnd->bind", {p, t[2]});
            },
            x);
        const Tensors actual = with_gradients([&](const Tensors& t) { return attend(t, {.causal = causal}); }, x);
        for (size_t i = 0; i < actual.size(); ++i) {
          CAPTURE(i);
          CHECK(close(actual[i], expected[i], tolerance_of(dtype, kSums)));
        }
      }
}

TEST_CASE("self_attention gives the bits that scaled_dot_product_attention gives of its three slices") {
  for (const DType dtype : {float32, float64})
    for (const Shape& shape : {Shape{5, 2, 8}, {131, 3, 5}, {1, 1, 33}}) {
      const int64_t t = shape[0], heads = shape[1];
      CAPTURE(t);
      const Tensor qkv = sample({2, t, 3 * heads * shape[2]}, dtype, 4);
      const AttentionOptions ways[] = {{}, {.causal = true}, {.mask = mask_of({2, t})}, {.dropout = 0.2, .key = kKey}};
      for (const AttentionOptions& way : ways)
        check_same_bits(with_gradients([&](const Tensors& x) { return self_attention(x[0], heads, way); }, {qkv}),
                        with_gradients(
                            [&](const Tensors& x) {
                              return attend(slices(x[0], heads), way).reshape({2, x[0].dim(1), x[0].dim(2) / 3});
                            },
                            {qkv}));
    }
}

TEST_CASE("a causal query does not see what comes after it, and the last sees all") {
  const Tensors x = operands(1, 150, 150, 1, 4, 4, float32);
  const Tensor y = attend(x, {.causal = true});
  for (const int64_t i : {0, 1, 63, 127, 128, 149})
    CHECK(close(narrow(y, 1, i, i + 1),
                attend({narrow(x[0], 1, i, i + 1), narrow(x[1], 1, 0, i + 1), narrow(x[2], 1, 0, i + 1)}), kPointwise));
}

TEST_CASE("a query that may attend to nothing gives 0, and neither takes nor gives a gradient") {
  for (const DType dtype : {float32, float64}) {
    const Tensors x = operands(2, 3, 5, 2, 4, 4, dtype);
    Tensor mask = ones({2, 5}, {uint8});
    mask.slice(1, 2).fill(0);
    const Tensors all = with_gradients([&](const Tensors& t) { return attend(t, {.mask = mask}); }, x);
    for (const Tensor& each : all) {
      CHECK(close(each.slice(1, 2), zeros(each.slice(1, 2).shape()), kExact));
      CHECK(max(abs(each.slice(0, 1))).item() > 0);
    }
    // Causal with fewer keys than queries: the first queries precede all keys.
    const Tensor y = attend(operands(1, 5, 2, 1, 4, 4, dtype), {.causal = true});
    CHECK(close(narrow(y, 1, 0, 3), zeros({1, 3, 1, 4}), kExact));
    CHECK(min(abs(narrow(y, 1, 3, 5))).item() > 0);
  }
}

TEST_CASE("a key that is masked for all has no influence, whatever it holds but what is not a number") {
  const Tensors x = operands(1, 4, 6, 2, 8, 8, float32);
  Tensor k = x[1].clone(), v = x[2].clone();
  k.reshape({6, 16}).slice(2, 3).fill(1e30);
  v.reshape({6, 16}).slice(2, 3).fill(1e30);
  const Tensor mask = tensor({{1, 1, 0, 1, 1, 1}}, {uint8});
  CHECK(same_bits(attend({x[0], k, v}, {.mask = mask}), attend(x, {.mask = mask})));
}

TEST_CASE("large scores neither overflow nor underflow") {
  for (const double factor : {1e3, 1e18}) {
    const Tensors x = operands(1, 3, 200, 1, 8, 4, float32);
    const Tensors all = with_gradients([](const Tensors& t) { return attend(t); }, {x[0] * factor, x[1], x[2]});
    for (const Tensor& each : all) CHECK(all_finite(each));
    if (factor < 1e10) continue;  // one score is far above the others: its key's value is the result
    const Tensor best = argmax(einsum("bind,bjnd->ij", {x[0], x[1]}), 1);
    CHECK(close(all[0].reshape({3, 4}), take(x[2].reshape({200, 4}), best), kExact));
  }
}

TEST_CASE("NaN in a query is NaN in its result, and there alone") {
  Tensors x = operands(1, 3, 130, 1, 8, 4, float32);
  x[0].reshape({3, 8}).slice(1, 2).fill(std::numeric_limits<double>::quiet_NaN());
  const std::vector<double> y = doubles(attend(x));
  for (size_t i = 0; i < y.size(); ++i) CHECK(std::isnan(y[i]) == (i / 4 == 1));
}

TEST_CASE("sizes of 0 are allowed: no keys give 0, no queries give nothing") {
  CHECK(close(attend(operands(2, 3, 0, 1, 4, 2)), zeros({2, 3, 1, 2}), kExact));
  CHECK(attend(operands(2, 0, 3, 1, 4, 2)).shape() == Shape{2, 0, 1, 2});
  CHECK(attend(operands(0, 3, 3, 1, 4, 2)).shape() == Shape{0, 3, 1, 2});
  CHECK(attend(operands(2, 3, 3, 0, 4, 2)).shape() == Shape{2, 3, 0, 2});
  CHECK(attend(operands(2, 3, 3, 1, 4, 0)).shape() == Shape{2, 3, 1, 0});
  CHECK(self_attention(zeros({2, 0, 24}), 2).shape() == Shape{2, 0, 8});
  CHECK(rotary(zeros({2, 0, 3, 4})).shape() == Shape{2, 0, 3, 4});
  CHECK(rotary(zeros({2, 3, 1, 0})).shape() == Shape{2, 3, 1, 0});
}

TEST_CASE("attention over a cache gives the bits of attention over the steps that are in use") {
  constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();
  for (const DType dtype : {float32, float64})
    for (const int64_t length : {0, 1, 5, 130}) {
      CAPTURE(length);
      for (const int64_t tq : {1, 3, 20}) {
        const Tensors x = operands(2, tq, length, 3, 8, 5, dtype);
        const auto cache = [&](const Tensor& steps) {  // what is not in use is never read
          return concat({steps, full({2, 7, 3, steps.dim(3)}, kNothing, {dtype})}, 1);
        };
        const AttentionOptions ways[] = {{}, {.causal = true}, {.mask = mask_of({2, length})}};
        for (const AttentionOptions& way : ways)
          CHECK(same_bits(cached_attention(x[0], cache(x[1]), cache(x[2]), length, way), attend(x, way)));
      }
    }
}

TEST_CASE("one query after another over a cache is causal attention") {
  const Tensors x = operands(2, 9, 9, 2, 8, 8, float32);
  const Tensor y = attend(x, {.causal = true});
  for (int64_t i = 0; i < 9; ++i)
    CHECK(close(cached_attention(narrow(x[0], 1, i, i + 1), x[1], x[2], i + 1, {.causal = true}),
                narrow(y, 1, i, i + 1), kPointwise));
}

TEST_CASE("dropout drops the probabilities that dropout() drops of a tensor [B, N, Tq, Tk] under the same key") {
  for (const DType dtype : {float32, float64}) {
    const int64_t b = 2, tq = 5, tk = 131, n = 3;
    const Tensors x = operands(b, tq, tk, n, 4, 4, dtype);
    const Tensor p = softmax(einsum("bind,bjnd->bnij", {x[0], x[1]}) / 2);
    const Tensor y = attend(x, {.dropout = 0.4, .key = kKey});
    CHECK(close(y, einsum("bnij,bjnd->bind", {dropout(p, 0.4, kKey), x[2]}), tolerance_of(dtype, kSums)));
    CHECK(same_bits(attend(x, {.dropout = 0.4, .key = kKey}), y));
    CHECK(!same_bits(attend(x, {.dropout = 0.4, .key = {42, 8}}), y));
    CHECK(same_bits(attend(x, {.dropout = 0, .key = kKey}), attend(x)));
  }
}

TEST_CASE("dropout keeps the mean") {
  // Values of 1: a row's result is the sum of the probabilities that are left.
  const Tensors x = {zeros({4, 300, 2, 1}), zeros({4, 300, 2, 1}), ones({4, 300, 2, 1})};
  for (const double rate : {0.1, 0.5, 0.9}) {
    const double mean_now = mean(attend(x, {.dropout = rate, .key = kKey})).item();
    CHECK(std::fabs(mean_now - 1) < 5 * std::sqrt(rate / (1 - rate) / (4 * 300 * 2 * 300)));
  }
}

TEST_CASE("rotary keeps lengths, and makes the product of query and key a function of their distance") {
  const Tensor q = sample({1, 1, 1, 32}, float64, 1), k = sample({1, 1, 1, 32}, float64, 2);
  const auto product = [&](int64_t i, int64_t j) {
    return sum(rotary(q, {.offset = i}) * rotary(k, {.offset = j})).item();
  };
  for (const int64_t far : {1, 1000, 999'000}) {
    CHECK(product(far + 5, far) == doctest::Approx(product(5, 0)).epsilon(1e-9));
    CHECK(sum(square(rotary(q, {.offset = far}))).item() == doctest::Approx(sum(square(q)).item()).epsilon(1e-12));
  }
  CHECK(std::fabs(product(6, 0) - product(5, 0)) > 1e-3);
  CHECK(same_bits(rotary(q), q));  // position 0
}

TEST_CASE("rotary of the first heads copies the others, and continues at its offset") {
  const Tensor x = sample({2, 6, 5, 8}, float32);
  const Tensor all = rotary(x), some = rotary(x, {.heads = 2});
  CHECK(same_bits(narrow(some, 2, 0, 2), narrow(all, 2, 0, 2)));
  CHECK(same_bits(narrow(some, 2, 2, 5), narrow(x, 2, 2, 5)));
  CHECK(same_bits(rotary(narrow(x, 1, 4, 6), {.offset = 4}), narrow(all, 1, 4, 6)));
}

TEST_SUITE_BEGIN("threads");

TEST_CASE("attention and its gradients have the same bits for any number of threads") {
  const Tensors x = operands(1, 200, 300, 3, 16, 8, float32);
  const AttentionOptions ways[] = {{}, {.causal = true, .dropout = 0.2, .key = kKey}};
  for (const AttentionOptions& way : ways) {
    Tensors at_one, rotated_at_one;
    for (const int threads : thread_counts({1, 2, 8})) {
      CAPTURE(threads);
      const ThreadScope scope(threads);
      const Tensors now = with_gradients([&](const Tensors& t) { return attend(t, way); }, x);
      const Tensors rotated = with_gradients([](const Tensors& t) { return rotary(t[0]); }, {x[0]});
      if (threads == 1) at_one = now, rotated_at_one = rotated;
      check_same_bits(now, at_one);
      check_same_bits(rotated, rotated_at_one);
    }
  }
}

TEST_SUITE_END();

TEST_CASE("attention refuses operands that do not fit") {
  const Tensor q = ones({2, 3, 4, 8}), k = ones({2, 5, 4, 8});
  const auto call = [](Tensor a, Tensor b, Tensor c, AttentionOptions options = {}) {
    return [=] { scaled_dot_product_attention(a, b, c, options); };
  };
  const std::string op = "[scaled_dot_product_attention] ";
  const std::string masks =
      op +
      "the mask must be [2,5], [2,3,5] or [2,4,3,5] (1 for the examples or heads that share one), "
      "got ";
  const double nan = std::numeric_limits<double>::quiet_NaN();
  check_wrong_use({
      {op + "the query is undefined", call({}, k, k)},
      {op + "the query must be float32 or float64, got int32", call(q.to(int32), k, k)},
      {op + "dtypes must match: float32 and float64 (the key)", call(q, k.to(float64), k)},
      {op + "the value is undefined", call(q, k, {})},
      {op + "queries, keys and values must be [B,T,N,D], got [2,3,32], [2,5,4,8] and [2,5,4,8]",
       call(q.reshape({2, 3, 32}), k, k)},
      {op + "keys must have the queries' batch, heads and features: queries [2,3,4,8], keys [2,5,8,4]",
       call(q, k.reshape({2, 5, 8, 4}), k)},
      {op + "values must have the keys' batch, length and heads: keys [2,5,4,8], values [2,3,4,8]", call(q, k, q)},
      {op + "queries and keys must have at least one feature", call(ones({2, 3, 4, 0}), ones({2, 5, 4, 0}), k)},
      {op + "the scale must be finite, got nan", call(q, k, k, {.scale = nan})},
      {op + "dropout must be in [0, 1), got 1", call(q, k, k, {.dropout = 1})},
      {op + "dropout must be in [0, 1), got nan", call(q, k, k, {.dropout = nan})},
      {op + "the mask must be uint8, got float32", call(q, k, k, {.mask = ones({2, 5})})},
      {masks + "[5]", call(q, k, k, {.mask = ones({5}, {uint8})})},
      {masks + "[3,5]", call(q, k, k, {.mask = ones({3, 5}, {uint8})})},
      {masks + "[1,5]", call(q, k, k, {.mask = ones({1, 5}, {uint8})})},
      {masks + "[2,1,5]", call(q, k, k, {.mask = ones({2, 1, 5}, {uint8})})},
      {masks + "[2,3,3,5]", call(q, k, k, {.mask = ones({2, 3, 3, 5}, {uint8})})},
      {masks + "[1,1,1,3,5]", call(q, k, k, {.mask = ones({1, 1, 1, 3, 5}, {uint8})})},
  });
}

TEST_CASE("self_attention, cached_attention and rotary refuse what does not fit") {
  const Tensor x = ones({2, 3, 24}), q = ones({2, 1, 4, 8}), cache = ones({2, 9, 4, 8}), r = ones({2, 3, 4, 8});
  check_wrong_use({
      {"[self_attention] the input must be [B,T,3*N*D], got [2,3,2,12]",
       [=] {
         self_attention(x.reshape({2, 3, 2, 12}), 2);
       }},
      {"[self_attention] there must be at least one head, got 0", [=] { self_attention(x, 0); }},
      {"[self_attention] the last axis must be 3 * 3 heads * features, got [2,3,24]", [=] { self_attention(x, 3); }},
      {"[self_attention] queries and keys must have at least one feature",
       [=] {
         self_attention(ones({2, 3, 0}), 2);
       }},
      {"[self_attention] the mask must be [2,3], [2,3,3] or [2,2,3,3] (1 for the examples or heads that share one), "
       "got "
       "[3,3]",
       [=] {
         self_attention(x, 2, {.mask = ones({3, 3}, {uint8})});
       }},
      {"[cached_attention] the length must be in [0, 9], got 10", [=] { cached_attention(q, cache, cache, 10); }},
      {"[cached_attention] the length must not be negative, got -1", [=] { cached_attention(q, cache, cache, -1); }},
      {"[cached_attention] a cache has no gradient: use scaled_dot_product_attention under a tape, or pause the tape",
       [=] {
         Tape tape;
         Tensor watched = q;
         tape.watch(watched);
         cached_attention(watched, cache, cache, 3);
       }},
      {"[rotary] the input must be [B,T,G,D], got [2,3,24]", [=] { rotary(x); }},
      {"[rotary] the features of a head must be even in number, got [2,3,8,3]",
       [=] {
         rotary(x.reshape({2, 3, 8, 3}));
       }},
      {"[rotary] the heads must be in [0, 4], got 5", [=] { rotary(r, {.heads = 5}); }},
      {"[rotary] the offset must be in [0, 2^53], got -1", [=] { rotary(r, {.offset = -1}); }},
      {"[rotary] the base must be finite and positive, got 0", [=] { rotary(r, {.base = 0}); }},
  });
}
