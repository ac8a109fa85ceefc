// The number of threads, and the budget that concurrent callers share.
#include "mica/core/threads.h"

#include <algorithm>
#include <atomic>
#include <thread>

#include "core/parallel.h"
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
std::atomic<int> extra_in_use{0};
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

namespace mica::parallel {

// The budget is what the whole process may run at once: the processors, or as many threads as somebody asked for.
int acquire_team() noexcept {
  const int extra = num_threads() - 1;
  if (extra <= 0) return 1;
  const int limit = std::max(processors() - 1, extra);
  int used = extra_in_use.load(std::memory_order_relaxed);
  do {
    if (used + extra > limit) return 1;
  } while (!extra_in_use.compare_exchange_weak(used, used + extra, std::memory_order_relaxed));
  return extra + 1;
}

void release_team(int team) noexcept { extra_in_use.fetch_sub(team - 1, std::memory_order_relaxed); }

}  // namespace mica::parallel
