// Stack switches: a dozen instructions on x86-64, ucontext elsewhere; annotated for the address and thread sanitizers.
#include "cuda/core/fiber.h"

#include <cstdint>
#include <cstring>

#if defined(MICA_FIBER_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(MICA_FIBER_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

#if MICA_FIBER_ASSEMBLY
// void mica_emulated_switch(void** save_stack_pointer, void* stack_pointer): keeps what the System V ABI has a function
// preserve, but for the floating-point control words: kernels do not change rounding.
// mica_emulated_start: where a fresh stack begins, with the fiber in r12 and the function in r13. Debuggers and
// sanitizers that walk the stack end here.
asm(R"(
.text
.p2align 4
.hidden mica_emulated_switch
.globl mica_emulated_switch
.type mica_emulated_switch, @function
mica_emulated_switch:
  .cfi_startproc
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .cfi_endproc
.size mica_emulated_switch, . - mica_emulated_switch

.p2align 4
.hidden mica_emulated_start
.globl mica_emulated_start
.type mica_emulated_start, @function
mica_emulated_start:
  .cfi_startproc
  .cfi_undefined rip
  movq %r12, %rdi
  callq *%r13
  ud2
  .cfi_endproc
.size mica_emulated_start, . - mica_emulated_start
)");

extern "C" {
void mica_emulated_switch(void** save_stack_pointer, void* stack_pointer);
void mica_emulated_start();
}
#endif

namespace mica::kernels::emulated {

void Fiber::prepare(char* stack, size_t bytes, void (*entry)(void*), void* argument) {
  entry_ = entry;
  argument_ = argument;
#if defined(MICA_FIBER_ASAN)
  stack_ = stack;
  stack_bytes_ = bytes;
#endif
#if MICA_FIBER_ASSEMBLY
  void (*const first)(Fiber*) = start;
  void (*const trampoline)() = mica_emulated_start;
  Fiber* const self = this;
  // What mica_emulated_switch pops: r15 r14 r13 r12 rbx rbp and the return address; then the stack is 16-byte aligned.
  char* const top = stack + bytes / 16 * 16 - 16;
  char* const words = top - 7 * sizeof(void*);
  std::memset(words, 0, 7 * sizeof(void*));
  std::memcpy(words + 2 * sizeof(void*), &first, sizeof(void*));
  std::memcpy(words + 3 * sizeof(void*), &self, sizeof(void*));
  std::memcpy(words + 6 * sizeof(void*), &trampoline, sizeof(void*));
  stack_pointer_ = words;
#else
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack;
  context_.uc_stack.ss_size = bytes;
  context_.uc_link = nullptr;
  const uint64_t address = reinterpret_cast<uintptr_t>(this);
  makecontext(&context_, reinterpret_cast<void (*)()>(start_context), 2, static_cast<unsigned>(address >> 32),
              static_cast<unsigned>(address));
#endif
#if defined(MICA_FIBER_TSAN)
  tsan_fiber_ = __tsan_create_fiber(0);
#endif
}

Fiber::~Fiber() {
#if defined(MICA_FIBER_TSAN)
  if (entry_) __tsan_destroy_fiber(tsan_fiber_);
#endif
}

#if !MICA_FIBER_ASSEMBLY
void Fiber::start_context(unsigned high, unsigned low) {
  start(reinterpret_cast<Fiber*>(static_cast<uintptr_t>(uint64_t{high} << 32 | low)));
}
#endif

void Fiber::start(Fiber* self) {
  arrive(*self);
  self->entry_(self->argument_);
}

void Fiber::switch_stacks(Fiber& from, [[maybe_unused]] bool finally) {
#if defined(MICA_FIBER_ASAN)
  came_from_ = &from;
  __sanitizer_start_switch_fiber(finally ? nullptr : &from.fake_stack_, stack_, stack_bytes_);
#endif
#if defined(MICA_FIBER_TSAN)
  if (!from.entry_) from.tsan_fiber_ = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(tsan_fiber_, 0);
#endif
#if MICA_FIBER_ASSEMBLY
  mica_emulated_switch(&from.stack_pointer_, stack_pointer_);
#else
  swapcontext(&from.context_, &context_);
#endif
  arrive(from);
}

void Fiber::arrive([[maybe_unused]] Fiber& self) {
#if defined(MICA_FIBER_ASAN)
  const void* stack = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(self.fake_stack_, &stack, &bytes);
  if (!self.came_from_->entry_) {
    self.came_from_->stack_ = stack;
    self.came_from_->stack_bytes_ = bytes;
  }
#endif
}

}  // namespace mica::kernels::emulated
