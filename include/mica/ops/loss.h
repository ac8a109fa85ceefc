// Cross-entropy of logits, one number a row. The losses that people name are in mica/nn/losses.h.
#pragma once

#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {

/// -sum(targets * log_softmax(logits)) over the last axis: [...] from logits and targets [..., C]. Differentiable in
/// the logits.
Tensor cross_entropy(const Tensor& logits, const Tensor& targets);

/// -log_softmax(logits)[label]: [...] from logits [..., C] and integer labels [...]. Throws Error for a label outside
/// of [0, C). Differentiable in the logits.
Tensor sparse_cross_entropy(const Tensor& logits, const Tensor& labels);

}  // namespace mica
