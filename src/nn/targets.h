// Targets beside predictions: what they say of each example's class.
#pragma once

#include <vector>

#include "mica/core/tensor.h"

namespace mica::nn {

/// one_hot: predictions and targets [..., classes]. labels: targets [...] of predictions [..., classes]. binary: two
/// classes in one number, above one half or not, predictions [..., 1] or [...], targets of either shape.
enum class Targets { one_hot, labels, binary, unknown };

Targets kind_of_targets(const Tensor& prediction, const Tensor& target);
/// The same; throws Error naming `op` for undefined ones and shapes that do not fit.
Targets checked_targets(const char* op, const Tensor& prediction, const Tensor& target);

/// The classes that `target`, of this kind, names: int64 on the CPU, unchecked labels.
Tensor classes_of(Targets kind, const Tensor& target);

/// float32 weights: that of each example's class times its own of `sample_weights` (undefined: 1), of the shape of
/// either, whichever has more axes. Throws Error for a label without a weight.
Tensor weights_by_class(const Tensor& prediction, const Tensor& target, const Tensor& sample_weights,
                        const std::vector<double>& class_weights);

}  // namespace mica::nn
