// The number of threads.
#include "mica/core/threads.h"

#include <algorithm>
#include <atomic>
#include <thread>

#include "mica/core/error.h"

namespace MICA_EXPORT mica {

namespace {

int processors() {
  static const int count = [] {
    const unsigned n = std::thread::hardware_concurrency();
    return n == 0 ? 1 : n > 256 ? 256 : static_cast<int>(n);
  }();
  return count;
}

std::atomic<int> process_threads{0};  // 0: as many as processors
thread_local int scope_threads = 0;

}  // namespace

int num_threads() {
  if (scope_threads > 0) return scope_threads;
  const int set = process_threads.load(std::memory_order_relaxed);
  return set > 0 ? set : processors();
}

void set_num_threads(int count) {
  check(count >= 1 && count <= 256, "set_num_threads", "the number of threads must be in 1..256, got ", count);
  process_threads.store(count, std::memory_order_relaxed);
}

ThreadScope::ThreadScope(int count) : previous_(scope_threads) {
  check(count >= 0 && count <= 256, "threads", "the number of threads must be in 1..256 (0: as is), got ", count);
  if (count > 0) scope_threads = count;
}

ThreadScope::~ThreadScope() { scope_threads = previous_; }

}  // namespace mica
