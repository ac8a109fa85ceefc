// Tensors of more than 2^31 elements: no size, offset or index is cut to 32 bits. Takes some 17 GiB of memory.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include "mica/mica.h"

using namespace mica;

namespace {

constexpr int64_t kMany = (int64_t{1} << 31) + 5;

}  // namespace

TEST_CASE("bytes: filled, sliced, reduced, compared and found beyond element 2^31") {
  Tensor x = zeros({kMany}, {uint8});
  Tensor end = x.slice(kMany - 3, kMany);
  end.fill(7);
  CHECK(x.data<uint8_t>()[kMany - 1] == 7);
  CHECK(x.data<uint8_t>()[kMany - 4] == 0);
  CHECK(x.elements() == kMany);
  const int64_t places[] = {kMany - 1, 0, kMany - 3};
  CHECK(data::Column(x).gather(places).values<uint8_t>()[0] == 7);
  const Tensor same = equal(end, 7.0);
  CHECK(same.data<uint8_t>()[2] == 1);
}

TEST_CASE("float32: functions, reductions, copies and gradients of 2^31 and some elements") {
  Tensor x = zeros({kMany});
  x.slice(kMany - 2, kMany).fill(2);
  {
    const Tensor y = exp(x);
    CHECK(y.data<float>()[kMany - 1] == doctest::Approx(7.389056));
    CHECK(y.data<float>()[kMany - 3] == 1);
    release_cached();
  }
  CHECK(sum(x).item() == 4);
  CHECK(max(x).item() == 2);
  CHECK(argmax(x).item() == static_cast<double>(kMany - 2));
  CHECK(take(x, full({1}, kMany - 1, {int64})).item() == 2);
  release_cached();
}

TEST_CASE("matmul: a product of more than 2^31 elements is right in its corners") {
  release_cached();
  const Tensor a = random_uniform({70'000, 2}, -1, 1, {.stream = 1}),
               b = random_uniform({2, 31'000}, -1, 1, {.stream = 2});
  const Tensor c = matmul(a, b);
  CHECK(c.elements() > int64_t{1} << 31);
  const auto at = [&](int64_t i, int64_t j) {
    const float *p = a.data<float>() + 2 * i, *q = b.data<float>() + j;
    return doctest::Approx(p[0] * q[0] + p[1] * q[31'000]).epsilon(1e-5);
  };
  for (const int64_t i : {int64_t{0}, int64_t{69'275}, int64_t{69'999}})
    for (const int64_t j : {int64_t{0}, int64_t{30'999}}) CHECK(c.data<float>()[i * 31'000 + j] == at(i, j));
}

TEST_CASE("convolution: a batch of more than 2^31 elements gives the last image what it gives it alone") {
  release_cached();
  constexpr int64_t kImages = 513, kSide = 2048;  // 2^31 + 2^22
  Tensor x = zeros({kImages, kSide, kSide, 1}, {float32});
  Tensor last = x.slice(kImages - 1, kImages);
  last.copy_from(random_uniform({1, kSide, kSide, 1}, -1, 1, {.stream = 3}));
  const Tensor y = max_pool2d(x, {64, 64});
  const Tensor alone = max_pool2d(last, {64, 64});
  const Tensor part = y.slice(kImages - 1, kImages);
  for (int64_t i = 0; i < alone.elements(); ++i) REQUIRE(part.data<float>()[i] == alone.data<float>()[i]);
  const Tensor w = random_uniform({64, 64, 1, 1}, -1, 1, {.stream = 4});
  const Tensor z = conv2d(x, w, {}, {.strides = {64, 64}}), lone = conv2d(last, w, {}, {.strides = {64, 64}});
  const Tensor tail = z.slice(kImages - 1, kImages);
  for (int64_t i = 0; i < lone.elements(); ++i)
    REQUIRE(tail.data<float>()[i] == doctest::Approx(lone.data<float>()[i]));
}
