// Embedding: a table of vectors, one for each token.
#pragma once

#include "mica/nn/layer.h"
#include "mica/ops/compare.h"
#include "mica/ops/index.h"

namespace MICA_EXPORT mica {
namespace nn {

struct EmbeddingOptions {
  Initializer initializer = init::uniform();
  Regularizer table_regularizer = {};
  bool mask_zero = false;  ///< token 0 of [B, T] is padding, which the layers behind pass over (Call::mask)
};

/// [..., size] from integer tokens [...] within [0, tokens): the model's Input has an integer dtype. Throws Error for a
/// token outside of the table.
class Embedding : public Module<Embedding> {
 public:
  static constexpr const char* kType = "Embedding";

  Embedding() = default;
  /// Throws Error unless tokens and size are at least 1.
  Embedding(int64_t tokens, int64_t size, EmbeddingOptions options = {})
      : tokens_(tokens), size_(size), options_(options) {
    check(tokens >= 1 && size >= 1, "embedding", "the table must have at least one row and column, got ", tokens,
          " and ", size);
  }

  Tensor forward(const Tensor& x, Call& call) const {
    check(!is_floating(x.dtype()), "embedding", "the tokens must be integers, as in Input({length}, int64), got ",
          x.dtype());
    call.set_mask(options_.mask_zero && x.rank() == 2 ? not_equal(x, 0) : Tensor());  // a sequence begins here
    return embedding(call.parameter(table_, {tokens_, size_}, options_.initializer), x);
  }

  void visit(Visitor& v) {
    v("tokens", tokens_);
    v("size", size_);
    v("initializer", options_.initializer);
    v("table_regularizer", options_.table_regularizer);
    v("mask_zero", options_.mask_zero);
    v("table", table_);
  }

  const Parameter& table() const { return table_; }  ///< [tokens, size]

 private:
  int64_t tokens_ = 1, size_ = 1;
  EmbeddingOptions options_;
  Parameter table_;
};

}  // namespace nn
}  // namespace mica
