// Models: training, evaluation, prediction, and what is refused.
#include "mica/nn/model.h"

#include <doctest/doctest.h>

#include <thread>

#include "mica/autograd/tape.h"
#include "mica/core/threads.h"
#include "mica/data/batches.h"
#include "mica/nn/conv2d.h"
#include "mica/nn/dropout.h"
#include "mica/nn/pool.h"
#include "mica/nn/sequential.h"
#include "mica/ops/index.h"
#include "mica/ops/reduce.h"
#include "mica/optim/adam.h"
#include "mica/optim/sgd.h"
#include "nn/helpers.h"
#include "support/error_text.h"

using namespace mica;
using namespace mica::test;

namespace {

nn::Sequential regression() {
  nn::Sequential model{nn::Input({2}), nn::Dense(1)};
  model.compile({.optimizer = optim::SGD({.learning_rate = 0.1}), .loss = losses::mean_squared_error});
  return model;
}

nn::Sequential classifier(int64_t classes) {
  nn::Sequential model{nn::Input({2}), nn::Dense(32, {.activation = tanh}), nn::Dense(32, {.activation = relu}),
                       nn::Dense(classes, {.activation = softmax})};
  model.compile({.optimizer = optim::Adam({.learning_rate = 0.01}),
                 .loss = losses::sparse_categorical_crossentropy,
                 .metrics = {metrics::accuracy}});
  return model;
}

// A convolutional network with every kind of layer whose sums could depend on threads.
nn::Sequential small_cnn() {
  nn::Sequential model{nn::Input({12, 12, 2}),
                       nn::Conv2D(8, {3, 3}, {.activation = relu}),
                       nn::MaxPool2D({2, 2}),
                       nn::Conv2D(12, {3, 3}, {.padding = Padding::same, .activation = tanh}),
                       nn::AveragePool2D({2, 2}),
                       nn::Flatten(),
                       nn::Dropout(0.25),
                       nn::Dense(24, {.activation = relu}),
                       nn::Dense(5, {.activation = softmax})};
  model.compile({.optimizer = optim::Adam({.learning_rate = 0.01}),
                 .loss = losses::sparse_categorical_crossentropy,
                 .metrics = {metrics::accuracy}});
  return model;
}

Task images(int64_t n) {
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < n; ++i) labels.push_back(i % 5);
  return {random_uniform({n, 12, 12, 2}, 0, 1, {.stream = 21}), tensor(labels, {n})};
}

}  // namespace

TEST_CASE("fit: linear regression finds the line") {
  nn::Sequential model = regression();
  const Task task = line(256);
  const auto history = model.fit(task.x, task.y, {.epochs = 30});
  CHECK(history["loss"].back() < 1e-6);
  const auto weights = floats(model.parameter("dense.kernel").value());
  CHECK(weights[0] == doctest::Approx(2).epsilon(1e-3));
  CHECK(weights[1] == doctest::Approx(-3).epsilon(1e-3));
  CHECK(model.parameter("dense.bias").value().item() == doctest::Approx(0.5).epsilon(1e-3));
}

TEST_CASE("fit: XOR is learned through sigmoid and binary cross-entropy") {
  nn::Sequential model{nn::Input({2}), nn::Dense(8, {.activation = tanh}), nn::Dense(1, {.activation = sigmoid})};
  model.compile({.optimizer = optim::Adam({.learning_rate = 0.05}),
                 .loss = losses::binary_crossentropy,
                 .metrics = {metrics::accuracy}});
  const Tensor x = tensor({{0, 0}, {0, 1}, {1, 0}, {1, 1}}), y = tensor({0, 1, 1, 0}).reshape({4, 1});
  const auto history = model.fit(x, y, {.epochs = 300, .batch_size = 4});
  CHECK(history["accuracy"].back() == 1);
  CHECK(history["loss"].back() < 0.05);
}

TEST_CASE("fit: three spirals are told apart") {
  nn::Sequential model = classifier(3);
  const Task task = spiral(300, 3);
  model.fit(task.x, task.y, {.epochs = 60});
  const auto logs = model.evaluate(task.x, task.y);
  CHECK(logs["accuracy"] > 0.97);
  CHECK(logs["loss"] < 0.15);
}

TEST_CASE("fit: one-hot targets and labels train the same") {
  const Task task = spiral(60, 3);
  nn::Sequential a = classifier(3);
  nn::Model b = a.clone();
  b.compile({.optimizer = optim::Adam({.learning_rate = 0.01}), .loss = losses::categorical_crossentropy});
  const auto sparse = a.fit(task.x, task.y, {.epochs = 2}),
             categorical = b.fit(task.x, one_hot(task.y, 3), {.epochs = 2});
  CHECK(sparse["loss"][1] == doctest::Approx(categorical["loss"][1]).epsilon(1e-5));
}

TEST_CASE("fit: the loss of an epoch is the mean over examples, whatever the size of the last batch") {
  nn::Sequential model{nn::Input({1}), nn::Dense(1, {.use_bias = false, .kernel_initializer = nn::init::zeros})};
  model.compile({.optimizer = optim::SGD({.learning_rate = 0}),
                 .loss = losses::mean_squared_error,
                 .metrics = {metrics::mean_absolute_error}});
  const Tensor x = ones({5, 1}), y = tensor({1, 1, 1, 1, 6}).reshape({5, 1});
  const auto history = model.fit(x, y, {.batch_size = 4, .shuffle = false});
  CHECK(history["loss"][0] == (1 + 1 + 1 + 1 + 36) / 5.0);
  CHECK(history["mean_absolute_error"][0] == 2);
  CHECK(model.evaluate(x, y, {.batch_size = 2})["loss"] == 8);
  CHECK(model.evaluate(x, y)["mean_absolute_error"] == 2);
}

TEST_CASE("fit: validation data and a validation split are evaluated, never trained on") {
  const Task task = line(50), other = line(20);
  nn::Sequential model = regression();
  auto history = model.fit(task.x, task.y, {.epochs = 2, .validation_data = {other.x, other.y}});
  CHECK(history["val_loss"].size() == 2);
  CHECK(history["val_loss"][1] == model.evaluate(other.x, other.y)["loss"]);

  nn::Sequential split = regression(), by_hand = regression();
  const auto a = split.fit(task.x, task.y, {.validation_split = 0.2});
  const auto b = by_hand.fit(task.x.slice(0, 40), task.y.slice(0, 40));
  CHECK(same_bits(snapshot(split.parameters()), snapshot(by_hand.parameters())));
  CHECK(a["val_loss"][0] == by_hand.evaluate(task.x.slice(40, 50), task.y.slice(40, 50))["loss"]);
  CHECK_FALSE(b.epochs()[0].contains("val_loss"));
}

TEST_CASE("fit: the order of the examples depends on the seed alone, and differs from epoch to epoch") {
  const auto order = [](uint64_t seed) {
    struct Watch : nn::Callback {
      std::vector<double> losses;
      void on_batch_end(const nn::Progress& p) override { losses.push_back(p.logs["loss"]); }
    };
    nn::Sequential model{nn::Input({1}), nn::Dense(1, {.kernel_initializer = nn::init::zeros})};
    model.compile({.optimizer = optim::SGD({.learning_rate = 0}), .loss = losses::mean_squared_error});
    const auto watch = std::make_shared<Watch>();
    model.fit(zeros({16, 1}), arange(0, 16).reshape({16, 1}),
              {.epochs = 2, .batch_size = 1, .seed = seed, .callbacks = {watch}});
    return watch->losses;
  };
  const auto a = order(1);
  CHECK(a == order(1));
  CHECK(a != order(2));
  CHECK(std::vector<double>(a.begin(), a.begin() + 16) != std::vector<double>(a.begin() + 16, a.end()));
}

TEST_CASE("fit: the seed decides what dropout drops, too") {
  const auto trained = [](uint64_t seed) {
    nn::Sequential model{nn::Input({2}), nn::Dense(16), nn::Dropout(0.5), nn::Dense(1)};
    model.compile({.optimizer = optim::SGD(), .loss = losses::mean_squared_error});
    const Task task = line(32);
    model.fit(task.x, task.y, {.shuffle = false, .seed = seed});
    return snapshot(model.parameters());
  };
  CHECK(same_bits(trained(1), trained(1)));
  CHECK_FALSE(same_bits(trained(1), trained(2)));
}

TEST_CASE("fit: goes on where the last fit ended: two epochs are one and one more") {
  const auto trained = [](const std::vector<int64_t>& epochs) {
    nn::Sequential model = small_cnn();
    const Task task = images(20);
    for (const int64_t n : epochs) model.fit(task.x, task.y, {.epochs = n, .batch_size = 8});
    return snapshot(model.parameters());
  };
  CHECK(same_bits(trained({2}), trained({1, 1})));
  CHECK_FALSE(same_bits(trained({2}), trained({1})));
}

TEST_CASE("fit: gradients left over from elsewhere take no part") {
  const Task task = line(32);
  nn::Sequential clean = regression(), dirty = regression();
  {
    Tape tape;
    tape.backward(sum(dirty(task.x)));
  }
  clean.fit(task.x, task.y);
  dirty.fit(task.x, task.y);
  CHECK(same_bits(snapshot(clean.parameters()), snapshot(dirty.parameters())));
}

TEST_CASE("fit: parameters that are frozen stay as they are") {
  nn::Sequential model = classifier(3);
  const Task task = spiral(60, 3);
  model.parameter("dense.kernel").set_trainable(false);
  const Tensors before = snapshot(model.parameters());
  model.fit(task.x, task.y);
  const auto after = model.parameters();
  CHECK(same_bits(before[0], after[0].value()));
  for (size_t i = 1; i < after.size(); ++i) CHECK_FALSE(same_bits(before[i], after[i].value()));
}

TEST_CASE("fit: a batch larger than the data is one batch; no epochs change nothing") {
  nn::Sequential model = regression();
  const Tensors before = snapshot(model.parameters());
  const Task task = line(3);
  CHECK(model.fit(task.x, task.y, {.epochs = 0}).size() == 0);
  CHECK(same_bits(before, snapshot(model.parameters())));
  CHECK(model.fit(task.x, task.y, {.batch_size = 1000}).size() == 1);
}

TEST_CASE("fit: a column of bytes is scaled batch by batch, as if it had been before") {
  const Tensor bytes = random_uniform({40, 2}, 0, 256, {.stream = 31}).to(uint8), y = line(40).y;
  nn::Sequential a = regression(), b = regression();
  const data::Column column(bytes, 1.0 / 255);
  a.fit(column, y);
  b.fit(Tensor(column), y);
  CHECK(same_bits(snapshot(a.parameters()), snapshot(b.parameters())));
  CHECK(same_bits(a.predict(column), a.predict(Tensor(column))));
}

TEST_CASE("model: a loop written by hand does what fit does") {
  const Task task = line(64);
  nn::Sequential by_fit = regression(), by_hand = regression();
  by_fit.fit(task.x, task.y, {.epochs = 3, .batch_size = 16, .shuffle = false});
  optim::SGD optimizer(by_hand.parameters(), {.learning_rate = 0.1});
  for (auto [x, y] : data::batches(task.x, task.y, {.batch_size = 16, .epochs = 3})) {
    Tape tape;
    const Tensor loss = losses::mean_squared_error(by_hand(x), y);
    tape.backward(loss);
    optimizer.step();
    optimizer.zero_grad();
  }
  CHECK(same_bits(snapshot(by_fit.parameters()), snapshot(by_hand.parameters())));
}

TEST_CASE("predict: gives what one call on everything gives, batch size and threads aside") {
  const nn::Sequential model = small_cnn();
  const Tensor x = images(50).x, all = model.predict(x, {.batch_size = 1000});
  for (const int64_t batch_size : {1, 7, 50, 128})
    CHECK(largest_difference(model.predict(x, {.batch_size = batch_size}), all) < 1e-6);
  CHECK(same_bits(model(x), all));
  CHECK(model.predict(x.slice(0, 0)).shape() == Shape{0, 5});
  CHECK(model.predict(x.slice(0, 1)).shape() == Shape{1, 5});
}

TEST_CASE("predict: what it gives is the caller's own, also of a model that only reshapes") {
  const nn::Sequential model{nn::Input({2, 2}), nn::Flatten()};
  const Tensor x = ones({3, 2, 2});
  Tensor y = model.predict(x);
  y.fill(7);
  CHECK(same_bits(x, ones({3, 2, 2})));
}

TEST_CASE("predict: is inference also under a tape, and records nothing") {
  const nn::Sequential model = small_cnn();
  const Tensor x = images(4).x, before = model.predict(x);
  Tape tape;
  const Tensor y = model.predict(x);
  CHECK(same_bits(y, before));
  CHECK(tape.producer(y) == nullptr);
}

TEST_CASE("predict and evaluate: a number of threads of their own") {
  const nn::Sequential model = small_cnn();
  const Task task = images(64);
  const Tensor one = model.predict(task.x, {.threads = 1}), eight = model.predict(task.x, {.threads = 8});
  CHECK(largest_difference(one, eight) < 1e-6);
  CHECK(model.evaluate(task.x, task.y, {.threads = 2})["loss"] ==
        doctest::Approx(model.evaluate(task.x, task.y, {.threads = 1})["loss"]));
  CHECK(contains(error_text([&] { model.predict(task.x, {.threads = -1}); }), "[threads] the number of threads"));
  CHECK(contains(error_text([&] { model.evaluate(task.x, task.y, {.threads = 1000}); }), "[threads] the number"));
}

TEST_CASE("evaluate: changes nothing, and leaves the metrics of training alone") {
  nn::Sequential model = small_cnn();
  const Task task = images(20);
  const Tensors before = snapshot(model.parameters());
  const auto logs = model.evaluate(task.x, task.y);
  CHECK(logs.size() == 2);
  CHECK(logs["accuracy"] == metrics::accuracy(model.predict(task.x), task.y));
  CHECK(same_bits(before, snapshot(model.parameters())));
  CHECK(model.evaluate(data::Dataset{task.x, task.y})["loss"] == logs["loss"]);
  const auto nothing = model.evaluate(task.x.slice(0, 0), task.y.slice(0, 0));
  CHECK(nothing["accuracy"] == 0);
}

TEST_CASE("model: what is not built or not compiled says so") {
  const nn::Sequential model{nn::Dense(1)};
  const Tensor x = zeros({4, 2}), y = zeros({4, 1});
  CHECK(error_text([&] { model.predict(x); }) == "[predict] the model is not built: give it an Input, or fit it");
  CHECK(error_text([&] { model.evaluate(x, y); }) == "[evaluate] the model is not built: give it an Input, or fit it");
  CHECK(error_text([&] { model.summary(); }) == "[summary] the model is not built: give it an Input, or fit it");
  CHECK(error_text([&] { model.save("never.safetensors"); }) ==
        "[save] the model is not built: give it an Input, or fit it");
  CHECK(error_text([&] { nn::Model(model).load_weights("never.safetensors"); }) ==
        "[load_weights] the model is not built: give it an Input, or build it");
  CHECK(error_text([&] { nn::Model(model).fit(x, y); }) == "[fit] the model is not compiled: call compile() first");
  CHECK_FALSE(model.built());
  const nn::Sequential built{nn::Input({2}), nn::Dense(1)};
  CHECK(error_text([&] { built.evaluate(x, y); }) == "[evaluate] the model is not compiled: call compile() first");
  CHECK(error_text([] { nn::Model{nn::Layer()}; }) == "[model] the layer is empty");
}

TEST_CASE("compile: needs an optimizer and a loss, with rates that make sense") {
  nn::Sequential model{nn::Input({2}), nn::Dense(1)};
  CHECK(error_text([&] { model.compile({.loss = losses::mean_squared_error}); }) ==
        "[compile] an optimizer is needed: .optimizer = optim::Adam()");
  CHECK(error_text([&] { model.compile({.optimizer = optim::Adam()}); }) ==
        "[compile] a loss is needed: .loss = losses::mean_squared_error");
  CHECK(error_text([&] {
          model.compile({.optimizer = optim::Adam(),
                         .loss = losses::mean_squared_error,
                         .metrics = {metrics::accuracy, metrics::accuracy}});
        }) == "[compile] the name \"accuracy\" is taken: metrics must have different names");
  CHECK(contains(error_text([] { optim::Adam({.learning_rate = std::nan("")}); }),
                 "[adam] the learning rate must be finite and not negative, got "));
  CHECK(error_text([] { optim::SGD({.learning_rate = -1}); }) ==
        "[sgd] the learning rate must be finite and not negative, got -1");
}

TEST_CASE("compile: each model has an optimizer of its own; fresh() copies the settings") {
  nn::Sequential a{nn::Input({2}), nn::Dense(1)}, b{nn::Input({2}), nn::Dense(1)};
  optim::Adam adam({.learning_rate = 0.25});
  a.compile({.optimizer = adam, .loss = losses::mean_squared_error});
  CHECK(error_text([&] { b.compile({.optimizer = adam, .loss = losses::mean_squared_error}); }) ==
        "[compile] the optimizer updates other parameters already: give each model one of its own (fresh() copies the "
        "settings)");
  b.compile({.optimizer = adam.fresh(), .loss = losses::mean_squared_error});
  CHECK(adam.fresh().learning_rate() == 0.25);
  a.compile({.optimizer = adam, .loss = losses::mean_squared_error});  // its own again
  const Tensors before = snapshot(a.parameters());
  b.fit(ones({4, 2}), ones({4, 1}));
  CHECK(same_bits(before, snapshot(a.parameters())));
}

TEST_CASE("compile: the optimizer stays in the caller's hands") {
  nn::Sequential model{nn::Input({2}), nn::Dense(1)};
  optim::SGD sgd({.learning_rate = 0});
  model.compile({.optimizer = sgd, .loss = losses::mean_squared_error});
  const Tensors before = snapshot(model.parameters());
  model.fit(ones({4, 2}), ones({4, 1}));
  CHECK(same_bits(before, snapshot(model.parameters())));
  sgd.set_learning_rate(0.1);
  model.fit(ones({4, 2}), ones({4, 1}));
  CHECK_FALSE(same_bits(before, snapshot(model.parameters())));
  CHECK(sgd.iterations() == 2);
}

TEST_CASE("fit: a model without parameters, or with all of them frozen, has nothing to train") {
  const std::string nothing = "[fit] there is nothing to train: the model has no parameters, or all of them are frozen";
  nn::Sequential frozen = regression();
  frozen.set_trainable(false);
  CHECK(error_text([&] { frozen.fit(zeros({4, 2}), zeros({4, 1})); }) == nothing);
  nn::Sequential none{nn::Input({2}), nn::Flatten()};
  none.compile({.optimizer = optim::SGD(), .loss = losses::mean_squared_error});
  CHECK(error_text([&] { none.fit(zeros({4, 2}), zeros({4, 2})); }) == nothing);
}

TEST_CASE("fit: what does not fit is said before anything is changed") {
  nn::Sequential model = classifier(3);
  const Tensors before = snapshot(model.parameters());
  const Task task = spiral(12, 3);
  const auto refusal = [&](const data::Column& x, const data::Column& y, nn::FitOptions options = {}) {
    const std::string text = error_text([&] { model.fit(x, y, options); });
    CHECK(same_bits(before, snapshot(model.parameters())));
    return text;
  };
  CHECK(refusal(task.x, task.y.slice(0, 11)) == "[fit] inputs and targets must be equal in number: 12 and 11");
  CHECK(refusal(task.x, {}) == "[fit] inputs and targets must be equal in number: 12 and 0");
  CHECK(refusal({}, task.y) == "[fit] inputs and targets must be equal in number: 0 and 12");
  CHECK(refusal(task.x.slice(0, 0), task.y.slice(0, 0)) == "[fit] there are no examples");
  CHECK(refusal(zeros({12, 3}), task.y) == "[fit] the model takes examples of [2] float32, got [3] float32");
  CHECK(refusal(zeros({12, 2, 1}), task.y) == "[fit] the model takes examples of [2] float32, got [2,1] float32");
  CHECK(refusal(zeros({12, 2}, {uint8}), task.y) == "[fit] the model takes examples of [2] float32, got [2] uint8");
  CHECK(refusal(task.x, task.y, {.epochs = -1}) == "[fit] epochs must not be negative, got -1");
  CHECK(refusal(task.x, task.y, {.batch_size = 0}) == "[fit] the batch size must be at least 1, got 0");
  for (const double split : {-0.1, 1.0, 2.0})
    CHECK(contains(refusal(task.x, task.y, {.validation_split = split}),
                   "[fit] validation_split must be in [0, 1), got "));
  CHECK(contains(refusal(task.x, task.y, {.validation_split = std::nan("")}), "validation_split must be in [0, 1)"));
  CHECK(refusal(task.x, task.y, {.validation_split = 0.99}) ==
        "[fit] validation_split 0.99 of 12 examples leaves none to train on");
  CHECK(refusal(task.x, task.y, {.validation_data = {zeros({5, 3}), task.y}}) ==
        "[fit] the model takes examples of [2] float32, got [3] float32");
  CHECK(refusal(task.x, task.y, {.validation_data = {task.x, task.y.slice(0, 5)}}) ==
        "[fit] inputs and targets to validate with must be equal in number: 12 and 5");
  CHECK(refusal(task.x, task.y, {.validation_data = {task.x, {}}}) ==
        "[fit] inputs and targets to validate with must be equal in number: 12 and 0");
  CHECK(refusal(task.x, task.y - 1, {.shuffle = false}) ==
        "[sparse_cross_entropy] label -1 at position 0 is outside of 0..2");
  CHECK(contains(refusal(task.x, full({12}, 3, {int64})),
                 "[sparse_cross_entropy] label 3 at position 0 is outside of 0..2"));
  CHECK(refusal(task.x, zeros({12})) == "[sparse_cross_entropy] labels must be integers, got float32");
  CHECK(contains(refusal(task.x, zeros({12, 3}, {int64})),
                 "[sparse_cross_entropy] labels must have the predictions' shape"));
}

TEST_CASE("fit: a model that is not built stays so when the options are wrong") {
  nn::Sequential model{nn::Dense(1)};
  model.compile({.optimizer = optim::SGD(), .loss = losses::mean_squared_error});
  CHECK_THROWS_AS(model.fit(zeros({4, 2}), zeros({4, 1}), {.validation_data = {zeros({4, 3}), zeros({4, 1})}}), Error);
  CHECK_FALSE(model.built());
}

TEST_CASE("predict and evaluate: what does not fit") {
  const nn::Sequential model = classifier(3);
  CHECK(error_text([&] {
          model.predict(zeros({4, 3}));
        }) == "[predict] the model takes examples of [2] float32, got [3] float32");
  CHECK(error_text([&] { model.predict({}); }) == "[predict] the inputs must have a first axis of examples");
  CHECK(error_text([&] { model.predict(Tensor(1.0)); }) == "[predict] the inputs must have a first axis of examples");
  CHECK(error_text([&] {
          model.predict(zeros({4, 2}), {.batch_size = 0});
        }) == "[predict] the batch size must be at least 1, got 0");
  CHECK(error_text([&] {
          model.evaluate(zeros({4, 2}), zeros({3}, {int64}));
        }) == "[evaluate] inputs and targets must be equal in number: 4 and 3");
  CHECK(error_text([&] {
          model.evaluate(zeros({4, 2}), full({4}, -1, {int64}));
        }) == "[sparse_cross_entropy] label -1 at position 0 is outside of 0..2");
}

TEST_CASE("summary: a table of layers, shapes and parameters") {
  nn::Sequential model{nn::Input({28, 28, 1}), nn::Conv2D(32, {3, 3}, {.activation = relu}), nn::MaxPool2D({2, 2}),
                       nn::Flatten(), nn::Dense(10, {.activation = softmax})};
  CHECK("\n" + model.summary() == R"(
 Layer                    Output shape   Parameters
────────────────────────────────────────────────────
 input (float32)          [n,28,28,1]
 conv2d (Conv2D)          [n,26,26,32]          320
 max_pool2d (MaxPool2D)   [n,13,13,32]
 flatten (Flatten)        [n,5408]
 dense (Dense)            [n,10]             54,090
────────────────────────────────────────────────────
 54,410 parameters (212.5 KiB)
)");
  model.parameter("conv2d.kernel").set_trainable(false);
  CHECK(contains(model.summary(), " 54,410 parameters (212.5 KiB), 288 of them frozen\n"));
}

TEST_SUITE_BEGIN("threads");

TEST_CASE("fit: the same seed and number of threads give the same bits, at 1, 2 and 8 threads") {
  const Task task = images(40);
  const auto trained = [&](int threads) {
    const ThreadScope scope(threads);
    nn::Sequential model = small_cnn();
    model.fit(task.x, task.y, {.epochs = 2, .batch_size = 16, .seed = 3});
    return snapshot(model.parameters());
  };
  for (const int threads : {1, 2, 8}) {
    CAPTURE(threads);
    CHECK(same_bits(trained(threads), trained(threads)));
  }
}

TEST_CASE("predict: eight threads at once on one model get the same bits as one alone") {
  const nn::Sequential model = small_cnn();
  const Tensor x = images(40).x;
  for (const int threads : {1, 3}) {
    const nn::PredictOptions options{.batch_size = 16, .threads = threads};
    const Tensor alone = model.predict(x, options);
    std::vector<std::thread> callers;
    std::atomic<int> different = 0;
    for (int t = 0; t < 8; ++t)
      callers.emplace_back([&] {
        for (int i = 0; i < 5; ++i) different += !same_bits(model.predict(x, options), alone);
      });
    for (std::thread& caller : callers) caller.join();
    CHECK(different == 0);
  }
}

TEST_CASE("model: eight threads predict on one model while two others train clones of it") {
  const nn::Sequential model = small_cnn();
  const Task task = images(20);
  const Tensor before = model.predict(task.x);
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0, training = 2;
  for (int t = 0; t < 2; ++t)
    threads.emplace_back([&] {
      nn::Model mine = model.clone();
      mine.compile({.optimizer = optim::SGD(), .loss = losses::sparse_categorical_crossentropy});
      mine.fit(task.x, task.y, {.epochs = 2, .batch_size = 10});
      wrong += static_cast<bool>(same_bits(mine.predict(task.x), before));
      --training;
    });
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&] {
      do {
        wrong += !same_bits(model.predict(task.x), before);
      } while (training > 0);
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_SUITE_END();
