// Storage: a header and its data in one block of the caching allocator, or a header and a block of a device.
#include <limits>
#include <new>

#include "core/device_runtime.h"
#include "mica/core/memory.h"
#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {
namespace detail {

namespace {
constexpr size_t kHeader = 64;
static_assert(sizeof(Storage) <= kHeader);
}  // namespace

Storage* Storage::create(Device device, size_t bytes) {
  check(bytes < size_t{1} << 46, "allocate", "a tensor of ", static_cast<uint64_t>(bytes),
        " bytes is beyond any memory");
  const bool on_host = device.type == Device::Type::cpu;
  Storage* storage = new (allocate(on_host ? kHeader + bytes : kHeader)) Storage;
  storage->device = device;
  storage->bytes = bytes;
  if (on_host) {
    storage->data = reinterpret_cast<char*>(storage) + kHeader;
  } else {
    try {
      storage->data = device_runtime(device).allocate(device.index, bytes);
    } catch (...) {
      deallocate(storage, kHeader);
      throw;
    }
  }
  return storage;
}

void Storage::destroy(Storage* storage) noexcept {
  const bool on_host = storage->device.type == Device::Type::cpu;
  if (!on_host) device_runtime(storage->device).deallocate(storage->device.index, storage->data, storage->bytes);
  const size_t block = on_host ? kHeader + storage->bytes : kHeader;
  storage->~Storage();
  deallocate(storage, block);
}

}  // namespace detail
}  // namespace mica
