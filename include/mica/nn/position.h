// Where a step stands in its sequence: positions that are learned, and sinusoidal ones.
#pragma once

#include "mica/nn/layer.h"
#include "mica/ops/attention.h"
#include "mica/ops/elementwise.h"
#include "mica/ops/manipulate.h"

namespace MICA_EXPORT mica {
namespace nn {

struct PositionEmbeddingOptions {
  Initializer initializer = init::uniform();
};

/// x [B,T,C] and, for each step, the vector of its position, which is learned: a table [length, C] for sequences of at
/// most `length` steps. Throws Error for longer ones.
class PositionEmbedding : public Module<PositionEmbedding> {
 public:
  static constexpr const char* kType = "PositionEmbedding";

  PositionEmbedding() = default;
  /// Throws Error unless length >= 1.
  explicit PositionEmbedding(int64_t length, PositionEmbeddingOptions options = {})
      : length_(length), options_(options) {
    check(length >= 1, "position_embedding", "the length must be at least 1, got ", length);
  }

  Tensor forward(const Tensor& x, Call& call) const {
    check(x.rank() == 3, "position_embedding", "the input must be [batch, time, features], got ", x.shape());
    const int64_t first = call.position();
    check(x.dim(1) <= length_ - first, "position_embedding", "there are ", length_, " positions, but the steps are ",
          first, " to ", first + x.dim(1), " of the sequence");
    return x + call.parameter(table_, {length_, x.dim(2)}, options_.initializer).slice(first, first + x.dim(1));
  }

  void visit(Visitor& v) {
    v("length", length_);
    v("initializer", options_.initializer);
    v("table", table_);
  }

  const Parameter& table() const { return table_; }  ///< [length, C]

 private:
  int64_t length_ = 1;
  PositionEmbeddingOptions options_;
  Parameter table_;
};

struct SinusoidalPositionEncodingOptions {
  double base = 10000;  ///< of the wavelengths
};

/// x [B,T,C], C even, and for each step the sines and cosines of its position: feature 2i gets sin(position *
/// base^(-2i/C)), feature 2i + 1 the cosine. Sequences may have any length. Vaswani et al., "Attention is all you
/// need", 2017, section 3.5.
class SinusoidalPositionEncoding : public Module<SinusoidalPositionEncoding> {
 public:
  static constexpr const char* kType = "SinusoidalPositionEncoding";

  /// Throws Error unless the base is finite and positive.
  explicit SinusoidalPositionEncoding(SinusoidalPositionEncodingOptions options = {}) : options_(options) {
    check(options.base > 0 && options.base < 1e300, "sinusoidal_position_encoding",
          "the base must be finite and positive, got ", options.base);
  }

  Tensor forward(const Tensor& x, Call& call) const {
    check(x.rank() == 3 && x.dim(2) % 2 == 0, "sinusoidal_position_encoding",
          "the input must be [batch, time, features], the features even in number, got ", x.shape());
    const int64_t steps = x.dim(1), half = x.dim(2) / 2;
    const TensorOptions like{x.dtype(), x.device()};
    // (1, 0), turned by an angle, is its cosine and its sine.
    const Tensor turned = rotary(concat({ones({1, steps, 1, half}, like), zeros({1, steps, 1, half}, like)}, -1),
                                 {.offset = call.position(), .base = options_.base});
    const Tensor sine_first = flip(turned.reshape({steps, 2, half}), {1});
    return x + transpose(sine_first, {0, 2, 1}).reshape({steps, 2 * half});
  }

  void visit(Visitor& v) { v("base", options_.base); }

 private:
  SinusoidalPositionEncodingOptions options_;
};

}  // namespace nn
}  // namespace mica
