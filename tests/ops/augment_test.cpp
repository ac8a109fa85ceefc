// Images moved and mirrored, each by its own amount, against NumPy's slices.
#include "mica/ops/augment.h"

#include <limits>

#include "mica/autograd/gradcheck.h"
#include "mica/ops/elementwise.h"
#include "mica/ops/manipulate.h"
#include "support/golden.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;

namespace {

Tensor integers(const std::vector<double>& values, DType dtype = int64) {
  return tensor(values, {static_cast<int64_t>(values.size())}).to(dtype);
}

// Places and switches for n images, none of them alike for long.
Tensor places(int64_t n, uint64_t seed) { return floor(sample({n}, float64, seed, -3, 4)).to(int64); }
Tensor switches(int64_t n, uint64_t seed) { return random_bernoulli({n}, 0.5, {seed, 0}, {uint8}); }

}  // namespace

TEST_CASE("crop2d and flip2d are NumPy's slices of each image, and their gradients PyTorch's") {
  for (const GoldenCase& c : golden("augment"))
    replay(c, kExact, [&](const Tensors& x) {
      if (c.op == "flip2d") return flip2d(x[0], x[1], x[2]);
      const auto [height, width] = c.pair("size");
      return crop2d(x[0], x[1], x[2], {height, width});
    });
}

TEST_CASE("crop2d and flip2d pass a gradient check") {
  for (const Shape& shape : {Shape{1, 1, 1, 1}, {3, 5, 7, 2}, {2, 4, 1, 3}, {0, 3, 3, 1}, {2, 0, 3, 1}, {5, 3, 4, 0}}) {
    CAPTURE(shape);
    const int64_t n = shape[0];
    const Tensor rows = places(n, 1), columns = places(n, 2), vertical = switches(n, 3), horizontal = switches(n, 4);
    for (const Size2 size : {Size2(3, 3), Size2(1, 6), Size2(0, 2)})
      CHECK(gradcheck([&](const Tensors& x) { return square(crop2d(x[0], rows, columns, size)); }, {sample(shape)}) <=
            1e-6);
    for (const Tensor& none_or_some : {Tensor(), vertical})
      CHECK(gradcheck([&](const Tensors& x) { return square(flip2d(x[0], none_or_some, horizontal)); },
                      {sample(shape)}) <= 1e-6);
  }
}

TEST_CASE("crop2d gives the window at each image's corner, and zeros beyond the image") {
  const Tensor x = counting({2, 2, 2, 1}, float32) + 1;
  CHECK(close(crop2d(x, integers({0, 0}), integers({0, 0}), {2, 2}), x, kExact));
  CHECK(close(crop2d(x, integers({1, -1}), integers({0, 1}), {2, 2}), {3, 4, 0, 0, 0, 0, 6, 0}));
  CHECK(close(crop2d(x, integers({0, 1}), integers({1, 1}), 1), {2, 8}));
  constexpr double kFar = 9e18;  // nothing overflows
  for (const double row : {kFar, -kFar})
    for (const double column : {kFar, -kFar, 0.0})
      CHECK(close(crop2d(x, integers({row, row}), integers({column, 0}), 3), std::vector<double>(18, 0)));
}

TEST_CASE("the gradient of crop2d ends where the window did, however far away the corner") {
  for (const int64_t corner : {std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max(), int64_t{1}}) {
    const Tensor rows = tensor(std::vector<int64_t>{corner}, {1});
    Tensor x = ones({1, 2, 2, 1});
    Tape tape;
    tape.watch(x);
    const Tensor y = sum(crop2d(x, rows, zeros({1}, {int64}), 2));
    const std::vector<double> expected = corner == 1 ? std::vector<double>{0, 0, 1, 1} : std::vector<double>(4, 0);
    CHECK(close(tape.gradient(y, {x})[0], expected));
  }
}

TEST_CASE("flip2d mirrors the images that it is told to, and twice is not at all") {
  const Tensor x = counting({3, 2, 2, 1}, float32);
  const Tensor vertical = integers({0, 1, 0}, uint8), horizontal = integers({0, 0, 200}, uint8);
  const Tensor y = flip2d(x, vertical, horizontal);
  CHECK(close(y, {0, 1, 2, 3, 6, 7, 4, 5, 9, 8, 11, 10}));
  CHECK(same_bits(flip2d(y, vertical, horizontal), x));
  CHECK(same_bits(flip2d(x, {}, {}), x));
  CHECK(same_bits(flip2d(x, {}, ones({3}, {uint8})), flip(x, 2)));
}

TEST_CASE("crop2d and flip2d move values of any dtype") {
  const Tensor x = counting({2, 3, 3, 2}, float64), moved = integers({1, -1}), on = ones({2}, {uint8});
  for (const DType dtype : {float32, bfloat16, int32, int64, uint8}) {
    CAPTURE(dtype);
    CHECK(same_bits(crop2d(x.to(dtype), moved, moved, 3), crop2d(x, moved, moved, 3).to(dtype)));
    CHECK(same_bits(flip2d(x.to(dtype), on, on), flip2d(x, on, on).to(dtype)));
  }
}

TEST_CASE("crop2d and flip2d refuse what is no image, and places that are not one for each") {
  const Tensor x = ones({2, 3, 3, 1}), two = zeros({2}, {int64}), on = ones({2}, {uint8});
  check_wrong_use({
      {"[crop2d] the input is undefined", [=] { crop2d({}, two, two, 2); }},
      {"[crop2d] the input must be images [N,H,W,C], got [2,3]",
       [=] {
         crop2d(ones({2, 3}), two, two, 2);
       }},
      {"[crop2d] rows are undefined", [=] { crop2d(x, {}, two, 2); }},
      {"[crop2d] columns must be int64 [2], one for each image, got int64 [3]",
       [=] { crop2d(x, two, zeros({3}, {int64}), 2); }},
      {"[crop2d] rows must be int64 [2], one for each image, got float32 [2]", [=] { crop2d(x, ones({2}), two, 2); }},
      {"[crop2d] sizes must not be negative, got -1 and 2",
       [=] {
         crop2d(x, two, two, {-1, 2});
       }},
      {"[crop2d] too many elements: [2,4294967296,4294967296,1]", [=] { crop2d(x, two, two, int64_t{1} << 32); }},
      {"[flip2d] the input is undefined", [=] { flip2d({}, on, on); }},
      {"[flip2d] the input must be images [N,H,W,C], got [2]", [=] { flip2d(ones({2}), on, on); }},
      {"[flip2d] vertical must be uint8 [2], one for each image, got int64 [2]", [=] { flip2d(x, two, on); }},
      {"[flip2d] horizontal must be uint8 [2], one for each image, got uint8 []",
       [=] { flip2d(x, {}, ones({}, {uint8})); }},
  });
}
