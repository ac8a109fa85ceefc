// Cross-entropy of logits, one number a row. The losses that people name are in mica/nn/losses.h.
#pragma once

#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {

/// -sum(targets * log_softmax(logits)) over the last axis: [...] from logits and targets [..., C]. Differentiable in
/// the logits.
Tensor cross_entropy(const Tensor& logits, const Tensor& targets);

/// -log_softmax(logits)[label]: [...] from logits [..., C] and integer labels [...]. Throws Error for a label outside
/// of [0, C). Differentiable in the logits. With label smoothing s in [0, 1] it is the cross-entropy of the targets
/// (1 - s) * one_hot(label) + s / C.
Tensor sparse_cross_entropy(const Tensor& logits, const Tensor& labels, double label_smoothing = 0);

}  // namespace mica
