// Layers without parameters that change how values are laid out or scaled.
#pragma once

#include "mica/nn/layer.h"
#include "mica/ops/elementwise.h"
#include "mica/ops/manipulate.h"
#include "mica/ops/resize.h"

namespace MICA_EXPORT mica {
namespace nn {

/// [N, H * W * C] from [N, H, W, C], and likewise for any rank.
class Flatten : public Module<Flatten> {
 public:
  static constexpr const char* kType = "Flatten";
  Tensor forward(const Tensor& x, Call&) const {
    check(x.rank() >= 1, "flatten", "the input must have a batch axis, shape ", x.shape());
    return x.reshape({x.dim(0), x.shape().tail().elements()});
  }
  void visit(Visitor&) {}
};

/// The values of each example under another shape; one size may be -1.
class Reshape : public Module<Reshape> {
 public:
  static constexpr const char* kType = "Reshape";
  Reshape() = default;
  /// Throws Error for a size below -1 and more than one -1.
  explicit Reshape(Shape target) : target_(target) {
    int unknown = 0;
    for (const int64_t size : target) {
      check(size >= -1, "reshape", "sizes must not be negative: ", target);
      unknown += size == -1;
    }
    check(unknown <= 1, "reshape", "only one size may be -1: ", target);
  }
  Tensor forward(const Tensor& x, Call&) const {
    check(x.rank() >= 1, "reshape", "the input must have a batch axis, shape ", x.shape());
    // The -1 is inferred from one example: a batch may be empty.
    Shape shape = target_;
    int64_t known = 1;
    for (const int64_t size : target_)
      check(size < 0 || !__builtin_mul_overflow(known, size, &known), "reshape", "too many elements: ", target_);
    const int64_t each = x.shape().tail().elements();
    for (int i = 0; i < shape.rank(); ++i)
      if (shape[i] < 0) {
        check(known > 0 && each % known == 0, "reshape", "cannot infer the -1: examples of ", x.shape().tail(), " to ",
              target_);
        shape[i] = each / known;
      }
    check(known >= 0 && shape.elements() == each, "reshape", "the number of elements must stay the same: examples of ",
          x.shape().tail(), " to ", target_);
    return x.reshape(shape.with_first(x.dim(0)));
  }
  void visit(Visitor& v) { v("target", target_); }

 private:
  Shape target_;
};

/// x * scale + offset.
class Rescaling : public Module<Rescaling> {
 public:
  static constexpr const char* kType = "Rescaling";
  Rescaling() = default;
  explicit Rescaling(double scale, double offset = 0) : scale_(scale), offset_(offset) {}
  Tensor forward(const Tensor& x, Call&) const {
    const Tensor y = (is_floating(x.dtype()) ? x : x.to(float32)) * scale_;
    return offset_ == 0 ? y : y + offset_;
  }
  void visit(Visitor& v) {
    v("scale", scale_);
    v("offset", offset_);
  }

 private:
  double scale_ = 1, offset_ = 0;
};

/// Zeros around images [N, H, W, C]: rows above and below, columns to the left and right.
class ZeroPadding2D : public Module<ZeroPadding2D> {
 public:
  static constexpr const char* kType = "ZeroPadding2D";
  ZeroPadding2D() = default;
  /// As many on every side / `rows` above and below, `columns` left and right / each side by itself. Throws Error for a
  /// negative width.
  explicit ZeroPadding2D(int64_t all) : ZeroPadding2D({all, all}, {all, all}) {}
  ZeroPadding2D(PadWidth rows, PadWidth columns)
      : top_(rows.before), bottom_(rows.after), left_(columns.before), right_(columns.after) {
    for (const int64_t width : {top_, bottom_, left_, right_})
      check(width >= 0, "zero_padding2d", "widths must not be negative, got ", width);
  }
  Tensor forward(const Tensor& x, Call&) const {
    check(x.rank() == 4, "zero_padding2d", "the input must be images [N,H,W,C], got ", x.shape());
    return pad(x, {{0, 0}, {top_, bottom_}, {left_, right_}, {0, 0}});
  }
  void visit(Visitor& v) {
    v("top", top_);
    v("bottom", bottom_);
    v("left", left_);
    v("right", right_);
  }

 private:
  int64_t top_ = 0, bottom_ = 0, left_ = 0, right_ = 0;
};

struct UpSampling2DOptions {
  Interpolation interpolation = Interpolation::nearest;
};

/// Images [N, H, W, C] enlarged by whole factors: [N, H * size.h, W * size.w, C].
class UpSampling2D : public Module<UpSampling2D> {
 public:
  static constexpr const char* kType = "UpSampling2D";
  UpSampling2D() = default;
  /// Throws Error for a factor below 1.
  explicit UpSampling2D(Size2 size, UpSampling2DOptions options = {})
      : size_(size), bilinear_(options.interpolation == Interpolation::bilinear) {
    check_size();
  }
  Tensor forward(const Tensor& x, Call&) const {
    check(x.rank() == 4, "up_sampling2d", "the input must be images [N,H,W,C], got ", x.shape());
    check_size();
    return resize2d(x, {x.dim(1) * size_.h, x.dim(2) * size_.w},
                    bilinear_ ? Interpolation::bilinear : Interpolation::nearest);
  }
  void visit(Visitor& v) {
    v("size", size_);
    v("bilinear", bilinear_);
  }

 private:
  // A loaded layer has not been through the constructor.
  void check_size() const {
    constexpr int64_t kMost = int64_t{1} << 16;
    check(size_.h >= 1 && size_.w >= 1 && size_.h <= kMost && size_.w <= kMost, "up_sampling2d",
          "factors must be at least 1 and not huge, got ", size_.h, " and ", size_.w);
  }

  Size2 size_;
  bool bilinear_ = false;
};

}  // namespace nn
}  // namespace mica
