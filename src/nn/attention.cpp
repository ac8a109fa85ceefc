// Attention layers: sizes, masks, and the way through the cache.
#include "mica/nn/attention.h"

#include "mica/nn/key_value_cache.h"
#include "mica/ops/compare.h"
#include "mica/ops/manipulate.h"

namespace MICA_EXPORT mica {
namespace nn {

namespace detail {

MultiHead::MultiHead(const char* op, int64_t heads, const MultiHeadAttentionOptions& options)
    : heads_(heads), head_size_(options.head_size), dropout_(options.dropout), output_(options) {
  check_options(op);
}

void MultiHead::check_options(const char* op) const {
  check(heads_ >= 1, op, "there must be at least 1 head, got ", heads_);
  check(head_size_ >= 0, op, "head_size must not be negative, got ", head_size_);
  check(dropout_ >= 0 && dropout_ < 1, op, "dropout must be in [0, 1), got ", dropout_);
}

int64_t MultiHead::head_size(const char* op, int64_t features) const {
  check_options(op);  // a loaded layer has not been through the constructor
  check(head_size_ > 0 || (features >= heads_ && features % heads_ == 0), op, "the heads must divide the ", features,
        " features of the input, or be given a head_size: ", heads_, " heads");
  const int64_t size = head_size_ > 0 ? head_size_ : features / heads_;
  check(size <= (int64_t{1} << 40) / heads_, op, "there are too many features: ", heads_, " heads of ", size);
  return size;
}

AttentionOptions MultiHead::attention_options(const char* op, const Tensor& padding, const Tensor& mask,
                                              Call& call) const {
  AttentionOptions o{.mask = mask.defined() ? mask : padding};
  if (mask.defined() && padding.defined()) {
    check(mask.dtype() == uint8 && mask.rank() >= 2 && mask.rank() <= 4 && mask.dim(-1) == padding.dim(1), op,
          "the mask must be uint8 [B,T], [B,Tq,Tk] or [B,heads,Tq,Tk], got ", mask.dtype(), " ", mask.shape(),
          ", for padding ", padding.shape());
    const int64_t b = padding.dim(0), t = padding.dim(1);
    const Shape keys = mask.rank() == 2 ? Shape{b, t} : mask.rank() == 3 ? Shape{b, 1, t} : Shape{b, 1, 1, t};
    o.mask = logical_and(mask, padding.reshape(keys));
  }
  if (call.training() && dropout_ > 0) {
    o.dropout = dropout_;
    o.key = call.key(stream_);
  }
  return o;
}

void MultiHead::visit_options(Visitor& v) {
  v("heads", heads_);
  v("head_size", head_size_);
  v("dropout", dropout_);
  v("dropout_stream", stream_);
}

}  // namespace detail

namespace {
constexpr const char* kSelf = "multi_head_self_attention";
constexpr const char* kCross = "multi_head_cross_attention";

Tensor in_heads(const Tensor& x, int64_t heads) { return x.reshape({x.dim(0), x.dim(1), heads, x.dim(2) / heads}); }
Tensor joined(const Tensor& x) { return x.reshape({x.dim(0), x.dim(1), x.dim(2) * x.dim(3)}); }
}  // namespace

MultiHeadSelfAttention::MultiHeadSelfAttention(int64_t heads, MultiHeadAttentionOptions options)
    : MultiHead(kSelf, heads, options), causal_(options.causal), rotary_(options.rotary),
      rotary_base_(options.rotary_base), qkv_(options) {}

Tensor MultiHeadSelfAttention::attend(const Tensor& x, const Tensor& mask, Call& call) const {
  check(x.rank() == 3, kSelf, "the input must be [batch, time, features], got ", x.shape());
  const int64_t width = heads_ * head_size(kSelf, x.dim(2));
  KeyValueCache* cache = call.cache();
  check(!cache || causal_, kSelf, "with a cache of keys and values attention must be causal");
  Tensor qkv = qkv_.dense(x, 3 * width, call);
  if (rotary_)
    qkv = joined(mica::rotary(in_heads(qkv, 3 * heads_),
                              {.heads = 2 * heads_, .offset = call.position(), .base = rotary_base_}));
  const auto options = [&](const Tensor& padding) {
    AttentionOptions o = attention_options(kSelf, padding, mask, call);
    o.causal = causal_;
    return o;
  };
  Tensor y;
  if (cache) {
    const Tensors parts = split(qkv, 3, -1);
    const KeyValueCache::Steps steps =
        cache->append(qkv_.kernel(), in_heads(parts[1], heads_), in_heads(parts[2], heads_), call.mask());
    y = joined(
        cached_attention(in_heads(parts[0], heads_), steps.keys, steps.values, steps.length, options(steps.mask)));
  } else {
    y = self_attention(qkv, heads_, options(call.mask()));
  }
  return output_.dense(y, x.dim(2), call);
}

Tensor MultiHeadSelfAttention::forward(std::span<const Tensor> xs, Call& call) const {
  check(xs.size() == 1 || xs.size() == 2, kSelf, "the inputs are x, or x and a mask, got ", uint64_t{xs.size()});
  return attend(xs[0], xs.size() == 2 ? xs[1] : Tensor(), call);
}

void MultiHeadSelfAttention::visit(Visitor& v) {
  visit_options(v);
  v("causal", causal_);
  v("rotary", rotary_);
  v("rotary_base", rotary_base_);
  v("qkv", qkv_);
  v("output", output_);
}

MultiHeadCrossAttention::MultiHeadCrossAttention(int64_t heads, MultiHeadAttentionOptions options)
    : MultiHead(kCross, heads, options), query_(options), key_(options), value_(options) {
  check(!options.causal && !options.rotary, kCross, "causal and rotary are of self-attention");
}

Tensor MultiHeadCrossAttention::forward(std::span<const Tensor> xs, Call& call) const {
  check(xs.size() == 2 || xs.size() == 3, kCross, "the inputs are x and a context, and may be a mask, got ",
        uint64_t{xs.size()});
  const Tensor &x = xs[0], &context = xs[1];
  check(x.rank() == 3 && context.rank() == 3, kCross, "the inputs must be [batch, time, features], got ", x.shape(),
        " and ", context.shape());
  check(x.dim(0) == context.dim(0), kCross, "x and the context must have the same batch: ", x.shape(), " and ",
        context.shape());
  const int64_t width = heads_ * head_size(kCross, x.dim(2));
  const Tensor q = in_heads(query_.dense(x, width, call), heads_);
  const auto make = [&]() -> KeyValueCache::Steps {
    return {in_heads(key_.dense(context, width, call), heads_), in_heads(value_.dense(context, width, call), heads_),
            context.dim(1), call.mask(1)};
  };
  const KeyValueCache::Steps steps = call.cache() ? call.cache()->context(key_.kernel(), make) : make();
  const AttentionOptions options = attention_options(kCross, steps.mask, xs.size() == 3 ? xs[2] : Tensor(), call);
  return output_.dense(joined(scaled_dot_product_attention(q, steps.keys, steps.values, options)), x.dim(2), call);
}

void MultiHeadCrossAttention::visit(Visitor& v) {
  visit_options(v);
  v("query", query_);
  v("key", key_);
  v("value", value_);
  v("output", output_);
}

}  // namespace nn
}  // namespace mica
