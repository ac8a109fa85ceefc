// Embedding.
#include "mica/nn/embedding.h"

#include <doctest/doctest.h>

#include "mica/nn/pool.h"
#include "mica/nn/sequential.h"
#include "mica/optim/adam.h"
#include "nn/helpers.h"
#include "support/error_text.h"

using namespace mica;
using namespace mica::test;

TEST_CASE("embedding: a row of the table for each token") {
  nn::Sequential model{nn::Input({3}, int64), nn::Embedding(5, 2)};
  const Parameter table = model.parameter("embedding.table");
  CHECK(table.shape() == Shape{5, 2});
  const Tensor y = model(tensor({{4, 0, 4}}, {int64}));
  CHECK(y.shape() == Shape{1, 3, 2});
  CHECK(same_bits(y[0][0], table.value()[4]));
  CHECK(same_bits(y[0][1], table.value()[0]));
  CHECK(model.predict(zeros({0, 3}, {int64})).shape() == Shape{0, 3, 2});
}

TEST_CASE("embedding: tokens that tell classes apart are learned") {
  std::vector<int64_t> token, label;
  for (int64_t i = 0; i < 64; ++i) {
    label.push_back(i % 2);
    for (int64_t t = 0; t < 4; ++t) token.push_back((i + t) % 3 * 2 + i % 2);
  }
  const Tensor tokens = tensor(token, {64, 4}), labels = tensor(label, {64});
  nn::Sequential model{nn::Input({4}, int64), nn::Embedding(6, 8), nn::GlobalAveragePool1D(), nn::Dense(2)};
  model.compile({.optimizer = optim::Adam({.learning_rate = 0.05}),
                 .loss = losses::SparseCategoricalCrossentropy{.from_logits = true},
                 .metrics = {metrics::accuracy}});
  model.fit(tokens, labels, {.epochs = 20, .batch_size = 16});
  CHECK(model.evaluate(tokens, labels)["accuracy"] == 1);
}

TEST_CASE("embedding: wrong use") {
  nn::Embedding layer(5, 2);
  CHECK(error_text([] { nn::Embedding(0, 2); }) ==
        "[embedding] the table must have at least one row and column, got 0 and 2");
  CHECK(error_text([&] { nn::build(layer, {3}); }) ==
        "[embedding] the tokens must be integers, as in Input({length}, int64), got float32");
  nn::Sequential model{nn::Input({2}, int64), layer};
  CHECK(error_text([&] {
          model(tensor({{0, 5}}, {int64}));
        }) == "embedding: [embedding] token 5 at position 1 is outside of 0..4");
  CHECK(error_text([&] {
          model(tensor({{-1, 0}}, {int64}));
        }) == "embedding: [embedding] token -1 at position 0 is outside of 0..4");
}
