// The same inputs, level and number of threads give the same bits; and where it is promised, any number of threads.
// Sizes here are such that each op is cut over 8 threads.
#include <functional>

#include "mica/core/threads.h"
#include "mica/ops/augment.h"
#include "mica/ops/compare.h"
#include "mica/ops/conv.h"
#include "mica/ops/dropout.h"
#include "mica/ops/einsum.h"
#include "mica/ops/index.h"
#include "mica/ops/loss.h"
#include "mica/ops/manipulate.h"
#include "mica/ops/matmul.h"
#include "mica/ops/pool.h"
#include "mica/ops/softmax.h"
#include "support/devices.h"
#include "support/golden.h"

using namespace mica;
using namespace mica::test;

namespace {

// What does not depend on the number of threads: nothing, the result, or the gradients as well.
enum class Promise { nothing, result, all };

struct Computation {
  std::string name;
  std::function<Tensor(const Tensors&)> op;
  std::vector<Shape> inputs;
  Promise same_at_any_number = Promise::nothing;
};

// y, and the gradient of sum(y * y) to each input.
Tensors results(const Computation& c, DType dtype) {
  Tape tape;
  Tensors xs;
  for (size_t i = 0; i < c.inputs.size(); ++i) {
    xs.push_back(sample(c.inputs[i], dtype, i, 0.1, 2));
    tape.watch(xs.back());
  }
  Tensors all = {c.op(xs)};
  if (!tape.producer(all[0])) return all;
  for (Tensor& gradient : tape.gradient(sum(all[0] * all[0]), xs)) all.push_back(gradient);
  return all;
}

void check_same(const Tensors& actual, const Tensors& expected) {
  REQUIRE(actual.size() == expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    CAPTURE(i);
    CHECK(same_bits(actual[i], expected[i]));
  }
}

std::vector<Computation> computations() {
  const Shape wide{257, 513};
  std::vector<Computation> all = {
      {"matmul", [](const Tensors& x) { return matmul(x[0], x[1]); }, {{257, 131}, {131, 129}}},
      {"matmul, wide", [](const Tensors& x) { return matmul(x[0], x[1]); }, {{3, 300}, {300, 1000}}},
      {"matmul, batched", [](const Tensors& x) { return matmul(x[0], x[1]); }, {{11, 40, 50}, {11, 50, 30}}},
      {"matmul, one right for all, transposed",
       [](const Tensors& x) {
         return matmul(x[0], x[1], {true, true});
       },
       {{11, 50, 40}, {30, 50}}},
      {"dense",
       [](const Tensors& x) { return dense(x[0], x[1], x[2], UnaryOp::relu); },
       {{128, 200}, {200, 100}, {100}}},
      {"conv2d",
       [](const Tensors& x) { return conv2d(x[0], x[1], x[2], {.padding = Padding::same}); },
       {{11, 14, 14, 5}, {3, 3, 5, 17}, {17}}},
      {"conv2d of one image",
       [](const Tensors& x) { return conv2d(x[0], x[1], x[2], {.strides = 2}); },
       {{1, 33, 30, 3}, {3, 3, 3, 16}, {16}}},
      {"conv2d in groups, dilated",
       [](const Tensors& x) {
         return conv2d(x[0], x[1], x[2], {.padding = Padding::same, .dilation = 2, .groups = 3});
       },
       {{5, 14, 14, 6}, {3, 3, 2, 9}, {9}}},
      {"depthwise conv2d",
       [](const Tensors& x) { return conv2d(x[0], x[1], x[2], {.padding = Padding::same, .groups = 17}); },
       {{5, 14, 14, 17}, {3, 3, 1, 34}, {34}}},
      {"conv2d_transpose",
       [](const Tensors& x) { return conv2d_transpose(x[0], x[1], x[2], {.strides = 2}); },
       {{5, 7, 7, 6}, {3, 3, 9, 6}, {9}}},
      {"max_pool2d", [](const Tensors& x) { return max_pool2d(x[0], 2); }, {{16, 28, 28, 8}}, Promise::all},
      {"average_pool2d",
       [](const Tensors& x) { return average_pool2d(x[0], 3, {.strides = 1}); },
       {{16, 28, 28, 8}},
       Promise::all},
      {"softmax", [](const Tensors& x) { return softmax(x[0]); }, {wide}, Promise::all},
      {"log_softmax", [](const Tensors& x) { return log_softmax(x[0]); }, {wide}, Promise::all},
      {"cross_entropy", [](const Tensors& x) { return cross_entropy(x[0], x[1]); }, {wide, wide}, Promise::all},
      {"dropout",
       [](const Tensors& x) {
         return dropout(x[0], 0.5, {1, 2});
       },
       {wide},
       Promise::all},
      {"broadcast_to",
       [](const Tensors& x) {
         return broadcast_to(x[0], {257, 513});
       },
       {{257, 1}},
       Promise::all},
      {"transpose", [](const Tensors& x) { return transpose(x[0]); }, {wide}, Promise::all},
      {"concat",
       [](const Tensors& x) {
         return concat({x[0], x[1]}, 1);
       },
       {wide, {257, 100}},
       Promise::all},
      {"take",
       [](const Tensors& x) {
         return take(x[0], tensor({5, 1, 5, 5}, {int64}));
       },
       {wide},
       Promise::all},
      {"gather", [](const Tensors& x) { return gather(x[0], argsort(x[1], 0), 0); }, {wide, wide}, Promise::all},
      {"crop2d",
       [](const Tensors& x) {
         const Tensor places = arange(0, 33, 1, {int64}) - 16;
         return crop2d(x[0], places, places, {40, 30});
       },
       {{33, 32, 32, 5}},
       Promise::all},
      {"flip2d",
       [](const Tensors& x) {
         return flip2d(x[0], {}, random_bernoulli({33}, 0.5, {3, 4}, {uint8}));
       },
       {{33, 32, 32, 5}},
       Promise::all},
      {"sort", [](const Tensors& x) { return sort(x[0], 1); }, {wide}, Promise::all},
      {"cumsum", [](const Tensors& x) { return cumsum(x[0], 0); }, {wide}, Promise::all},
      {"prod", [](const Tensors& x) { return prod(x[0]); }, {{200003}}, Promise::all},
      {"max of columns", [](const Tensors& x) { return max(x[0], 0); }, {{7001, 3}}, Promise::all},
      {"where", [](const Tensors& x) { return where(less(x[0], 0), x[0], x[1]); }, {wide, {513}}, Promise::result},
      {"einsum", [](const Tensors& x) { return einsum("bij,kj->bki", x); }, {{5, 40, 30}, {20, 30}}},
      {"argmax", [](const Tensors& x) { return argmax(x[0], 0); }, {wide}, Promise::all},
      {"sum of all", [](const Tensors& x) { return sum(x[0]); }, {{1000003}}, Promise::all},
      {"sum of rows", [](const Tensors& x) { return sum(x[0], 1); }, {wide}, Promise::all},
      {"sum of columns", [](const Tensors& x) { return sum(x[0], 0); }, {{70001, 3}}, Promise::all},
      {"mean in the middle", [](const Tensors& x) { return mean(x[0], 1); }, {{3, 5000, 33}}, Promise::all},
      {"random_normal",
       [](const Tensors&) {
         return random_normal({99991}, 0, 1, {3, 4});
       },
       {},
       Promise::all},
  };
#define MICA_LINE(function, Functor) \
  all.push_back({#function, [](const Tensors& x) { return function(x[0]); }, {wide}, Promise::result});
  MICA_UNARY_OPS(MICA_LINE)
#undef MICA_LINE
#define MICA_LINE(function, Functor) \
  all.push_back({#function, [](const Tensors& x) { return function(x[0], x[1]); }, {wide, {513}}, Promise::result});
  MICA_BINARY_OPS(MICA_LINE)
#undef MICA_LINE
  return all;
}

}  // namespace

TEST_SUITE_BEGIN("threads");

TEST_CASE("each op gives the same bits twice, at 1, 2 and 8 threads") {
  for (const Computation& c : computations())
    for (const DType dtype : {float32, float64}) {
      if (dtype == float64 && c.same_at_any_number == Promise::result) continue;  // the same loops, and slow
      CAPTURE(c.name);
      CAPTURE(dtype);
      Tensors at_one;
      for (const int threads : thread_counts({1, 2, 8})) {
        CAPTURE(threads);
        const ThreadScope scope(threads);
        const Tensors first = results(c, dtype);
        check_same(results(c, dtype), first);
        if (threads == 1) at_one = first;
        if (c.same_at_any_number == Promise::all) check_same(first, at_one);
        if (c.same_at_any_number == Promise::result) check_same({first[0]}, {at_one[0]});
      }
    }
}

TEST_CASE("each op gives the same result at any number of threads, but for the order of additions") {
  for (const Computation& c : computations()) {
    if (c.same_at_any_number == Promise::all) continue;
    CAPTURE(c.name);
    Tensors at_one;
    for (const int threads : thread_counts({1, 3, 64})) {
      CAPTURE(threads);
      const ThreadScope scope(threads);
      const Tensors now = results(c, float32);
      if (threads == 1) at_one = now;
      for (size_t i = 0; i < now.size(); ++i) CHECK(close(now[i], at_one[i], kSums));
    }
  }
}

TEST_SUITE_END();
