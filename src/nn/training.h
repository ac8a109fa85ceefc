// Training: one call of fit, its loop and what its checkpoints keep.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/loader.h"
#include "mica/io/checkpoint.h"
#include "nn/meter.h"
#include "nn/model_state.h"

namespace mica::nn {

class Training {
 public:
  /// Everything has been checked, and the model is built. `weights` of the examples may be undefined.
  Training(Model& model, const data::Examples& train, const Tensor& weights, data::Examples validation,
           FitOptions options, std::optional<io::Checkpoints> checkpoints);
  History run();

 private:
  // What must be as it was where training goes on.
  struct Identity {
    int64_t examples = 0, batch_size = 0;
    bool shuffle = true;
    uint64_t seed = 0;
    std::string optimizer, metrics;
    optim::LearningRate learning_rate = 0;  // that fit began with. The program may give another one
    void visit_state(StateVisitor& v);
  };
  // Where it stands.
  struct Position {
    int64_t epoch = 0, batch = 0, examples = 0;
    double seconds = 0;  // that the epoch has taken
    void visit_state(StateVisitor& v);
  };
  struct Callbacks {
    Training& t;
    void visit_state(StateVisitor& v);
  };
  struct Whole {
    Training& t;
    void visit_state(StateVisitor& v);
  };

  void train_epoch(data::Loader& loader);
  void train_batch();
  bool stopping() const;
  void save(const Position& position);
  // Whether training can go on from the checkpoint: throws FileError. Reads where it stands, and the history.
  void open(const io::Checkpoint& checkpoint);
  // Sets everything.
  void go_on_from(const io::Checkpoint& checkpoint);

  Model& model_;
  Model::State& s_;
  std::vector<data::Column> columns_;  // inputs, targets and, where there are some, weights
  size_t inputs_;                      // how many inputs
  data::Examples validation_;
  FitOptions options_;
  std::vector<Parameter> parameters_;
  std::vector<RegularizedParameter> regularized_;
  std::optional<io::Checkpoints> checkpoints_;
  Identity identity_;
  Position position_;          // of a checkpoint that is written, or was read
  bool finished_ = false;      // a callback has ended it
  bool rate_changed_ = false;  // the program gives another learning rate than the checkpoint's did
  History history_;
  Logs logs_;
  StopToken stop_;  // the callbacks' own: what they ask for ends with this fit, whose options may serve another
  Meter meter_;
  Progress at_;
  Tensors batch_;  // of the columns
};

}  // namespace mica::nn
