// Recurrent networks over whole sequences, each as one op.
#pragma once

#include "mica/core/tensor.h"
#include "mica/ops/recurrent_kind.h"
#include "mica/ops/scalar.h"

namespace MICA_EXPORT mica {

/// What a recurrent op takes: B sequences of T steps, F features and H units, G gates a unit (rnn 1, lstm 4, gru 3).
struct RecurrentInputs {
  Tensor x;                    ///< [B,T,F]
  Tensor kernel;               ///< [F,G*H]
  Tensor recurrent_kernel;     ///< [H,G*H]
  Tensor bias = {};            ///< [G*H], added to x kernel; none where it is undefined
  Tensor recurrent_bias = {};  ///< of gru with reset_after: [3*H], added to h recurrent_kernel
  Tensor h = {}, c = {};       ///< [B,H]: the states before the first step (c: of lstm); zeros where undefined
  /// [B,T] uint8: where it is 0, the state stays what it was before the step, and so does the step's result.
  Tensor mask = {};
  /// [B,H]: what h is multiplied with before recurrent_kernel, the same at each step: the masks of Gal, Ghahramani,
  /// "A theoretically grounded application of dropout in recurrent neural networks", NeurIPS 2016. No gradient.
  Tensor recurrent_dropout = {};
  bool reverse = false;  ///< from the last step to the first; results stay at their steps
};

/// What it gives. The last step is the first of a reversed sequence.
struct RecurrentResult {
  Tensor y;  ///< [B,T,H]: h after each step
  Tensor h;  ///< [B,H]: h after the last step; the first h of sequences of length 0
  Tensor c;  ///< [B,H]: of lstm, likewise
};

/// h' = activation(x kernel + bias + h recurrent_kernel), with tanh or relu. Elman, "Finding structure in time",
/// Cognitive Science 14, 1990. Differentiable in all but the masks. Throws Error for shapes that do not match, and for
/// another activation.
RecurrentResult rnn(const RecurrentInputs& inputs, UnaryOp activation = UnaryOp::tanh);

/// i, f, o = sigmoid, g = tanh of x kernel + bias + h recurrent_kernel; c' = f * c + i * g; h' = o * tanh(c'). The
/// gates lie in the order i, f, g, o, as in Keras and PyTorch (whose two biases add up to this one). Hochreiter,
/// Schmidhuber, "Long short-term memory", 1997, with the forget gate of Gers, Schmidhuber, Cummins, "Learning to
/// forget", 2000. Differentiable and refusing as rnn.
RecurrentResult lstm(const RecurrentInputs& inputs);

/// z, r = sigmoid; n = tanh(n's part of x kernel + bias, and r * (h recurrent_kernel + recurrent_bias)); h' = z * h +
/// (1 - z) * n. The gates lie in the order z, r, n, as in Keras; PyTorch's is r, z, n. Cho et al., EMNLP 2014, with the
/// reset after the product, as cuDNN, PyTorch and Keras have it; without `reset_after`, as in the paper, n takes
/// (r * h) recurrent_kernel, and there is no recurrent_bias. Differentiable and refusing as rnn.
RecurrentResult gru(const RecurrentInputs& inputs, bool reset_after = true);

}  // namespace mica
