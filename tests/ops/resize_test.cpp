// Resizing of images, against PyTorch's.
#include "mica/ops/resize.h"

#include "mica/autograd/gradcheck.h"
#include "support/golden.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;

TEST_CASE("resize2d is PyTorch's with centres at halves, and its gradient") {
  for (const GoldenCase& c : golden("resize"))
    replay(c, kSums, [&](const Tensors& x) {
      const auto size = c.pair("size");
      return resize2d(x[0], {size.first, size.second},
                      c.text("mode") == "nearest" ? Interpolation::nearest : Interpolation::bilinear);
    });
}

TEST_CASE("resize2d passes a gradient check") {
  for (const Shape& shape : {Shape{1, 1, 1, 1}, {2, 3, 5, 1}, {1, 4, 2, 3}, {0, 2, 2, 1}, {1, 3, 3, 0}})
    for (const Interpolation interpolation : {Interpolation::nearest, Interpolation::bilinear}) {
      CAPTURE(shape);
      CHECK(gradcheck(
                [&](const Tensors& x) {
                  return resize2d(x[0], {4, 3}, interpolation);
                },
                {sample(shape)}) <= 1e-6);
    }
}

TEST_CASE("resize2d to the same size is a copy, and by a whole factor repeats pixels") {
  Tensor x = counting({1, 2, 2, 1}, float32);
  CHECK(close(resize2d(x, {4, 2}, Interpolation::nearest), {0, 1, 0, 1, 2, 3, 2, 3}));
  const Tensor same = resize2d(x, {2, 2});
  x.fill(9);
  CHECK(close(same, {0, 1, 2, 3}));
}

TEST_CASE("resize2d refuses what is no image, and sizes below 1") {
  check_wrong_use({
      {"[resize2d] the input must be images [N,H,W,C], got [2,3]",
       [] {
         resize2d(ones({2, 3}), {2, 2});
       }},
      {"[resize2d] sizes must be at least 1 and not huge, got 0 and 2",
       [] {
         resize2d(ones({1, 2, 2, 1}), {0, 2});
       }},
      {"[resize2d] too many elements: [1,16777216,134217728,1]",
       [] {
         resize2d(ones({1, 1, 1, 1}), {1 << 24, 1 << 27});
       }},
      {"[resize2d] the images have no pixels: [1,0,2,1]",
       [] {
         resize2d(ones({1, 0, 2, 1}), {2, 2});
       }},
  });
}
