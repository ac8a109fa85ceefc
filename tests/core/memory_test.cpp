// The caching allocator: sizes, reuse, statistics, and many threads at once.
#include "mica/core/memory.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>
#include <thread>
#include <vector>

#include "mica/core/device_memory.h"
#include "mica/core/random.h"
#include "mica/core/tensor.h"
#include "support/devices.h"
#include "support/error_text.h"

using namespace mica;
using detail::allocate;
using detail::deallocate;
using mica::test::contains;
using mica::test::error_text;

namespace {

// Under the address sanitizer every block goes straight back, so that it can be watched.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kCaches = false;
#elif defined(__has_feature)
constexpr bool kCaches = !__has_feature(address_sanitizer);
#else
constexpr bool kCaches = true;
#endif

bool device_caches() {
  const char* asked = std::getenv("MICA_CUDA_CACHE");
  return kCaches && !(asked && asked == std::string_view("0"));
}

int64_t in_use() { return memory_statistics().in_use; }
int64_t cached() { return memory_statistics().cached; }
int64_t system_allocations() { return memory_statistics().system_allocations; }

}  // namespace

TEST_CASE("memory: blocks of every size are aligned to 64 bytes and can be written to their end") {
  for (size_t bytes : {0, 1, 63, 64, 65, 127, 128, 129, 1000, 4096, 4097, 99'999, 1 << 20, (1 << 20) + 1}) {
    CAPTURE(bytes);
    void* block = allocate(bytes);
    CHECK(reinterpret_cast<uintptr_t>(block) % 64 == 0);
    std::memset(block, 0x5a, bytes);
    deallocate(block, bytes);
  }
}

TEST_CASE("memory: a size is rounded up by an eighth at most, and to a multiple of 64") {
  for (size_t bytes = 1; bytes < 300'000; bytes += 1 + bytes / 50) {
    const int64_t before = in_use();
    void* block = allocate(bytes);
    const int64_t taken = in_use() - before;
    deallocate(block, bytes);
    CAPTURE(bytes);
    CHECK(taken >= static_cast<int64_t>(bytes));
    CHECK(taken % 64 == 0);
    CHECK(static_cast<double>(taken) <= static_cast<double>(bytes) * 1.125 + 64);
    CHECK(in_use() == before);
  }
}

TEST_CASE("memory: a freed block is the next one of its size") {
  if (!kCaches) return;
  release_cached();
  void* first = allocate(10'000);
  deallocate(first, 10'000);
  const int64_t asked = system_allocations();
  void* again = allocate(10'000);
  CHECK(again == first);
  deallocate(again, 10'000);
  void* similar = allocate(10'100);  // of the same class
  CHECK(similar == first);
  CHECK(system_allocations() == asked);
  void* other = allocate(20'000);
  CHECK(other != first);
  CHECK(system_allocations() == asked + 1);
  deallocate(similar, 10'100);
  deallocate(other, 20'000);
}

TEST_CASE("memory: statistics tell what is handed out, the most so far, and what is kept") {
  release_cached();
  CHECK(cached() == 0);
  const MemoryStatistics before = memory_statistics();
  void* a = allocate(64 << 20);
  CHECK(in_use() == before.in_use + (64 << 20));
  CHECK(memory_statistics().peak >= before.in_use + (64 << 20));
  const int64_t peak = memory_statistics().peak;
  deallocate(a, 64 << 20);
  CHECK(in_use() == before.in_use);
  CHECK(memory_statistics().peak == peak);
  CHECK(cached() == (kCaches ? 64 << 20 : 0));
  CHECK(system_allocations() == before.system_allocations + 1);
}

TEST_CASE("memory: release_cached gives everything back that is kept, of all sizes") {
  std::vector<std::pair<void*, size_t>> blocks;
  for (size_t bytes = 1; bytes < 1'000'000; bytes += 1 + bytes / 9) blocks.emplace_back(allocate(bytes), bytes);
  for (const auto& [block, bytes] : blocks) deallocate(block, bytes);
  CHECK((cached() > 0) == kCaches);
  release_cached();
  CHECK(cached() == 0);
}

TEST_CASE("memory: no more than 64 free blocks of one size are kept") {
  release_cached();
  std::vector<void*> blocks(100);
  for (void*& block : blocks) block = allocate(1024);
  for (void* block : blocks) deallocate(block, 1024);
  CHECK(cached() == (kCaches ? 64 * 1024 : 0));
  release_cached();
}

TEST_CASE("memory: no more than 2 GiB are kept") {
  release_cached();
  std::vector<void*> blocks(3);  // never touched, so they cost addresses alone
  for (void*& block : blocks) block = allocate(size_t{1} << 30);
  for (void* block : blocks) deallocate(block, size_t{1} << 30);
  CHECK(cached() == (kCaches ? int64_t{2} << 30 : 0));
  release_cached();
}

TEST_CASE("memory: what no machine has is refused") {
  const int64_t before = in_use();
  CHECK_THROWS_AS(allocate(size_t{1} << 60), std::bad_alloc);
  CHECK_THROWS_AS(allocate(~size_t{0}), std::bad_alloc);
  CHECK(in_use() == before);
}

TEST_CASE("memory: a tensor gives its memory back when its last copy and view are gone") {
  const int64_t before = in_use();
  {
    Tensor view;
    {
      const Tensor x = empty({1000});
      const Tensor copy = x;
      CHECK(in_use() > before);
      const int64_t one = in_use();
      view = copy.slice(10, 20);
      CHECK(in_use() == one);
    }
    CHECK(in_use() > before);
  }
  CHECK(in_use() == before);
}

TEST_CASE("memory: that of a device is counted by itself, kept and given back") {
  const Device device = test::emulated_device();
  release_cached(device);
  const MemoryStatistics before = memory_statistics(device);
  const int64_t on_host = in_use();
  const void* address = nullptr;
  {
    const Tensor x = empty({1 << 20}, {float32, device});
    address = x.raw();
    CHECK(memory_statistics(device).in_use == before.in_use + (4 << 20));
    CHECK(memory_statistics(device).peak >= before.in_use + (4 << 20));
    CHECK(in_use() < on_host + 1024);  // a header
    const Tensor on_cpu = x.to(Device::cpu());
    for (int64_t i = 0; i < x.elements(); i += 999) {  // it comes as NaN
      const float value = on_cpu.values<float>()[static_cast<size_t>(i)];
      REQUIRE(value != value);
    }
  }
  CHECK(memory_statistics(device).in_use == before.in_use);
  CHECK(memory_statistics(device).cached == before.cached + (device_caches() ? 4 << 20 : 0));
  CHECK(memory_statistics(device).system_allocations == before.system_allocations + 1);
  if (device_caches()) CHECK(empty({1 << 20}, {float32, device}).raw() == address);
  release_cached(device);
  CHECK(memory_statistics(device).cached == 0);
  CHECK(memory_statistics(Device::cpu()).peak == memory_statistics().peak);
}

TEST_CASE("memory: a tensor that no device can hold") {
  const Device device = test::emulated_device();
  const int64_t before = in_use();
  CHECK_THROWS_AS(empty({int64_t{1} << 43}, {float64, device}), Error);
  if (kCaches) CHECK_THROWS_AS(empty({int64_t{1} << 43}, {float32, device}), std::bad_alloc);  // the sanitizer ends it
  CHECK(in_use() == before);
}

TEST_CASE("memory: what is reserved serves first") {
  const Device device = test::emulated_device();
  CHECK(error_text([] { reserve_memory(Device::cpu(), 1); }) == "[reserve_memory] the CPU's memory is not reserved");
  reserve_memory(device, 3 << 20);
  if (!device_caches()) return;  // nothing was: each block is watched by itself
  release_cached(device);
  const MemoryStatistics before = memory_statistics(device);
  const Tensor x = empty({1 << 20}, {uint8, device}), y = empty({1 << 20}, {uint8, device});
  CHECK(memory_statistics(device).system_allocations == before.system_allocations);
  CHECK(memory_statistics(device).cached == before.cached - (2 << 20));
  CHECK(static_cast<const char*>(y.raw()) == static_cast<const char*>(x.raw()) + (1 << 20));
  CHECK(
      contains(error_text([&] { reserve_memory(device, 1); }), "[reserve_memory] cuda-emulated has a reserve already"));
}

TEST_SUITE_BEGIN("threads");

TEST_CASE("memory: eight threads allocate and free, each other's blocks too, and no block is handed out twice") {
  const int64_t before = in_use();
  constexpr int kThreads = 8, kRounds = 4000, kShared = 64;
  struct Block {
    unsigned char* data;
    size_t bytes;
  };
  std::atomic<Block*> shared[kShared] = {};
  std::atomic<int> torn = 0;
  // A block holds its mark in its first and last byte: one that two had at once would be torn.
  const auto check_mark = [&](const Block& b) { torn += b.data[0] != b.data[b.bytes - 1]; };
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < kRounds; ++i) {
        const Philox4 words = philox({static_cast<uint64_t>(t), 0}, static_cast<uint64_t>(i));
        const size_t bytes = 1 + words.v[0] % (words.v[1] % 4 == 0 ? 100'000 : 300);
        auto* block = new Block{static_cast<unsigned char*>(allocate(bytes)), bytes};
        block->data[0] = block->data[bytes - 1] = static_cast<unsigned char>(words.v[2]);
        check_mark(*block);
        if (Block* old = shared[words.v[3] % kShared].exchange(block)) {
          check_mark(*old);
          deallocate(old->data, old->bytes);
          delete old;
        }
        if (t == 0 && i % 500 == 0) release_cached();
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (auto& slot : shared)
    if (Block* old = slot) {
      check_mark(*old);
      deallocate(old->data, old->bytes);
      delete old;
    }
  CHECK(torn == 0);
  CHECK(in_use() == before);
  release_cached();
  CHECK(cached() == 0);
}

TEST_CASE("memory: copies of one tensor come and go on eight threads") {
  const int64_t before = in_use();
  {
    const Tensor x = full({16}, 3);
    std::vector<std::thread> threads;
    std::atomic<int> wrong = 0;
    for (int t = 0; t < 8; ++t)
      threads.emplace_back([&] {
        for (int i = 0; i < 5000; ++i) {
          const Tensor copy = x, view = copy.slice(4, 8);
          wrong += view.data<float>()[0] != 3;
        }
      });
    for (std::thread& thread : threads) thread.join();
    CHECK(wrong == 0);
  }
  CHECK(in_use() == before);
}

TEST_SUITE_END();
