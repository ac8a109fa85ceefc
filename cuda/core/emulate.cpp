// The emulation of CUDA threads: blocks one after the other, the threads of a block as fibers that take turns.
#include "cuda/core/emulate.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <exception>
#include <memory>
#include <new>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>

#include "cuda/core/fiber.h"
#include "cuda/core/schedule.h"
#include "cuda/core/shadow.h"

namespace mica::kernels::emulated {

constinit thread_local const Thread* this_thread = nullptr;

namespace {

constexpr int kMaxWarps = kMaxThreads / kWarpSize;
constexpr size_t kStackBytes = 256 * 1024;  // address space; memory is what a kernel touches of it

// ---- Texts ----

std::string text(Dim3 d) {
  return detail::concat("(", static_cast<int64_t>(d.x), ",", static_cast<int64_t>(d.y), ",", static_cast<int64_t>(d.z),
                        ")");
}

std::string text(Site site) {
  const std::string_view file = site.file;
  return detail::concat(file.substr(file.rfind('/') + 1), ":", site.line);
}

bool same(Site a, Site b) { return a.line == b.line && (a.file == b.file || std::string_view(a.file) == b.file); }

// ---- Threads and blocks ----

enum class State : uint8_t { ready, at_barrier, at_warp, done };

struct EmulatedThread : Thread {
  char* stack = nullptr;
  size_t stack_bytes = 0;
  Fiber fiber;
  State state = State::done;
  bool started = false;  // in this block
  bool entered = false;  // ever: its stack is in use
  Site where;            // what it waits at
  struct Copy {
    void* to;
    size_t bytes;
    Slot value;
  };
  std::vector<Copy> copies;  // that have not arrived

  /// Makes its next switch start at the top of its stack.
  void prepare();
};

struct Warp {
  int arrived = 0, done = 0;
  int phase = 0;  // of the exchanges; two sets of slots, as a fast lane may show its next value before a slow one reads
  const EmulatedThread* first = nullptr;  // to arrive
  Slot slots[2][kWarpSize];
};

/// Thrown through the kernels of the other threads once one has failed, so that destructors run.
struct Cancelled {};

/// Runs the launches of one host thread. Stacks are kept, so a warm launch allocates nothing.
class Machine {
 public:
  static Machine& of_this_thread() {
    static thread_local const std::unique_ptr<Machine> machine = std::make_unique<Machine>();
    return *machine;
  }
  ~Machine();

  void run(const Launch& launch);
  void thread_loop(EmulatedThread& thread);

  void barrier(Site where);
  void warp_barrier(Site where);
  const Slot* exchange(const void* value, size_t bytes, Site where);
  void* shared_memory(const char* name, const SharedType& type, Site where);
  void* dynamic_shared_memory(size_t* bytes);
  void pending_copy(void* to, const void* value, size_t bytes);
  void wait_for_copies();
  std::string place(const Thread& thread) const;
  void memory_fault(const MemoryFault& fault);

  std::vector<Site> reached;
  std::optional<Site> disabled;

 private:
  EmulatedThread& self() { return *threads_[this_thread->rank]; }
  Warp& warp_of(const Thread& thread) { return warps_[thread.rank / kWarpSize]; }

  void grow(int threads);
  Dim3 block_at(uint64_t block) const;
  void run_block(const Launch& launch, uint64_t block);

  void make_ready(int first, int count, bool at_once);
  EmulatedThread* next();
  void switch_from(Fiber& from);
  void wait(EmulatedThread& thread);
  void wait_for_warp(EmulatedThread& thread, Site where, bool orders_memory);
  void finish(EmulatedThread& thread);
  void cancel(std::exception_ptr error);
  void reach(Site where);
  std::string memory_text(const MemoryFault& fault) const;
  std::string other_text(const MemoryFault& fault) const;
  std::exception_ptr error_of(const MemoryFault& fault) const;
  bool is_disabled(Site where) const { return disabled && same(*disabled, where); }
  std::string end_of_text() const;
  [[noreturn]] void diverge(const Thread& a, const std::string& what_a, const Thread& b, Site at_b) const;

  // Kept from launch to launch.
  std::vector<std::unique_ptr<EmulatedThread>> threads_;
  std::vector<std::pair<void*, size_t>> stacks_;  // mapped, with a guard page below each stack
  Fiber main_;
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::unique_ptr<unsigned char, Free> shared_;
  Shadow shadow_;
  bool quitting_ = false;

  // Of the launch.
  const Launch* launch_ = nullptr;
  Schedule schedule_ = Schedule::round_robin;
  uint64_t random_ = 0;

  // Of the block.
  BlockPlace block_;
  uint64_t block_number_ = 0;
  int size_ = 0, arrived_ = 0, done_ = 0;
  const EmulatedThread* first_ = nullptr;  // to arrive at the barrier
  std::array<Warp, kMaxWarps> warps_;
  ReadyQueue ready_;
  struct Shared {
    Site where;
    size_t offset;
    const char* name;
    SharedType type;
  };
  std::vector<Shared> arrays_;
  size_t shared_used_ = 0;
  bool cancelling_ = false;
  std::exception_ptr error_;
  std::optional<Site> last_barrier_;
};

std::string Machine::end_of_text() const {
  return "; in block " + text(block_.index) + " of the launch at " + text(launch_->grid.site);
}

std::string Machine::place(const Thread& thread) const { return "thread " + text(thread.index) + end_of_text(); }

void Machine::diverge(const Thread& a, const std::string& what_a, const Thread& b, Site at_b) const {
  fail("emulate", "divergent barrier: thread ", text(a.index), " ", what_a, ", and thread ", text(b.index),
       " waits at ", text(at_b), end_of_text());
}

void Machine::grow(int threads) {
  const int have = static_cast<int>(threads_.size());
  if (threads <= have) return;
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t stride = kStackBytes + page, bytes = stride * static_cast<size_t>(threads - have);
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  stacks_.emplace_back(memory, bytes);
  for (int rank = have; rank < threads; ++rank) {
    char* const guard = static_cast<char*>(memory) + stride * static_cast<size_t>(rank - have);
    mprotect(guard, page, PROT_NONE);  // should it fail, only the guard is missing
    EmulatedThread& thread = *threads_.emplace_back(std::make_unique<EmulatedThread>());
    thread.rank = rank;
    thread.lane = rank % kWarpSize;
    thread.block = &block_;
    // Tops at the same offset of a page would fight for the same cache sets.
    const size_t colour = static_cast<size_t>(rank % 32) * 192;
    thread.stack = guard + page;
    thread.stack_bytes = kStackBytes - colour;
    thread.prepare();
  }
}

void EmulatedThread::prepare() {
  fiber.prepare(
      stack, stack_bytes,
      [](void* self) { Machine::of_this_thread().thread_loop(*static_cast<EmulatedThread*>(self)); }, this);
}

Machine::~Machine() {
  // What a sanitizer keeps for a fiber is freed when the fiber leaves.
  quitting_ = true;
  for (auto& thread : threads_)
    if (thread->entered) thread->fiber.resume(main_);
  for (const auto& [memory, bytes] : stacks_) munmap(memory, bytes);
}

void Machine::run(const Launch& launch) {
  const Dim3 block = launch.block;
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  const Site site = launch.grid.site;
  check(!launch_, "emulate", "a kernel cannot launch a kernel: at ", text(site));
  check(threads >= 1 && threads <= kMaxThreads && block.z <= 64, "emulate",
        "a block has 1 to 1024 threads, 64 along z: ", text(block), ", launched at ", text(site));
  check(launch.shared_bytes <= kMaxShared, "emulate", "a block has up to ", static_cast<uint64_t>(kMaxShared),
        " bytes of shared memory: ", static_cast<uint64_t>(launch.shared_bytes), ", launched at ", text(site));
  grow(static_cast<int>(threads));
  if (!shared_) {
    shared_.reset(static_cast<unsigned char*>(std::aligned_alloc(128, (kMaxShared + 127) / 128 * 128)));
    if (!shared_) throw std::bad_alloc();
  }

  size_ = static_cast<int>(threads);
  for (int rank = 0; rank < size_; ++rank) {
    const unsigned r = static_cast<unsigned>(rank);
    threads_[rank]->index = {r % block.x, r / block.x % block.y, r / (block.x * block.y)};
    threads_[rank]->lanes = std::min(kWarpSize, size_ - rank / kWarpSize * kWarpSize);
  }
  block_.size = block;
  block_.grid = launch.grid;
  schedule_ = schedule();
  random_ = schedule_seed();

  struct Scope {
    Machine& machine;
    ~Scope() {
      machine.shadow_.end_launch();
      machine.launch_ = nullptr;
    }
  } scope{*this};
  launch_ = &launch;
  shadow_.start_launch(shared_.get());
  const uint64_t blocks = uint64_t{block_.grid.x} * block_.grid.y * block_.grid.z;
  uint64_t first = 0, step = 1;
  if (schedule_ == Schedule::random) {
    first = next_random(random_) % blocks;
    do step = next_random(random_) % blocks + 1;
    while (std::gcd(step, blocks) != 1);
  }
  for (uint64_t i = 0, random_block = first; i < blocks; ++i, random_block = (random_block + step) % blocks)
    run_block(launch, schedule_ == Schedule::reversed ? blocks - 1 - i : random_block);
}

Dim3 Machine::block_at(uint64_t block) const {
  const Dim3 grid = block_.grid;
  return {static_cast<unsigned>(block % grid.x), static_cast<unsigned>(block / grid.x % grid.y),
          static_cast<unsigned>(block / grid.x / grid.y)};
}

void Machine::run_block(const Launch& launch, uint64_t block) {
  block_number_ = block;
  block_.index = block_at(block);
  arrived_ = done_ = 0;
  cancelling_ = false;
  error_ = nullptr;
  last_barrier_.reset();
  arrays_.clear();
  shared_used_ = launch.shared_bytes;
  shadow_.start_block(block);
  shadow_.set_shared_bytes(shared_used_);
  std::memset(shared_.get(), 0xff, launch.shared_bytes);
  for (int w = 0; w * kWarpSize < size_; ++w) warps_[w].arrived = warps_[w].done = 0;
  for (int rank = 0; rank < size_; ++rank) threads_[rank]->started = false;
  ready_.clear();
  make_ready(0, size_, false);
  switch_from(main_);
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

// What each fiber does for ever: a thread of one block, and on being resumed a thread of another.
void Machine::thread_loop(EmulatedThread& thread) {
  thread.entered = true;
  while (!quitting_) {
    std::exception_ptr error;
    try {
      launch_->call(launch_->closure);
    } catch (const Cancelled&) {
    } catch (...) {
      error = std::current_exception();
    }
    thread.state = State::done;
    thread.copies.clear();
    if (error) cancel(std::move(error));
    error = nullptr;
    finish(thread);
  }
  main_.resume_finally(thread.fiber);
}

// Threads [first, first + count) may go on, in the schedule's order; `at_once` puts them before all others.
void Machine::make_ready(int first, int count, bool at_once) {
  int leader = 0;  // the warp that goes ahead when the whole block is released
  if (schedule_ == Schedule::ahead && count == size_) {
    const unsigned warps = static_cast<unsigned>(size_ + kWarpSize - 1) / kWarpSize;
    leader = static_cast<int>(block_.index.x % warps) * kWarpSize;
  }
  for (int i = 0; i < count; ++i) {
    int rank = first + (leader + i) % count;
    if (schedule_ == Schedule::reversed) rank = first + count - 1 - i;
    if (at_once) rank = first + count - 1 - i;  // pushed in front, so the first lane comes last
    threads_[rank]->state = State::ready;
    if (at_once)
      ready_.push_front(rank);
    else
      ready_.push_back(rank);
  }
}

// The thread that runs next; null: back to the launcher.
EmulatedThread* Machine::next() {
  if (ready_.empty()) {
    if (done_ == size_ || cancelling_) return nullptr;
    // Everybody waits, and not all for the same: lanes of one warp for each other, and some for the block.
    const EmulatedThread *at_barrier = nullptr, *at_warp = nullptr;
    for (int rank = size_ - 1; rank >= 0; --rank) {
      if (threads_[rank]->state == State::at_barrier) at_barrier = threads_[rank].get();
      if (threads_[rank]->state == State::at_warp) at_warp = threads_[rank].get();
    }
    try {
      MICA_ASSERT(at_barrier && at_warp);
      diverge(*at_barrier, "waits at " + text(at_barrier->where), *at_warp, at_warp->where);
    } catch (...) {
      cancel(std::current_exception());
    }
    if (ready_.empty()) return nullptr;
  }
  return threads_[schedule_ == Schedule::random ? ready_.pop_random(random_) : ready_.pop()].get();
}

void Machine::switch_from(Fiber& from) {
  EmulatedThread* const to = next();
  this_thread = to;
  if (to)
    shadow_.thread_runs(to->rank);
  else
    shadow_.nobody_runs();
  Fiber& fiber = to ? to->fiber : main_;
  if (to) to->started = true;
  if (&fiber != &from) fiber.resume(from);
}

void Machine::wait(EmulatedThread& thread) {
  switch_from(thread.fiber);
  if (cancelling_) throw Cancelled{};
}

void Machine::finish(EmulatedThread& thread) {
  ++done_;
  Warp& warp = warp_of(thread);
  ++warp.done;
  if (!cancelling_ && (arrived_ > 0 || warp.arrived > 0)) {
    const EmulatedThread& waiting = arrived_ > 0 ? *first_ : *warp.first;
    try {
      diverge(thread, "has returned", waiting, waiting.where);
    } catch (...) {
      cancel(std::current_exception());
    }
  }
  switch_from(thread.fiber);
}

// Lets each thread that is in the middle of its kernel leave it.
void Machine::cancel(std::exception_ptr error) {
  if (cancelling_) return;
  error_ = std::move(error);
  cancelling_ = true;
  ready_.clear();
  for (int rank = 0; rank < size_; ++rank)
    if (threads_[rank]->started && threads_[rank]->state != State::done) ready_.push_back(rank);
}

void Machine::reach(Site where) {
  for (const Site& site : reached)
    if (same(site, where)) return;
  reached.push_back(where);
}

void Machine::barrier(Site where) {
  if (cancelling_) throw Cancelled{};
  if (is_disabled(where)) return;
  EmulatedThread& thread = self();
  if (done_ > 0) {
    const auto returned = std::find_if(threads_.begin(), threads_.begin() + size_,
                                       [](const auto& other) { return other->state == State::done; });
    diverge(**returned, "has returned", thread, where);
  }
  if (arrived_ == 0) first_ = &thread;
  if (arrived_ > 0 && !same(first_->where, where)) diverge(thread, "comes to " + text(where), *first_, first_->where);
  thread.state = State::at_barrier;
  thread.where = where;
  if (++arrived_ == size_) {
    arrived_ = 0;
    reach(where);
    shadow_.block_barrier();
    last_barrier_ = where;
    make_ready(0, size_, false);
  }
  wait(thread);
}

// Returns when each lane of the warp has come to `where`. What a lane wrote to memory before a shuffle need not be
// there for another lane after it: only warp_barrier orders memory.
void Machine::wait_for_warp(EmulatedThread& thread, Site where, bool orders_memory) {
  if (cancelling_) throw Cancelled{};
  Warp& warp = warp_of(thread);
  if (warp.done > 0) {
    const int first = thread.rank - thread.lane;
    const auto returned = std::find_if(threads_.begin() + first, threads_.begin() + first + thread.lanes,
                                       [](const auto& other) { return other->state == State::done; });
    diverge(**returned, "has returned", thread, where);
  }
  if (warp.arrived == 0) warp.first = &thread;
  if (warp.arrived > 0 && !same(warp.first->where, where))
    diverge(thread, "comes to " + text(where), *warp.first, warp.first->where);
  thread.state = State::at_warp;
  thread.where = where;
  if (++warp.arrived == thread.lanes) {
    warp.arrived = 0;
    warp.phase ^= 1;
    if (orders_memory) shadow_.warp_barrier(thread.rank / kWarpSize);
    make_ready(thread.rank - thread.lane, thread.lanes, schedule_ == Schedule::ahead);
  }
  wait(thread);
}

void Machine::warp_barrier(Site where) {
  if (is_disabled(where)) return;
  wait_for_warp(self(), where, true);
  reach(where);
}

const Slot* Machine::exchange(const void* value, size_t bytes, Site where) {
  EmulatedThread& thread = self();
  if (thread.lanes < kWarpSize) [[unlikely]]
    fail("emulate", "the shuffle or ballot at ", text(where), " is of a warp of ", thread.lanes, " lanes; ",
         place(thread));
  Warp& warp = warp_of(thread);
  Slot* const slots = warp.slots[warp.phase];
  std::memcpy(slots[thread.lane].bytes, value, bytes);
  wait_for_warp(thread, where, false);
  return slots;
}

void* Machine::shared_memory(const char* name, const SharedType& type, Site where) {
  for (const Shared& array : arrays_)
    if (same(array.where, where)) return shared_.get() + array.offset;
  if (launch_->shared_bytes > 0)
    fail("emulate", "a kernel with dynamic shared memory has no other: ", name, " at ", text(where), end_of_text());
  const size_t alignment = std::max<size_t>(type.alignment, 16);
  const size_t offset = (shared_used_ + alignment - 1) / alignment * alignment;
  check(offset + type.bytes <= kMaxStaticShared, "emulate",
        "too much shared memory: ", static_cast<uint64_t>(offset + type.bytes), " bytes at ", text(where),
        end_of_text());
  arrays_.push_back({where, offset, name, type});
  shared_used_ = offset + type.bytes;
  shadow_.set_shared_bytes(shared_used_);
  std::memset(shared_.get() + offset, 0xff, type.bytes);
  return shared_.get() + offset;
}

void* Machine::dynamic_shared_memory(size_t* bytes) {
  *bytes = launch_->shared_bytes;
  return shared_.get();
}

void Machine::pending_copy(void* to, const void* value, size_t bytes) {
  std::memcpy(self().copies.emplace_back(EmulatedThread::Copy{to, bytes, {}}).value.bytes, value, bytes);
}

void Machine::wait_for_copies() {
  for (const EmulatedThread::Copy& copy : self().copies) std::memcpy(copy.to, copy.value.bytes, copy.bytes);
  self().copies.clear();
}

std::string Machine::memory_text(const MemoryFault& fault) const {
  if (!fault.shared) return allocation_text(fault.address);
  const size_t offset = static_cast<size_t>(static_cast<const unsigned char*>(fault.address) - shared_.get());
  for (const Shared& array : arrays_)
    if (offset - array.offset < array.type.bytes) return array.name + array.type.element(offset - array.offset);
  const char* const where = offset < launch_->shared_bytes ? " of the dynamic shared memory" : " of shared memory";
  return detail::concat("byte ", static_cast<uint64_t>(offset), where);
}

std::string Machine::other_text(const MemoryFault& fault) const {
  if (fault.other_block == MemoryFault::kSeveral) return "threads of several blocks";
  std::string other = fault.other_thread == MemoryFault::kSeveral
                          ? std::string("several threads")
                          : "thread " + text(threads_[fault.other_thread]->index);
  const uint64_t block = static_cast<uint64_t>(fault.other_block);
  return block == block_number_ ? other : other + " of block " + text(block_at(block));
}

std::exception_ptr Machine::error_of(const MemoryFault& fault) const {
  const std::string thread = "thread " + text(this_thread->index);
  const std::string memory = (fault.writes ? " writes " : " reads ") + memory_text(fault);
  try {
    switch (fault.kind) {
      case MemoryFault::Kind::outside:
        fail("emulate", "outside of ", fault.shared ? "shared" : "device", " memory: ", thread, memory, end_of_text());
      case MemoryFault::Kind::unwritten: fail("emulate", "memory that nobody wrote: ", thread, memory, end_of_text());
      case MemoryFault::Kind::race: break;
    }
    std::string since;
    if (fault.other_block == static_cast<int64_t>(block_number_)) since = ", with no barrier between them";
    if (!since.empty() && last_barrier_) since += " since that at " + text(*last_barrier_);
    fail("emulate", "race: ", thread, memory, ", which ", other_text(fault), fault.other_wrote ? " wrote" : " read",
         since, end_of_text());
  } catch (...) {
    return std::current_exception();
  }
}

// An exception cannot pass through an access to memory, which the compiler knows to throw none. The thread is left
// where it is, for good: what its destructors would do is lost.
void Machine::memory_fault(const MemoryFault& fault) {
  if (cancelling_ || std::uncaught_exceptions() > 0) return;
  EmulatedThread& thread = self();
  thread.state = State::done;
  thread.copies.clear();
  cancel(error_of(fault));
  ++done_;
  thread.prepare();
  Fiber nobody;
  switch_from(nobody);
}

}  // namespace

bool has_shadow() { return Shadow::is_wanted(); }

std::vector<Site> take_reached_barriers() { return std::exchange(Machine::of_this_thread().reached, {}); }

DisabledBarrier::DisabledBarrier(Site site) { Machine::of_this_thread().disabled = site; }
DisabledBarrier::~DisabledBarrier() { Machine::of_this_thread().disabled.reset(); }

void run(const Launch& launch) { Machine::of_this_thread().run(launch); }
void barrier(Site where) { Machine::of_this_thread().barrier(where); }
void warp_barrier(Site where) { Machine::of_this_thread().warp_barrier(where); }
const Slot* exchange(const void* value, size_t bytes, Site where) {
  return Machine::of_this_thread().exchange(value, bytes, where);
}
void* shared_memory(const char* name, const SharedType& type, Site where) {
  return Machine::of_this_thread().shared_memory(name, type, where);
}
void* dynamic_shared_memory(size_t* bytes) { return Machine::of_this_thread().dynamic_shared_memory(bytes); }

void pending_copy(void* to, const void* value, size_t bytes) {
  Machine::of_this_thread().pending_copy(to, value, bytes);
}
void wait_for_copies() { Machine::of_this_thread().wait_for_copies(); }

void memory_fault(const MemoryFault& fault) noexcept { Machine::of_this_thread().memory_fault(fault); }

void outside_shared(const char* name, int64_t index, size_t size) {
  fail("emulate", "outside of shared memory: ", name, " has ", static_cast<uint64_t>(size), " there, index ", index,
       "; ", Machine::of_this_thread().place(*this_thread));
}

}  // namespace mica::kernels::emulated
