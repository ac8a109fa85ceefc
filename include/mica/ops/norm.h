// Normalization by the statistics of a batch or of a row.
#pragma once

#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {

/// What batch_norm gives: the normalized values, and the statistics [C] of the batch (the variance divides by the
/// number of values), which no tape follows.
struct BatchNormResult {
  Tensor y, mean, variance;
};

/// (x - mean) / sqrt(variance + epsilon) * gamma + beta for each channel, the last axis of x [..., C], with the mean
/// and variance of the batch. gamma, beta [C] may be undefined: 1 and 0. Differentiable. Ioffe, Szegedy, "Batch
/// normalization", ICML 2015, algorithm 1.
BatchNormResult batch_norm(const Tensor& x, const Tensor& gamma = {}, const Tensor& beta = {}, double epsilon = 1e-3);

/// The same with a mean and variance [C] that are given, as in inference. Differentiable in x, gamma and beta.
Tensor batch_norm_inference(const Tensor& x, const Tensor& mean, const Tensor& variance, const Tensor& gamma,
                            const Tensor& beta, double epsilon = 1e-3);

/// (x - mean) / sqrt(variance + epsilon) * gamma + beta with the mean and variance of each row x [..., N], the last
/// axis. gamma, beta [N] may be undefined: 1 and 0. Differentiable. Ba, Kiros, Hinton, "Layer normalization", 2016,
/// section 3.
Tensor layer_norm(const Tensor& x, const Tensor& gamma = {}, const Tensor& beta = {}, double epsilon = 1e-5);

}  // namespace mica
