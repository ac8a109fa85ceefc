// Attention: what each element of a sequence reads from the others, by how alike a query and a key are.
#pragma once

#include "mica/core/random.h"
#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {

struct AttentionOptions {
  /// Query i of Tq attends to key j of Tk only where j <= i + Tk - Tq: the last query sees all keys, so that a few new
  /// queries fit the end of a longer past.
  bool causal = false;
  /// uint8, nonzero where a key may be attended to; none: everywhere. Its rank tells what it is: [B, Tk] are the keys
  /// of each sequence (0: padding), whatever Tq is; [1 or B, Tq, Tk] the pairs; [1 or B, 1 or N, Tq, Tk] those of each
  /// head.
  Tensor mask = {};
  double scale = 0;    ///< of the scores; 0: 1 / sqrt(D)
  double dropout = 0;  ///< the rate, in [0, 1), at which probabilities are zeroed, the others divided by 1 - rate
  RandomKey key = {};  ///< which ones: a function of this key and of the position in [B, N, Tq, Tk] alone
};

/// softmax(scale * q k') v for each head, over the keys that may be attended to: q [B, Tq, N, D], k [B, Tk, N, D] and
/// v [B, Tk, N, Dv] give [B, Tq, N, Dv]. A projection [B, T, N * D] reshapes to that as a view. A query that may
/// attend to nothing gives 0, and no gradient. Memory grows with Tq + Tk, in the gradient too. Differentiable in q, k
/// and v. Vaswani et al., "Attention is all you need", 2017, eq. 1; computed after Dao, "FlashAttention-2", 2023.
Tensor scaled_dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                    const AttentionOptions& options = {});

/// The same of one projection qkv [B, T, 3 * N * D], which holds for each element the queries of N = `heads` heads,
/// then their keys, then their values, read where they lie: [B, T, N * D]. Differentiable.
Tensor self_attention(const Tensor& qkv, int64_t heads, const AttentionOptions& options = {});

/// The same, for inference, with the first `length` steps of the caches keys [B, capacity, N, D] and values [B,
/// capacity, N, Dv], read where they lie; the steps after them are not read, and Tk is `length`. Throws Error where a
/// tape would record it.
Tensor cached_attention(const Tensor& q, const Tensor& keys, const Tensor& values, int64_t length,
                        const AttentionOptions& options = {});

struct RotaryOptions {
  int64_t heads = 0;    ///< how many of the G heads are rotated, from the first; 0: all
  int64_t offset = 0;   ///< the position of the first element, as behind a cache
  double base = 10000;  ///< of the wavelengths
};

/// x [B, T, G, D], D even, whose pairs (i, i + D/2) are rotated by position * base^(-2i/D), so that products of
/// queries and keys tell how far apart they are. Pairs lie D/2 apart, as in GPT-NeoX and Llama, and not side by side.
/// Heads that are not rotated are copied: a projection seen as [B, T, 3 * N, D] rotates with .heads = 2 * N. Angles
/// are computed in float64, for positions of 10^6 and more. Differentiable. Su et al., "RoFormer", 2021, eq. 34.
Tensor rotary(const Tensor& x, const RotaryOptions& options = {});

}  // namespace mica
