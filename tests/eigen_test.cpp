// The bridge to Eigen: maps without copies, and copies.
#include "mica/eigen.h"

#include <doctest/doctest.h>

#include "mica/mica.h"
#include "support/tensors.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;

TEST_CASE("as_matrix() is the tensor's own memory, its last axis the columns") {
  const Tensor x = arange(0, 24).reshape({2, 3, 4});
  const auto m = as_matrix<float>(x);
  CHECK(m.rows() == 6);
  CHECK(m.cols() == 4);
  CHECK(m.data() == x.data<float>());
  CHECK(m(5, 3) == 23);
  CHECK(as_matrix<float>(arange(0, 3)).rows() == 1);
  CHECK(as_matrix<float>(Tensor(7.0))(0, 0) == 7);
  CHECK(as_matrix<double>(zeros({0, 4}, {float64})).rows() == 0);
  CHECK(as_matrix<double>(zeros({4, 0}, {float64})).size() == 0);
}

TEST_CASE("a product of maps is matmul's") {
  const Tensor a = sample({5, 7}, float64, 1), b = sample({7, 3}, float64, 2);
  const RowMajorMatrix<double> c = as_matrix<double>(a) * as_matrix<double>(b);
  CHECK(close(from_eigen(c), matmul(a, b), kFloat64));
}

TEST_CASE("what is written through as_mutable_matrix() bumps the version: a tape that saved the old values throws") {
  Tensor x = tensor({{1, 2}, {3, 4}});
  Tape tape;
  tape.watch(x);
  const Tensor y = sum(square(x));
  as_mutable_matrix<float>(x).setZero();
  CHECK(close(x, {0, 0, 0, 0}));
  CHECK_THROWS_AS(tape.backward(y), Error);
}

TEST_CASE("from_eigen() copies matrices of either order, vectors and expressions") {
  Eigen::MatrixXd columns(2, 3);
  columns << 1, 2, 3, 4, 5, 6;
  const Tensor x = from_eigen(columns);
  CHECK(x.dtype() == float64);
  CHECK(close(x, tensor({{1, 2, 3}, {4, 5, 6}}, {float64}), kExact));
  CHECK(from_eigen(Eigen::VectorXf::Ones(4)).shape() == Shape{4, 1});
  CHECK(close(from_eigen(columns.transpose() * 2), tensor({{2, 8}, {4, 10}, {6, 12}}, {float64}), kExact));
}

TEST_CASE("a map of another dtype is refused") {
  check_wrong_use({
      {"[data] the tensor is float32, not float64",
       [] {
         as_matrix<double>(zeros({2, 2}));
       }},
      {"[data] the tensor is int64, not float32",
       [] {
         Tensor x = zeros({2, 2}, {int64});
         as_mutable_matrix<float>(x);
       }},
  });
}
