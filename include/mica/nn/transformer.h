// Layers of the Transformer: FeedForward, TransformerEncoderLayer and TransformerDecoderLayer.
#pragma once

#include "mica/nn/activation.h"
#include "mica/nn/attention.h"
#include "mica/nn/dropout.h"
#include "mica/nn/norm.h"

namespace MICA_EXPORT mica {
namespace nn {

struct FeedForwardOptions {
  Activation activation = relu;
  double dropout = 0;  ///< in training: of what is between the two products
  bool use_bias = true;
  Initializer kernel_initializer = init::glorot_uniform;
  Initializer bias_initializer = init::zeros;
  Regularizer kernel_regularizer = {};
  Regularizer bias_regularizer = {};
};

/// activation(x inner + bias) outer + bias: [..., C] from [..., C], through `units` features.
class FeedForward : public Module<FeedForward> {
 public:
  static constexpr const char* kType = "FeedForward";

  FeedForward() = default;
  /// Throws Error unless units >= 1 and dropout is in [0, 1).
  explicit FeedForward(int64_t units, FeedForwardOptions options = {})
      : units_(units), activation_(options.activation), inner_(options), outer_(options), dropout_(options.dropout) {
    check(units >= 1, "feed_forward", "there must be at least 1 unit, got ", units);
  }

  Tensor forward(const Tensor& x, Call& call) const {
    check(x.rank() >= 1, "feed_forward", "the input must have a feature axis, shape ", x.shape());
    const Tensor h = activation_.after(inner_.dense(x, units_, call, activation_.op()));
    return outer_.dense(dropout_.forward(h, call), x.dim(-1), call);
  }

  void visit(Visitor& v) {
    v("units", units_);
    v("activation", activation_);
    v("inner", inner_);
    v("outer", outer_);
    v("dropout", dropout_);
  }

  const detail::Weights& inner() const { return inner_; }  ///< [C, units]
  const detail::Weights& outer() const { return outer_; }  ///< [units, C]

 private:
  int64_t units_ = 1;
  Activation activation_ = relu;
  detail::Weights inner_, outer_;
  Dropout dropout_;
};

struct TransformerOptions {
  /// Pre-norm: each part is x + f(norm(x)), which trains more stably; a LayerNorm follows the last layer. Else
  /// post-norm, norm(x + f(x)), as in Vaswani et al., 2017. See Xiong et al., "On layer normalization in the
  /// transformer architecture", ICML 2020.
  bool norm_first = false;
  Activation activation = relu;
  double dropout = 0;   ///< in training: of attention, of what is inside of the feed-forward part, and behind each part
  bool causal = false;  ///< of an encoder layer: no step attends to a later one; a decoder layer's always do so
  bool rotary = false;  ///< of self-attention: positions are told by turning queries and keys
  int64_t head_size = 0;  ///< the features of a head; 0: those of the input, divided by the heads
  double epsilon = 1e-5;  ///< of the LayerNorms
  bool use_bias = true;
  Initializer kernel_initializer = init::glorot_uniform;
  Initializer bias_initializer = init::zeros;
  Regularizer kernel_regularizer = {};
  Regularizer bias_regularizer = {};
};

namespace detail {

// x + f(norm(x)), or norm(x + f(x)), with dropout behind f.
class Residual {
 public:
  Residual() = default;
  explicit Residual(const TransformerOptions& options)
      : norm_({.epsilon = options.epsilon}), dropout_(options.dropout) {}

  template <class F>
  Tensor forward(const Tensor& x, bool norm_first, Call& call, const F& f) const {
    const Tensor y = x + dropout_.forward(f(norm_first ? norm_.forward(x, call) : x), call);
    return norm_first ? y : norm_.forward(y, call);
  }
  void visit(Visitor& v) {
    v("norm", norm_);
    v("dropout", dropout_);
  }
  const LayerNorm& norm() const { return norm_; }

 private:
  LayerNorm norm_;
  Dropout dropout_;
};

}  // namespace detail

/// Self-attention and a feed-forward part, each with a residual connection and a LayerNorm: [B,T,C] from [B,T,C].
///   nn::TransformerEncoderLayer(4, 512, {.norm_first = true})
/// Masked steps (Call::mask) are attended to by none. With .causal it is the layer of a model that generates.
class TransformerEncoderLayer : public Module<TransformerEncoderLayer> {
 public:
  static constexpr const char* kType = "TransformerEncoderLayer";

  TransformerEncoderLayer() = default;
  /// `feed_forward`: the features inside of the feed-forward part. Throws Error unless both are at least 1 and dropout
  /// is in [0, 1).
  TransformerEncoderLayer(int64_t heads, int64_t feed_forward, TransformerOptions options = {});

  Tensor forward(const Tensor& x, Call& call) const;
  void visit(Visitor& v);

  const MultiHeadSelfAttention& attention() const { return attention_; }
  const FeedForward& feed_forward() const { return feed_forward_; }

 private:
  bool norm_first_ = false;
  MultiHeadSelfAttention attention_;
  FeedForward feed_forward_;
  detail::Residual attention_residual_, feed_forward_residual_;
};

/// Causal self-attention, attention to a context, and a feed-forward part: `layer({x, context})`, x [B,T,C] and context
/// [B,S,E], is [B,T,C]. Masked steps of either are attended to by none. (A model that generates without a context is
/// made of TransformerEncoderLayers that are causal.)
class TransformerDecoderLayer : public Module<TransformerDecoderLayer> {
 public:
  static constexpr const char* kType = "TransformerDecoderLayer";

  TransformerDecoderLayer() = default;
  TransformerDecoderLayer(int64_t heads, int64_t feed_forward, TransformerOptions options = {});

  Tensor forward(std::span<const Tensor> xs, Call& call) const;
  void visit(Visitor& v);

  const MultiHeadSelfAttention& attention() const { return attention_; }
  const MultiHeadCrossAttention& cross_attention() const { return cross_attention_; }
  const FeedForward& feed_forward() const { return feed_forward_; }

 private:
  bool norm_first_ = false;
  MultiHeadSelfAttention attention_;
  MultiHeadCrossAttention cross_attention_;
  FeedForward feed_forward_;
  detail::Residual attention_residual_, cross_attention_residual_, feed_forward_residual_;
};

}  // namespace nn
}  // namespace mica
