// The argument structs of the kernels. Plain data: no tensors, no tapes.
#pragma once

#include <cstdint>

#include "mica/core/dtype.h"
#include "mica/core/random.h"
#include "mica/ops/recurrent_kind.h"
#include "mica/ops/scalar.h"

namespace mica::kernels {

/// Whether a kernel writes its result (and never reads what was there) or adds it.
enum class Write : uint8_t { overwrite, accumulate };

inline constexpr int kMaxDims = 8;

/// A walk over two operands, or an operand and a result: sizes, and the strides of both in elements (0 where one is
/// repeated). Axes that run on are merged, so the usual cases arrive with one or two. rank >= 1.
struct StridedDims {
  int rank = 0;
  int64_t size[kMaxDims] = {};
  int64_t a_stride[kMaxDims] = {};
  int64_t b_stride[kMaxDims] = {};
};

/// c[M,N] (+)= op(a) op(b), then bias[N] and activation. a is [M,K] with leading dimension lda, or [K,M] when
/// transposed; b is [K,N], or [N,K] when transposed. `batch` products lie *_batch_stride elements apart.
struct MatmulArgs {
  DType dtype = float32;
  int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false, transpose_b = false;
  int64_t lda = 0, ldb = 0, ldc = 0;
  int64_t batch = 1;
  int64_t a_batch_stride = 0, b_batch_stride = 0, c_batch_stride = 0;
  const void* bias = nullptr;              // [N], or none
  UnaryOp activation = UnaryOp::identity;  // of MICA_FUSED_OPS
  Write write = Write::overwrite;          // accumulate excludes bias and activation
};

/// Images x [N,H,W,C], filters w [KH,KW,C/groups,O], results y [N,OH,OW,O]. Output (oh,ow) reads the window whose
/// corner is (oh*SH - pad_top, ow*SW - pad_left), pixels DH and DW apart; what lies outside of the image is zero.
/// `groups` divides C and O: the results of each part of O come from the same part of C alone.
struct Conv2DArgs {
  DType dtype = float32;
  int64_t n = 0, h = 0, w = 0, c = 0, o = 0;
  int64_t kh = 0, kw = 0, sh = 1, sw = 1;
  int64_t oh = 0, ow = 0;
  int64_t pad_top = 0, pad_left = 0;
  UnaryOp activation = UnaryOp::identity;
  int64_t dh = 1, dw = 1;
  int64_t groups = 1;
};

/// Windows as in Conv2DArgs, over each channel by itself. Padding takes no part in maximum or mean.
struct Pool2DArgs {
  DType dtype = float32;
  int64_t n = 0, h = 0, w = 0, c = 0;
  int64_t kh = 0, kw = 0, sh = 1, sw = 1;
  int64_t oh = 0, ow = 0;
  int64_t pad_top = 0, pad_left = 0;
};

/// Images x [N,H,W,C] and what is cut out of them, y [N,OH,OW,C].
struct CropArgs {
  DType dtype = float32;
  int64_t n = 0, h = 0, w = 0, c = 0;
  int64_t oh = 0, ow = 0;
  int64_t sign = 1;  // of the corners: -1 puts windows back where they were cut out
};

/// A recurrent network over a whole sequence. Its step makes h' of h, the step before, and z, the projection of x with
/// the bias; a = h u.
///   rnn   h' = activation(z + a)
///   lstm  gates i, f, g, o: c' = f * c + i * g, h' = o * tanh(c'); all sigmoid but g, which is tanh
///   gru   gates z, r, n: h' = z * h + (1 - z) * n, n = tanh(z_n + r * (a_n + bias_n)), or, unless `reset_after`,
///         n = tanh(z_n + (r * h) u_n)
/// G gates of H units, B rows, T steps.
struct RecurrentArgs {
  DType dtype = float32;
  RecurrentKind kind = RecurrentKind::rnn;
  int64_t b = 0, t = 0, h = 0;
  bool reverse = false;  // from the last step to the first
  bool reset_after = true;
  UnaryOp activation = UnaryOp::tanh;  // of rnn: one of MICA_FUSED_OPS
  const uint8_t* mask = nullptr;       // [B,T]: where it is 0 the state stays as it is; null: nowhere
  const void* u = nullptr;             // [H,G*H]
  const void* bias = nullptr;          // [G*H], added to a (gru with reset_after); or none
  const void* drop = nullptr;          // [B,H], by which h is multiplied before u; or none
};

/// x [outer, n, inner] reduced over n to y [outer, inner].
struct ReduceArgs {
  DType dtype = float32;
  int64_t outer = 0, n = 0, inner = 0;
};

enum class ReduceOp : uint8_t { max, min, product };

/// Places along n of x [outer, n, inner], for y [outer, m, inner]. The indices are [m], the same for all (shared), or
/// [outer, m, inner].
struct GatherArgs {
  DType dtype = float32;
  int64_t outer = 0, n = 0, m = 0, inner = 0;
  bool shared = false;
};

/// Where the heads of a sequence lie: element (b, t, n, i) is at b * batch + t * time + n * head + i.
struct HeadStrides {
  int64_t batch = 0, time = 0, head = 0;
};

/// Queries q [B,Tq,N,D], keys k [B,Tk,N,D], values v [B,Tk,N,Dv] and results y [B,Tq,N,Dv], each by its strides; dq,
/// dk, dv lie as q, k, v, and dy as y. A mask, where there is one, has its keys side by side, and strides of 0 where
/// it is repeated.
struct AttentionArgs {
  DType dtype = float32;
  int64_t batch = 0, heads = 0, tq = 0, tk = 0, d = 0, dv = 0;
  HeadStrides q = {}, k = {}, v = {}, y = {};
  double scale = 1;
  bool causal = false;  // key j is hidden from query i where j > i + tk - tq
  const uint8_t* mask = nullptr;
  int64_t mask_batch = 0, mask_head = 0, mask_query = 0;  // strides
  double dropout = 0;
  RandomKey key = {};  // word i%4 of block i/4, i the position in [B,N,Tq,Tk]
};

/// x [B,T,G,D], of which the first `rotated` heads are turned, the others copied.
struct RotaryArgs {
  DType dtype = float32;
  int64_t batch = 0, time = 0, heads = 0, d = 0, rotated = 0;
  int64_t offset = 0;
  double base = 0;
  bool inverse = false;  // turned back, which is the gradient
};

/// One update of `n` parameters, all flat. Kingma, Ba, "Adam", ICLR 2015, algorithm 1.
struct AdamArgs {
  DType dtype = float32;
  int64_t n = 0;
  double learning_rate = 0, beta1 = 0, beta2 = 0, epsilon = 0;
  double weight_decay = 0;  // added to the gradient; decoupled: w *= 1 - lr * weight_decay first, which is AdamW
  bool decoupled = false;
  double bias_correction1 = 1;  // 1 - beta1^t
  double bias_correction2 = 1;  // 1 - beta2^t
};

/// One update of `n` parameters: v = momentum * v + g + weight_decay * w; w -= lr * (nesterov ? g + momentum * v : v).
struct SgdArgs {
  DType dtype = float32;
  int64_t n = 0;
  double learning_rate = 0, momentum = 0, weight_decay = 0;
  bool nesterov = false;
};

/// One update of `n` parameters: s = alpha * s + (1 - alpha) * g^2, likewise m of g; d = g / (sqrt(s - m^2) + epsilon),
/// m = 0 unless centered; v = momentum * v + d; w -= lr * v.
struct RmspropArgs {
  DType dtype = float32;
  int64_t n = 0;
  double learning_rate = 0, alpha = 0, epsilon = 0, momentum = 0;
  double weight_decay = 0;  // added to the gradient
};

}  // namespace mica::kernels
