// The reductions and running sums of CUDA devices against the CPU's: what the tests of ops do not reach, which is sizes
// beyond a block or a chunk and memory that is not aligned.
#include <doctest/doctest.h>

#include <functional>

#include "support/kernel_calls.h"

using namespace mica;
using namespace mica::kernels;
using namespace mica::test;

namespace {

// Short and long rows, in one and several chunks; narrow and wide columns, in one and several chunks; with and without
// packs, of memory that is aligned or not.
void for_each_case(const std::function<void(const ReduceArgs& args, int64_t shift)>& body) {
  const int64_t cases[][3] = {{3, 0, 1},    {5, 1, 1},     {70, 3, 1},    {9, 64, 1},    {3, 1023, 1},  {2, 1025, 1},
                              {2, 0, 5},    {3, 4, 64},    {1, 20003, 1}, {3, 16388, 1}, {130, 2, 3},   {1, 1000, 3},
                              {2, 300, 33}, {1, 700, 132}, {1, 40000, 2}, {2, 5000, 8},  {1, 333, 1024}};
  for (const auto& sizes : cases)
    for (const int64_t shift : {0, 1}) {
      const int64_t outer = sizes[0], n = sizes[1], inner = sizes[2];
      CAPTURE(outer);
      CAPTURE(n);
      CAPTURE(inner);
      CAPTURE(shift);
      body({.outer = outer, .n = n, .inner = inner}, shift);
    }
}

int64_t count_of(const ReduceArgs& args) { return args.outer * args.n * args.inner; }

}  // namespace

TEST_CASE("sums over rows and columns of any size are the CPU's") {
  for (const DType dtype : {float32, float64, int64})
    for_each_case([&](ReduceArgs args, int64_t shift) {
      args.dtype = dtype;
      for (const Write write : {Write::overwrite, Write::accumulate}) {
        if (write == Write::accumulate && dtype == int64) continue;
        const Values x = values(dtype, whole_numbers(count_of(args)), shift);
        check_call({x}, {values(dtype, whole_numbers(args.outer * args.inner))}, [&](Call& call) {
          call.kernels.reduce_sum(call.context, args, dtype == int64 ? 1 : 0.5, call.in(0), call.out(0), write);
        });
      }
    });
}

TEST_CASE("maxima, minima, their positions and products are the CPU's, with NaN and without") {
  for (const DType dtype : {float32, float64, int32, int64, uint8})
    for_each_case([&](ReduceArgs args, int64_t shift) {
      args.dtype = dtype;
      const Values y = values(dtype, whole_numbers(args.outer * args.inner));
      const Values index = values(int64, whole_numbers(args.outer * args.inner));
      std::vector<double> numbers = whole_numbers(count_of(args)), signs = numbers;
      for (double& v : signs) v = v < 0 ? -1 : v > 8 && is_floating(dtype) ? 0.5 : 1;  // whose products are exact
      for (double& v : numbers) v = dtype == uint8 ? v + 9 : v;
      for (const bool nan : {false, true}) {
        if (nan && (!is_floating(dtype) || numbers.empty())) continue;
        if (nan) numbers[numbers.size() / 2] = numbers[numbers.size() / 3] = NAN;
        for (const ReduceOp op : {ReduceOp::max, ReduceOp::min}) {
          check_call({values(dtype, numbers, shift)}, {y},
                     [&](Call& call) { call.kernels.reduce(call.context, op, args, call.in(0), call.out(0)); });
          check_call({values(dtype, numbers, shift)}, {index}, [&](Call& call) {
            call.kernels.arg_reduce(call.context, op, args, call.in(0), static_cast<int64_t*>(call.out(0)));
          });
        }
      }
      check_call({values(dtype, dtype == uint8 ? numbers : signs, shift)}, {y}, [&](Call& call) {
        call.kernels.reduce(call.context, ReduceOp::product, args, call.in(0), call.out(0));
      });
    });
}

TEST_CASE("of nothing but the worst value, the first position is the best") {
  for (const ReduceOp op : {ReduceOp::max, ReduceOp::min})
    for (const int64_t n : {0, 7, 5000}) {
      const ReduceArgs args{.dtype = float64, .outer = 1, .n = n, .inner = 1};
      const Values x = values(float64, std::vector<double>(n, op == ReduceOp::max ? -INFINITY : INFINITY));
      check_call({x}, {values(int64, {-1})}, [&](Call& call) {
        call.kernels.arg_reduce(call.context, op, args, call.in(0), static_cast<int64_t*>(call.out(0)));
      });
    }
}

TEST_CASE("gradients of products are the CPU's, with zeros and without") {
  for (const DType dtype : {float32, float64})
    for_each_case([&](ReduceArgs args, int64_t shift) {
      args.dtype = dtype;
      for (const int zeros : {0, 1, 2}) {
        std::vector<double> x = whole_numbers(count_of(args));
        for (double& v : x) v = v < 0 ? -1 : 1;
        for (int i = 0; i < zeros && !x.empty(); ++i) x[(i + 1) * x.size() / 3] = 0;
        check_call({values(dtype, x, shift), values(dtype, whole_numbers(args.outer * args.inner))}, {values(dtype, x)},
                   [&](Call& call) {
                     call.kernels.product_gradient(call.context, args, call.in(0), call.in(1), call.out(0));
                   });
      }
    });
}

TEST_CASE("gradients of activations, and their sums, are the CPU's, in place and not") {
  for (const DType dtype : {float32, float64})
    for_each_case([&](const ReduceArgs& args, int64_t shift) {
      const int64_t m = args.outer * args.n, n = args.inner;
      for (const UnaryOp op : {UnaryOp::identity, UnaryOp::relu}) {
        check_call({values(dtype, whole_numbers(m * n), shift), values(dtype, whole_numbers(m * n, 7), shift)},
                   {values(dtype, whole_numbers(m * n)), values(dtype, whole_numbers(n))}, [&](Call& call) {
                     call.kernels.activation_gradient(call.context, op, dtype, m, n, call.in(0), call.in(1),
                                                      call.out(0), call.out(1), Write::accumulate);
                   });
        check_call({values(dtype, whole_numbers(m * n), shift)},
                   {values(dtype, whole_numbers(m * n, 7), shift), values(dtype, whole_numbers(n))}, [&](Call& call) {
                     call.kernels.activation_gradient(call.context, op, dtype, m, n, call.in(0), call.out(0),
                                                      call.out(0), call.out(1), Write::overwrite);
                   });
      }
    });
}

TEST_CASE("running sums along rows and columns of any size are the CPU's") {
  for (const DType dtype : {float32, float64, int64})
    for_each_case([&](ReduceArgs args, int64_t shift) {
      args.dtype = dtype;
      for (const bool reverse : {false, true})
        check_call({values(dtype, whole_numbers(count_of(args)), shift)},
                   {values(dtype, whole_numbers(count_of(args)))},
                   [&](Call& call) { call.kernels.cumsum(call.context, args, reverse, call.in(0), call.out(0)); });
    });
}
