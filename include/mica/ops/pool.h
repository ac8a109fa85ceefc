// Pooling.
#pragma once

#include "mica/ops/conv.h"

namespace MICA_EXPORT mica {

struct PoolOptions {
  Size2 strides = {0, 0};  ///< 0: as the window
  Padding padding = Padding::valid;
};

/// The largest value of each window: [N, OH, OW, C] from images x [N, H, W, C]. Padding takes no part; NaN wins; the
/// gradient goes to the first of equals. Differentiable.
Tensor max_pool2d(const Tensor& x, Size2 window, PoolOptions options = {});

/// max_pool2d(conv2d(x, w, bias, options), window, pool), for a few images at a time: what lies between, often a
/// network's largest tensor, is not kept. Sequential models do it by themselves. Differentiable.
Tensor conv2d_max_pool2d(const Tensor& x, const Tensor& w, const Tensor& bias, ConvOptions options, Size2 window,
                         PoolOptions pool = {});

/// The mean of each window's values inside of the image. Differentiable.
Tensor average_pool2d(const Tensor& x, Size2 window, PoolOptions options = {});

}  // namespace mica
