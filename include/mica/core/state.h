// StateVisitor: what must be remembered of an object that goes on later, listed once for writing and reading.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {

class StateVisitor;

/// What has a state: `void visit_state(StateVisitor& v)` calls v(name, field) for each field, in a fixed order. Whoever
/// visits may set the fields: those that must hold together are checked after it.
template <class T>
concept HasState = requires(T& t, StateVisitor& v) {
  t.visit_state(v);
};

/// Walks the state of an object: a checkpoint writes it, and sets it again (io::state_tensors, io::set_state).
class StateVisitor {
 public:
  virtual ~StateVisitor();

  virtual void operator()(std::string_view name, bool& value) = 0;
  virtual void operator()(std::string_view name, int64_t& value) = 0;
  virtual void operator()(std::string_view name, uint64_t& value) = 0;
  virtual void operator()(std::string_view name, double& value) = 0;
  virtual void operator()(std::string_view name, std::string& value) = 0;
  virtual void operator()(std::string_view name, std::vector<int64_t>& values) = 0;
  virtual void operator()(std::string_view name, std::vector<double>& values) = 0;
  /// A tensor that is there is written into, and keeps its shape and dtype; one that is not may get any.
  virtual void operator()(std::string_view name, Tensor& value) = 0;
  /// Any number of tensors.
  virtual void operator()(std::string_view name, Tensors& values) = 0;
  /// A part, whose fields are called "name.field".
  template <HasState T>
  void operator()(std::string_view name, T& part) {
    enter(name);
    part.visit_state(*this);
    leave();
  }

  virtual void enter(std::string_view name) = 0;
  virtual void leave() = 0;
};

}  // namespace mica
