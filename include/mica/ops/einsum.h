// Sums of products by their indices.
#pragma once

#include <initializer_list>
#include <span>
#include <string_view>

#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {

/// NumPy's einsum: einsum("bij,bjk->bik", {a, b}) multiplies matrices, "ii->i" takes a diagonal, "ij->" sums. A letter
/// names an axis; axes that the result does not name are summed over; "..." stands for axes that broadcast. Without
/// "->" the result has the letters that appear once, in alphabetical order. Products run from left to right, two
/// operands at a time, as batched matrix products; each may have at most 8 axes. float32 or float64. Differentiable.
/// Throws Error for an equation that is malformed or does not fit the operands.
Tensor einsum(std::string_view equation, std::span<const Tensor> operands);
inline Tensor einsum(std::string_view equation, std::initializer_list<Tensor> operands) {
  return einsum(equation, std::span(operands.begin(), operands.size()));
}

}  // namespace mica
