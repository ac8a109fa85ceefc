// Attention: checks, forward and gradient.
#include "mica/ops/attention.h"

#include <cmath>

#include "ops/common.h"

namespace MICA_EXPORT mica {

namespace {

using kernels::AttentionArgs;
using kernels::HeadStrides;

// Of [B, T, N, D], contiguous.
HeadStrides strides_of(const Tensor& x) { return {x.dim(1) * x.dim(2) * x.dim(3), x.dim(2) * x.dim(3), x.dim(3)}; }

// `data` from its element `offset` on.
const void* part(const void* data, DType dtype, int64_t offset) {
  return static_cast<const char*>(data) + static_cast<size_t>(offset) * size_of(dtype);
}
void* part(void* data, DType dtype, int64_t offset) {
  return static_cast<char*>(data) + static_cast<size_t>(offset) * size_of(dtype);
}

void set_mask(const char* op, const Tensor& mask, Device device, AttentionArgs& a) {
  if (!mask.defined()) return;
  check(mask.dtype() == uint8, op, "the mask must be uint8, got ", mask.dtype());
  check(mask.device() == device, op, "devices must match: ", device, " and ", mask.device(), " (the mask)");
  const Shape& s = mask.shape();
  const bool pairs = s.rank() > 2;
  const bool batch_fits = s.rank() >= 2 && (s[0] == a.batch || (pairs && s[0] == 1));
  const bool pairs_fit = s.rank() >= 2 && s[-1] == a.tk && (!pairs || s[-2] == a.tq);
  const bool heads_fit = s.rank() < 4 || s[1] == a.heads || s[1] == 1;
  check(s.rank() <= 4 && batch_fits && pairs_fit && heads_fit, op, "the mask must be ", Shape{a.batch, a.tk}, ", ",
        Shape{a.batch, a.tq, a.tk}, " or ", Shape{a.batch, a.heads, a.tq, a.tk},
        " (1 for the examples or heads that share one), got ", s);
  a.mask = static_cast<const uint8_t*>(mask.raw());
  a.mask_query = pairs ? a.tk : 0;
  const int64_t each = pairs ? a.tq * a.tk : a.tk;
  a.mask_head = s.rank() == 4 && s[1] != 1 ? each : 0;
  a.mask_batch = s[0] == 1 ? 0 : s.rank() == 4 ? s[1] * each : each;
}

// What does not depend on where the operands lie; the sizes are set.
void set_options(const char* op, const AttentionOptions& options, Device device, AttentionArgs& a) {
  check(a.d >= 1, op, "queries and keys must have at least one feature");
  check(std::isfinite(options.scale), op, "the scale must be finite, got ", options.scale);
  check(options.dropout >= 0 && options.dropout < 1, op, "dropout must be in [0, 1), got ", options.dropout);
  set_mask(op, options.mask, device, a);
  a.scale = options.scale != 0 ? options.scale : 1 / std::sqrt(static_cast<double>(a.d));
  a.causal = options.causal;
  a.dropout = options.dropout;
  a.key = options.key;
}

// q, keys, values of the first `length` steps; -1: all of them.
AttentionArgs checked(const char* op, const Tensor& q, const Tensor& k, const Tensor& v, int64_t length,
                      const AttentionOptions& options) {
  ops::check_float(op, "the query", q);
  ops::check_like(op, "the key", k, q);
  ops::check_like(op, "the value", v, q);
  check(q.rank() == 4 && k.rank() == 4 && v.rank() == 4, op, "queries, keys and values must be [B,T,N,D], got ",
        q.shape(), ", ", k.shape(), " and ", v.shape());
  check(q.dim(0) == k.dim(0) && q.dim(2) == k.dim(2) && q.dim(3) == k.dim(3), op,
        "keys must have the queries' batch, heads and features: queries ", q.shape(), ", keys ", k.shape());
  check(v.dim(0) == k.dim(0) && v.dim(1) == k.dim(1) && v.dim(2) == k.dim(2), op,
        "values must have the keys' batch, length and heads: keys ", k.shape(), ", values ", v.shape());
  check(length >= -1 && length <= k.dim(1), op, "the length must be in [0, ", k.dim(1), "], got ", length);
  AttentionArgs a{.dtype = q.dtype(),
                  .batch = q.dim(0),
                  .heads = q.dim(2),
                  .tq = q.dim(1),
                  .tk = length < 0 ? k.dim(1) : length,
                  .d = q.dim(3),
                  .dv = v.dim(3),
                  .q = strides_of(q),
                  .k = strides_of(k),
                  .v = strides_of(v)};
  a.y = {a.tq * a.heads * a.dv, a.heads * a.dv, a.dv};
  set_options(op, options, q.device(), a);
  return a;
}

}  // namespace

Tensor scaled_dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                    const AttentionOptions& options) {
  const AttentionArgs args = checked("scaled_dot_product_attention", q, k, v, -1, options);
  Tape* tape = Tape::recording(q, k, v);
  Tensor y = empty({args.batch, args.tq, args.heads, args.dv}, {q.dtype(), q.device()}), log_sum;
  if (tape) log_sum = empty({args.batch, args.heads, args.tq}, {q.dtype(), q.device()});
  Context ctx = context(q.device());
  kernels_for(q.device())
      .attention(ctx, args, q.raw(), k.raw(), v.raw(), ops::out(y), tape ? ops::out(log_sum) : nullptr);
  if (tape) {
    const Tensor& mask = options.mask.defined() ? options.mask : log_sum;  // the record saves no undefined tensor
    tape->record("scaled_dot_product_attention", {&q, &k, &v}, {&y}, {&q, &k, &v, &y, &log_sum, &mask},
                 [args](Gradients& g) {
                   Tensor d[3];
                   for (int i = 0; i < 3; ++i)
                     if (g.needs(i)) d[i] = empty_like(g.saved(i));
                   const auto out = [&](int i) { return d[i].defined() ? ops::out(d[i]) : nullptr; };
                   Context c = context(g.dy().device());
                   kernels_for(g.dy().device())
                       .attention_gradient(c, args, g.saved(0).raw(), g.saved(1).raw(), g.saved(2).raw(),
                                           g.saved(3).raw(), g.saved(4).raw(), g.dy().raw(), out(0), out(1), out(2));
                   for (int i = 0; i < 3; ++i)
                     if (d[i].defined()) g.add(i, std::move(d[i]));
                 });
  }
  return y;
}

Tensor self_attention(const Tensor& qkv, int64_t heads, const AttentionOptions& options) {
  ops::check_float("self_attention", "the input", qkv);
  check(qkv.rank() == 3, "self_attention", "the input must be [B,T,3*N*D], got ", qkv.shape());
  check(heads >= 1, "self_attention", "there must be at least one head, got ", heads);
  const int64_t features = qkv.dim(2) / 3, d = features / heads;
  check(qkv.dim(2) % 3 == 0 && features % heads == 0, "self_attention", "the last axis must be 3 * ", heads,
        " heads * features, got ", qkv.shape());
  const int64_t b = qkv.dim(0), t = qkv.dim(1);
  AttentionArgs args{.dtype = qkv.dtype(), .batch = b, .heads = heads, .tq = t, .tk = t, .d = d, .dv = d};
  args.q = args.k = args.v = {t * 3 * features, 3 * features, d};
  args.y = {t * features, features, d};
  set_options("self_attention", options, qkv.device(), args);
  Tape* tape = Tape::recording(qkv);
  Tensor y = empty({b, t, features}, {qkv.dtype(), qkv.device()}), log_sum;
  if (tape) log_sum = empty({b, heads, t}, {qkv.dtype(), qkv.device()});
  Context ctx = context(qkv.device());
  const auto piece = [=, dtype = args.dtype](auto* data, int64_t i) { return part(data, dtype, i * features); };
  kernels_for(qkv.device())
      .attention(ctx, args, qkv.raw(), piece(qkv.raw(), 1), piece(qkv.raw(), 2), ops::out(y),
                 tape ? ops::out(log_sum) : nullptr);
  if (tape) {
    const Tensor& mask = options.mask.defined() ? options.mask : log_sum;
    tape->record("self_attention", {&qkv}, {&y}, {&qkv, &y, &log_sum, &mask}, [args, piece](Gradients& g) {
      Tensor dx = empty_like(g.saved(0));
      const void* x = g.saved(0).raw();
      void* out = ops::out(dx);
      Context c = context(dx.device());
      kernels_for(dx.device())
          .attention_gradient(c, args, x, piece(x, 1), piece(x, 2), g.saved(1).raw(), g.saved(2).raw(), g.dy().raw(),
                              out, piece(out, 1), piece(out, 2));
      g.add(0, std::move(dx));
    });
  }
  return y;
}

Tensor cached_attention(const Tensor& q, const Tensor& keys, const Tensor& values, int64_t length,
                        const AttentionOptions& options) {
  check(length >= 0, "cached_attention", "the length must not be negative, got ", length);
  const AttentionArgs args = checked("cached_attention", q, keys, values, length, options);
  check(!Tape::recording(q, keys, values), "cached_attention",
        "a cache has no gradient: use scaled_dot_product_attention under a tape, or pause the tape");
  Tensor y = empty({args.batch, args.tq, args.heads, args.dv}, {q.dtype(), q.device()});
  Context ctx = context(q.device());
  kernels_for(q.device()).attention(ctx, args, q.raw(), keys.raw(), values.raw(), ops::out(y), nullptr);
  return y;
}

Tensor rotary(const Tensor& x, const RotaryOptions& options) {
  ops::check_float("rotary", "the input", x);
  check(x.rank() == 4, "rotary", "the input must be [B,T,G,D], got ", x.shape());
  check(x.dim(3) % 2 == 0, "rotary", "the features of a head must be even in number, got ", x.shape());
  check(options.heads >= 0 && options.heads <= x.dim(2), "rotary", "the heads must be in [0, ", x.dim(2), "], got ",
        options.heads);
  check(options.offset >= 0 && options.offset <= (int64_t{1} << 53), "rotary", "the offset must be in [0, 2^53], got ",
        options.offset);
  check(std::isfinite(options.base) && options.base > 0, "rotary", "the base must be finite and positive, got ",
        options.base);
  kernels::RotaryArgs args{.dtype = x.dtype(),
                           .batch = x.dim(0),
                           .time = x.dim(1),
                           .heads = x.dim(2),
                           .d = x.dim(3),
                           .rotated = options.heads ? options.heads : x.dim(2),
                           .offset = options.offset,
                           .base = options.base};
  Tensor y = empty_like(x);
  Context ctx = context(x.device());
  kernels_for(x.device()).rotary(ctx, args, x.raw(), ops::out(y));
  if (Tape* tape = Tape::recording(x)) {
    args.inverse = true;
    tape->record("rotary", {&x}, {&y}, {}, [args](Gradients& g) {
      Tensor dx = empty_like(g.dy());
      Context c = context(dx.device());
      kernels_for(dx.device()).rotary(c, args, g.dy().raw(), ops::out(dx));
      g.add(0, std::move(dx));
    });
  }
  return y;
}

}  // namespace mica
