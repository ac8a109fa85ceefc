// The allocator of device memory: lists of free blocks, and which streams may still be working with them.
#include "core/device_allocator.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <new>
#include <utility>

#include "mica/core/error.h"

namespace mica::detail {

namespace {

class OutOfMemory : public std::bad_alloc {
 public:
  OutOfMemory(const std::string& name, size_t bytes, const MemoryStatistics& now) {
    std::snprintf(text_, sizeof text_, "%s is out of memory: %zu bytes asked, %lld in use, %lld cached", name.c_str(),
                  bytes, static_cast<long long>(now.in_use), static_cast<long long>(now.cached));
  }
  const char* what() const noexcept override { return text_; }

 private:
  char text_[160];
};

constexpr uint64_t bit(int stream) { return stream == DeviceAllocator::kHost ? 0 : uint64_t{1} << stream; }

// Calls f with the number of each stream of the set.
template <class F>
void for_each_stream(uint64_t streams, const F& f) {
  for (; streams != 0; streams &= streams - 1) f(std::countr_zero(streams));
}

}  // namespace

DeviceAllocator::DeviceAllocator(MemoryBackend& backend, std::string name, bool caching)
    : backend_(backend), name_(std::move(name)), caching_(caching) {}

size_t DeviceAllocator::size_of(size_t bytes) const {
  return caching_ ? Classes::of(bytes).bytes : std::max(bytes, size_t{1});
}

bool DeviceAllocator::reserved(const void* block) const {
  const char* at = static_cast<const char*>(block);
  return at >= reserve_ && at < reserve_ + reserve_bytes_;
}

void* DeviceAllocator::allocate(size_t bytes, int stream) {
  if (bytes > size_t{1} << 46) throw OutOfMemory(name_, bytes, statistics());
  const Classes::Class c = Classes::of(bytes);
  const size_t size = size_of(bytes);
  const std::lock_guard lock(mutex_);
  void* block = take(c.index, stream);
  if (!block) {
    make_room(c.index);
    block = cut(size);
    if (!block) {
      uint64_t others = 0;  // those that free blocks wait for
      for (const Block& one : free_[c.index]) others |= one.streams;
      ask(others & ~bit(stream));
      block = take(c.index, stream);
    }
    if (!block) block = from_system(size);
  }
  if (reserved(block)) reserve_in_use_ += size;
  statistics_.cached -= static_cast<int64_t>(size);
  statistics_.in_use += static_cast<int64_t>(size);
  statistics_.peak = std::max(statistics_.peak, statistics_.in_use);
  backend_.hand_out(block, bytes, stream);
  return block;
}

void DeviceAllocator::deallocate(void* block, size_t bytes, uint64_t streams) noexcept {
  const size_t size = size_of(bytes);
  const std::lock_guard lock(mutex_);
  statistics_.in_use -= static_cast<int64_t>(size);
  backend_.take_back(block);
  if (caching_) {
    if (reserved(block)) reserve_in_use_ -= size;
    statistics_.cached += static_cast<int64_t>(size);
    free_[Classes::of(bytes).index].push_back({block, streams, ++number_});
    return;
  }
  try {
    for_each_stream(streams, [&](int stream) { backend_.synchronize(stream); });
  } catch (const Error&) {
    // What is wrong with the device stays wrong, and the next call that may throw says so.
  }
  backend_.deallocate(block);
}

bool DeviceAllocator::usable(const Block& block, int stream) const {
  bool usable = true;
  for_each_stream(block.streams & ~bit(stream), [&](int other) { usable &= marks_[other].passed >= block.number; });
  return usable;
}

// The last that was given back and can be used, as it may still be in the device's cache.
void* DeviceAllocator::take(int size_class, int stream) {
  std::vector<Block>& blocks = free_[size_class];
  for (size_t i = blocks.size(); i-- > 0;)
    if (usable(blocks[i], stream)) {
      void* const data = blocks[i].data;
      blocks.erase(blocks.begin() + static_cast<std::ptrdiff_t>(i));
      return data;
    }
  return nullptr;
}

// For one block more, whenever it is given back.
void DeviceAllocator::make_room(int size_class) {
  if (caching_ && free_[size_class].capacity() <= made_[size_class])
    free_[size_class].reserve(2 * made_[size_class] + 8);
}

// Finds out how far streams are. A mark stays until it has been passed: one that moved on each time that somebody asks
// would never be.
void DeviceAllocator::ask(uint64_t streams) {
  for_each_stream(streams, [&](int stream) {
    Mark& mark = marks_[stream];
    const auto look = [&] {
      if (mark.passed < mark.number && backend_.passed(stream)) mark.passed = mark.number;
    };
    look();
    if (mark.passed == mark.number && mark.number < number_ && backend_.mark(stream)) {
      mark.number = number_;
      look();
    }
  });
}

void* DeviceAllocator::cut(size_t bytes) {
  if (reserve_bytes_ - reserve_cut_ < bytes) return nullptr;
  void* const block = reserve_ + reserve_cut_;
  reserve_cut_ += bytes;
  ++made_[Classes::of(bytes).index];
  return block;
}

void* DeviceAllocator::from_system(size_t bytes) {
  void* block = backend_.allocate(bytes);
  if (!block && give_back_cached()) block = backend_.allocate(bytes);  // what is kept may be what is missing
  if (!block) throw OutOfMemory(name_, bytes, statistics_);
  if (caching_) ++made_[Classes::of(bytes).index];
  ++statistics_.system_allocations;
  statistics_.cached += static_cast<int64_t>(bytes);  // until it is handed out
  return block;
}

// Whether there was something to give.
bool DeviceAllocator::give_back_cached() {
  uint64_t streams = 0, captured = 0;
  for (const std::vector<Block>& blocks : free_)
    for (const Block& block : blocks) streams |= block.streams;
  for_each_stream(streams, [&](int stream) {
    if (!backend_.synchronize(stream)) captured |= bit(stream);
  });
  const bool forget_cuts = reserve_in_use_ == 0 && captured == 0;
  bool gave = false;
  for (int c = 0; c < Classes::kCount; ++c)
    made_[c] -= std::erase_if(free_[c], [&](const Block& block) {
      if (block.streams & captured) return false;
      if (reserved(block.data)) return forget_cuts;
      backend_.deallocate(block.data);
      statistics_.cached -= static_cast<int64_t>(Classes::bytes_of(c));
      return gave = true;
    });
  if (forget_cuts) reserve_cut_ = 0;
  return gave;
}

void DeviceAllocator::reserve(size_t bytes) {
  if (!caching_) return;
  const std::lock_guard lock(mutex_);
  check(reserve_ == nullptr, "reserve_memory", name_, " has a reserve already, of ",
        static_cast<uint64_t>(reserve_bytes_), " bytes");
  const size_t size = (bytes + 255) / 256 * 256;
  if (size == 0) return;
  void* block = backend_.allocate(size);
  if (!block && give_back_cached()) block = backend_.allocate(size);
  if (!block) throw OutOfMemory(name_, size, statistics_);
  reserve_ = static_cast<char*>(block);
  reserve_bytes_ = size;
  ++statistics_.system_allocations;
  statistics_.cached += static_cast<int64_t>(size);
}

void DeviceAllocator::release_cached() {
  const std::lock_guard lock(mutex_);
  give_back_cached();
}

MemoryStatistics DeviceAllocator::statistics() {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

}  // namespace mica::detail
