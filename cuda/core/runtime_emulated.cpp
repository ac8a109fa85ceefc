// The device runtime of the emulation: one device whose memory is the host's, so that the address sanitizer watches
// what kernels do to it. Kernels have run when their launch returns; there is nothing to wait for.
#include <cstring>
#include <new>

#include "cuda/core/runtime.h"

namespace mica::kernels::emulated {

namespace {

constexpr std::align_val_t kAlignment{64};

int count() { return 1; }

void select(int device) { check(device == 0, "emulate", "there is one emulated device, not number ", device); }

void* allocate(int device, size_t bytes) {
  select(device);
  void* const block = ::operator new(bytes, kAlignment);
  std::memset(block, 0xff, bytes);  // NaN: what reads memory that nobody wrote gives wrong results, not zeros
  return block;
}

void deallocate(int, void* block, size_t) noexcept { ::operator delete(block, kAlignment); }

void copy(int device, void* to, const void* from, size_t bytes, detail::CopyKind, void*) {
  select(device);
  if (bytes > 0) std::memmove(to, from, bytes);
}

void synchronize(int device, void*) { select(device); }

}  // namespace

const detail::DeviceRuntime& runtime() {
  static constexpr detail::DeviceRuntime runtime{count, select, allocate, deallocate, copy, synchronize};
  return runtime;
}

}  // namespace mica::kernels::emulated
