// What this program counts on each thread: calls of malloc and its kin, and mutexes taken.
#pragma once

#include <cstdint>

namespace mica::test {

struct Counts {
  int64_t mallocs = 0;
  int64_t locks = 0;
};

/// This thread's counts since it began.
Counts counts();

/// While in scope, each malloc and lock of this thread prints where it came from (at most ten).
class Trace {
 public:
  Trace();
  ~Trace();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;
};

}  // namespace mica::test
