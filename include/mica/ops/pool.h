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

/// The mean of each window's values inside of the image. Differentiable.
Tensor average_pool2d(const Tensor& x, Size2 window, PoolOptions options = {});

}  // namespace mica
