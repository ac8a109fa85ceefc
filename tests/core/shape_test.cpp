// Shapes: sizes, axes, broadcasting, text.
#include "mica/core/shape.h"

#include <doctest/doctest.h>

#include <sstream>
#include <vector>

#include "mica/core/error.h"
#include "support/error_text.h"

using namespace mica;
using mica::test::error_text;

TEST_CASE("shape: a scalar has rank 0 and one element; a size of 0 leaves none") {
  CHECK(Shape().rank() == 0);
  CHECK(Shape().elements() == 1);
  CHECK(Shape{5}.elements() == 5);
  CHECK(Shape{2, 3, 4}.elements() == 24);
  CHECK(Shape{2, 0, 4}.elements() == 0);
  CHECK(Shape{2, 3}.rank() == 2);
}

TEST_CASE("shape: axes count from 0, negative ones from the end") {
  const Shape shape{2, 3, 4};
  CHECK(shape[0] == 2);
  CHECK(shape[2] == 4);
  CHECK(shape[-1] == 4);
  CHECK(shape[-3] == 2);
  CHECK(shape.index(-1) == 2);
  CHECK(error_text([&] { shape[3]; }) == "[shape] axis 3 is out of range for shape [2,3,4]");
  CHECK(error_text([&] { shape[-4]; }) == "[shape] axis -4 is out of range for shape [2,3,4]");
  CHECK(error_text([] { Shape()[0]; }) == "[shape] axis 0 is out of range for shape []");
}

TEST_CASE("shape: a size can be set") {
  Shape shape{2, 3};
  shape[-1] = 7;
  CHECK(shape == Shape{2, 7});
}

TEST_CASE("shape: the rank is at most 8") {
  const std::vector<int64_t> nine(9, 1);
  CHECK(Shape{1, 2, 3, 4, 5, 6, 7, 8}.rank() == 8);
  CHECK(error_text([&] { Shape{std::span<const int64_t>(nine)}; }) == "[shape] a tensor has at most 8 axes, got 9");
  CHECK(error_text([] { Shape({1, 1, 1, 1, 1, 1, 1, 1, 1}); }) == "[shape] a tensor has at most 8 axes, got 9");
}

TEST_CASE("shape: equal means same rank and sizes") {
  CHECK(Shape{2, 3} == Shape{2, 3});
  CHECK(Shape{2, 3} != Shape{3, 2});
  CHECK(Shape{2, 3} != Shape{2, 3, 1});
  CHECK(Shape() == Shape{});
  CHECK(Shape() != Shape{0});
}

TEST_CASE("shape: the first axis comes off and goes on") {
  CHECK(Shape{2, 3, 4}.tail() == Shape{3, 4});
  CHECK(Shape{2}.tail() == Shape());
  CHECK(Shape().with_first(5) == Shape{5});
  CHECK(Shape{3, 4}.with_first(2) == Shape{2, 3, 4});
  CHECK(error_text([] { Shape().tail(); }) == "[shape] a scalar has no first axis");
  CHECK(error_text([] {
          Shape({1, 2, 3, 4, 5, 6, 7, 8}).with_first(1);
        }) == "[shape] a tensor has at most 8 axes: [1,2,3,4,5,6,7,8] has no room for another");
}

TEST_CASE("shape: broadcasting is NumPy's") {
  struct {
    Shape a, b, result;
  } const cases[] = {
      {{}, {}, {}},          {{3}, {}, {3}},           {{}, {2, 3}, {2, 3}},           {{3}, {2, 3}, {2, 3}},
      {{2, 1}, {3}, {2, 3}}, {{2, 1}, {1, 3}, {2, 3}}, {{4, 1, 5}, {3, 1}, {4, 3, 5}}, {{1}, {0}, {0}},
      {{0, 3}, {1}, {0, 3}}, {{2, 1}, {0}, {2, 0}},
  };
  for (const auto& c : cases) {
    CAPTURE(c.a);
    CAPTURE(c.b);
    CHECK(broadcast("add", c.a, c.b) == c.result);
    CHECK(broadcast("add", c.b, c.a) == c.result);
  }
  CHECK(error_text([] { broadcast("add", {2, 3}, {2}); }) == "[add] shapes do not broadcast: [2,3] and [2]");
  CHECK(error_text([] { broadcast("add", {0}, {2}); }) == "[add] shapes do not broadcast: [0] and [2]");
}

TEST_CASE("shape: text is the sizes in brackets") {
  CHECK(to_string(Shape()) == "[]");
  CHECK(to_string(Shape{28}) == "[28]");
  CHECK(to_string(Shape{128, 28, 28, 1}) == "[128,28,28,1]");
  std::ostringstream out;
  out << Shape{-1, 2};
  CHECK(out.str() == "[-1,2]");
}
