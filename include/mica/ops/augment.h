// Images moved about, each by its own amount: what augmentation of training data is made of.
// All are differentiable in the images and take any dtype.
#pragma once

#include "mica/ops/conv.h"

namespace MICA_EXPORT mica {

/// A window of each image: [N, size.h, size.w, C] from images x [N, H, W, C], the window of image n beginning at row
/// rows[n] and column columns[n], int64 [N]. A window may reach beyond its image, where everything is zero: corners
/// below 0 move an image down and to the right. Throws Error for sizes below 0.
Tensor crop2d(const Tensor& x, const Tensor& rows, const Tensor& columns, Size2 size);

/// Images x [N, H, W, C] mirrored: top to bottom where vertical[n] is not 0, left to right where horizontal[n] is not
/// 0. Both are uint8 [N]; an undefined one mirrors none.
Tensor flip2d(const Tensor& x, const Tensor& vertical, const Tensor& horizontal);

}  // namespace mica
