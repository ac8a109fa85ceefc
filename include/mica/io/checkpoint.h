// Checkpoints: the last states of something that takes long, from which a program that was killed goes on.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "mica/core/state.h"
#include "mica/io/safetensors.h"

namespace MICA_EXPORT mica {
namespace io {

/// The state of `object` as tensors: a field "a" of a part "b" is "b.a"; numbers are int64, float64 and uint8, of rank
/// 0, texts uint8. Tensors share the storage of the object's.
template <HasState T>
NamedTensors state_tensors(T& object);

/// Gives `object` the state. Throws Error, before anything is changed, where a field is missing, is of another kind or
/// shape, or where the tensors hold more than the object has; and later what the object throws for values that it
/// cannot have.
template <HasState T>
void set_state(T& object, const NamedTensors& tensors);

/// Throws what set_state would throw.
template <HasState T>
void check_state(T& object, const NamedTensors& tensors);

/// A state that was read back.
struct Checkpoint {
  int64_t number = 0;
  std::string path;
  NamedTensors tensors;
};

/// A folder of checkpoints, .safetensors files with a checksum, of which the last two are kept. Whatever happens while
/// one is written, a kill or a full disk, an older one is whole.
///     struct Run {
///       nn::Model& model;
///       optim::Optimizer& optimizer;
///       int64_t epoch = 0;
///       void visit_state(StateVisitor& v) { v("model", model), v("optimizer", optimizer), v("epoch", epoch); }
///     };
///     io::Checkpoints folder("runs/1");
///     Run run{model, optimizer};
///     if (const auto last = folder.last()) io::set_state(run, last->tensors);
///     for (; run.epoch < 10; folder.save(run.epoch, io::state_tensors(run))) {
///       ...
///       ++run.epoch;
///     }
class Checkpoints {
 public:
  /// Makes the folder if need be, and locks it as long as this lives. Throws FileError where it cannot be made or
  /// written, or another Checkpoints has it, of this process or another.
  explicit Checkpoints(std::string folder);
  ~Checkpoints();
  Checkpoints(Checkpoints&&) noexcept;
  Checkpoints& operator=(Checkpoints&&) noexcept;

  /// The newest checkpoint that is whole, or nothing where there has been none. Throws FileError, naming the newest and
  /// what is wrong with it, where there are some and all are broken.
  std::optional<Checkpoint> last();
  /// Writes a checkpoint, and removes all but it and the one that was saved or read before. It is there whole, and safe
  /// on the disk, or not at all. Throws FileError where it cannot be written, and Error unless `number`
  /// is above that of the last one.
  void save(int64_t number, const NamedTensors& tensors);
  const std::string& folder() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

namespace detail {
// A list of fields whose visitor is hidden.
NamedTensors state_tensors(void* object, void (*visit)(void* object, StateVisitor& v));
void set_state(void* object, void (*visit)(void* object, StateVisitor& v), const NamedTensors& tensors, bool set);
}  // namespace detail

template <HasState T>
NamedTensors state_tensors(T& object) {
  return detail::state_tensors(&object, [](void* o, StateVisitor& v) { static_cast<T*>(o)->visit_state(v); });
}

template <HasState T>
void set_state(T& object, const NamedTensors& tensors) {
  detail::set_state(
      &object, [](void* o, StateVisitor& v) { static_cast<T*>(o)->visit_state(v); }, tensors, true);
}

template <HasState T>
void check_state(T& object, const NamedTensors& tensors) {
  detail::set_state(
      &object, [](void* o, StateVisitor& v) { static_cast<T*>(o)->visit_state(v); }, tensors, false);
}

}  // namespace io
}  // namespace mica
