// Model: a layer with what training and use need around it: compile, fit, evaluate, predict, summary, save, load.
#pragma once

#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mica/data/dataset.h"
#include "mica/nn/callbacks.h"
#include "mica/nn/layer.h"
#include "mica/nn/losses.h"
#include "mica/nn/metrics.h"
#include "mica/nn/reshape.h"
#include "mica/optim/optimizer.h"

namespace MICA_EXPORT mica {
namespace data {
class TableEncoder;
}
namespace nn {

struct CompileOptions {
  optim::Optimizer optimizer = {};
  losses::Loss loss = {};
  std::vector<metrics::Metric> metrics = {};
};

/// Where fit keeps what it needs to go on after it was killed. The same program, run again, goes on from there, and
/// ends with the same weights, optimizer state and history, to the bit, as if it had never been stopped; a training
/// that has ended is returned at once (more epochs add to it). Number and size of batches, seed, shuffle, the metrics,
/// the kind of optimizer and the shapes of the model must be the same; the rest (the data, the loss, the optimizer's
/// settings) is the program's to keep, so that each training needs a folder of its own. The learning rate goes on as it
/// was, unless the program gives another one; a function of the program's own stays.
struct CheckpointOptions {
  std::string folder = {};  ///< made where there is none; empty: no checkpoints. See io::Checkpoints
  int64_t batches = 0;      ///< besides after each epoch, every so many batches; 0: never
};

struct FitOptions {
  int64_t epochs = 1;
  int64_t batch_size = 32;
  double validation_split = 0;          ///< this share of the examples, the last ones, is for validation alone
  data::Examples validation_data = {};  ///< or these
  bool shuffle = true;
  uint64_t seed = mica::seed();  ///< with the model's count of epochs, of the order of the examples; and of dropout
  std::vector<std::shared_ptr<Callback>> callbacks = {};
  StopToken stop = {};  ///< request_stop() ends fit after the current batch
  /// A weight for each example, [n], or [n, ...] as losses.h says. Like class_weights they weigh the training loss
  /// alone: metrics and validation count each example once.
  Tensor sample_weights = {};
  /// A weight for each class, by its label (the largest of a one-hot row); multiplied with sample_weights.
  std::vector<double> class_weights = {};
  CheckpointOptions checkpoint = {};  ///< throws FileError where it is of another training, or cannot be written
};

struct EvaluateOptions {
  int64_t batch_size = 128;
  int threads = 0;  ///< 0: num_threads()
};

struct PredictOptions {
  int64_t batch_size = 128;
  int threads = 0;  ///< 0: num_threads()
};

/// A handle on a layer, its inputs and its training; copies share it, clone() copies it.
class Model {
 public:
  /// A model of `layer`, built for `input` when that is given; else fit builds it from the data.
  explicit Model(Layer layer);
  Model(Layer layer, const Input& input);

  /// Makes the parameters for inputs of one example's shape, from the seed. Does nothing to parameters that are there.
  void build(const Input& input, uint64_t seed = mica::seed());
  /// Likewise of a layer with several inputs.
  void build(std::span<const Input> inputs, uint64_t seed = mica::seed());
  bool built() const;

  /// Says how fit trains. Throws Error without an optimizer or a loss, for an optimizer that another model has, and for
  /// metrics of one name.
  void compile(CompileOptions options);

  /// What compile was given; empty before.
  const optim::Optimizer& optimizer() const;

  /// Trains on x (`{a, b}` for a model of two inputs) and y, and returns the metrics of each epoch. Throws Error unless
  /// compiled, and for data that do not fit the model.
  History fit(const data::Columns& x, const data::Column& y, FitOptions options = {});
  History fit(const data::Dataset& data, FitOptions options = {}) {
    return fit(data.images, data.labels, std::move(options));
  }

  /// The sum of the regularizers' penalties, which fit and evaluate add to the loss; undefined when there are none. For
  /// people who write the loop. Differentiable.
  Tensor penalty() const;
  /// The loss and metrics on x and y, in inference.
  Logs evaluate(const data::Columns& x, const data::Column& y, EvaluateOptions options = {}) const;

  Logs evaluate(const data::Dataset& data, EvaluateOptions options = {}) const {
    return evaluate(data.images, data.labels, options);
  }

  /// The outputs for all of x, in inference. Several threads may predict on one model at once.
  Tensor predict(const data::Columns& x, PredictOptions options = {}) const;

  /// One call on a batch. Trains under a tape (dropout drops), infers otherwise.
  Tensor operator()(const Tensor& x) const;
  Tensor operator()(std::initializer_list<Tensor> xs) const { return (*this)(std::span(xs.begin(), xs.size())); }
  Tensor operator()(std::span<const Tensor> xs) const;
  /// One call on the steps behind those in the cache, in inference: see KeyValueCache.
  Tensor operator()(const Tensor& x, KeyValueCache& cache) const { return (*this)(std::span(&x, 1), cache); }
  Tensor operator()(std::initializer_list<Tensor> xs, KeyValueCache& cache) const {
    return (*this)(std::span(xs.begin(), xs.size()), cache);
  }
  Tensor operator()(std::span<const Tensor> xs, KeyValueCache& cache) const;
  Tensor forward(const Tensor& x, Call& call) const;
  Tensor forward(std::span<const Tensor> xs, Call& call) const;
  void visit(Visitor& v);
  /// What a checkpoint keeps of a built model: parameters and buffers, which of them are trained, and what its random
  /// numbers depend on. fit does it by itself; it is for loops written by hand.
  void visit_state(StateVisitor& v);

  /// Stateful layers begin anew, from zeros.
  void reset_state() const;

  std::vector<Parameter> parameters() const;
  /// A parameter by its name ("dense.kernel"); throws Error when there is none.
  Parameter parameter(const std::string& name) const;
  /// The layer inside.
  Layer& layer() const;
  /// What it takes, where that is one; all that it takes. Throw Error before it is built.
  const Input& input() const;
  const std::vector<Input>& inputs() const;
  /// A table of the layers, their output shapes and parameters.
  std::string summary() const;

  /// A model with parameters of its own and the same values. The copy is not compiled.
  Model clone() const;
  /// Moves the parameters and buffers; a model that is not built yet is built there. Throws Error once the model is
  /// compiled. fit, evaluate and predict move what they are given, a batch at a time.
  void to(Device device);
  /// Where the parameters are: at first the default device of the time when the model was made.
  Device device() const;
  /// Whether the parameters are trained: false freezes all of them.
  void set_trainable(bool trainable);

  /// What makes the model's input of raw named fields: it is saved with the model, loaded with it, and copied by
  /// clone(). Throws Error when it makes other features than the model takes.
  void set_preprocess(const data::TableEncoder& encoder);
  /// Not defined() where there is none. It shares what was learned, and may outlive the model.
  data::TableEncoder preprocess() const;

  /// Writes one .safetensors file: the parameters by name, and the graph as JSON in its metadata. The file appears
  /// whole or not at all. Throws FileError where it cannot be written, and Error for a layer that has no registered
  /// type.
  void save(const std::string& path) const;
  /// Reads what save() wrote, onto the default device, to the bit. Throws FileError, naming the file and what is wrong.
  static Model load(const std::string& path);
  /// Reads parameters by name into a built model of the same shape.
  void load_weights(const std::string& path);

 protected:
  friend class Training;
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace nn
}  // namespace mica
