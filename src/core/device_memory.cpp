// The allocators of each device and of page-locked memory. They live for ever: tensors of static storage end late.
#include "core/device_memory.h"

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <string>
#include <string_view>

#include "core/tensor_access.h"
#include "mica/core/device_memory.h"
#include "mica/core/error.h"

namespace MICA_EXPORT mica {

namespace detail {

namespace {

bool caching() {
  const char* asked = std::getenv("MICA_CUDA_CACHE");
  return MICA_CACHE_BLOCKS && !(asked && asked == std::string_view("0"));
}

// Marks are events, one for each stream that was ever asked for.
class StreamMarks : public MemoryBackend {
 public:
  bool mark(int number) override {
    const StreamState& stream = stream_of(number);
    const DeviceRuntime& runtime = *stream.runtime;
    if (runtime.capturing(stream.device.index, stream.handle)) return false;
    if (!events_[number]) events_[number] = runtime.create_event(stream.device.index);
    runtime.record_event(stream.device.index, events_[number], stream.handle);
    return true;
  }
  bool passed(int number) override {
    const StreamState& stream = stream_of(number);
    return stream.runtime->event_done(stream.device.index, events_[number]);
  }
  bool synchronize(int number) override {
    const StreamState& stream = stream_of(number);
    if (stream.runtime->capturing(stream.device.index, stream.handle)) return false;
    stream.runtime->synchronize(stream.device.index, stream.handle);
    return true;
  }

 private:
  void* events_[DeviceAllocator::kStreams] = {};
};

class DeviceMemory final : public StreamMarks {
 public:
  explicit DeviceMemory(Device device) : device_(device.index), runtime_(device_runtime(device)) {}
  void* allocate(size_t bytes) override { return runtime_.allocate(device_, bytes); }
  void deallocate(void* block) noexcept override { runtime_.deallocate(device_, block, 0); }
  void hand_out(void* block, size_t bytes, int stream) override {
    runtime_.hand_out(device_, block, bytes, stream_of(stream).handle);
  }
  void take_back(void* block) noexcept override { runtime_.take_back(device_, block); }

 private:
  int device_;
  const DeviceRuntime& runtime_;
};

class PinnedMemory final : public StreamMarks {
 public:
  explicit PinnedMemory(const DeviceRuntime& runtime) : runtime_(runtime) {}
  void* allocate(size_t bytes) override { return runtime_.allocate_host(bytes); }
  void deallocate(void* block) noexcept override { runtime_.deallocate_host(block); }

 private:
  const DeviceRuntime& runtime_;
};

template <class Memory>
struct Allocator {
  Memory memory;
  DeviceAllocator allocator;

  template <class Of>
  Allocator(const Of& of, const std::string& name) : memory(of), allocator(memory, name, caching()) {}
};

std::mutex making;

// The allocator at `place`, which make() makes the first time.
template <class Make>
DeviceAllocator& made_once(std::atomic<DeviceAllocator*>& place, const Make& make) {
  if (DeviceAllocator* allocator = place.load(std::memory_order_acquire)) [[likely]]
    return *allocator;
  const std::lock_guard lock(making);
  if (!place.load(std::memory_order_relaxed)) place.store(&make()->allocator, std::memory_order_release);
  return *place.load(std::memory_order_relaxed);
}

}  // namespace

DeviceAllocator& device_allocator(Device device) {
  static std::atomic<DeviceAllocator*> allocators[3][16];
  check(device.type != Device::Type::cpu, "memory", "the CPU's memory has an allocator of its own");
  current_state(device);  // says if there is no such device
  return made_once(allocators[static_cast<int>(device.type)][device.index],
                   [&] { return new Allocator<DeviceMemory>(device, to_string(device)); });
}

DeviceAllocator* pinned_allocator() {
  static std::atomic<DeviceAllocator*> allocator;
  if (DeviceAllocator* known = allocator.load(std::memory_order_acquire)) return known;
  const DeviceRuntime* runtime = accelerator_runtime();
  if (!runtime) return nullptr;
  return &made_once(allocator, [&] { return new Allocator<PinnedMemory>(*runtime, "page-locked memory"); });
}

void note_use(Storage& storage) {
  const uint64_t bit = current_state(storage.device).bit();
  if (!(storage.streams.load(std::memory_order_relaxed) & bit))
    storage.streams.fetch_or(bit, std::memory_order_relaxed);
}

}  // namespace detail

MemoryStatistics memory_statistics(Device device) {
  if (device.type == Device::Type::cpu) return memory_statistics();
  return detail::device_allocator(device).statistics();
}

void release_cached(Device device) {
  if (device.type != Device::Type::cpu) return detail::device_allocator(device).release_cached();
  release_cached();
  if (detail::DeviceAllocator* pinned = detail::pinned_allocator()) pinned->release_cached();
}

void reserve_memory(Device device, size_t bytes) {
  check(device.type != Device::Type::cpu, "reserve_memory", "the CPU's memory is not reserved");
  detail::device_allocator(device).reserve(bytes);
}

}  // namespace mica
