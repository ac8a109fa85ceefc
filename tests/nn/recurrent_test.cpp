// RNN, LSTM, GRU, their cells, Bidirectional; masks, states that are kept, and dropout.
#include "mica/nn/recurrent.h"

#include <doctest/doctest.h>

#include <cmath>

#include "mica/autograd/tape.h"
#include "mica/nn/dropout.h"
#include "mica/nn/embedding.h"
#include "mica/nn/functional.h"
#include "mica/nn/losses.h"
#include "mica/nn/merge.h"
#include "mica/nn/pool.h"
#include "mica/nn/sequence.h"
#include "mica/nn/sequential.h"
#include "mica/ops/manipulate.h"
#include "mica/ops/reduce.h"
#include "mica/optim/adam.h"
#include "nn/helpers.h"
#include "support/temp_dir.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;

namespace {

// Made when it is asked for: the default device is not known before main().
const Tensor& example() {
  static const Tensor x = sample({3, 5, 4}, float32, 1);
  return x;
}

// f(layer, another of its kind that returns sequences), for each kind of layer.
template <class F>
void for_each_kind(const F& f) {
  f(nn::RNN(6), nn::RNN(6, {.return_sequences = true}));
  f(nn::LSTM(6), nn::LSTM(6, {.return_sequences = true}));
  f(nn::GRU(6), nn::GRU(6, {.return_sequences = true}));
  f(nn::GRU(6, {.reset_after = false}), nn::GRU(6, {.return_sequences = true, .reset_after = false}));
}

Tensor last_step(const Tensor& y) { return squeeze(slice(y, {{}, {-1, Range::kNone}}), 1); }

}  // namespace

TEST_CASE("recurrent layers give the state after the last step, or after each") {
  for_each_kind([](auto last, auto all) {
    nn::build(last, {5, 4}, 1);
    nn::build(all, {5, 4}, 1);
    CHECK(last(example()).shape() == Shape{3, 6});
    CHECK(all(example()).shape() == Shape{3, 5, 6});
    CHECK(same_bits(last(example()), last_step(all(example()))));
  });
}

TEST_CASE("recurrent layers are the ops on their parameters") {
  nn::GRU gru(6, {.return_sequences = true});
  nn::build(gru, {5, 4});
  CHECK(gru.kernel().shape() == Shape{4, 18});
  CHECK(gru.recurrent_kernel().shape() == Shape{6, 18});
  const RecurrentResult r = mica::gru({.x = example(),
                                       .kernel = gru.kernel().value(),
                                       .recurrent_kernel = gru.recurrent_kernel().value(),
                                       .bias = gru.bias().value(),
                                       .recurrent_bias = gru.recurrent_bias().value()});
  CHECK(same_bits(gru(example()), r.y));
}

TEST_CASE("an LSTM's forget gate begins with a bias of 1, or what is asked for; its other gates with 0") {
  for (const double forget : {1.0, 0.0, 2.5}) {
    nn::LSTM lstm(2, {.forget_bias = forget});
    nn::build(lstm, {5, 4});
    CHECK(close(lstm.bias().value(), {0, 0, forget, forget, 0, 0, 0, 0}));
  }
}

TEST_CASE("a cell's steps, one after another, are the layer's to the bit") {
  const auto check_cell = [](auto layer, auto cell) {
    nn::RecurrentState state;
    for (int64_t t = 0; t < 5; ++t) state = cell(squeeze(slice(example(), {{}, {t, t + 1}}), 1), state);
    CHECK(same_bits(state.h, layer(example())));
  };
  nn::RNN rnn(6, {.activation = relu});
  nn::LSTM lstm(6);
  nn::GRU gru(6, {.reset_after = false});
  nn::build(rnn, {5, 4});
  nn::build(lstm, {5, 4});
  nn::build(gru, {5, 4});
  check_cell(rnn, nn::RNNCell(rnn));
  check_cell(lstm, nn::LSTMCell(lstm));
  check_cell(gru, nn::GRUCell(gru));
}

TEST_CASE("a cell has parameters of its own in a network written by hand") {
  struct Network {
    nn::GRUCell cell{3};
    Tensor operator()(const Tensor& x) const {
      nn::RecurrentState state;
      for (int64_t t = 0; t < x.dim(1); ++t) state = cell(squeeze(slice(x, {{}, {t, t + 1}}), 1), state);
      return state.h;
    }
    void visit(nn::Visitor& v) { v("cell", cell); }
  };
  const nn::Model model(Network{}, nn::Input({5, 4}));
  CHECK(model(example()).shape() == Shape{3, 3});
  CHECK(model.parameter("cell.recurrent_kernel").shape() == Shape{3, 9});
}

TEST_CASE("tokens of padding change nothing: stacked layers pass over them, both ways") {
  const Tensor padded = tensor({{3, 1, 2, 0, 0}}, {int64}), plain = tensor({{3, 1, 2}}, {int64});
  const auto stack = [](auto first, auto second, bool mask_zero) {
    return nn::Sequential{nn::Embedding(5, 4, {.mask_zero = mask_zero}), nn::Dropout(0.5), first,
                          nn::Dense(4, {.activation = relu}), second};
  };
  const auto compare = [&](auto first, auto second) {
    nn::Sequential model = stack(first, second, true);
    model.build(nn::Input({5}, int64), 1);
    nn::Sequential shorter = stack(first, second, false);  // shares the parameters
    shorter.build(nn::Input({3}, int64), 1);
    CHECK(shorter.parameter("embedding.table").shape() == Shape{5, 4});
    const Parameter table = model.parameter("embedding.table");
    shorter.parameter("embedding.table").value().copy_from(table.value());
    for (const char* name : {"dense.kernel", "dense.bias"})
      shorter.parameter(name).value().copy_from(model.parameter(name).value());
    CHECK(close(model(padded), shorter(plain), kPointwise));
  };
  compare(nn::LSTM(6, {.return_sequences = true}), nn::RNN(3));
  compare(nn::Bidirectional(nn::GRU(6, {.return_sequences = true})), nn::Bidirectional(nn::LSTM(3)));
}

TEST_CASE("Masking marks the steps that are all of one value; a sequence of nothing else is 0") {
  const nn::Sequential model{nn::Input({4, 2}), nn::Masking(-1), nn::LSTM(3, {.use_bias = false})};
  Tensor x = sample({2, 4, 2}, float32, 3);
  x.slice(0, 1).reshape({4, 2}).slice(2, 4).copy_from(full({2, 2}, -1));
  x.slice(1, 2).copy_from(full({1, 4, 2}, -1));
  const Tensor y = model(x);
  const nn::Layer lstm = model.layer().as<nn::Chain>()->layers()[1];
  CHECK(close(y[0], lstm(slice(x, {{0, 1}, {0, 2}}))[0], kPointwise));
  CHECK(close(y[1], {0, 0, 0}));
}

TEST_CASE("a mask ends where steps end, and follows branches of a graph") {
  const nn::Symbol tokens = nn::Input({4}, int64);
  const nn::Symbol e = nn::Embedding(5, 3, {.mask_zero = true})(tokens);
  const nn::Symbol sum = nn::Add()({nn::Dense(3)(e), e});
  const nn::Functional model(tokens, nn::GlobalAveragePool1D()(sum));
  const Tensor y = model(tensor({{2, 3, 0, 0}, {0, 0, 0, 0}}, {int64}));
  CHECK(close(y[0], model(tensor({{3, 0, 2, 0}}, {int64}))[0], kPointwise));
  CHECK(close(y[1], {0, 0, 0}));  // nothing to average
  // [2, 3] of [2, 3, ...]: three units are no three steps.
  const nn::Sequential ended{nn::Input({3}, int64), nn::Embedding(5, 2, {.mask_zero = true}), nn::GRU(3),
                             nn::Reshape({3, 1}), nn::GRU(2, {.bias_initializer = nn::init::ones})};
  const Tensor none = tensor({{0, 0, 0}}, {int64});
  const nn::Layer last = ended.layer().as<nn::Chain>()->layers()[3];
  CHECK(same_bits(ended(none), last(zeros({1, 3, 1}))));
  CHECK(min(abs(ended(none))).item() > 0);  // it would be 0, were all steps masked
}

TEST_CASE("pools over time pass over masked steps; what has none is 0") {
  struct Mask {  // says which steps count
    Tensor steps;
    Tensor forward(const Tensor& in, nn::Call& call) const {
      if (!call.building()) call.set_mask(steps);
      return in;
    }
    void visit(nn::Visitor&) {}
  };
  const Tensor x = tensor({-1, 2, -3, 1, 9, 9, 1, 1, 1, 1, 1, 1}).reshape({2, 3, 2});
  const Mask mask{tensor({{1, 1, 0}, {0, 0, 0}}).to(uint8)};
  const nn::Sequential most{nn::Input({3, 2}), mask, nn::GlobalMaxPool1D()};
  CHECK(close(most(x), tensor({{-1, 2}, {0, 0}}), kExact));
  const nn::Sequential average{nn::Input({3, 2}), mask, nn::GlobalAveragePool1D()};
  CHECK(close(average(x), tensor({{-2, 1.5}, {0, 0}}), kExact));
}

TEST_CASE("a summary drops masks where the model does, and shows a stateful model as it is") {
  const nn::Sequential model{nn::Input({6}, int64), nn::Embedding(10, 4, {.mask_zero = true}), nn::Reshape({3, 8}),
                             nn::LSTM(4, {.stateful = true})};
  const Tensor tokens = ones({3, 6}, {int64});
  const Tensor first = model(tokens), expected = model(tokens);
  model.reset_state();
  CHECK(same_bits(model(tokens), first));
  CHECK(model.summary().find("lstm (LSTM)") != std::string::npos);
  model.predict(tokens.slice(0, 2));
  CHECK(same_bits(model(tokens), expected));  // neither left anything behind
}

TEST_CASE("the first state may be given and the last one taken, in graphs and by hand") {
  const nn::Symbol x = nn::Input({5, 4}), later = nn::Input({5, 4});
  const nn::Symbol encoded = nn::LSTM(6, {.return_state = true})(x);
  const nn::Symbol decoded = nn::LSTM(6)({later, encoded.output(1), encoded.output(2)});
  const nn::Functional model({x, later}, decoded);
  const Tensor second = sample({3, 5, 4}, float32, 2);
  const auto& nodes = model.layer().as<nn::Graph>()->nodes();
  const nn::LSTM &a = *nodes[0].layer.as<nn::LSTM>(), &b = *nodes[1].layer.as<nn::LSTM>();
  const RecurrentResult r = a.run(example());
  CHECK(same_bits(model({example(), second}), b.run(second, {r.h, r.c}).h));
  CHECK_FALSE(same_bits(model({example(), second}), b(second)));
}

TEST_CASE("Bidirectional puts a layer and its reverse together") {
  for (const char* merge : {"concat", "sum", "mul", "ave"}) {
    CAPTURE(merge);
    const nn::Sequential model{nn::Input({5, 4}), nn::Bidirectional(nn::GRU(6, {.return_sequences = true}), {merge})};
    const auto& both = *model.layer().as<nn::Chain>()->layers()[0].as<nn::Bidirectional>();
    const Tensor a = both.forward_layer()(example()), b = both.backward_layer()(example());
    CHECK_FALSE(same_bits(a, b));
    const Tensor expected = merge == std::string("concat") ? concat({a, b}, -1)
                            : merge == std::string("mul")  ? a * b
                            : merge == std::string("sum")  ? a + b
                                                           : (a + b) * 0.5;
    CHECK(same_bits(model(example()), expected));
  }
  const nn::Symbol x = nn::Input({5, 4});
  const nn::Symbol y = nn::Bidirectional(nn::LSTM(6, {.return_state = true}))(x);
  const nn::Functional model(x, nn::Concatenate()({y.output(1), y.output(3)}));  // h of both
  CHECK(same_bits(model(example()), nn::Functional(x, y)(example())));
}

TEST_CASE("a stateful layer goes on where the call before ended, until its state is reset") {
  nn::LSTM lstm(6, {.return_sequences = true, .stateful = true});
  const nn::Sequential model{nn::Input({5, 4}), lstm};
  const Tensor whole = lstm.run(example()).y;  // a call as well
  model.reset_state();
  const Tensor first = model(slice(example(), {{}, {0, 3}})), second = model(slice(example(), {{}, {3, 5}}));
  CHECK(close(concat({first, second}, 1), whole, kPointwise));
  CHECK(error_text([&] { model(example().slice(0, 2)); }) ==
        "lstm: [lstm] a stateful layer goes on with as many sequences as before: 3, got 2; reset_state() begins anew, "
        "and the batch "
        "size of fit must divide the examples");
  model.reset_state();
  CHECK(same_bits(model(example().slice(0, 2)), whole.slice(0, 2)));
  CHECK(same_bits(model.predict(example()), whole));  // a pass over data begins from zeros
  CHECK(same_bits(model.predict(example()), whole));
}

TEST_CASE("the gradient of a stateful layer ends where the call began") {
  nn::RNN rnn(2, {.stateful = true});
  const nn::Sequential model{nn::Input({5, 4}), rnn};
  Tape tape;
  Tensor first = example().clone(), second = example().clone();
  tape.watch(first);
  tape.watch(second);
  model(first);
  const Tensors dx = tape.gradient(sum(model(second)), {first, second});
  CHECK(close(dx[0], zeros({3, 5, 4}), kExact));
  CHECK(sum(abs(dx[1])).item() > 0);
}

TEST_CASE("clones have a state of their own, and each epoch of fit begins from zeros") {
  const auto trained = [](int64_t epochs, bool calls_before) {
    nn::Sequential model{nn::Input({5, 4}), nn::GRU(6, {.stateful = true}), nn::Dense(1)};
    model.compile({.optimizer = optim::Adam(), .loss = losses::mean_squared_error});
    if (calls_before) model(example());
    model.fit(example(), ones({3, 1}), {.epochs = epochs, .batch_size = 3, .shuffle = false});
    return model;
  };
  CHECK(same_bits(snapshot(trained(2, false).parameters()), snapshot(trained(2, true).parameters())));
  const nn::Sequential model{nn::Input({5, 4}), nn::GRU(6, {.stateful = true})};
  const Tensor begin = model(example());
  const nn::Model copy = model.clone();
  model.reset_state();
  CHECK(same_bits(model(example()), begin));
  CHECK_FALSE(same_bits(copy(example()), begin));
}

TEST_CASE("recurrent dropout drops the same units at every step, and nothing in inference") {
  nn::RNN rnn(64, {.return_sequences = true, .use_bias = false, .recurrent_dropout = 0.5});
  nn::build(rnn, {2, 64});
  rnn.kernel().value().copy_from(eye(64));
  rnn.recurrent_kernel().value().copy_from(eye(64));
  const Tensor x = concat({ones({1, 1, 64}), zeros({1, 1, 64})}, 1);  // then a state that only u passes on
  const double kept = std::tanh(2 * std::tanh(1));
  const nn::ModeScope training(nn::Mode::training);
  const std::vector<double> y = doubles(rnn(x));
  int64_t dropped = 0;
  for (size_t i = 0; i < 64; ++i) {
    const double v = y[64 + i];
    dropped += v == 0;
    CHECK((v == 0 || std::fabs(v - kept) < 1e-6));
  }
  CHECK(dropped > 16);
  CHECK(dropped < 48);
  const nn::ModeScope inference(nn::Mode::inference);
  CHECK(close(rnn(x)[0][1], full({64}, std::tanh(std::tanh(1))), kPointwise));
}

TEST_CASE("dropout of the input drops the same features at every step") {
  nn::RNN rnn(64, {.return_sequences = true, .use_bias = false, .dropout = 0.5});
  nn::build(rnn, {3, 64});
  rnn.kernel().value().copy_from(eye(64));
  rnn.recurrent_kernel().value().copy_from(zeros({64, 64}));
  const nn::ModeScope training(nn::Mode::training);
  const Tensor y = rnn(ones({1, 3, 64}));
  CHECK(same_bits(y[0][0], y[0][1]));
  CHECK(same_bits(y[0][0], y[0][2]));
  CHECK(min(y).item() == 0);
  CHECK(max(y).item() > 0);
}

TEST_CASE("recurrent models are saved with all their options, and predict the same") {
  const TempDir dir;
  nn::Sequential model{nn::Input({5, 4}),
                       nn::Masking(),
                       nn::TimeDistributed(nn::Dense(3)),
                       nn::RNN(6, {.return_sequences = true, .activation = relu}),
                       nn::Bidirectional(nn::LSTM(6, {.return_sequences = true, .forget_bias = 0}), {"sum"}),
                       nn::GRU(6, {.return_sequences = true, .go_backwards = true, .reset_after = false}),
                       nn::GRU(6, {.use_bias = false, .recurrent_dropout = 0.1})};
  model.save(dir.file("m.safetensors"));
  const nn::Model loaded = nn::Model::load(dir.file("m.safetensors"));
  CHECK(same_bits(loaded.predict(example()), model.predict(example())));
  CHECK(loaded.parameters().size() == model.parameters().size());
  nn::Sequential stateful{nn::Input({5, 4}), nn::LSTM(3, {.stateful = true})};
  stateful.save(dir.file("s.safetensors"));
  CHECK(same_bits(nn::Model::load(dir.file("s.safetensors"))(example()), stateful(example())));
}

TEST_CASE("TimeDistributed applies a layer to each step") {
  const nn::Sequential model{nn::Input({5, 4, 4, 1}), nn::TimeDistributed(nn::Flatten())};
  const Tensor films = sample({2, 5, 4, 4, 1}, float32, 4);
  CHECK(same_bits(model(films), films.reshape({2, 5, 16})));
  CHECK(model(zeros({0, 5, 4, 4, 1})).shape() == Shape{0, 5, 16});
}

TEST_CASE("recurrent layers refuse what does not fit") {
  check_wrong_use({
      {"[lstm] there must be at least 1 unit, got 0", [] { nn::LSTM(0); }},
      {"[gru] dropout must be in [0, 1), got 1", [] { nn::GRU(2, {.dropout = 1}); }},
      {"[rnn] recurrent_dropout must be in [0, 1), got -0.5", [] { nn::RNN(2, {.recurrent_dropout = -0.5}); }},
      {"[rnn] the activation must be tanh or relu", [] { nn::RNN(2, {.activation = sigmoid}); }},
      {"[lstm] the activation is an RNN's to choose", [] { nn::LSTM(2, {.activation = relu}); }},
      {"[lstm] reset_after is of GRU", [] { nn::LSTM(2, {.reset_after = false}); }},
      {"[gru] forget_bias is of LSTM", [] { nn::GRU(2, {.forget_bias = 0}); }},
      {"[gru] a cell of another kind cannot share its parameters", [] { nn::LSTMCell(nn::GRU(2)); }},
      {"[masking] the value must be a number, got nan", [] { nn::Masking(std::nan("")); }},
      {"[bidirectional] merge must be concat, sum, mul or ave, got max",
       [] { nn::Bidirectional(nn::GRU(2), {"max"}); }},
  });
  nn::Sequential model{nn::Input({5, 4}), nn::LSTM(2)};
  CHECK(error_text([&] {
          model(ones({2, 4}));
        }) == "lstm: [lstm] the input must be [batch, time, features], got [2,4]");
  CHECK(error_text([&] {
          model(ones({2, 5, 3}));
        }) == "lstm: [layer] lstm.kernel has shape [4,8], but this input needs [3,8]");
  const nn::Symbol x = nn::Input({5, 4}), h = nn::Input({2});
  CHECK(error_text([&] {
          nn::Functional({x, h}, nn::LSTM(2)({x, h}));
        }) == "lstm: [lstm] the inputs are x and the state, 3, or x alone, got 2");
  CHECK(error_text([&] {
          nn::Functional({x, h}, nn::GRU(3)({x, h}));
        }) == "gru: [gru] the state h must be [batch, units], here [1,3], got [1,2]");
}
