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
/// below and to the right where they are odd in number (Keras's rule). causal: as many, with all zeros above and to the
/// left, so that a window ends at its own pixel and sees none after it: for sequences.
enum class Padding : unsigned char { valid, same, causal };

/// Where the windows along one axis lie: how many, and how much padding before the first.
struct Windows {
  int64_t count = 0, before = 0;
};
/// Throws Error("[op] ...") for a size, stride or dilation below 1, or where no window fits. The elements of a window
/// lie `dilation` apart.
Windows windows(const char* op, int64_t size, int64_t window, int64_t stride, Padding padding, int64_t dilation = 1);

struct ConvOptions {
  Size2 strides = {1, 1};
  Padding padding = Padding::valid;
  UnaryOp activation = UnaryOp::identity;
  Size2 dilation = {1, 1};  ///< the distance between the pixels of a window
  int64_t groups = 1;       ///< divides C and O
};

/// activation(x * w + bias), the cross-correlation that deep learning calls convolution: [N, OH, OW, O] from images
/// x [N, H, W, C], filters w [KH, KW, C / groups, O] and bias [O] (undefined: none). Each of `groups` equal parts of
/// the filters sees only the same part of the channels; with groups = C that is a depthwise convolution, where result o
/// comes from channel o / (O / C). Differentiable. On the CPU in float32, windows of 3 by 3 over many channels are
/// computed by tiles of 4 by 4 results: errors are some 1e-6 of the largest values near by, and a value that is not
/// finite may spread over its tile.
Tensor conv2d(const Tensor& x, const Tensor& w, const Tensor& bias = {}, ConvOptions options = {});

struct ConvTransposeOptions {
  Size2 strides = {1, 1};
  Padding padding = Padding::valid;  ///< valid or same
  UnaryOp activation = UnaryOp::identity;
  Size2 dilation = {1, 1};
};

/// Upsampling by the gradient of a convolution (Dumoulin, Visin, "A guide to convolution arithmetic for deep learning",
/// 2016, chapter 4): [N, OH, OW, F] from x [N, H, W, C], where conv2d with filters w [KH, KW, F, C] leads from [OH, OW]
/// to [H, W]; each pixel adds its filters, times its values, to a window of the result. bias [F] (undefined: none) and
/// activation follow. With `same` OH = H * stride; with `valid` H * stride + max(window - stride, 0), the window being
/// (KH - 1) * dilation + 1 (Keras's rule). Differentiable.
Tensor conv2d_transpose(const Tensor& x, const Tensor& w, const Tensor& bias = {}, ConvTransposeOptions options = {});

}  // namespace mica
