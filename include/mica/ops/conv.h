// Convolution.
#pragma once

#include "mica/core/tensor.h"
#include "mica/ops/scalar.h"

namespace MICA_EXPORT mica {

/// A height and a width; one number is both.
struct Size2 {
  int64_t h = 1, w = 1;

  Size2() = default;
  Size2(int64_t both) : h(both), w(both) {}
  Size2(int64_t height, int64_t width) : h(height), w(width) {}
  friend bool operator==(Size2, Size2) = default;
};

/// valid: only windows inside of the image. same: ceil(size / stride) windows, with zeros around the image, one more
/// below and to the right where they are odd in number (Keras's rule).
enum class Padding : unsigned char { valid, same };

/// Where the windows along one axis lie: how many, and how much padding before the first.
struct Windows {
  int64_t count = 0, before = 0;
};
/// Throws Error("[op] ...") for a size or stride below 1, or where no window fits.
Windows windows(const char* op, int64_t size, int64_t window, int64_t stride, Padding padding);

struct ConvOptions {
  Size2 strides = {1, 1};
  Padding padding = Padding::valid;
  UnaryOp activation = UnaryOp::identity;
};

/// activation(x * w + bias), the cross-correlation that deep learning calls convolution: [N, OH, OW, O] from images
/// x [N, H, W, C], filters w [KH, KW, C, O] and bias [O] (undefined: none). Differentiable.
Tensor conv2d(const Tensor& x, const Tensor& w, const Tensor& bias = {}, ConvOptions options = {});

}  // namespace mica
