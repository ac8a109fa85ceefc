// The number of threads, for the scope of a test.
#pragma once

#include "mica/core/threads.h"

namespace mica::test {

/// Sets num_threads() back at the end of its scope; KeepThreads(n) sets it to n first.
struct KeepThreads {
  KeepThreads() = default;
  explicit KeepThreads(int threads) { set_num_threads(threads); }
  KeepThreads(const KeepThreads&) = delete;
  KeepThreads& operator=(const KeepThreads&) = delete;
  ~KeepThreads() { set_num_threads(before); }

  const int before = num_threads();
};

}  // namespace mica::test
