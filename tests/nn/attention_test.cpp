// Attention layers with their masks, positions, and the cache of keys and values.
#include "mica/nn/attention.h"

#include <doctest/doctest.h>

#include "mica/autograd/tape.h"
#include "mica/nn/conv1d.h"
#include "mica/nn/embedding.h"
#include "mica/nn/functional.h"
#include "mica/nn/key_value_cache.h"
#include "mica/nn/merge.h"
#include "mica/nn/norm.h"
#include "mica/nn/pool.h"
#include "mica/nn/position.h"
#include "mica/nn/recurrent.h"
#include "mica/nn/sequence.h"
#include "mica/nn/sequential.h"
#include "mica/nn/transformer.h"
#include "mica/ops/compare.h"
#include "mica/ops/index.h"
#include "mica/ops/manipulate.h"
#include "nn/helpers.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;

namespace {

// Made when it is asked for: the default device is not known before main().
const Tensor& example() {
  static const Tensor x = sample({2, 5, 6}, float32, 1);
  return x;
}

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
  const Tensor qkv = dense(example(), layer.qkv().kernel().value(), layer.qkv().bias().value());
  const Tensor turned = rotary(qkv.reshape({2, 5, 6, 4}), {.heads = 4}).reshape({2, 5, 24});
  const Tensor y = self_attention(turned, 2, {.causal = true});
  CHECK(same_bits(layer(example()), dense(y, layer.output().kernel().value(), layer.output().bias().value())));
}

TEST_CASE("layers of several inputs are called on tensors as well") {
  nn::MultiHeadCrossAttention cross(2);
  nn::Layer erased = cross;
  nn::build(erased, std::vector<nn::Input>{nn::Input({5, 6}), nn::Input({3, 4})});
  const Tensor context = sample({2, 3, 4}, float32, 2), y = cross({example(), context});
  CHECK(y.shape() == Shape{2, 5, 6});
  CHECK(same_bits(erased({example(), context}), y));
  const Tensor hidden = tensor({{1, 1, 0}, {1, 0, 0}}).to(uint8);
  CHECK(close(cross({example(), context, hidden})[0], cross({example(), slice(context, {{}, {0, 2}})})[0], kSums));
}

TEST_CASE("dropout of attention is the op's, keyed by seed, layer and step") {
  const nn::MultiHeadSelfAttention layer(2, {.dropout = 0.5});
  nn::Sequential model{layer};
  model.build(nn::Input({5, 6}), 7);
  const nn::ModeScope training(nn::Mode::training);
  const uint64_t stream = random_stream(7, "multi_head_self_attention.dropout_stream");
  const Tensor qkv = dense(example(), layer.qkv().kernel().value(), layer.qkv().bias().value());
  for (const uint64_t step : {0, 1, 2}) {
    const Tensor y = self_attention(qkv, 2, {.dropout = 0.5, .key = {stream, step}});
    CHECK(same_bits(model(example()), dense(y, layer.output().kernel().value(), layer.output().bias().value())));
  }
}

TEST_CASE("a mask that is given and padding hide together what each of them hides") {
  const nn::Symbol x = nn::Input({5, 6}), padding = nn::Input({5}, uint8);
  const Tensor padded = tensor({{1, 1, 1, 0, 0}, {1, 1, 1, 1, 1}}).to(uint8);
  const Tensor pairs = random_bernoulli({1, 5, 5}, 0.6, {4, 0}, {uint8});
  nn::MultiHeadSelfAttention layer(2);
  const nn::Symbol masked = nn::WithMask()({x, padding});
  for (const Shape& shape : {Shape{5, 5}, Shape{1, 5, 5}}) {
    const nn::Symbol mask = nn::Input(shape, uint8);
    const nn::Functional model({x, padding, mask}, layer({masked, mask}));
    const Tensor given = broadcast_to(pairs.reshape(shape.with_first(1)), shape.with_first(2));
    const Tensor both = logical_and(pairs, padded.reshape({2, 1, 5}));
    const Tensor none_padded = ones({2, 5}, {uint8});
    CHECK(same_bits(model({example(), padded, given}),
                    model({example(), none_padded, both.reshape(shape.with_first(2))})));
    CHECK_FALSE(same_bits(model({example(), padded, given}), model({example(), none_padded, given})));
  }
}

TEST_CASE("a step that may attend to nothing gets the output's bias") {
  nn::MultiHeadSelfAttention layer(2, {.bias_initializer = nn::init::ones});
  const nn::Symbol x = nn::Input({5, 6}), padding = nn::Input({5}, uint8);
  const nn::Functional model({x, padding}, layer(nn::WithMask()({x, padding})));
  CHECK(close(model({example(), zeros({2, 5}, {uint8})}), ones({2, 5, 6}), kExact));
}

TEST_CASE("learned positions add a row of the table to each step") {
  nn::PositionEmbedding layer(7);
  nn::build(layer, {5, 6}, 1);
  CHECK(layer.table().shape() == Shape{7, 6});
  CHECK(same_bits(layer(example()), example() + layer.table().value().slice(0, 5)));
}

TEST_CASE("generation with a cache, in steps of any number, is a call on the whole sequence") {
  for (const bool rotary : {false, true}) {
    const nn::Sequential model = generator(rotary, true);
    Tensor x = tokens({3, 12});
    x[1].slice(0, 2).copy_from(zeros({2}, {int64}));  // padded in front
    const Tensor whole = model(x);
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
  const nn::Functional masked({x, m}, nn::MultiHeadSelfAttention(1, {.causal = true})(nn::WithMask()({x, m})));
  const Tensor first = steps(example(), 0, 3), last = steps(example(), 3, 5), mask = tensor({{1, 1}, {1, 0}}).to(uint8);
  (void)masked({first, Tensor(ones({2, 3}, {uint8}))}, late);
  const Tensor all = masked({example(), concat({ones({2, 3}, {uint8}), mask}, 1)});
  CHECK(close(masked({last, mask}, late), steps(all, 3, 5), kSums));
}

TEST_CASE("a decoder's context is projected once, and kept") {
  const nn::Symbol x = nn::Input({5, 6}), context = nn::Input({3, 6});
  const nn::Symbol masked = nn::Masking()(context);
  const nn::Symbol h = nn::TransformerDecoderLayer(2, 8)({x, masked});
  const nn::Functional model({x, context}, nn::TransformerDecoderLayer(3, 8, {.norm_first = true})({h, masked}));
  Tensor c = sample({2, 3, 6}, float32, 2);
  c[0].slice(2, 3).copy_from(zeros({1, 6}));  // padding
  const Tensor whole = model({example(), c});
  nn::KeyValueCache cache(5);
  CHECK(close(model({steps(example(), 0, 2), c}, cache), steps(whole, 0, 2), kSums));
  for (int64_t t = 2; t < 5; ++t)  // only its shape is looked at
    CHECK(close(model({steps(example(), t, t + 1), zeros({2, 3, 6})}, cache), steps(whole, t, t + 1), kSums));

  // Attention to a context alone counts its steps too.
  const nn::Functional reader({x, context},
                              nn::MultiHeadCrossAttention(2)({nn::SinusoidalPositionEncoding()(x), context}));
  nn::KeyValueCache read(5);
  for (int64_t t = 0; t < 5; ++t)
    CHECK(close(reader({steps(example(), t, t + 1), c}, read), steps(reader({example(), c}), t, t + 1), kSums));
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

TEST_CASE("beams: each sequence goes on from the one that it is told") {
  const nn::Sequential model = generator(false, true);
  Tensor x = tokens({3, 6});
  x[1].slice(0, 2).copy_from(zeros({2}, {int64}));
  nn::KeyValueCache cache(6);
  (void)model(steps(x, 0, 4), cache);
  const Tensor order = tensor({2, 1, 1, 0}, {int64}), last = tokens({4, 2});
  cache.reorder(order);
  CHECK(close(model(last, cache), steps(model(concat({take(steps(x, 0, 4), order), last}, 1)), 4, 6), kSums));
}

TEST_CASE("under a tape a call with a cache infers and is not recorded") {
  const nn::Sequential model = generator(true);
  const Tensor x = tokens({2, 4});
  nn::KeyValueCache cache(4);
  Tape tape;
  Tensor watched = model(x, cache);
  CHECK(error_text([&] { tape.backward(sum(watched)); }) ==
        "[backward] the tensor was not computed on this tape from a parameter or a watched tensor");
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

  // Behind a layer that has put its steps, and a mask for the first time, into the cache.
  struct Moody {
    bool* fails;
    Tensor operator()(const Tensor& y) const {
      check(!*fails, "moody", "not now");
      return y;
    }
    void visit(nn::Visitor&) {}
  };
  bool fails = false;
  const nn::Sequential two{nn::Input({6}, int64), nn::Embedding(9, 6, {.mask_zero = true}),
                           nn::MultiHeadSelfAttention(2, {.causal = true}), Moody{&fails}};
  const Tensor all = two(x);
  nn::KeyValueCache kept(6);
  for (const int64_t begin : {0, 3}) {
    fails = true;
    CHECK_THROWS((void)two(zeros({2, 3}, {int64}), kept));
    fails = false;
    CHECK(close(two(steps(x, begin, begin + 3), kept), steps(all, begin, begin + 3), kSums));
  }
}

TEST_CASE("wrong use of attention layers, positions and the cache") {
  const auto built = [](nn::Layer layer, const nn::Input& input) { nn::Model(std::move(layer), input); };
  const nn::Sequential model = generator(true), other = generator(true), learned = generator(false);
  const nn::Sequential whole{nn::Input({4, 6}), nn::MultiHeadSelfAttention(2)};
  const auto mixing = [](nn::Layer layer) {
    nn::KeyValueCache c(4);
    (void)nn::Sequential{nn::Input({4, 6}), std::move(layer)}(steps(example(), 0, 4), c);
  };
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
      {"position_embedding: [position_embedding] there are 4 positions, but the sequence has 5 steps",
       [] {
         nn::Sequential{nn::Input({5, 6}), nn::PositionEmbedding(4)};
       }},
      {"position_embedding: [position_embedding] there are 12 positions, but the sequence has 13 steps",
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
      {"[key_value_cache] the cache has room for 3 steps and holds 2, got 2 more",
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
       [&] { (void)whole(steps(example(), 0, 2), of_whole); }},
      {"[key_value_cache] the first input must be the new steps [batch, time, ...], got [2]",
       [&] { (void)model(tokens({2}), cache); }},
      {"[key_value_cache] the indices must be a vector, got [2,1]",
       [&] {
         cache.reorder(zeros({2, 1}, {int64}));
       }},
      {"[take] index 2 at position 1 is outside of -2..1",
       [&] {
         cache.reorder(tensor({0, 2}, {int64}));
       }},
      {"lstm: [lstm] it needs whole sequences, but a call with a cache of keys and values has the new steps alone",
       [&] { mixing(nn::LSTM(3)); }},
      {"conv1d: [conv1d] it needs whole sequences, but a call with a cache of keys and values has the new steps alone",
       [&] { mixing(nn::Conv1D(3, 2)); }},
      {"max_pool1d: [max_pool1d] it needs whole sequences, but a call with a cache of keys and values has the new "
       "steps "
       "alone",
       [&] { mixing(nn::MaxPool1D(2)); }},
      {"global_max_pool1d: [global_max_pool1d] it needs whole sequences, but a call with a cache of keys and values "
       "has "
       "the new steps alone",
       [&] { mixing(nn::GlobalMaxPool1D()); }},
      // Two sequences at once, and a model that is the beginning of another.
      {"multi_head_self_attention_1: [key_value_cache] attention must be to the 1 steps of the first input, got 3",
       [&] {
         const nn::Symbol a = nn::Input({5, 6}), b = nn::Input({5, 6});
         nn::MultiHeadSelfAttention layer(1, {.causal = true});
         const nn::Functional both({a, b}, nn::Add()({layer(a), layer(b)}));
         nn::KeyValueCache c(5);
         (void)both({steps(example(), 0, 1), steps(example(), 0, 3)}, c);
       }},
      {"[key_value_cache] the cache holds the steps of another model, or its layers were called in another order: "
       "truncate() empties it",
       [&] {
         const nn::MultiHeadSelfAttention shared(1, {.causal = true});
         const nn::Sequential longer{nn::Input({5, 6}), shared, nn::MultiHeadSelfAttention(1, {.causal = true})};
         const nn::Sequential shorter{nn::Input({5, 6}), shared};
         nn::KeyValueCache c(5);
         (void)longer(steps(example(), 0, 1), c);
         (void)shorter(steps(example(), 0, 1), c);
       }},
  });
}
