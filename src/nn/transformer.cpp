// The layers of the Transformer, made of their parts.
#include "mica/nn/transformer.h"

namespace MICA_EXPORT mica {
namespace nn {

namespace {

MultiHeadAttentionOptions attention_options(const TransformerOptions& o) {
  return {.head_size = o.head_size,
          .dropout = o.dropout,
          .use_bias = o.use_bias,
          .kernel_initializer = o.kernel_initializer,
          .bias_initializer = o.bias_initializer,
          .kernel_regularizer = o.kernel_regularizer,
          .bias_regularizer = o.bias_regularizer};
}

MultiHeadAttentionOptions self_attention_options(const TransformerOptions& o, bool causal) {
  MultiHeadAttentionOptions options = attention_options(o);
  options.causal = causal;
  options.rotary = o.rotary;
  options.rotary_base = o.rotary_base;
  return options;
}

FeedForwardOptions feed_forward_options(const TransformerOptions& o) {
  return {.activation = o.activation,
          .dropout = o.dropout,
          .use_bias = o.use_bias,
          .kernel_initializer = o.kernel_initializer,
          .bias_initializer = o.bias_initializer,
          .kernel_regularizer = o.kernel_regularizer,
          .bias_regularizer = o.bias_regularizer};
}

}  // namespace

TransformerEncoderLayer::TransformerEncoderLayer(int64_t heads, int64_t feed_forward, TransformerOptions options)
    : norm_first_(options.norm_first), attention_(heads, self_attention_options(options, options.causal)),
      feed_forward_(feed_forward, feed_forward_options(options)), attention_residual_(options),
      feed_forward_residual_(options) {}

Tensor TransformerEncoderLayer::forward(const Tensor& x, Call& call) const {
  check(x.rank() == 3, "transformer_encoder_layer", "the input must be [batch, time, features], got ", x.shape());
  const Tensor h =
      attention_residual_.forward(x, norm_first_, call, [&](const Tensor& v) { return attention_.forward(v, call); });
  return feed_forward_residual_.forward(h, norm_first_, call,
                                        [&](const Tensor& v) { return feed_forward_.forward(v, call); });
}

void TransformerEncoderLayer::visit(Visitor& v) {
  v("norm_first", norm_first_);
  v("attention", attention_);
  v("attention_residual", attention_residual_);
  v("feed_forward", feed_forward_);
  v("feed_forward_residual", feed_forward_residual_);
}

TransformerDecoderLayer::TransformerDecoderLayer(int64_t heads, int64_t feed_forward, TransformerOptions options)
    : norm_first_(options.norm_first), attention_(heads, self_attention_options(options, true)),
      cross_attention_(heads, attention_options(options)), feed_forward_(feed_forward, feed_forward_options(options)),
      attention_residual_(options), cross_attention_residual_(options), feed_forward_residual_(options) {}

Tensor TransformerDecoderLayer::forward(std::span<const Tensor> xs, Call& call) const {
  check(xs.size() == 2 && xs[0].rank() == 3, "transformer_decoder_layer",
        "the inputs must be x [batch, time, features] and a context, got ", uint64_t{xs.size()},
        xs.empty() ? "" : " inputs, x ", xs.empty() ? Shape{} : xs[0].shape());
  const Tensor a = attention_residual_.forward(xs[0], norm_first_, call,
                                               [&](const Tensor& v) { return attention_.forward(v, call); });
  const Tensor h = cross_attention_residual_.forward(a, norm_first_, call, [&](const Tensor& v) {
    const Tensor both[] = {v, xs[1]};
    return cross_attention_.forward(both, call);
  });
  return feed_forward_residual_.forward(h, norm_first_, call,
                                        [&](const Tensor& v) { return feed_forward_.forward(v, call); });
}

void TransformerDecoderLayer::visit(Visitor& v) {
  v("norm_first", norm_first_);
  v("attention", attention_);
  v("attention_residual", attention_residual_);
  v("cross_attention", cross_attention_);
  v("cross_attention_residual", cross_attention_residual_);
  v("feed_forward", feed_forward_);
  v("feed_forward_residual", feed_forward_residual_);
}

}  // namespace nn
}  // namespace mica
