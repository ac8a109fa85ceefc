// Which table of kernels serves a device: the best CPU level that the processor has, and the backends that registered.
#include <atomic>
#include <cstdlib>
#include <string_view>

#include "core/stream_state.h"
#include "cpu/level.h"
#include "kernels/kernels.h"
#include "mica/core/error.h"
#include "mica/core/threads.h"

#if defined(MICA_HAS_CUDA)
namespace mica::kernels {
void register_cuda();
}
#endif

namespace mica {

namespace kernels {

namespace {

std::atomic<const Table*> registered[3];

struct Level {
  const char* name;
  bool supported;
  const Table& (*table)();
};

// Best first. MICA_CPU_LEVEL in the environment asks for a lower one.
const Table& choose_cpu_level() {
  const Level levels[] = {
#if defined(MICA_HAS_LEVEL_avx512)
    {"avx512",
     __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("fma"),
     cpu::avx512::table},
#endif
#if defined(MICA_HAS_LEVEL_avx2)
    {"avx2", __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"), cpu::avx2::table},
#endif
    {"baseline", true, cpu::baseline::table},
  };
  const char* asked = std::getenv("MICA_CPU_LEVEL");
  for (const Level& level : levels) {
    if (asked && asked != std::string_view(level.name)) continue;
    if (level.supported) return level.table();
    if (asked) fail("cpu", "MICA_CPU_LEVEL=", asked, ": this processor does not have it");
  }
  fail("cpu", "MICA_CPU_LEVEL=", asked, ": the levels are avx512, avx2 and baseline");
}

}  // namespace

void no_such_kernel(const char* name, const char* backend) {
  fail(name, "the ", backend, " backend has no such kernel yet");
}

void register_backend(Device::Type type, const Table& table) {
  registered[static_cast<int>(type)].store(&table, std::memory_order_release);
}

const Table& table(Device device) {
  if (device.type == Device::Type::cpu) [[likely]] {
    static const Table& cpu = choose_cpu_level();
    return cpu;
  }
#if defined(MICA_HAS_CUDA)
  static const bool once = (register_cuda(), true);
  (void)once;
#endif
  const Table* table = registered[static_cast<int>(device.type)].load(std::memory_order_acquire);
  check(table != nullptr, "device", device,
        device.type == Device::Type::cuda
            ? " is not available: this Mica was built without CUDA (nvcc was not found, or MICA_CUDA=OFF)"
            : " is not available: the emulated kernels are not linked in");
  return *table;
}

}  // namespace kernels

Context context(Device device) {
  if (device.type == Device::Type::cpu) [[likely]]
    return {.device = device, .threads = num_threads()};
  const detail::StreamState& stream = detail::current_state(device);
  stream.runtime->select(device.index);
  return {.device = device, .threads = num_threads(), .stream = stream.handle};
}

}  // namespace mica
