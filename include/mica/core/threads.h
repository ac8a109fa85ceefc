// How many threads the kernels use.
#pragma once

#include "mica/core/macros.h"

namespace MICA_EXPORT mica {

/// The number of threads that kernels called from this thread split their work over: the innermost ThreadScope, or what
/// set_num_threads said, or the number of processors.
int num_threads();

/// Sets the process-wide number of threads; throws Error unless 1 <= count <= 256. Results depend on this number, not
/// on how many of the threads were free: work is cut into `count` parts whoever runs them.
void set_num_threads(int count);

/// Overrides num_threads() on this thread while in scope; 0 changes nothing.
class ThreadScope {
 public:
  explicit ThreadScope(int count);
  ~ThreadScope();
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int previous_;
};

}  // namespace mica
