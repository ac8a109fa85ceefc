// Attention layers with their masks, positions, and the cache of keys and values.
#include "mica/nn/attention.h"

#include <doctest/doctest.h>

#include "mica/nn/embedding.h"
#include "mica/nn/functional.h"
#include "mica/nn/key_value_cache.h"
#include "mica/nn/norm.h"
#include "mica/nn/position.h"
#include "mica/nn/sequential.h"
#include "mica/nn/transformer.h"
#include "mica/ops/compare.h"
#include "mica/ops/manipulate.h"
#include "nn/golden_layer.h"
#include "nn/helpers.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;

namespace {

const Tensor kX = sample({2, 5, 6}, float32, 1);

Tensor steps(const Tensor& x, int64_t begin, int64_t end) { return slice(x, {{}, {begin, end}}); }

// A model that generates: tokens below 9 give 9 logits, a step each.
nn::Sequential generator(bool rotary, bool mask_zero = false) {
  nn::Sequential model{nn::Input({12}, int64), nn::Embedding(9, 8, {.mask_zero = mask_zero})};
  if (!rotary) model.add(nn::PositionEmbedding(12));
  if (!rotary) model.add(nn::SinusoidalPositionEncoding());
  for (const bool norm_first : {true, false})
    model.add(nn::TransformerEncoderLayer(2, 16, {.norm_first = norm_first, .causal = true, .rotary = rotary}));
  model.add(nn::LayerNorm());
  model.add(nn::Dense(9));
  return model;
}

Tensor tokens(const Shape& shape) { return random_uniform(shape, 1, 9, {.stream = 3}).to(int64); }

}  // namespace

TEST_CASE("self-attention is the op between two products, with heads of a size of their own") {
  nn::MultiHeadSelfAttention layer(2, {.head_size = 4, .causal = true, .rotary = true});
  nn::build(layer, {5, 6}, 1);
  CHECK(layer.qkv().kernel().shape() == Shape{6, 24});
  CHECK(layer.output().kernel().shape() == Shape{8, 6});
  const Tensor qkv = dense(kX, layer.qkv().kernel().value(), layer.qkv().bias().value());
  const Tensor turned = rotary(qkv.reshape({2, 5, 6, 4}), {.heads = 4}).reshape({2, 5, 24});
  const Tensor y = self_attention(turned, 2, {.causal = true});
  CHECK(same_bits(layer(kX), dense(y, layer.output().kernel().value(), layer.output().bias().value())));
}

TEST_CASE("a mask that is given and padding hide together what each of them hides") {
  const nn::Symbol x = nn::Input({5, 6}), padding = nn::Input({5}, uint8);
  const Tensor padded = tensor({{1, 1, 1, 0, 0}, {1, 1, 1, 1, 1}}).to(uint8);
  const Tensor pairs = random_bernoulli({1, 5, 5}, 0.6, {4, 0}, {uint8});
  nn::MultiHeadSelfAttention layer(2);
  const nn::Symbol masked = nn::Layer(WithMask{})({x, padding});
  for (const Shape& shape : {Shape{5, 5}, Shape{1, 5, 5}}) {
    const nn::Symbol mask = nn::Input(shape, uint8);
    const nn::Functional model({x, padding, mask}, layer({masked, mask}));
    const Tensor given = broadcast_to(pairs.reshape(shape.with_first(1)), shape.with_first(2));
    const Tensor both = logical_and(pairs, padded.reshape({2, 1, 5}));
    const Tensor none_padded = ones({2, 5}, {uint8});
    CHECK(same_bits(model({kX, padded, given}), model({kX, none_padded, both.reshape(shape.with_first(2))})));
    CHECK_FALSE(same_bits(model({kX, padded, given}), model({kX, none_padded, given})));
  }
}

TEST_CASE("a step that may attend to nothing gets the output's bias") {
  nn::MultiHeadSelfAttention layer(2, {.bias_initializer = nn::init::ones});
  const nn::Symbol x = nn::Input({5, 6}), padding = nn::Input({5}, uint8);
  const nn::Functional model({x, padding}, layer(nn::Layer(WithMask{})({x, padding})));
  CHECK(close(model({kX, zeros({2, 5}, {uint8})}), ones({2, 5, 6}), kExact));
}

TEST_CASE("learned positions add a row of the table to each step") {
  nn::PositionEmbedding layer(7);
  nn::build(layer, {5, 6}, 1);
  CHECK(layer.table().shape() == Shape{7, 6});
  CHECK(same_bits(layer(kX), kX + layer.table().value().slice(0, 5)));
}

TEST_CASE("generation with a cache, in steps of any number, is a call on the whole sequence") {
  for (const bool rotary : {false, true}) {
    const nn::Sequential model = generator(rotary);
    const Tensor x = tokens({3, 12}), whole = model(x);
    nn::KeyValueCache cache(12);
    int64_t begin = 0;
    for (const int64_t count : {3, 1, 1, 0, 5, 2}) {
      const Tensor y = model(steps(x, begin, begin + count), cache);
      CHECK(close(y, steps(whole, begin, begin + count), kSums));
      begin += count;
      CHECK(cache.length() == begin);
    }
  }
}

TEST_CASE("prompts of different lengths, padded in front, generate as each by itself would without positions") {
  const nn::Sequential model{nn::Input({12}, int64), nn::Embedding(9, 8, {.mask_zero = true}),
                             nn::MultiHeadSelfAttention(2, {.causal = true}), nn::Dense(9)};
  const Tensor both = tensor({{0, 0, 5, 3}, {1, 2, 3, 4}}, {int64}), next = tensor({{7}, {8}}, {int64});
  nn::KeyValueCache cache(6), alone(6);
  (void)model(both, cache);
  const Tensor y = model(next, cache);
  (void)model(tensor({{5, 3}}, {int64}), alone);
  CHECK(close(y[0], model(next.slice(0, 1), alone)[0], kSums));
  // A mask that comes late says nothing of the steps before it.
  nn::KeyValueCache late(6), never(6);
  const nn::Symbol x = nn::Input({4, 6}), m = nn::Input({4}, uint8);
  const nn::Functional masked({x, m}, nn::MultiHeadSelfAttention(1, {.causal = true})(nn::Layer(WithMask{})({x, m})));
  const Tensor first = steps(kX, 0, 3), last = steps(kX, 3, 5), mask = tensor({{1, 1}, {1, 0}}).to(uint8);
  (void)masked({first, Tensor(ones({2, 3}, {uint8}))}, late);
  const Tensor all = masked({kX, concat({ones({2, 3}, {uint8}), mask}, 1)});
  CHECK(close(masked({last, mask}, late), steps(all, 3, 5), kSums));
}

TEST_CASE("a decoder's context is projected once, and kept") {
  const nn::Symbol x = nn::Input({5, 6}), context = nn::Input({3, 6});
  const nn::Symbol h = nn::TransformerDecoderLayer(2, 8)({x, context});
  const nn::Functional model({x, context}, nn::TransformerDecoderLayer(3, 8, {.norm_first = true})({h, context}));
  const Tensor c = sample({2, 3, 6}, float32, 2), whole = model({kX, c});
  nn::KeyValueCache cache(5);
  CHECK(close(model({steps(kX, 0, 2), c}, cache), steps(whole, 0, 2), kSums));
  for (int64_t t = 2; t < 5; ++t)  // only its shape is looked at
    CHECK(close(model({steps(kX, t, t + 1), zeros({2, 3, 6})}, cache), steps(whole, t, t + 1), kSums));
}

TEST_CASE("what was generated can be taken back, and gone on with in two ways") {
  const nn::Sequential model = generator(true);
  const Tensor x = tokens({2, 6}), other = tokens({4, 6}).slice(2, 4), whole = model(x);
  nn::KeyValueCache cache(8);
  (void)model(steps(x, 0, 4), cache);
  nn::KeyValueCache branch = cache;
  (void)model(steps(other, 0, 2), branch);
  CHECK(branch.length() == 6);
  CHECK(close(model(steps(x, 4, 6), cache), steps(whole, 4, 6), kSums));
  cache.truncate(4);
  (void)model(steps(other, 0, 1), cache);
  cache.truncate(4);
  CHECK(close(model(steps(x, 4, 6), cache), steps(whole, 4, 6), kSums));
  cache.truncate();
  CHECK(cache.length() == 0);
  CHECK(close(model(steps(x.slice(0, 1), 0, 2), cache), steps(whole, 0, 2).slice(0, 1), kSums));  // fewer sequences
}

TEST_CASE("a call that fails leaves the cache as it was") {
  const nn::Sequential model = generator(false);
  const Tensor x = tokens({2, 6}), whole = model(x);
  nn::KeyValueCache cache(6);
  CHECK_THROWS((void)model(full({2, 3}, 9, {int64}), cache));  // no such token
  (void)model(steps(x, 0, 4), cache);
  CHECK_THROWS((void)model(tokens({2, 3}), cache));
  CHECK_THROWS((void)model(tokens({3, 1}), cache));
  CHECK(cache.length() == 4);
  CHECK(close(model(steps(x, 4, 6), cache), steps(whole, 4, 6), kSums));
}

TEST_CASE("wrong use of attention layers, positions and the cache") {
  const auto built = [](nn::Layer layer, const nn::Input& input) { nn::Model(std::move(layer), input); };
  const nn::Sequential model = generator(true), other = generator(true), learned = generator(false);
  const nn::Sequential whole{nn::Input({4, 6}), nn::MultiHeadSelfAttention(2)};
  nn::KeyValueCache cache(3), of_whole(3), few(20);
  (void)model(tokens({2, 2}), cache);
  (void)learned(tokens({1, 11}), few);
  const auto joined = [](nn::Layer layer, std::vector<Shape> shapes, DType last = float32) {
    std::vector<nn::Symbol> symbols;
    for (const Shape& shape : shapes)
      symbols.push_back(nn::Input(shape, symbols.size() + 1 == shapes.size() ? last : float32));
    nn::Functional(symbols, nn::detail::symbolic(layer, symbols));
  };
  check_wrong_use({
      {"[multi_head_self_attention] head_size must not be negative, got -1",
       [] { nn::MultiHeadSelfAttention(2, {.head_size = -1}); }},
      {"[multi_head_cross_attention] causal and rotary are of self-attention",
       [] { nn::MultiHeadCrossAttention(2, {.causal = true}); }},
      {"[multi_head_self_attention] the heads must divide the 6 features of the input, or be given a head_size: 4 "
       "heads",
       [&] {
         built(nn::MultiHeadSelfAttention(4), nn::Input({5, 6}));
       }},
      {"[multi_head_self_attention] there are too many features: 1048576 heads of 1099511627776",
       [&] {
         built(nn::MultiHeadSelfAttention(1 << 20, {.head_size = int64_t{1} << 40}), nn::Input({5, 6}));
       }},
      {"[multi_head_self_attention] the input must be [batch, time, features], got [1,6]",
       [&] { built(nn::MultiHeadSelfAttention(2), nn::Input({6})); }},
      {"multi_head_self_attention: [self_attention] the mask must be [1,5], [1,5,5] or [1,2,5,5] (1 for the examples "
       "or "
       "heads that share one), got [1,4,5]",
       [&] {
         joined(nn::MultiHeadSelfAttention(2), {{5, 6}, {4, 5}}, uint8);
       }},
      {"multi_head_cross_attention: [multi_head_cross_attention] the inputs are x and a context, and may be a mask, "
       "got 1",
       [&] {
         joined(nn::MultiHeadCrossAttention(2), {{5, 6}});
       }},
      {"[position_embedding] the length must be at least 1, got 0", [] { nn::PositionEmbedding(0); }},
      {"position_embedding: [position_embedding] there are 4 positions, but the steps are 0 to 5 of the sequence",
       [] {
         nn::Sequential{nn::Input({5, 6}), nn::PositionEmbedding(4)};
       }},
      {"position_embedding: [position_embedding] there are 12 positions, but the steps are 11 to 13 of the sequence",
       [&] {
         (void)learned(tokens({1, 2}), few);
       }},
      {"sinusoidal_position_encoding: [sinusoidal_position_encoding] the input must be [batch, time, features], the "
       "features even in number, got [1,5,3]",
       [] {
         nn::Sequential{nn::Input({5, 3}), nn::SinusoidalPositionEncoding()};
       }},
      {"[sinusoidal_position_encoding] the base must be finite and positive, got 0",
       [] { nn::SinusoidalPositionEncoding({.base = 0}); }},
      {"[key_value_cache] there must be room for at least 1 step, got 0", [] { nn::KeyValueCache(0); }},
      {"[key_value_cache] the length must be in [0, 2], got 3", [&] { cache.truncate(3); }},
      {"transformer_encoder_layer: [key_value_cache] the cache has room for 3 steps and holds 2, got 2 more",
       [&] {
         (void)model(tokens({2, 2}), cache);
       }},
      {"transformer_encoder_layer: [key_value_cache] the cache holds 2 sequences, got 1",
       [&] {
         (void)model(tokens({1, 1}), cache);
       }},
      {"transformer_encoder_layer: [key_value_cache] the cache holds the steps of another model, or its layers were "
       "called in another order: truncate() empties it",
       [&] {
         (void)other(tokens({2, 1}), cache);
       }},
      {"multi_head_self_attention: [multi_head_self_attention] with a cache of keys and values attention must be "
       "causal",
       [&] { (void)whole(steps(kX, 0, 2), of_whole); }},
      {"transformer_encoder_layer: [cached_attention] a cache has no gradient: use scaled_dot_product_attention under "
       "a "
       "tape, or pause the tape",
       [&] {
         Tape tape;
         (void)model(tokens({2, 1}), cache);
       }},
  });
}
