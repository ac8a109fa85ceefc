// Fibers: stacks that a thread switches between. Used by the emulation of CUDA threads, for the tests.
#pragma once

#include <cstddef>

#if defined(__x86_64__) && defined(__ELF__) && !defined(MICA_EMULATE_UCONTEXT)
#define MICA_FIBER_ASSEMBLY 1
#else
#define MICA_FIBER_ASSEMBLY 0
#include <ucontext.h>
#endif

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MICA_FIBER_ASAN 1
#elif __has_feature(thread_sanitizer)
#define MICA_FIBER_TSAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define MICA_FIBER_ASAN 1
#elif defined(__SANITIZE_THREAD__)
#define MICA_FIBER_TSAN 1
#endif

namespace mica::kernels::emulated {

/// One stack's state while another one runs. The sanitizers are told of every switch.
class Fiber {
 public:
  /// The thread's own stack.
  Fiber() = default;
  /// A stack [stack, stack + bytes), on which entry(argument) starts at the first switch to it. It must never return.
  void prepare(char* stack, size_t bytes, void (*entry)(void*), void* argument);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Leaves the running stack, `from`, for this one; returns when something switches back to `from`. Exceptions must
  /// not be in flight.
  void resume(Fiber& from) { switch_stacks(from, false); }
  /// The same for the last time: `from` is never switched to again.
  void resume_finally(Fiber& from) { switch_stacks(from, true); }

 private:
  void switch_stacks(Fiber& from, bool finally);
  static void arrive(Fiber& self);
  static void start(Fiber* self);

  void (*entry_)(void*) = nullptr;
  void* argument_ = nullptr;
#if MICA_FIBER_ASSEMBLY
  void* stack_pointer_ = nullptr;
#else
  static void start_context(unsigned high, unsigned low);
  ucontext_t context_;
#endif
#if defined(MICA_FIBER_ASAN)
  const void* stack_ = nullptr;  // of the thread's own stack: learnt when it is first left
  size_t stack_bytes_ = 0;
  void* fake_stack_ = nullptr;
  Fiber* came_from_ = nullptr;
#elif defined(MICA_FIBER_TSAN)
  void* tsan_fiber_ = nullptr;
#endif
};

}  // namespace mica::kernels::emulated
