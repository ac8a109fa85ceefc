// Sums of products by their indices, against NumPy's.
#include "mica/ops/einsum.h"

#include "mica/autograd/gradcheck.h"
#include "mica/ops/manipulate.h"
#include "mica/ops/matmul.h"
#include "support/golden.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;

TEST_CASE("einsum is NumPy's, and its gradients PyTorch's") {
  for (const GoldenCase& c : golden("einsum"))
    replay(c, kSums, [&](const Tensors& x) { return einsum(c.text("equation"), x); });
}

TEST_CASE("einsum passes a gradient check") {
  const auto check = [](const char* equation, std::initializer_list<Shape> shapes) {
    CAPTURE(equation);
    Tensors xs;
    for (const Shape& shape : shapes) xs.push_back(sample(shape, float64, xs.size()));
    CHECK(gradcheck([&](const Tensors& x) { return einsum(equation, x); }, xs) <= 1e-6);
  };
  check("ij,jk->ik", {{3, 5}, {5, 7}});
  check("ij,jk->ik", {{1, 1}, {1, 1}});
  check("ij,jk->ik", {{0, 5}, {5, 3}});
  check("ij,jk->ik", {{3, 0}, {0, 2}});
  check("bhqd,bhkd->bhqk", {{2, 3, 5, 4}, {2, 3, 1, 4}});
  check("ii,ij,j->", {{3, 3}, {3, 5}, {5}});
  check("...ii->...i", {{2, 3, 3}});
}

TEST_CASE("a product by einsum is matmul's, to the bit") {
  const Tensor a = sample({4, 33, 20}, float32), b = sample({4, 20, 17}, float32, 1);
  CHECK(same_bits(einsum("bij,bjk->bik", {a, b}), matmul(a, b)));
}

TEST_CASE("axes of size 1 broadcast") {
  const Tensor a = sample({2, 1}, float64), b = sample({3, 4}, float64, 1);
  CHECK(close(einsum("ij,jk->ik", {a, b}), matmul(broadcast_to(a, {2, 3}), b), kFloat64));
}

TEST_CASE("what only names its input again is a copy") {
  Tensor x = ones({2, 3});
  const Tensor y = einsum("ij->ij", {x});
  x.fill(2);
  CHECK(sum(y).item() == 6);
}

TEST_CASE("equations that are malformed or do not fit are refused") {
  const Tensor x = ones({2, 3});
  check_wrong_use({
      {"[einsum] \"ijk\" names 3 axes of a tensor with 2", [=] { einsum("ijk->i", {x}); }},
      {"[einsum] \"i...jk\" names 3 axes of a tensor with 2", [=] { einsum("i...jk->i", {x}); }},
      {"[einsum] unexpected \"1\" in \"i1->i\"", [=] { einsum("i1->i", {x}); }},
      {"[einsum] unexpected \".\" in \"i.j->i\"", [=] { einsum("i.j->i", {x}); }},
      {"[einsum] unexpected \"-\" in \"ij->i->j\"", [=] { einsum("ij->i->j", {x}); }},
      {"[einsum] \"ij,jk->ik\" has more terms than the 1 operands", [=] { einsum("ij,jk->ik", {x}); }},
      {"[einsum] \"ij\" has 1 terms for 2 operands",
       [=] {
         einsum("ij", {x, x});
       }},
      {"[einsum] the result leaves out the axes of \"...\"", [=] { einsum("...i->i", {x}); }},
      {"[einsum] axis \"j\" has size 3 and 2",
       [=] {
         einsum("ij,jk->ik", {x, x});
       }},
      {"[einsum] axis \"i\" has size 2 and 3", [=] { einsum("ii", {x}); }},
      {"[einsum] axes of \"...\" have sizes 2 and 3",
       [=] {
         einsum("...,...", {x, ones({3, 2})});
       }},
      {"[einsum] no operand has the result's axis \"k\"", [=] { einsum("ij->ik", {x}); }},
      {"[einsum] the result names axis \"i\" twice", [=] { einsum("ij->ii", {x}); }},
      {"[einsum] there must be at least one operand", [=] { einsum("", Tensors{}); }},
      {"[einsum] operand 0 must be float32 or float64, got int32", [=] { einsum("ij", {x.to(int32)}); }},
      {"[einsum] dtypes must match: float32 and float64 (an operand)",
       [=] {
         einsum("ij,ij", {x, x.to(float64)});
       }},
  });
}
