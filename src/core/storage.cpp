// Storage: a header and its data in one block of the caching allocator, or a header and a block of a device, or of
// page-locked memory. The latter two are given back with the streams that may still be working with them.
#include <limits>
#include <new>

#include "core/device_memory.h"
#include "mica/core/memory.h"
#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {
namespace detail {

namespace {

constexpr size_t kHeader = 64;
static_assert(sizeof(Storage) <= kHeader);

void check_bytes(size_t bytes) {
  check(bytes < size_t{1} << 46, "allocate", "a tensor of ", static_cast<uint64_t>(bytes),
        " bytes is beyond any memory");
}

// A header whose data is from `allocator`, for the work of a stream or (kHost) the host.
Storage* create_apart(Device device, size_t bytes, DeviceAllocator& allocator, int stream) {
  check_bytes(bytes);
  void* const data = allocator.allocate(bytes, stream);
  Storage* storage = nullptr;
  try {
    storage = new (allocate(kHeader)) Storage;
  } catch (...) {
    allocator.deallocate(data, bytes, 0);
    throw;
  }
  storage->device = device;
  storage->bytes = bytes;
  storage->data = data;
  return storage;
}

}  // namespace

Storage* Storage::create(Device device, size_t bytes) {
  if (device.type == Device::Type::cpu) [[likely]] {
    check_bytes(bytes);
    Storage* storage = new (allocate(kHeader + bytes)) Storage;
    storage->device = device;
    storage->bytes = bytes;
    storage->data = reinterpret_cast<char*>(storage) + kHeader;
    return storage;
  }
  const StreamState& stream = current_state(device);
  Storage* storage = create_apart(device, bytes, device_allocator(device), stream.number);
  storage->streams = stream.bit();
  return storage;
}

Storage* Storage::create_pinned(size_t bytes) {
  DeviceAllocator* allocator = pinned_allocator();
  if (!allocator) return create(Device::cpu(), bytes);
  Storage* storage = create_apart(Device::cpu(), bytes, *allocator, DeviceAllocator::kHost);
  storage->pinned = true;
  return storage;
}

void Storage::destroy(Storage* storage) noexcept {
  const bool on_device = storage->device.type != Device::Type::cpu, apart = on_device || storage->pinned;
  if (apart) {
    DeviceAllocator& allocator = on_device ? device_allocator(storage->device) : *pinned_allocator();
    allocator.deallocate(storage->data, storage->bytes, storage->streams);
  }
  const size_t block = apart ? kHeader : kHeader + storage->bytes;
  storage->~Storage();
  deallocate(storage, block);
}

}  // namespace detail
}  // namespace mica
