// Augmentation: layers that vary images in training, and pass them on as they are otherwise.
#pragma once

#include <concepts>
#include <string>

#include "mica/nn/layer.h"
#include "mica/ops/augment.h"
#include "mica/ops/elementwise.h"
#include "mica/ops/manipulate.h"

namespace MICA_EXPORT mica {
namespace nn {

struct RandomFlipOptions {
  bool horizontal = true;  ///< left to right
  bool vertical = false;   ///< top to bottom
};

/// In training, mirrors each image of [N, H, W, C] with probability 1/2 in each direction that is asked for.
class RandomFlip : public Module<RandomFlip> {
 public:
  static constexpr const char* kType = "RandomFlip";

  explicit RandomFlip(RandomFlipOptions options = {}) : options_(options) {}

  Tensor forward(const Tensor& x, Call& call) const {
    check(x.rank() == 4, "random_flip", "the input must be images [N,H,W,C], got ", x.shape());
    if (!call.training()) return x;
    const auto draw = [&](bool asked, const RandomStream& stream) {
      if (!asked) return Tensor();
      return random_bernoulli({x.dim(0)}, 0.5, call.key(stream), {uint8, x.device()});
    };
    return flip2d(x, draw(options_.vertical, vertical_), draw(options_.horizontal, horizontal_));
  }

  void visit(Visitor& v) {
    v("horizontal", options_.horizontal);
    v("vertical", options_.vertical);
    v("horizontal_stream", horizontal_);
    v("vertical_stream", vertical_);
  }

 private:
  RandomFlipOptions options_;
  RandomStream horizontal_, vertical_;
};

struct RandomTranslationOptions {
  PadOptions fill = {};  ///< what comes in at the edges: zeros, the outermost pixels, or the image mirrored
};

/// In training, moves each image of [N, H, W, C] by a whole number of pixels, drawn evenly from [-most.h, most.h] down
/// and [-most.w, most.w] to the right: RandomTranslation(2), RandomTranslation({0, 3}).
class RandomTranslation : public Module<RandomTranslation> {
 public:
  static constexpr const char* kType = "RandomTranslation";

  RandomTranslation() = default;
  /// Throws Error for a negative number of pixels.
  explicit RandomTranslation(Size2 most, RandomTranslationOptions options = {}) : most_(most), options_(options) {
    check_most();
  }
  /// Pixels, not a share of the image.
  template <std::floating_point T>
  explicit RandomTranslation(T, RandomTranslationOptions = {}) = delete;

  Tensor forward(const Tensor& x, Call& call) const {
    check(x.rank() == 4, "random_translation", "the input must be images [N,H,W,C], got ", x.shape());
    check_most();
    check(options_.fill.mode != PadMode::reflect || (most_.h < x.dim(1) && most_.w < x.dim(2)), "random_translation",
          "an image is mirrored for less than its own size: at most ", most_.h, " and ", most_.w, " pixels, of ",
          x.shape());
    if (!call.training()) return x;
    // A window of the image in its border, at a place of its own.
    const bool bordered = options_.fill.mode != PadMode::constant || options_.fill.value != 0;
    const auto draw = [&](int64_t most, const RandomStream& stream) {
      const auto low = static_cast<double>(bordered ? 0 : -most), high = low + 2 * static_cast<double>(most) + 1;
      return floor(random_uniform({x.dim(0)}, low, high, call.key(stream), {float64, x.device()})).to(int64);
    };
    const PadWidth border[] = {{0, 0}, {most_.h, most_.h}, {most_.w, most_.w}, {0, 0}};
    return crop2d(bordered ? pad(x, border, options_.fill) : x, draw(most_.h, rows_), draw(most_.w, columns_),
                  {x.dim(1), x.dim(2)});
  }

  void visit(Visitor& v) {
    std::string mode = kModes[static_cast<int>(options_.fill.mode)];
    v("most", most_);
    v("fill_mode", mode);
    v("fill_value", options_.fill.value);
    v("rows_stream", rows_);
    v("columns_stream", columns_);
    int known = 0;
    while (known < 3 && mode != kModes[known]) ++known;
    check(known < 3, "random_translation", "the fill mode must be constant, edge or reflect, got ", mode);
    options_.fill.mode = static_cast<PadMode>(known);
  }

 private:
  static constexpr const char* kModes[] = {"constant", "edge", "reflect"};  // in the order of PadMode

  // A loaded layer has not been through the constructor.
  void check_most() const {
    constexpr int64_t kMost = int64_t{1} << 30;
    check(most_.h >= 0 && most_.w >= 0 && most_.h <= kMost && most_.w <= kMost, "random_translation",
          "the most pixels must not be negative, nor huge, got ", most_.h, " and ", most_.w);
  }

  Size2 most_{0, 0};
  RandomTranslationOptions options_;
  RandomStream rows_, columns_;
};

}  // namespace nn
}  // namespace mica
