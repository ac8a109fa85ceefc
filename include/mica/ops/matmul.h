// Matrix products.
#pragma once

#include "mica/core/tensor.h"
#include "mica/ops/scalar.h"

namespace MICA_EXPORT mica {

struct MatmulOptions {
  bool transpose_a = false;  ///< a is [..., K, M]
  bool transpose_b = false;  ///< b is [..., N, K]
};

/// [..., M, N] from a [..., M, K] and b [..., K, N]; the leading axes broadcast. A vector is a row on the left and a
/// column on the right, and its axis vanishes. Differentiable.
Tensor matmul(const Tensor& a, const Tensor& b, MatmulOptions options = {});

/// activation(x w + bias): [..., N] from x [..., K], w [K, N] and bias [N] (undefined: none). Differentiable.
Tensor dense(const Tensor& x, const Tensor& w, const Tensor& bias = {}, UnaryOp activation = UnaryOp::identity);

}  // namespace mica
