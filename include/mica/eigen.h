// The opt-in bridge to Eigen: zero-copy maps of tensors. It is the only header of Mica that includes Eigen.
#pragma once

#include <Eigen/Core>

#include "mica/core/tensor.h"

namespace mica {

template <class T>
using RowMajorMatrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// A tensor on the CPU seen as a matrix, without a copy: the last axis is the columns, all others the rows. Valid while
/// the tensor's storage lives. Throws Error for another dtype than T, or a tensor elsewhere.
template <class T>
Eigen::Map<const RowMajorMatrix<T>> as_matrix(const Tensor& x) {
  const int64_t columns = x.rank() > 0 ? x.dim(-1) : 1;
  const auto values = x.values<T>();
  return {values.data(), columns > 0 ? x.elements() / columns : 0, columns};
}

/// The same for writing; bumps the storage's version, as every write in place does.
template <class T>
Eigen::Map<RowMajorMatrix<T>> as_mutable_matrix(Tensor& x) {
  const int64_t columns = x.rank() > 0 ? x.dim(-1) : 1;
  check(x.device() == Device::cpu(), "as_mutable_matrix", "the tensor is on ", x.device());
  return {x.mutable_data<T>(), columns > 0 ? x.elements() / columns : 0, columns};
}

/// A copy of an Eigen matrix or vector as a tensor [rows, columns] on the CPU.
template <class Derived>
Tensor from_eigen(const Eigen::MatrixBase<Derived>& matrix) {
  using T = typename Derived::Scalar;
  Tensor x = empty({matrix.rows(), matrix.cols()}, {dtype_of<T>, Device::cpu()});
  as_mutable_matrix<T>(x) = matrix;
  return x;
}

}  // namespace mica
