// Attention with several heads: among the steps of a sequence, and from one sequence to another.
#pragma once

#include "mica/nn/weights.h"
#include "mica/ops/attention.h"

namespace MICA_EXPORT mica {
namespace nn {

struct MultiHeadAttentionOptions {
  int64_t head_size = 0;  ///< the features of a head; 0: those of the input, divided by the heads
  bool causal = false;    ///< of self-attention: no step attends to a later one
  bool rotary = false;    ///< of self-attention: positions are told by turning queries and keys, see rotary()
  double dropout = 0;     ///< in training: the rate at which probabilities are zeroed
  bool use_bias = true;
  Initializer kernel_initializer = init::glorot_uniform;
  Initializer bias_initializer = init::zeros;
  Regularizer kernel_regularizer = {};
  Regularizer bias_regularizer = {};
};

namespace detail {

// What both kinds have in common: heads, options, and the product that follows them.
class MultiHead {
 public:
  int64_t heads() const { return heads_; }
  const MultiHeadAttentionOptions& options() const { return options_; }
  const Weights& output() const {
    return output_;
  }  ///< the kernel [heads * head_size, C] and bias [C] behind the heads

 protected:
  MultiHead() = default;
  MultiHead(const char* op, int64_t heads, const MultiHeadAttentionOptions& options);
  void check_options(const char* op) const;
  /// The features of a head, for an input of so many.
  int64_t head_size(const char* op, int64_t features) const;
  /// The op's options: the mask of padding [B, Tk] and one that is given are both minded.
  AttentionOptions attention_options(const char* op, const Tensor& padding, const Tensor& mask, Call& call) const;
  void visit_options(Visitor& v);

  int64_t heads_ = 1;
  MultiHeadAttentionOptions options_;
  Weights output_;
  RandomStream dropout_;
};

}  // namespace detail

/// Each step of [B,T,C] attends to the steps of its own sequence: [B,T,C]. Masked steps (Call::mask) are attended to by
/// none. A second input, {x, mask}, is uint8 as AttentionOptions::mask. With a KeyValueCache, x is the new steps.
/// Vaswani et al., "Attention is all you need", 2017, section 3.2.2. One kernel [C, 3 * heads * head_size] makes
/// queries, keys and values, each head after head: PyTorch's in_proj_weight, transposed.
class MultiHeadSelfAttention : public Module<MultiHeadSelfAttention>, public detail::MultiHead {
 public:
  static constexpr const char* kType = "MultiHeadSelfAttention";

  MultiHeadSelfAttention() = default;
  /// Throws Error unless heads >= 1, head_size >= 0 and dropout is in [0, 1).
  explicit MultiHeadSelfAttention(int64_t heads, MultiHeadAttentionOptions options = {});

  Tensor forward(const Tensor& x, Call& call) const { return attend(x, {}, call); }
  Tensor forward(std::span<const Tensor> xs, Call& call) const;
  void visit(Visitor& v);

  const detail::Weights& qkv() const { return qkv_; }

 private:
  Tensor attend(const Tensor& x, const Tensor& mask, Call& call) const;

  detail::Weights qkv_;
};

/// Each step of x [B,T,C] attends to the steps of a context [B,S,E]: `layer({x, context})` is [B,T,C]. Masked steps of
/// the context are attended to by none. A third input is a mask, uint8 as AttentionOptions::mask. With a KeyValueCache
/// the context's keys and values are made once. The kernels of queries [C, heads * head_size], and of keys and values
/// [E, heads * head_size], are apart, head after head.
class MultiHeadCrossAttention : public Module<MultiHeadCrossAttention>, public detail::MultiHead {
 public:
  static constexpr const char* kType = "MultiHeadCrossAttention";

  MultiHeadCrossAttention() = default;
  /// Throws Error unless heads >= 1, head_size >= 0 and dropout is in [0, 1), and for what self-attention alone has.
  explicit MultiHeadCrossAttention(int64_t heads, MultiHeadAttentionOptions options = {});

  Tensor forward(std::span<const Tensor> xs, Call& call) const;
  void visit(Visitor& v);

  const detail::Weights& query() const { return query_; }
  const detail::Weights& key() const { return key_; }
  const detail::Weights& value() const { return value_; }

 private:
  detail::Weights query_, key_, value_;
};

}  // namespace nn
}  // namespace mica
