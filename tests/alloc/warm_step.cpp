// A warm training step allocates nothing and takes no lock on the thread that computes. MICA_TRACE=1 in the environment
// shows where one that does comes from.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <mutex>

#include "counters.h"
#include "mica/mica.h"

using namespace mica;
using mica::test::counts;
using mica::test::Counts;

namespace {

nn::Sequential mnist_model() {
  return nn::Sequential{
      nn::Input({28, 28, 1}),
      nn::Conv2D(32, {3, 3}, {.activation = relu}),
      nn::MaxPool2D({2, 2}),
      nn::Conv2D(64, {3, 3}, {.activation = relu}),
      nn::MaxPool2D({2, 2}),
      nn::Flatten(),
      nn::Dropout(0.25),
      nn::Dense(128, {.activation = relu}),
      nn::Dense(10, {.activation = softmax}),
  };
}

data::Dataset digits(int64_t n) {
  const Tensor pixels = random_uniform({n, 28, 28, 1}, 0, 256, {.stream = 1}).to(uint8);
  return {data::Column(pixels, 1.0 / 255), random_uniform({n}, 0, 10, {.stream = 2}).to(uint8)};
}

// What this thread does from one mark to the next.
struct Since {
  Counts at = counts();
  int64_t system = memory_statistics().system_allocations;

  Counts counted() const {
    const Counts now = counts();
    return {now.mallocs - at.mallocs, now.locks - at.locks};
  }
  int64_t system_allocations() const { return memory_statistics().system_allocations - system; }
};

// From the third batch on, the most that happened between the ends of two batches.
class Watch final : public nn::Callback {
 public:
  int64_t mallocs = 0, locks = 0, system_allocations = 0, batches = 0;

 private:
  void on_batch_end(const nn::Progress& p) override {
    if (p.batch > 3) {
      // When the loading thread first runs ahead as far as it may, it needs a block or two more; either thread may be
      // the one that finds none left and asks the system.
      const int64_t blocks = since_.system_allocations();
      mallocs = std::max(mallocs, since_.counted().mallocs - blocks);
      locks = std::max(locks, since_.counted().locks);
      system_allocations += blocks;
      ++batches;
    }
    trace_.reset();
    if (p.batch >= 3 && std::getenv("MICA_TRACE")) trace_ = std::make_unique<test::Trace>();
    since_ = {};
  }
  void on_epoch_end(const nn::Progress&) override { trace_.reset(); }

  std::unique_ptr<test::Trace> trace_;
  Since since_;
};

// Steps of the model on x and y, once warm: no malloc, no block from the system, no lock.
void check_warm_steps(const nn::Model& model, const Tensor& x, const Tensor& y) {
  optim::Adam optimizer(model.parameters());
  const auto step = [&] {
    Tape tape;
    tape.backward(losses::mean_squared_error(model(x), y));
    optimizer.step();
    optimizer.zero_grad();
  };
  for (int i = 0; i < 3; ++i) step();
  std::unique_ptr<test::Trace> trace;
  if (std::getenv("MICA_TRACE")) trace = std::make_unique<test::Trace>();
  const Since since;
  for (int i = 0; i < 3; ++i) step();
  const Counts counted = since.counted();
  CHECK(counted.mallocs == 0);
  CHECK(counted.locks == 0);
  CHECK(since.system_allocations() == 0);
}

}  // namespace

// Keeps the compiler from leaving out what nobody uses.
void* used(void* block) {
  asm volatile("" : "+r"(block) : : "memory");
  return block;
}

TEST_CASE("the counters count") {
  std::mutex mutex;
  mutex.lock();  // the first call looks up the function, which locks by itself
  mutex.unlock();
  const Since since;
  delete static_cast<int*>(used(new int(3)));
  std::free(used(std::malloc(10)));
  std::free(used(std::aligned_alloc(64, 64)));
  mutex.lock();
  mutex.unlock();
  CHECK(since.counted().mallocs == 3);
  CHECK(since.counted().locks == 1);
}

TEST_CASE("a warm step of a loop written by hand: no malloc, no block from the system, no lock") {
  for (const int threads : {1, 2, 4}) {
    CAPTURE(threads);
    const ThreadScope scope(threads);
    nn::Sequential model = mnist_model();
    optim::Adam optimizer(model.parameters(),
                          {.learning_rate = optim::cosine_decay(1e-3, 100, {.warmup = 5}), .clip_norm = 1});
    const data::Dataset data = digits(32);
    const Tensor x = data.images, labels = data.labels, targets = one_hot(labels, 10);
    const auto step = [&](bool sparse) {
      Tape tape;
      const Tensor p = model(x);
      const Tensor loss =
          sparse ? losses::sparse_categorical_crossentropy(p, labels) : losses::categorical_crossentropy(p, targets);
      tape.backward(loss);
      optim::clip_gradients(optimizer.parameters(), 5);
      optimizer.step();
      optimizer.zero_grad();
      return loss.item();
    };
    for (const bool sparse : {false, true}) {
      for (int i = 0; i < 3; ++i) step(sparse);
      std::unique_ptr<test::Trace> trace;
      if (std::getenv("MICA_TRACE")) trace = std::make_unique<test::Trace>();
      const Since since;
      for (int i = 0; i < 3; ++i) step(sparse);
      const Counts counted = since.counted();
      CHECK(counted.mallocs == 0);
      CHECK(counted.locks == 0);
      CHECK(since.system_allocations() == 0);
    }
  }
}

TEST_CASE("a warm step of augmentation: no malloc, no block from the system, no lock") {
  const ThreadScope scope(2);
  const nn::Sequential model{
      nn::Input({12, 10, 1}),
      nn::RandomFlip({.vertical = true}),
      nn::RandomTranslation(2),
      nn::RandomTranslation({1, 2}, {.fill = {.mode = PadMode::reflect}}),
      nn::Flatten(),
      nn::Dense(2),
  };
  const Tensor x = random_uniform({64, 12, 10, 1}, -1, 1, {.stream = 3}), y = zeros({64, 2});
  check_warm_steps(model, x, y);
}

TEST_CASE("a warm step of every convolution: no malloc, no block from the system, no lock") {
  const ThreadScope scope(2);
  const nn::Sequential model{
      nn::Input({8, 6, 4}),
      nn::Conv2D(6, 3, {.padding = Padding::same, .dilation = 2, .groups = 2}),
      nn::DepthwiseConv2D(3, {.depth_multiplier = 2, .strides = 2, .padding = Padding::same}),
      nn::DepthwiseConv2D(3, {.padding = Padding::same, .activation = relu}),
      nn::Conv2DTranspose(3, 4, {.strides = 2, .padding = Padding::same, .activation = relu}),
      nn::Reshape({8 * 6, 3}),
      nn::Conv1D(2, 3, {.padding = Padding::causal, .dilation = 2}),
      nn::GlobalMaxPool1D(),
  };
  const Tensor x = random_uniform({8, 8, 6, 4}, -1, 1, {.stream = 3}), y = zeros({8, 2});
  check_warm_steps(model, x, y);
}

TEST_CASE("a warm step over masked sequences: no malloc, no block from the system, no lock") {
  const ThreadScope scope(2);
  const nn::Sequential model{
      nn::Input({12}, int64),
      nn::Embedding(20, 8, {.mask_zero = true}),
      nn::Bidirectional(nn::LSTM(6, {.return_sequences = true, .dropout = 0.1, .recurrent_dropout = 0.1})),
      nn::RNN(6, {.return_sequences = true}),
      nn::TimeDistributed(nn::Dense(5)),
      nn::GRU(4),
      nn::Dense(2),
  };
  const Tensor x = random_uniform({16, 12}, 0, 20, {.stream = 3}).to(int64), y = zeros({16, 2});
  check_warm_steps(model, x, y);
}

TEST_CASE("a warm step of attention: no malloc, no block from the system, no lock") {
  const ThreadScope scope(2);
  const nn::Sequential model{
      nn::Input({12}, int64),
      nn::Embedding(20, 8, {.mask_zero = true}),
      nn::PositionEmbedding(12),
      nn::SinusoidalPositionEncoding(),
      nn::TransformerEncoderLayer(2, 16, {.norm_first = true, .dropout = 0.1, .rotary = true}),
      nn::TransformerEncoderLayer(2, 16, {.activation = gelu, .causal = true}),
      nn::GlobalAveragePool1D(),
      nn::Dense(2),
  };
  const Tensor x = random_uniform({16, 12}, 0, 20, {.stream = 3}).to(int64), y = zeros({16, 2});
  check_warm_steps(model, x, y);
}

TEST_CASE("fit, from the third batch on: no malloc, no block from the system, and no lock but the batch's hand-off") {
  for (const int threads : {1, 2}) {
    CAPTURE(threads);
    const ThreadScope scope(threads);
    nn::Sequential model = mnist_model();
    model.compile(
        {.optimizer = optim::Adam(), .loss = losses::sparse_categorical_crossentropy, .metrics = {metrics::accuracy}});
    const data::Dataset data = digits(32 * 12);
    const auto watch = std::make_shared<Watch>();
    model.fit(data, {.epochs = 2, .batch_size = 32, .callbacks = {watch}});
    CHECK(watch->batches == 18);
    CHECK(watch->mallocs == 0);
    CHECK(watch->locks <= 2);
    CHECK(watch->system_allocations <= 2);
  }
}

TEST_CASE("fit with weights of examples and classes: no malloc, and no lock but the batch's hand-off") {
  nn::Sequential model = mnist_model();
  model.compile({.optimizer = optim::Adam(), .loss = losses::SparseCategoricalCrossentropy{.label_smoothing = 0.1}});
  const auto watch = std::make_shared<Watch>();
  model.fit(digits(32 * 8), {.batch_size = 32,
                             .callbacks = {watch},
                             .sample_weights = ones({32 * 8}),
                             .class_weights = std::vector<double>(10, 1)});
  CHECK(watch->batches == 5);
  CHECK(watch->mallocs == 0);
  CHECK(watch->system_allocations <= 2);
  CHECK(watch->locks <= 2);
}

TEST_CASE("fit with several inputs: no malloc, and no lock but the batch's hand-off") {
  const nn::Symbol amounts = nn::Input({6}), kind = nn::Input(Shape{}, int64);
  const nn::Symbol both = nn::Concatenate()({amounts, nn::Embedding(5, 3)(kind)});
  nn::Functional model({amounts, kind}, nn::Dense(1)(nn::Dense(16, {.activation = relu})(both)));
  model.compile({.optimizer = optim::Adam(), .loss = losses::mean_squared_error});
  const auto watch = std::make_shared<Watch>();
  model.fit({ones({256, 6}), zeros({256}, {int64})}, ones({256, 1}), {.batch_size = 32, .callbacks = {watch}});
  CHECK(watch->batches == 5);
  CHECK(watch->mallocs == 0);
  CHECK(watch->system_allocations <= 2);
  CHECK(watch->locks <= 2);
}

TEST_CASE("fit with metrics that gather an epoch, and callbacks: from the second epoch on no malloc in a step") {
  nn::Sequential model{nn::Input({28, 28, 1}), nn::Flatten(), nn::Dense(1, {.activation = sigmoid})};
  model.compile({.optimizer = optim::RMSprop(),
                 .loss = losses::huber,
                 .metrics = {metrics::auc, metrics::precision, metrics::f1}});
  class Second final : public nn::Callback {
   public:
    Watch watch;

   private:
    void on_batch_end(const nn::Progress& p) override {
      if (p.epoch > 0) static_cast<nn::Callback&>(watch).on_batch_end(p);
    }
  };
  const auto second = std::make_shared<Second>();
  const Tensor y = random_uniform({32 * 8, 1}, 0, 2, {.stream = 3}).to(uint8);
  model.fit(digits(32 * 8).images, y,
            {.epochs = 2,
             .batch_size = 32,
             .callbacks = {second, callbacks::EarlyStopping({.monitor = "loss"}), callbacks::TerminateOnNaN()}});
  CHECK(second->watch.batches == 5);
  CHECK(second->watch.mallocs == 0);
}

TEST_CASE("predict, once warm: no malloc, no block from the system, no lock") {
  const ThreadScope scope(1);
  const nn::Sequential model = mnist_model();
  const Tensor x = digits(256).images;
  model.predict(x, {.batch_size = 32});
  const Since since;
  model.predict(x, {.batch_size = 32});
  CHECK(since.counted().mallocs == 0);
  CHECK(since.counted().locks == 0);
  CHECK(since.system_allocations() == 0);
}
