// Attention and the Transformer's layers whole, against PyTorch and Keras; what their options do.
#include "mica/nn/transformer.h"

#include <doctest/doctest.h>

#include "mica/autograd/gradcheck.h"
#include "mica/nn/embedding.h"
#include "mica/nn/losses.h"
#include "mica/nn/pool.h"
#include "mica/nn/position.h"
#include "mica/nn/sequential.h"
#include "mica/ops/manipulate.h"
#include "mica/ops/norm.h"
#include "mica/optim/adam.h"
#include "nn/golden_layer.h"
#include "nn/helpers.h"
#include "support/devices.h"
#include "support/temp_dir.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;

namespace {

// The layer that a golden case is of.
nn::Layer layer_of(const GoldenCase& c) {
  const auto flag = [&](const char* name, bool otherwise) { return c.has(name) ? c.flag(name) : otherwise; };
  const int64_t heads = c.has("heads") ? static_cast<int64_t>(c.number("heads")) : 1;
  if (c.op == "sinusoidal") return nn::SinusoidalPositionEncoding();
  if (c.op == "self_attention" || c.op == "cross_attention") {
    const nn::MultiHeadAttentionOptions options{
        .head_size = c.has("head_size") ? static_cast<int64_t>(c.number("head_size")) : 0,
        .causal = flag("causal", false),
        .use_bias = flag("bias", true)};
    if (c.op == "self_attention") return nn::MultiHeadSelfAttention(heads, options);
    return nn::MultiHeadCrossAttention(heads, options);
  }
  const int64_t units = static_cast<int64_t>(c.number("units"));
  const nn::TransformerOptions options{
      .norm_first = c.flag("norm_first"),
      .activation = c.text("activation") == "gelu" ? nn::Activation(gelu) : nn::Activation(relu),
      .causal = flag("causal", false)};
  if (c.op == "encoder") return nn::TransformerEncoderLayer(heads, units, options);
  return nn::TransformerDecoderLayer(heads, units, options);
}

nn::Sequential classifier(bool norm_first) {
  return nn::Sequential{
      nn::Input({6}, int64),
      nn::Embedding(10, 8, {.mask_zero = true}),
      nn::PositionEmbedding(6),
      nn::TransformerEncoderLayer(2, 16, {.norm_first = norm_first, .dropout = 0.1}),
      nn::TransformerEncoderLayer(2, 16, {.norm_first = norm_first, .activation = gelu, .rotary = true}),
      nn::LayerNorm(),
      nn::GlobalAveragePool1D(),
      nn::Dense(2, {.activation = softmax}),
  };
}

}  // namespace

TEST_CASE("attention, encoder and decoder layers are PyTorch's and Keras's: every parameter's gradient, with masks") {
  for (const GoldenCase& c : golden("transformer")) replay_layer(c, kSums, [&] { return layer_of(c); });
}

TEST_CASE("whole layers pass a gradient check, masked and not") {
  for (const bool norm_first : {false, true})
    for (const bool rotary : {false, true}) {
      const nn::TransformerOptions options{
          .norm_first = norm_first, .activation = gelu, .rotary = rotary, .epsilon = 1e-3};
      nn::Layer encoder = nn::TransformerEncoderLayer(2, 5, options);
      nn::Layer decoder = nn::TransformerDecoderLayer(2, 5, options);
      for (nn::Layer* layer : {&encoder, &decoder}) {
        const nn::Symbol x = nn::Input({3, 4}, float64), context = nn::Input({2, 4}, float64);
        const nn::Symbol mask = nn::Input({3}, uint8), masked = nn::WithMask()({x, mask});
        // Parameters in float64: drawn by a model in float32 of the same shapes.
        nn::Layer twin = layer->copy();
        ParameterFinder parameters;
        twin.visit(parameters);
        const nn::Symbol x32 = nn::Input({3, 4}), context32 = nn::Input({2, 4});
        if (layer == &encoder)
          nn::Functional(x32, twin(x32));
        else
          nn::Functional({x32, context32}, twin({x32, context32}));
        for (auto& [name, parameter] : parameters.found) parameter.value() = parameter.value().to(float64);
        const Tensor steps = tensor({{1, 1, 0}, {1, 1, 1}}).to(uint8);
        const Tensors samples{sample({2, 3, 4}, float64, 1), sample({2, 2, 4}, float64, 2)};
        if (layer == &encoder) {
          const nn::Functional model({x, mask}, (*layer)(masked));
          CHECK(gradcheck([&](const Tensors& xs) { return model({xs[0], steps}); }, {samples[0]}) <= 1e-6);
        } else {
          const nn::Functional model({x, mask, context}, (*layer)({masked, context}));
          CHECK(gradcheck([&](const Tensors& xs) { return model({xs[0], steps, xs[1]}); }, samples) <= 1e-6);
        }
      }
    }
}

TEST_CASE("a classifier of two encoder layers learns which of two tokens came first") {
  for (const bool norm_first : {false, true}) {
    if (norm_first && emulated()) continue;
    nn::Sequential model = classifier(norm_first);
    const int64_t n = emulated() ? 128 : 256;
    Tensor x = random_uniform({n, 6}, 3, 10, {.stream = 1}).to(int64);
    std::vector<int64_t> first;
    const Tensor places = random_uniform({n, 2}, 0, 1, {.stream = 2});
    for (int64_t i = 0; i < n; ++i) {
      const auto a = static_cast<int64_t>(places.at({i, 0}) * 3), b = 3 + static_cast<int64_t>(places.at({i, 1}) * 3);
      put(x, 6 * i + a, static_cast<double>(1 + i % 2));
      put(x, 6 * i + b, static_cast<double>(2 - i % 2));
      first.push_back(i % 2);
    }
    const Tensor y = tensor(first, {n});
    model.compile({.optimizer = optim::Adam({.learning_rate = 0.005}),
                   .loss = losses::sparse_categorical_crossentropy,
                   .metrics = {metrics::accuracy}});
    model.fit(x, y, {.epochs = 20, .batch_size = n / 8});
    CHECK(model.evaluate(x, y)["accuracy"] > 0.95);
  }
}

TEST_CASE("padding changes nothing: the steps that count are those of the shorter sequence") {
  const nn::Sequential model = classifier(true);
  const Tensor tokens = tensor({{3, 1, 2}}, {int64}), padded = tensor({{3, 1, 2, 0, 0, 0}}, {int64});
  CHECK(close(model(padded), model(tokens), kSums));
  for (const float p : floats(model(zeros({2, 6}, {int64})))) CHECK(std::isfinite(p));  // nothing but padding
}

TEST_CASE("layers of the Transformer are saved whole") {
  const TempDir folder;
  const nn::Sequential model = classifier(true);
  const Tensor x = tensor({{3, 1, 2, 0, 0, 0}, {1, 2, 3, 4, 5, 6}}, {int64});
  model.save(folder.file("encoder.safetensors"));
  CHECK(same_bits(nn::Model::load(folder.file("encoder.safetensors")).predict(x), model.predict(x)));

  const nn::Symbol tokens = nn::Input({4}, int64), context = nn::Input({3, 5});
  const nn::Symbol embedded = nn::SinusoidalPositionEncoding()(nn::Embedding(7, 6)(tokens));
  const nn::Functional both({tokens, context},
                            nn::TransformerDecoderLayer(3, 8, {.head_size = 4})({embedded, context}));
  both.save(folder.file("decoder.safetensors"));
  const Tensors xs{tensor({{3, 1, 2, 6}}, {int64}), sample({1, 3, 5}, float32)};
  CHECK(same_bits(nn::Model::load(folder.file("decoder.safetensors"))(xs), both(xs)));
}

TEST_CASE("dropout acts in training only, in each part of a layer") {
  const nn::TransformerOptions options{.norm_first = true, .dropout = 0.5};
  const nn::Sequential model{nn::Input({4, 6}), nn::TransformerEncoderLayer(2, 8, options)};
  const Tensor x = sample({2, 4, 6}, float32);
  CHECK(same_bits(model(x), model(x)));
  const auto* layer = model.layer().as<nn::Chain>()->layers()[0].as<nn::TransformerEncoderLayer>();
  const nn::ModeScope training(nn::Mode::training);
  CHECK_FALSE(same_bits(model(x), model(x)));
  CHECK_FALSE(same_bits(layer->attention()(x), layer->attention()(x)));
  CHECK_FALSE(same_bits(layer->feed_forward()(x), layer->feed_forward()(x)));
  // What is behind each part is dropped besides: half of the sums are x itself, where the other part gives nothing.
  for (const Parameter& p : model.parameters())
    if (p.name().find("feed_forward") != std::string::npos) p.value().copy_from(zeros(p.shape()));
  const Tensor y = model(x);
  int64_t same = 0;
  for (int64_t i = 0; i < y.elements(); ++i)
    same += floats(y)[static_cast<size_t>(i)] == floats(x)[static_cast<size_t>(i)];
  CHECK(same > 10);
  CHECK(same < 38);
}

TEST_CASE("each option of a Transformer's layer reaches its parts") {
  const nn::TransformerOptions options{.rotary = true,
                                       .head_size = 4,
                                       .epsilon = 0.5,
                                       .use_bias = false,
                                       .kernel_initializer = nn::init::ones,
                                       .kernel_regularizer = nn::regularizers::l2(0.25),
                                       .rotary_base = 2};
  const nn::TransformerDecoderLayer decoder(3, 8, options);
  const nn::Symbol x = nn::Input({4, 6}), context = nn::Input({2, 5});
  const nn::Functional model({x, context}, decoder({x, context}));
  std::vector<std::string> found;
  for (const Parameter& p : model.parameters()) found.push_back(p.name() + to_string(p.shape()));
  const std::string of = "transformer_decoder_layer.";
  CHECK(found == std::vector<std::string>{
                     of + "attention.qkv.kernel[6,36]", of + "attention.output.kernel[12,6]",
                     of + "attention_residual.norm.gamma[6]", of + "attention_residual.norm.beta[6]",
                     of + "cross_attention.query.kernel[6,12]", of + "cross_attention.key.kernel[5,12]",
                     of + "cross_attention.value.kernel[5,12]", of + "cross_attention.output.kernel[12,6]",
                     of + "cross_attention_residual.norm.gamma[6]", of + "cross_attention_residual.norm.beta[6]",
                     of + "feed_forward.inner.kernel[6,8]", of + "feed_forward.outer.kernel[8,6]",
                     of + "feed_forward_residual.norm.gamma[6]", of + "feed_forward_residual.norm.beta[6]"});
  CHECK(close(decoder.attention().qkv().kernel().value(), ones({6, 36}), kExact));
  CHECK(model.penalty().item() == 0.25 * (6 * 36 + 2 * 12 * 6 + 6 * 12 + 2 * 5 * 12 + 2 * 6 * 8));
  CHECK(decoder.attention().causal());

  const Tensor v = sample({2, 4, 6}, float32);
  const auto& attention = decoder.attention();
  const Tensor qkv = dense(v, attention.qkv().kernel().value());
  const Tensor turned = rotary(qkv.reshape({2, 4, 9, 4}), {.heads = 6, .base = 2}).reshape({2, 4, 36});
  CHECK(
      same_bits(attention(v), dense(self_attention(turned, 3, {.causal = true}), attention.output().kernel().value())));
  CHECK(close(decoder.feed_forward_norm()(v), layer_norm(v, ones({6}), zeros({6}), 0.5), kPointwise));
}

TEST_CASE("a batch of nothing, and sequences of no and of one step") {
  for (const bool norm_first : {false, true})
    for (const Shape& shape : {Shape{0, 4, 6}, Shape{2, 0, 6}, Shape{2, 1, 6}}) {
      const nn::Symbol x = nn::Input({4, 6}), context = nn::Input({3, 6});
      const nn::TransformerOptions options{.norm_first = norm_first};
      const nn::Functional model({x, context}, nn::TransformerDecoderLayer(2, 8, options)(
                                                   {nn::TransformerEncoderLayer(2, 8, options)(x), context}));
      Tape tape;
      const Tensor y = model({sample(shape, float32), sample({shape[0], 0, 6}, float32)});
      CHECK(y.shape() == shape);
      tape.backward(sum(y));
      for (const Parameter& p : model.parameters()) {
        CAPTURE(p.name());
        if (!p.gradient().defined()) continue;
        for (const float g : floats(p.gradient())) CHECK(std::isfinite(g));
      }
    }
}

TEST_CASE("wrong use of the Transformer's layers") {
  const nn::Sequential model{nn::Input({4, 6}), nn::TransformerEncoderLayer(2, 8)};
  const auto built = [](nn::Layer layer, const nn::Input& input) { nn::Model(std::move(layer), input); };
  check_wrong_use({
      {"[multi_head_self_attention] there must be at least 1 head, got 0", [] { nn::TransformerEncoderLayer(0, 8); }},
      {"[feed_forward] there must be at least 1 unit, got 0", [] { nn::TransformerDecoderLayer(2, 0); }},
      {"[multi_head_self_attention] dropout must be in [0, 1), got 1",
       [] { nn::TransformerEncoderLayer(2, 8, {.dropout = 1}); }},
      {"[layer_norm] epsilon must be finite and not negative, got -1",
       [] { nn::TransformerEncoderLayer(2, 8, {.epsilon = -1}); }},
      {"transformer_encoder_layer: [layer] transformer_encoder_layer.attention.qkv.kernel has shape [6,18], but this "
       "input "
       "needs [8,24]",
       [&] {
         (void)model(ones({1, 4, 8}));
       }},
      {"[transformer_encoder_layer] the input must be [batch, time, features], got [1,6]",
       [&] { built(nn::TransformerEncoderLayer(2, 8), nn::Input({6})); }},
      {"[transformer_decoder_layer] the inputs must be x [batch, time, features] and a context, got 1 inputs, x "
       "[1,4,6]",
       [&] {
         built(nn::TransformerDecoderLayer(2, 8), nn::Input({4, 6}));
       }},
  });
}
