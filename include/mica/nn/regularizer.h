// Regularizers: penalties on parameters that training adds to the loss.
#pragma once

#include <vector>

#include "mica/autograd/parameter.h"

namespace MICA_EXPORT mica {
namespace nn {

/// l1 * sum |w| + l2 * sum w^2 of a parameter w.
struct Regularizer {
  double l1 = 0, l2 = 0;

  bool defined() const { return l1 != 0 || l2 != 0; }
};

/// `Dense(64, {.kernel_regularizer = regularizers::l2(1e-4)})`. Throw Error for a factor that is negative or not
/// finite. With plain SGD, l2(f) is a weight decay of 2 f.
namespace regularizers {
Regularizer l1(double factor = 0.01);
Regularizer l2(double factor = 0.01);
Regularizer l1_l2(double l1 = 0.01, double l2 = 0.01);
}  // namespace regularizers

class Layer;

/// A parameter and its penalty.
struct RegularizedParameter {
  Parameter parameter;
  Regularizer regularizer;
};

/// The parameters that have one. A layer's visit() names a parameter "kernel" and, before it, its regularizer
/// "kernel_regularizer". A parameter that several layers share counts once for each that has a regularizer.
std::vector<RegularizedParameter> regularized_parameters(Layer& layer);

/// The sum of their penalties, a scalar to add to the loss; undefined when there are none. Differentiable. fit and
/// evaluate add it by themselves.
Tensor penalty(const std::vector<RegularizedParameter>& parameters);

}  // namespace nn
}  // namespace mica
