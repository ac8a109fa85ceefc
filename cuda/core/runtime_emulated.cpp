// The device runtime of the emulation: one device whose memory is the host's, so that the address sanitizer watches
// what kernels do to it, or the shadow. Kernels have run when their launch returns; there is nothing to wait for.
#include <cstring>

#include "cuda/core/runtime.h"
#include "cuda/core/shadow.h"

namespace mica::kernels::emulated {

namespace {

void check_device(int device) { check(device == 0, "emulate", "there is one emulated device, not number ", device); }

class EmulatedRuntime final : public detail::DeviceRuntime {
 public:
  void select(int device) const override { check_device(device); }
  void* allocate(int device, size_t bytes) const override {
    check_device(device);
    const size_t all = bytes + 2 * kRedzone;
    char* const block = static_cast<char*>(DeviceRuntime::allocate(device, all));
    if (!block) return nullptr;
    shadow_reserved(block, all);
    return block + kRedzone;
  }
  void deallocate(int device, void* block, size_t bytes) const noexcept override {
    if (!block) return;
    char* const all = static_cast<char*>(block) - kRedzone;
    shadow_released(all);
    DeviceRuntime::deallocate(device, all, bytes);
  }
  void hand_out(int, void* block, size_t bytes, void*) const override {
    std::memset(block, 0xff, bytes);  // NaN: what reads memory that nobody wrote gives wrong results, not zeros
    shadow_allocated(block, bytes);
  }
  void take_back(int, void* block) const noexcept override { shadow_freed(block); }
  void copy(int device, void* to, const void* from, size_t bytes, detail::CopyKind kind, void* stream) const override {
    const auto a = reinterpret_cast<uintptr_t>(to), b = reinterpret_cast<uintptr_t>(from);
    check(a >= b + bytes || b >= a + bytes, "emulate", "a copy of ", uint64_t{bytes}, " bytes onto its own source");
    DeviceRuntime::copy(device, to, from, bytes, kind, stream);
    if (kind != detail::CopyKind::to_host) shadow_written(to, bytes);
  }
};

}  // namespace

const detail::DeviceRuntime& runtime() {
  static const EmulatedRuntime runtime;
  return runtime;
}

}  // namespace mica::kernels::emulated
