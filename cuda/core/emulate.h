// The launch layer's vocabulary on the CPU, for the tests: one switched stack a CUDA thread; barriers and shuffles
// switch. Include cuda/core/launch.h, never this file. What it checks, and what not: docs/cuda.md.
#pragma once

#include <atomic>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "cuda/core/launch.h"

#define MICA_KERNEL(...)
#define MICA_DEVICE inline
#define MICA_UNROLL
#define MICA_SHARED(type, name, ...) \
  auto&& name = ::mica::kernels::emulated::shared<type __VA_ARGS__>(#name, ::mica::kernels::emulated::Site::here())
#define MICA_DYNAMIC_SHARED(type, name) const auto name = ::mica::kernels::emulated::dynamic_shared<type>(#name)

namespace mica::kernels::emulated {

// ---- For the tests: how threads take turns, and barriers taken out ----

/// The order in which threads run between barriers. A correct kernel gives the same bits under each.
enum class Schedule : uint8_t {
  round_robin,  // by index
  reversed,     // from the last to the first, blocks too
  random,       // drawn anew at every step from a seed, blocks too
  ahead,        // one warp goes as far as it gets before another one moves; which one is first changes with the block
};
inline constexpr Schedule kSchedules[] = {Schedule::round_robin, Schedule::reversed, Schedule::random, Schedule::ahead};

const char* to_string(Schedule schedule);

/// The schedule of the process's launches. It starts as MICA_EMULATE_SCHEDULE in the environment says (a name as above,
/// "random:7" with a seed), or round_robin.
void set_schedule(Schedule schedule, uint32_t seed = 0);
Schedule schedule();

/// The barrier() and warp_barrier() lines that this thread's launches have passed since it last asked.
std::vector<Site> take_reached_barriers();

/// While in scope, the barrier at `site` does nothing in this thread's launches: a test of the tests.
class DisabledBarrier {
 public:
  explicit DisabledBarrier(Site site);
  ~DisabledBarrier();
  DisabledBarrier(const DisabledBarrier&) = delete;
  DisabledBarrier& operator=(const DisabledBarrier&) = delete;
};

/// Whether this build has the shadow (shadow.h) and it is not switched off.
bool has_shadow();

// ---- For the vocabulary below ----

struct BlockPlace {
  Dim3 index, size, grid;
};

/// A CUDA thread.
struct Thread {
  Dim3 index;
  int rank = 0;  // x fastest; the warp is rank / 32
  int lane = 0;
  int lanes = kWarpSize;  // that this thread's warp has: the last warp of a block may have fewer
  const BlockPlace* block = nullptr;
};

/// The running CUDA thread; null outside of kernels.
extern constinit thread_local const Thread* this_thread;

/// What a lane shows to its warp.
struct alignas(16) Slot {
  unsigned char bytes[16];
};

/// Shows `bytes` of `value` to the warp, waits until each lane has, and returns the warp's slots by lane: they stay
/// until the lane's next exchange returns. Throws Error where the warp has fewer than 32 lanes.
const Slot* exchange(const void* value, size_t bytes, Site where);
/// The type of a variable in shared memory, as far as messages need it.
struct SharedType {
  size_t bytes, alignment;
  std::string (*element)(size_t offset);  // "[2][3]"
};
/// A variable in the block's shared memory, the same one for each thread that asks at the same line, full of 0xff bytes
/// (NaN) when the block starts.
void* shared_memory(const char* name, const SharedType& type, Site where);
void* dynamic_shared_memory(size_t* bytes);
/// Copies `bytes` of `value` when this thread waits for its copies.
void pending_copy(void* to, const void* value, size_t bytes);
[[noreturn]] void outside_shared(const char* name, int64_t index, size_t size);

struct Launch {
  const Grid& grid;
  Dim3 block;
  size_t shared_bytes;
  void (*call)(void* closure);
  void* closure;
};

/// Runs a grid to its end, block after block. Throws what a thread of it throws, and Error at a divergent barrier.
void run(const Launch& launch);

/// A shared array: indexes like T[N][M]..., within bounds.
template <class Array>
class SharedArray;
template <class T, size_t n>
class SharedArray<T[n]> {
 public:
  SharedArray(T (&data)[n], const char* name) : data_(data), name_(name) {}

  template <class Index>
  decltype(auto) operator[](Index index) const {
    if (static_cast<size_t>(index) >= n) [[unlikely]]
      outside_shared(name_, static_cast<int64_t>(index), n);
    if constexpr (std::is_array_v<T>) {
      return SharedArray<T>(data_[index], name_);
    } else {
      return static_cast<T&>(data_[index]);
    }
  }

 private:
  T (&data_)[n];
  const char* name_;
};

template <class T>
class DynamicSharedArray {
 public:
  DynamicSharedArray(T* data, size_t size, const char* name) : data_(data), size_(size), name_(name) {}

  template <class Index>
  T& operator[](Index index) const {
    if (static_cast<size_t>(index) >= size_) [[unlikely]]
      outside_shared(name_, static_cast<int64_t>(index), size_);
    return data_[index];
  }

 private:
  T* data_;
  size_t size_;
  const char* name_;
};

/// The indices of the element of a T that `offset` lies in.
template <class T>
std::string element_text(size_t offset) {
  if constexpr (std::is_array_v<T>) {
    using Element = std::remove_extent_t<T>;
    return detail::concat("[", static_cast<uint64_t>(offset / sizeof(Element)), "]") +
           element_text<Element>(offset % sizeof(Element));
  } else {
    return {};
  }
}

template <class T>
decltype(auto) shared(const char* name, Site where) {
  static_assert(std::is_trivially_default_constructible_v<std::remove_all_extents_t<T>>);
  T& memory = *static_cast<T*>(shared_memory(name, {sizeof(T), alignof(T), element_text<T>}, where));
  if constexpr (std::is_array_v<T>) {
    return SharedArray<T>(memory, name);
  } else {
    (void)name;
    return static_cast<T&>(memory);
  }
}

template <class T>
DynamicSharedArray<T> dynamic_shared(const char* name) {
  size_t bytes = 0;
  T* const memory = static_cast<T*>(dynamic_shared_memory(&bytes));
  return {memory, bytes / sizeof(T), name};
}

// ---- The vocabulary ----

inline Dim3 thread_index() { return this_thread->index; }
inline Dim3 block_index() { return this_thread->block->index; }
inline Dim3 block_size() { return this_thread->block->size; }
inline Dim3 grid_size() { return this_thread->block->grid; }

/// Throws Error when the threads of the block do not all come to this one.
void barrier(Site where = Site::here());
void warp_barrier(Site where = Site::here());

template <class T>
T shuffle(T value, int lane, Site where = Site::here()) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(Slot));
  const Slot* const slots = exchange(&value, sizeof(T), where);
  std::memcpy(&value, slots[lane & (kWarpSize - 1)].bytes, sizeof(T));
  return value;
}
template <class T>
T shuffle_xor(T value, int mask, Site where = Site::here()) {
  return shuffle(value, this_thread->lane ^ mask, where);
}
// A lane whose source lies beyond the warp keeps its own value, as on the GPU.
template <class T>
T shuffle_down(T value, int delta, Site where = Site::here()) {
  const int lane = this_thread->lane;
  return shuffle(value, lane + delta < kWarpSize ? lane + delta : lane, where);
}
template <class T>
T shuffle_up(T value, int delta, Site where = Site::here()) {
  const int lane = this_thread->lane;
  return shuffle(value, lane - delta >= 0 ? lane - delta : lane, where);
}
inline uint32_t ballot(bool vote, Site where = Site::here()) {
  const Slot* const slots = exchange(&vote, sizeof vote, where);
  uint32_t votes = 0;
  for (int lane = 0; lane < kWarpSize; ++lane) votes |= uint32_t{slots[lane].bytes[0] != 0} << lane;
  return votes;
}

// Atomic, although the threads of a launch take turns: two host threads may be launching.
template <class T>
T atomic_add(T* at, T value) {
  return std::atomic_ref<T>(*at).fetch_add(value, std::memory_order_relaxed);
}
template <class T>
T atomic_max(T* at, T value) {
  std::atomic_ref<T> target(*at);
  T old = target.load(std::memory_order_relaxed);
  while (old < value && !target.compare_exchange_weak(old, value, std::memory_order_relaxed)) {
  }
  return old;
}

inline int opaque(int i) { return i; }

// What is copied is there, instead of NaN, after the thread has waited for it.
template <class T>
void copy_async(T* to, const T* from, bool inside) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(Slot));
  const T value = inside ? *from : T{};
  std::memset(to, 0xff, sizeof(T));
  pending_copy(to, &value, sizeof(T));
}
void wait_for_copies();

template <class... Parameters, class... Args>
void launch(void (*kernel)(Parameters...), const Grid& grid, Dim3 block, size_t shared_bytes, void*, Args&&... args) {
  static_assert(sizeof...(Parameters) == sizeof...(Args));
  const std::tuple<Parameters...> values(std::forward<Args>(args)...);
  auto call = [&] { std::apply(kernel, values); };  // each thread gets parameters of its own
  run({grid, block, shared_bytes, [](void* closure) { (*static_cast<decltype(call)*>(closure))(); }, &call});
}

}  // namespace mica::kernels::emulated
