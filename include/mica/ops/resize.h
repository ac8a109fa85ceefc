// Images at another resolution.
#pragma once

#include "mica/ops/conv.h"

namespace MICA_EXPORT mica {

/// How a pixel of the result is found: the one that its centre falls into, or the four around it, weighted by nearness.
enum class Interpolation : unsigned char { nearest, bilinear };

/// [N, size.h, size.w, C] from images x [N, H, W, C]. Pixels are squares whose centres lie at halves, as TensorFlow's
/// resizing and PyTorch's "bilinear" (align_corners=False) and "nearest-exact" have it. Differentiable. Throws Error
/// for sizes below 1 and images without pixels.
Tensor resize2d(const Tensor& x, Size2 size, Interpolation interpolation = Interpolation::bilinear);

}  // namespace mica
