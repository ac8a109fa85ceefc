// Tensors: how they are made, what they share, and what is refused.
#include "mica/core/tensor.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "mica/core/memory.h"
#include "support/devices.h"
#include "support/error_text.h"
#include "support/tensors.h"

using namespace mica;
using mica::test::close;
using mica::test::contains;
using mica::test::error_text;
using mica::test::kExact;

namespace {

template <class T>
std::vector<T> list(const Tensor& x) {
  const auto values = x.values<T>();
  return {values.begin(), values.end()};
}

using Floats = std::vector<float>;

}  // namespace

TEST_CASE("tensor: a default-constructed one is undefined") {
  const Tensor x{};
  CHECK_FALSE(x.defined());
  CHECK(x.raw() == nullptr);
  CHECK(x.version() == 0);
  CHECK_FALSE(x.shares_storage_with(x));
  CHECK(to_string(x) == "undefined");
  CHECK(error_text([&] { x.data<float>(); }) == "[data] the tensor is undefined");
  CHECK(error_text([&] { x.item(); }) == "[item] the tensor must have one element, shape []");
  CHECK(error_text([&] { x.clone(); }) == "[clone] the tensor is undefined");
  CHECK(error_text([&] { x.to(float64); }) == "[to] the tensor is undefined");
  CHECK(error_text([&] { x.to(Device::cpu()); }) == "[to] the tensor is undefined");
  CHECK(error_text([&] { x.reshape({1}); }) == "[reshape] the tensor is undefined");
  CHECK(error_text([&] {
          Tensor y;
          y.fill(1);
        }) == "[fill] the tensor is undefined");
  CHECK(contains(error_text([&] { x.slice(0, 0); }), "[slice] the tensor must have an axis to slice"));
}

TEST_CASE("tensor: from a number, a list, rows, and any values with a shape") {
  const Tensor scalar(2.5);
  CHECK(scalar.rank() == 0);
  CHECK(scalar.dtype() == float32);
  CHECK(scalar.item() == 2.5);

  const Tensor vector = tensor({1, 2, 3});
  CHECK(vector.shape() == Shape{3});
  CHECK(list<float>(vector) == Floats{1, 2, 3});

  const Tensor matrix = tensor({{1, 2, 3}, {4, 5, 6}}, {int32});
  CHECK(matrix.shape() == Shape{2, 3});
  CHECK(matrix.dtype() == int32);
  CHECK(list<int32_t>(matrix) == std::vector<int32_t>{1, 2, 3, 4, 5, 6});

  const Tensor cube = tensor(std::vector<int64_t>{1, 2, 3, 4, 5, 6, 7, 8}, {2, 2, 2});
  CHECK(cube.dtype() == int64);
  CHECK(cube.at({1, 0, 1}) == 6);
  CHECK(tensor(std::vector<uint8_t>{}, {0, 3}).elements() == 0);
}

TEST_CASE("tensor: rows must have one length, and values fill the shape") {
  CHECK(error_text([] { tensor({{1, 2, 3}, {4, 5}}); }) == "[tensor] rows must have one length, got 3 and 2");
  CHECK(error_text([] {
          tensor(std::vector<float>{1, 2, 3}, {2, 2});
        }) == "[tensor] the number of values must match the shape: 3 values for [2,2]");
  CHECK(error_text([] { tensor(std::vector<float>{}, {}); }) ==
        "[tensor] the number of values must match the shape: 0 values for []");
}

TEST_CASE("tensor: zeros, ones, full, empty and those like another") {
  CHECK(list<float>(zeros({2})) == Floats{0, 0});
  CHECK(list<double>(ones({2}, {float64})) == std::vector<double>{1, 1});
  CHECK(list<int64_t>(full({2, 1}, -7, {int64})) == std::vector<int64_t>{-7, -7});
  CHECK(list<uint8_t>(full({1}, 200, {uint8})) == std::vector<uint8_t>{200});
  CHECK(static_cast<float>(full({1}, 1.5, {bfloat16}).data<BFloat16>()[0]) == 1.5f);
  const Tensor x = ones({2, 3}, {int32});
  CHECK(empty_like(x).shape() == Shape{2, 3});
  CHECK(empty_like(x).dtype() == int32);
  CHECK(list<int32_t>(zeros_like(x)) == std::vector<int32_t>(6, 0));
  CHECK(empty({0, 5}).bytes() == 0);
  CHECK(zeros({}).item() == 0);
}

TEST_CASE("tensor: arange ends before stop, and is empty where it begins there") {
  CHECK(list<float>(arange(0, 3)) == Floats{0, 1, 2});
  CHECK(list<float>(arange(1, 2, 0.25)) == Floats{1, 1.25, 1.5, 1.75});
  CHECK(list<int64_t>(arange(5, 0, -2, {int64})) == std::vector<int64_t>{5, 3, 1});
  CHECK(arange(3, 3).shape() == Shape{0});
  CHECK(arange(3, 0).shape() == Shape{0});
  CHECK(contains(error_text([] { arange(0, 1, 0); }), "[arange] start, stop and step must be finite, and step not 0"));
  CHECK(contains(error_text([] { arange(0, std::nan("")); }), "must be finite"));
  CHECK(contains(error_text([] { arange(0, 1e18); }), "[arange] too many elements"));
}

TEST_CASE("tensor: linspace ends at stop, exactly") {
  CHECK(close(linspace(0, 1, 5), {0, 0.25, 0.5, 0.75, 1}));
  CHECK(close(linspace(3, -1, 3, {int64}), {3, 1, -1}));
  CHECK(close(linspace(-1, 0, 3, {int64}), {-1, -1, 0}));  // rounded down
  CHECK(close(linspace(2, 9, 1), {2}));
  CHECK(linspace(0, 1, 0).shape() == Shape{0});
  CHECK(linspace(0, 0.1, 4, {float64}).at({3}) == 0.1);
}

TEST_CASE("tensor: eye and tri are NumPy's") {
  CHECK(close(eye(2), tensor({{1, 0}, {0, 1}}), kExact));
  CHECK(close(eye(2, 3, 1), tensor({{0, 1, 0}, {0, 0, 1}}), kExact));
  CHECK(close(eye(3, 2, -1), tensor({{0, 0}, {1, 0}, {0, 1}}), kExact));
  CHECK(close(tri(2, 3), tensor({{1, 0, 0}, {1, 1, 0}}), kExact));
  CHECK(close(tri(3, -1, -1), tensor({{0, 0, 0}, {1, 0, 0}, {1, 1, 0}}), kExact));
  CHECK(eye(0).shape() == Shape{0, 0});
  CHECK(eye(2, 2, 0, {int64}).dtype() == int64);
}

TEST_CASE("tensor: sizes that are negative or too many are refused before anything is allocated") {
  const auto before = memory_statistics();
  CHECK(error_text([] { empty({2, -1}); }) == "[empty] sizes must not be negative: [2,-1]");
  CHECK(error_text([] {
          zeros({1 << 30, 1 << 30, 1 << 30});
        }) == "[empty] too many elements: [1073741824,1073741824,1073741824]");
  CHECK(error_text([] { empty({INT64_MAX, 2}); }) == "[empty] too many elements: [9223372036854775807,2]");
  // A 0 among the sizes does not make the others harmless: sums over the other axes are computed too.
  CHECK(error_text([] { empty({0, INT64_MAX, 2}); }) == "[empty] too many elements: [0,9223372036854775807,2]");
  CHECK(error_text([] { empty({int64_t{1} << 45}, {float64}); }) ==
        "[allocate] a tensor of 281474976710656 bytes is beyond any memory");
  CHECK(error_text([] { tensor(std::vector<float>{}, {-1}); }) == "[tensor] sizes must not be negative: [-1]");
  CHECK(memory_statistics().system_allocations == before.system_allocations);
  CHECK(memory_statistics().in_use == before.in_use);
}

TEST_CASE("tensor: ranges and random numbers check their bounds") {
  CHECK(error_text([] { linspace(0, 1, -1); }) == "[linspace] the count must not be negative or huge, got -1");
  CHECK(error_text([] { linspace(0, std::numeric_limits<double>::infinity(), 2); }) ==
        "[linspace] start and stop must be finite: 0, inf");
  CHECK(error_text([] { eye(-1); }) == "[eye] sizes must not be negative: -1, -1");
  CHECK(error_text([] { tri(2, -2); }) == "[tri] sizes must not be negative: 2, -2");
  CHECK(error_text([] { random_bernoulli({1}, 1.5, {}); }) ==
        "[random_bernoulli] the probability must be within [0, 1], got 1.5");
  CHECK(error_text([] { random_permutation(-1, {}); }) ==
        "[random_permutation] the length must not be negative, got -1");
  CHECK(error_text([] { random_uniform({1}, 2, 1, {}); }) == "[random_uniform] low must not be above high: 2, 1");
  CHECK(contains(error_text([] { random_uniform({1}, std::nan(""), 1, {}); }), "low must not be above high"));
  CHECK(error_text([] { random_normal({1}, 0, -1, {}); }) ==
        "[random_normal] the standard deviation must not be negative: -1");
}

TEST_CASE("tensor: storage is aligned to 64 bytes") {
  for (const int64_t n : {1, 3, 100, 12'345}) CHECK(reinterpret_cast<uintptr_t>(empty({n}, {uint8}).raw()) % 64 == 0);
}

TEST_CASE("tensor: copies share storage; a clone has its own") {
  const Tensor x = tensor({1, 2, 3});
  Tensor copy = x, clone = x.clone();
  CHECK(copy.shares_storage_with(x));
  CHECK_FALSE(clone.shares_storage_with(x));
  copy.fill(9);
  CHECK(list<float>(x) == Floats{9, 9, 9});
  CHECK(list<float>(clone) == Floats{1, 2, 3});
  Tensor assigned;
  assigned = x;
  CHECK(assigned.shares_storage_with(x));
  const Tensor moved = std::move(assigned);
  CHECK(moved.shares_storage_with(x));
  CHECK_FALSE(assigned.defined());  // NOLINT: what moving leaves is part of the contract
  CHECK(x.detach().shares_storage_with(x));
}

TEST_CASE("tensor: reshape is a view, and -1 stands for what is left") {
  const Tensor x = arange(0, 12);
  Tensor y = x.reshape({3, 4});
  CHECK(y.shares_storage_with(x));
  y.fill(5);
  CHECK(x.at({11}) == 5);
  CHECK(x.reshape({-1, 2}).shape() == Shape{6, 2});
  CHECK(x.reshape({2, -1, 2}).shape() == Shape{2, 3, 2});
  CHECK(x.reshape({12, 1, -1}).shape() == Shape{12, 1, 1});
  CHECK(Tensor(1.0).reshape({-1}).shape() == Shape{1});
  CHECK(ones({1}).reshape({}).rank() == 0);
  CHECK(zeros({0, 3}).reshape({-1, 3}).shape() == Shape{0, 3});
  CHECK(error_text([&] { x.reshape({5, 2}); }) == "[reshape] the number of elements must stay the same: [12] to [5,2]");
  CHECK(error_text([&] { x.reshape({5, -1}); }) == "[reshape] cannot infer the -1: [12] to [5,-1]");
  CHECK(error_text([&] { x.reshape({-1, -1}); }) == "[reshape] only one size may be -1: [-1,-1]");
  CHECK(error_text([&] { x.reshape({-2, -6}); }) == "[reshape] sizes must not be negative: [-2,-6]");
  CHECK(error_text([] { zeros({0}).reshape({0, -1}); }) == "[reshape] cannot infer the -1: [0] to [0,-1]");
  CHECK(contains(error_text([&] { x.reshape({int64_t{1} << 62, 4}); }), "[reshape] "));
  CHECK(contains(error_text([] { zeros({0}).reshape({0, int64_t{1} << 62, 4}); }), "[reshape] "));
}

TEST_CASE("tensor: slices and rows are views of the first axis, and bounds may count from its end") {
  const Tensor x = arange(0, 12).reshape({4, 3});
  CHECK(list<float>(x.slice(1, 3)) == Floats{3, 4, 5, 6, 7, 8});
  CHECK(x.slice(-1, 4).shape() == Shape{1, 3});
  CHECK(list<float>(x.slice(-3, -2)) == Floats{3, 4, 5});
  CHECK(x.slice(2, 2).shape() == Shape{0, 3});
  CHECK(x.slice(4, 4).shape() == Shape{0, 3});
  CHECK(list<float>(x[2]) == Floats{6, 7, 8});
  CHECK(list<float>(x[-1]) == Floats{9, 10, 11});
  CHECK(x[1][2].item() == 5);

  Tensor row = x[1];
  CHECK(row.shares_storage_with(x));
  row.fill(-1);
  CHECK(x.at({1, 1}) == -1);
  CHECK(x.at({2, 0}) == 6);
  x.slice(2, 4)[1].slice(0, 1).fill(50);
  CHECK(x.at({3, 0}) == 50);

  CHECK(error_text([&] { x.slice(0, 5); }) == "[slice] rows [0, 5) are not within [4,3]");
  CHECK(error_text([&] { x.slice(3, 2); }) == "[slice] rows [3, 2) are not within [4,3]");
  CHECK(error_text([&] { x.slice(-5, 2); }) == "[slice] rows [-5, 2) are not within [4,3]");
  CHECK(error_text([&] { x[4]; }) == "[index] row 4 is not within [4,3]");
  CHECK(error_text([&] { x[-5]; }) == "[index] row -5 is not within [4,3]");
  CHECK(error_text([] { Tensor(1.0)[0]; }) == "[index] the tensor must have an axis to index, shape []");
  CHECK(error_text([] { zeros({0})[0]; }) == "[index] row 0 is not within [0]");
}

TEST_CASE("tensor: writing in place bumps the version of the storage, for all who share it") {
  Tensor x = zeros({4});
  const Tensor view = x.slice(1, 2), other = zeros({4});
  const uint32_t version = x.version();
  (void)x.data<float>();
  (void)x.at({0});
  CHECK(x.version() == version);
  x.mutable_data<float>()[0] = 1;
  CHECK(x.version() == version + 1);
  CHECK(view.version() == version + 1);
  x.fill(2);
  CHECK(view.version() == version + 2);
  x.copy_from(other);
  CHECK(view.version() == version + 3);
  CHECK(other.version() == 0);
}

TEST_CASE("tensor: copy_from copies values, also within one storage, and is strict about shape and dtype") {
  Tensor x = zeros({2, 2});
  x.copy_from(tensor({{1, 2}, {3, 4}}));
  CHECK(list<float>(x) == Floats{1, 2, 3, 4});
  test::for_each_device([](Device device) {
    Tensor line = arange(0, 5).to(device);
    line.slice(1, 5).copy_from(line.slice(0, 4));
    CHECK(list<float>(line.to(Device::cpu())) == Floats{0, 0, 1, 2, 3});
    line.slice(0, 4).copy_from(line.slice(1, 5));
    line.copy_from(line);
    CHECK(list<float>(line.to(Device::cpu())) == Floats{0, 1, 2, 3, 3});
  });
  x.copy_from(x);
  CHECK(list<float>(x) == Floats{1, 2, 3, 4});
  const uint32_t version = x.version();
  CHECK(error_text([&] { x.copy_from(zeros({4})); }) ==
        "[copy_from] shape and dtype must match: [2,2] float32 from [4] float32");
  CHECK(error_text([&] {
          x.copy_from(zeros({2, 2}, {float64}));
        }) == "[copy_from] shape and dtype must match: [2,2] float32 from [2,2] float64");
  CHECK(error_text([&] { x.copy_from({}); }) == "[copy_from] both tensors must be defined");
  CHECK(x.version() == version);
}

TEST_CASE("tensor: data, values and item are strict about the dtype and the number of elements") {
  const Tensor x = zeros({2});
  CHECK(error_text([&] { x.data<double>(); }) == "[data] the tensor is float32, not float64");
  CHECK(error_text([&] { x.values<int64_t>(); }) == "[data] the tensor is float32, not int64");
  CHECK(error_text([&] {
          Tensor y = x;
          y.mutable_data<uint8_t>();
        }) == "[data] the tensor is float32, not uint8");
  CHECK(error_text([&] { x.item(); }) == "[item] the tensor must have one element, shape [2]");
  CHECK(error_text([] { zeros({0}).item(); }) == "[item] the tensor must have one element, shape [0]");
  CHECK(full({1, 1}, 3, {uint8}).item() == 3);
}

TEST_CASE("tensor: at takes one index for each axis") {
  const Tensor x = arange(0, 6).reshape({2, 3});
  CHECK(x.at({1, 2}) == 5);
  CHECK(x.at({-1, -3}) == 3);
  CHECK(Tensor(4.0).at({}) == 4);
  CHECK(error_text([&] { x.at({1}); }) == "[at] one index for each axis of [2,3], got 1");
  CHECK(error_text([&] { x.at({0, 3}); }) == "[at] index 3 is out of range for axis 1 of [2,3]");
  CHECK(error_text([&] { x.at({-3, 0}); }) == "[at] index -3 is out of range for axis 0 of [2,3]");
  CHECK(tensor(std::vector<int64_t>{1, -2}, {2}).at({1}) == -2);
}

TEST_CASE("tensor: to(dtype) converts, and is the tensor itself where there is nothing to convert") {
  const float inf = std::numeric_limits<float>::infinity();
  const Tensor x = tensor(std::vector<float>{1.9f, -1.9f, 300.f, -5.f, std::nanf(""), inf, -inf}, {7});
  CHECK(x.to(float32).shares_storage_with(x));
  CHECK(list<int32_t>(x.to(int32)) == std::vector<int32_t>{1, -1, 300, -5, 0, INT32_MAX, INT32_MIN});
  CHECK(list<int64_t>(x.to(int64)) == std::vector<int64_t>{1, -1, 300, -5, 0, INT64_MAX, INT64_MIN});
  CHECK(list<uint8_t>(x.to(uint8)) == std::vector<uint8_t>{1, 0, 255, 0, 0, 255, 0});
  CHECK(list<double>(tensor({0.5, 2}).to(float64)) == std::vector<double>{0.5, 2});
  CHECK(list<float>(tensor(std::vector<uint8_t>{0, 255}, {2}).to(float32)) == Floats{0, 255});
  CHECK(list<float>(tensor({3.1415927}).to(bfloat16).to(float32)) == Floats{3.140625f});
  CHECK(list<int64_t>(tensor(std::vector<int32_t>{INT32_MIN}, {1}).to(int64)) == std::vector<int64_t>{INT32_MIN});
  CHECK(zeros({0}).to(int64).shape() == Shape{0});
}

TEST_CASE("tensor: to(device) is the tensor itself where it is there already") {
  const Tensor x = zeros({2});
  CHECK(x.to(Device::cpu()).shares_storage_with(x));
  CHECK(to_string(Device::cpu()) == "cpu");
  CHECK(x.device() == Device::cpu());
  // Without a GPU, asking for one says why there is none.
  if (Device::cuda_count() == 0) CHECK(contains(error_text([&] { x.to(Device::cuda()); }), "[device] "));
}
