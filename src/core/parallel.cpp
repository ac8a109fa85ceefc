// The pool of workers. A job is a number of parts; whoever is free claims one at a time, the caller too, who therefore
// never waits for a part that nobody has begun: on a machine that others keep busy work slows down, but nothing stalls,
// and neither does a process that was forked and has no workers. Worker i claims part i + 1 first, so that a thread
// finds in its cache what it wrote there in the job before.
#include "core/parallel.h"

#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <thread>

#include "mica/core/threads.h"

namespace mica::parallel {

namespace {

constexpr int kMaxParts = 256;  // as many as num_threads() may be
constexpr int kSlots = 64;      // jobs at once; further callers work alone

inline void pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waits until `value` is no longer `old`: first at once, then by giving the processor away, then asleep.
template <class T>
void await_change(const std::atomic<T>& value, T old) noexcept {
  constexpr int kPauses = 2000, kYields = 200;
  for (int i = 0; i < kPauses; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    pause();
  }
  for (int i = 0; i < kYields; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    sched_yield();
  }
  value.wait(old, std::memory_order_acquire);
}

struct alignas(64) Job {
  std::atomic<bool> taken{false};
  // Parts and the number of the job in this slot: (number << 16) | parts. Whoever has claimed a part of job `number`
  // may read what follows, as the job lasts until that part has ended.
  std::atomic<uint64_t> open{0};
  void (*body)(const void* f, int part) = nullptr;
  const void* f = nullptr;
  alignas(64) std::atomic<int> left{0};                                // parts that have not ended
  alignas(64) std::array<std::atomic<uint64_t>, kMaxParts> claimed{};  // by part: the last job in which it was claimed

  // Claims and runs what it can get, part `first` before the others.
  void help(int first) noexcept {
    const uint64_t opened = open.load(std::memory_order_acquire), number = opened >> 16;
    const int parts = static_cast<int>(opened & 0xffff);
    for (int i = 0; i < parts; ++i) {
      const int part = (first + i) % parts;
      std::atomic<uint64_t>& claim = claimed[static_cast<size_t>(part)];
      uint64_t before = claim.load(std::memory_order_relaxed);
      // A later number means that this job has ended.
      if (before >= number || !claim.compare_exchange_strong(before, number, std::memory_order_acq_rel)) continue;
      body(f, part);
      if (left.fetch_sub(1, std::memory_order_acq_rel) == 1) left.notify_one();
    }
  }
};

struct alignas(64) Worker {
  std::atomic<uint32_t> calls{0};  // grows with each job that it is called to
};

// Never destroyed: workers outlive main.
struct Pool {
  std::array<Job, kSlots> jobs;
  std::array<Worker, kMaxParts> workers;
  std::atomic<int> running{0};       // the workers that there are
  std::atomic<int> most{kMaxParts};  // that the system has threads for
  std::mutex growing;

  void work(int index) noexcept {
    std::atomic<uint32_t>& calls = workers[static_cast<size_t>(index)].calls;
    uint32_t seen = 0;
    for (;;) {
      await_change(calls, seen);
      seen = calls.load(std::memory_order_acquire);
      for (Job& job : jobs) job.help(index + 1);
    }
  }

  // Starts workers until there are `count`, or the system refuses: then it is not asked again.
  void grow(int count) noexcept {
    const std::lock_guard lock(growing);
    for (int i = running.load(std::memory_order_relaxed); i < count; ++i) {
      try {
        std::thread([this, i] { work(i); }).detach();
      } catch (...) {
        most.store(i, std::memory_order_relaxed);
        return;
      }
      running.store(i + 1, std::memory_order_release);
    }
  }
};

Pool& pool() {
  static Pool* const the_pool = new Pool;
  return *the_pool;
}

Job* take(Pool& p) noexcept {
  static thread_local size_t last = 0;
  for (size_t i = 0; i < kSlots; ++i) {
    const size_t slot = (last + i) % kSlots;
    if (p.jobs[slot].taken.load(std::memory_order_relaxed)) continue;
    if (p.jobs[slot].taken.exchange(true, std::memory_order_acquire)) continue;
    last = slot;
    return &p.jobs[slot];
  }
  return nullptr;
}

}  // namespace

void detail::run(int parts, void (*body)(const void* f, int part), const void* f) noexcept {
  Pool& p = pool();
  const int wanted = std::min({parts - 1, num_threads() - 1, p.most.load(std::memory_order_relaxed)});
  if (wanted > p.running.load(std::memory_order_acquire)) p.grow(wanted);
  Job* job = wanted > 0 && parts <= kMaxParts ? take(p) : nullptr;
  if (!job) {
    for (int part = 0; part < parts; ++part) body(f, part);
    return;
  }
  job->body = body;
  job->f = f;
  job->left.store(parts, std::memory_order_relaxed);
  const uint64_t number = (job->open.load(std::memory_order_relaxed) >> 16) + 1;
  job->open.store(number << 16 | static_cast<uint64_t>(parts), std::memory_order_release);
  const int called = std::min(wanted, p.running.load(std::memory_order_acquire));
  for (int i = 0; i < called; ++i) {
    std::atomic<uint32_t>& calls = p.workers[static_cast<size_t>(i)].calls;
    calls.fetch_add(1, std::memory_order_release);
    calls.notify_one();
  }
  job->help(0);
  for (int left = job->left.load(std::memory_order_acquire); left > 0; left = job->left.load(std::memory_order_acquire))
    await_change(job->left, left);
  job->taken.store(false, std::memory_order_release);
}

}  // namespace mica::parallel
