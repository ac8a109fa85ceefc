// A convolution and the pooling that alone reads it, in one op.
#pragma once

#include "mica/autograd/tape.h"
#include "mica/nn/conv2d.h"

namespace mica::nn::detail {

/// What the two layers, one after the other, make of x, in one op. Undefined where they are not a Conv2D and a
/// MaxPool2D, and where each has something to say for itself: to a tape's observer, in an error.
inline Tensor convolve_and_pool(const Layer& first, const Layer& second, const Tensor& x, Call& call) {
  const Conv2D* conv = first.as<Conv2D>();
  const MaxPool2D* pool = conv ? second.as<MaxPool2D>() : nullptr;
  if (!pool || (Tape::current() && Tape::current()->looks_at_ops())) return {};
  try {
    return conv->forward_pooled(x, *pool, call);
  } catch (const Error&) {
    return {};  // the layers, one by one, fail too, and tell which it was
  }
}

}  // namespace mica::nn::detail
