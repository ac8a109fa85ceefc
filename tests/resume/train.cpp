// A training that is killed and run again, by kills.sh: a network with everything whose state must go on.
//   mica_resume_train FOLDER   trains, or goes on, with checkpoints in FOLDER; prints how many batches it ran
#include <cstdio>

#include "mica/mica.h"

using namespace mica;

namespace {

class Count : public nn::Callback {
 public:
  void on_batch_end(const nn::Progress&) override { ++batches; }
  int64_t batches = 0;
};

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 2) return 2;
  const std::string folder = argv[1];
  set_num_threads(1);
  const Tensor x = random_normal({640, 8}, 0, 1, {.stream = 1});
  const Tensor y = greater(sum(x * x, -1, true), 7.0).to(float32);
  nn::Sequential model{nn::Input({8}), nn::Dense(64, {.activation = relu}), nn::BatchNorm(), nn::Dropout(0.3),
                       nn::Dense(1, {.activation = sigmoid})};
  model.compile({.optimizer = optim::AdamW({.learning_rate = optim::cosine_decay(0.01, 320, {.warmup = 10})}),
                 .loss = losses::binary_crossentropy,
                 .metrics = {metrics::accuracy, metrics::auc, metrics::f1}});
  const auto count = std::make_shared<Count>();
  model.fit(x, y,
            {.epochs = 10,
             .batch_size = 16,
             .validation_split = 0.2,
             .callbacks = {count, callbacks::EarlyStopping({.patience = 9}), callbacks::CSVLogger(folder + ".csv")},
             .class_weights = {1, 2},
             .checkpoint = {.folder = folder, .batches = 3}});
  model.save(folder + ".safetensors");
  std::printf("%lld\n", static_cast<long long>(count->batches));
} catch (const std::exception& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
