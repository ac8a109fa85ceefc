// The allocator of device memory, over a device that is a model: its streams are counters, which say how much work they
// have been given and how much of it they have done.
#include "core/device_allocator.h"

#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <map>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "mica/core/random.h"
#include "support/error_text.h"

using namespace mica;
using detail::DeviceAllocator;
using mica::test::error_text;

namespace {

constexpr int kHost = DeviceAllocator::kHost;
constexpr size_t kKiB = 1024;

constexpr uint64_t set_of(std::initializer_list<int> streams) {
  uint64_t set = 0;
  for (const int stream : streams) set |= uint64_t{1} << stream;
  return set;
}

class Model final : public detail::MemoryBackend {
 public:
  struct Stream {
    int64_t given = 0, done = 0, mark = 0;
    bool captured = false;
  };
  Stream streams[4];
  size_t capacity = size_t{1} << 40, held = 0;
  int64_t allocations = 0, marks = 0, questions = 0, waits = 0;

  ~Model() override {
    for (const auto& [block, bytes] : sizes_) std::free(block);
  }

  void* allocate(size_t bytes) override {
    if (held + bytes > capacity) return nullptr;
    ++allocations;
    held += bytes;
    void* const block = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    sizes_[block] = bytes;
    return block;
  }
  void deallocate(void* block) noexcept override {
    wrong += working_with(block, sizes_.at(block), kHost);
    held -= sizes_.at(block);
    sizes_.erase(block);
    std::free(block);
  }
  bool mark(int stream) override {
    if (streams[stream].captured) return false;
    ++marks;
    streams[stream].mark = streams[stream].given;
    return true;
  }
  bool passed(int stream) override {
    ++questions;
    return streams[stream].done >= streams[stream].mark;
  }
  bool synchronize(int stream) override {
    if (streams[stream].captured) return false;
    ++waits;
    finish(stream);
    return true;
  }
  void hand_out(void* block, size_t bytes, int stream) override { wrong += working_with(block, bytes, stream); }

  // Gives the stream work with a block.
  void use(const void* block, size_t bytes, int stream) {
    last_use_[stream][static_cast<const char*>(block)] = {bytes, ++streams[stream].given};
  }
  void finish(int stream) { streams[stream].done = streams[stream].given; }

  int64_t wrong = 0;  // blocks handed out, or given to the system, while another stream was working with them

 private:
  struct Use {
    size_t bytes;
    int64_t at;
  };

  // How many streams but `stream` have work with the bytes before them.
  int working_with(const void* block, size_t bytes, int stream) const {
    const char* const begin = static_cast<const char*>(block);
    int working = 0;
    for (int other = 0; other < 4; ++other)
      for (const auto& [at, use] : last_use_[other])
        working += other != stream && at < begin + bytes && begin < at + use.bytes && use.at > streams[other].done;
    return working;
  }

  std::map<void*, size_t> sizes_;
  std::map<const char*, Use> last_use_[4];
};

struct Fixture {
  Model model;
  DeviceAllocator allocator{model, "model:0", true};

  void* allocate(size_t bytes, int stream = 0) { return allocator.allocate(bytes, stream); }
  // A block that `stream` has been given work with, and that has been let go of.
  void* used_and_freed(size_t bytes, int stream) {
    void* const block = allocate(bytes, stream);
    model.use(block, bytes, stream);
    allocator.deallocate(block, bytes, set_of({stream}));
    return block;
  }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "device allocator: a stream gets back at once what it works with, and nothing is asked") {
  void* const block = used_and_freed(10 * kKiB, 0);
  CHECK(allocate(10 * kKiB) == block);
  CHECK(model.allocations == 1);
  CHECK(model.marks + model.questions + model.waits == 0);
}

TEST_CASE_FIXTURE(Fixture, "device allocator: another stream gets it once the first has come so far") {
  void* const block = used_and_freed(10 * kKiB, 0);
  CHECK(allocate(10 * kKiB, 1) != block);  // and its mark is where it was freed
  model.use(nullptr, 0, 0);                // later work, which need not have been done
  model.streams[0].done = 1;
  CHECK(allocate(10 * kKiB, 1) == block);
  CHECK(model.marks == 1);
  CHECK(model.allocations == 2);
}

TEST_CASE_FIXTURE(Fixture, "device allocator: what two streams work with waits for the other one") {
  void* const block = allocate(kKiB, 0);
  model.use(block, kKiB, 0);
  model.use(block, kKiB, 1);
  allocator.deallocate(block, kKiB, set_of({0, 1}));
  CHECK(allocate(kKiB, 0) != block);
  CHECK(allocate(kKiB, 1) != block);
  model.finish(1);
  CHECK(allocate(kKiB, 1) != block);
  CHECK(allocate(kKiB, 0) == block);
}

TEST_CASE_FIXTURE(Fixture, "device allocator: the host waits for every stream") {
  void* const block = allocate(kKiB, kHost);
  allocator.deallocate(block, kKiB, 0);
  CHECK(allocate(kKiB, kHost) == block);
  model.use(block, kKiB, 2);
  allocator.deallocate(block, kKiB, set_of({2}));
  CHECK(allocate(kKiB, kHost) != block);
  model.finish(2);
  CHECK(allocate(kKiB, kHost) == block);
}

TEST_CASE_FIXTURE(Fixture, "device allocator: another stream gets it at once where the first has nothing to do") {
  void* const block = used_and_freed(kKiB, 0);
  model.finish(0);
  CHECK(allocate(kKiB, 1) == block);
  CHECK(model.waits == 0);
}

TEST_CASE_FIXTURE(Fixture, "device allocator: a mark stays until it has been passed, however often it is asked for") {
  void* const first = used_and_freed(kKiB, 0);
  CHECK(allocate(kKiB, 1) != first);  // asked for, and so marked
  void* const second = used_and_freed(2 * kKiB, 0);
  CHECK(allocate(2 * kKiB, 1) != second);
  model.streams[0].done = 1;  // what first was used for
  CHECK(allocate(kKiB, 1) == first);
  CHECK(allocate(2 * kKiB, 1) != second);
  model.finish(0);
  CHECK(allocate(2 * kKiB, 1) == second);
  CHECK(model.marks == 2);
}

TEST_CASE_FIXTURE(Fixture, "device allocator: no block is handed out while another stream works with it") {
  struct Held {
    void* block;
    size_t bytes;
    uint64_t streams;
  };
  model.capacity = 600 * kKiB;
  for (const bool reserve : {false, true}) {
    CAPTURE(reserve);
    if (reserve) allocator.reserve(300 * kKiB);
    std::vector<Held> held;
    int64_t failures = 0;
    for (uint64_t i = 0; i < 60'000; ++i) {
      const Philox4 words = philox({17, reserve}, i);
      const int stream = static_cast<int>(words.v[0] % 4);
      const size_t bytes = 1 + words.v[1] % (words.v[0] / 4 % 8 == 0 ? 40'000 : 3'000);
      switch (words.v[2] % 8) {
        case 0:
        case 1:
        case 2: {
          const int of = words.v[3] % 16 == 0 ? kHost : stream;
          try {
            void* const block = allocator.allocate(bytes, of);
            held.push_back({block, bytes, of == kHost ? 0 : set_of({of})});
          } catch (const std::bad_alloc&) {
            ++failures;
          }
          break;
        }
        case 3:
        case 4:
          if (!held.empty()) {  // by any stream
            Held& one = held[words.v[3] % held.size()];
            model.use(one.block, one.bytes, stream);
            one.streams |= set_of({stream});
          }
          break;
        case 5:
        case 6:
          if (!held.empty()) {
            std::swap(held[words.v[3] % held.size()], held.back());
            allocator.deallocate(held.back().block, held.back().bytes, held.back().streams);
            held.pop_back();
          }
          break;
        default:
          Model::Stream& one = model.streams[stream];
          if (words.v[3] % 64 == 0) one.captured = !one.captured;
          one.done += (one.given - one.done) * static_cast<int64_t>(words.v[3] % 5) / 4;
          if (i % 997 == 0) allocator.release_cached();
      }
      REQUIRE(model.wrong == 0);
      const MemoryStatistics now = allocator.statistics();
      REQUIRE(now.in_use + now.cached == static_cast<int64_t>(model.held));
    }
    CHECK(failures > 0);
    for (const Held& one : held) allocator.deallocate(one.block, one.bytes, one.streams);
    for (Model::Stream& stream : model.streams) stream.captured = false;
    allocator.release_cached();
    CHECK(model.wrong == 0);
    CHECK(allocator.statistics().in_use == 0);
    CHECK(allocator.statistics().cached == (reserve ? 300 * kKiB : 0));
  }
}

TEST_CASE_FIXTURE(Fixture, "device allocator: sizes are rounded up by an eighth at most, and to a multiple of 256") {
  for (size_t bytes = 0; bytes < 300'000; bytes += 1 + bytes / 50) {
    const int64_t before = allocator.statistics().in_use;
    void* const block = allocate(bytes);
    const int64_t taken = allocator.statistics().in_use - before;
    CAPTURE(bytes);
    CHECK(reinterpret_cast<uintptr_t>(block) % 256 == 0);
    CHECK(taken >= static_cast<int64_t>(bytes));
    CHECK(taken % 256 == 0);
    CHECK(static_cast<double>(taken) <= static_cast<double>(bytes) * 1.125 + 256);
    allocator.deallocate(block, bytes, set_of({0}));
  }
}

TEST_CASE_FIXTURE(Fixture, "device allocator: when there is no more, what is kept is given back first") {
  model.capacity = 100 * kKiB;
  used_and_freed(64 * kKiB, 0);
  CHECK(allocator.statistics().cached == 64 * kKiB);
  void* const block = allocate(96 * kKiB, 1);
  CHECK(model.waits == 1);
  CHECK(allocator.statistics().cached == 0);
  const std::string text = error_text<std::bad_alloc>([&] { allocate(32 * kKiB); });
  CHECK(text == "model:0 is out of memory: 32768 bytes asked, 98304 in use, 0 cached");
  CHECK(allocator.statistics().in_use == 96 * kKiB);
  allocator.deallocate(block, 96 * kKiB, set_of({1}));
  CHECK(allocate(32 * kKiB) != nullptr);
  CHECK_THROWS_AS(allocate(~size_t{0}), std::bad_alloc);
}

TEST_CASE_FIXTURE(Fixture, "device allocator: a stream that is being captured is neither marked nor waited for") {
  model.capacity = 100 * kKiB;
  void* const block = used_and_freed(64 * kKiB, 0);
  model.streams[0].captured = true;
  CHECK(allocate(kKiB, 1) != nullptr);
  CHECK_THROWS_AS(allocate(64 * kKiB, 1), std::bad_alloc);
  CHECK(model.marks + model.waits == 0);
  CHECK(allocate(64 * kKiB, 0) == block);
}

TEST_CASE_FIXTURE(Fixture,
                  "device allocator: release_cached gives back what is free, and waits for who works with it") {
  void* const kept = allocate(kKiB);
  used_and_freed(5 * kKiB, 1);
  used_and_freed(7 * kKiB, 2);
  allocator.release_cached();
  CHECK(model.waits == 2);
  CHECK(model.wrong == 0);
  CHECK(model.held == kKiB);
  CHECK(allocator.statistics().cached == 0);
  allocator.deallocate(kept, kKiB, 0);
}

TEST_CASE_FIXTURE(Fixture, "device allocator: statistics") {
  void* const a = allocate(kKiB);
  void* const b = allocate(2 * kKiB);
  allocator.deallocate(a, kKiB, 0);
  const MemoryStatistics now = allocator.statistics();
  CHECK(now.in_use == 2 * kKiB);
  CHECK(now.peak == 3 * kKiB);
  CHECK(now.cached == kKiB);
  CHECK(now.system_allocations == 2);
  allocator.deallocate(b, 2 * kKiB, 0);
}

TEST_CASE_FIXTURE(Fixture, "device allocator: blocks are cut from what was reserved until that is used up") {
  allocator.reserve(8 * kKiB);
  CHECK(allocator.statistics().cached == 8 * kKiB);
  char* const first = static_cast<char*>(allocate(4 * kKiB));
  CHECK(allocate(3 * kKiB) == first + 4 * kKiB);
  CHECK(model.allocations == 1);
  CHECK(allocator.statistics().cached == kKiB);
  void* const apart = allocate(2 * kKiB);
  CHECK(model.allocations == 2);
  CHECK(error_text([&] { allocator.reserve(1); }) == "[reserve_memory] model:0 has a reserve already, of 8192 bytes");

  // The same addresses again, and the whole of it once nothing in it is in use.
  allocator.deallocate(first + 4 * kKiB, 3 * kKiB, set_of({0}));
  CHECK(allocate(3 * kKiB) == first + 4 * kKiB);
  allocator.deallocate(first + 4 * kKiB, 3 * kKiB, set_of({0}));
  allocator.release_cached();
  CHECK(allocator.statistics().cached == 4 * kKiB);
  allocator.deallocate(first, 4 * kKiB, set_of({0}));
  allocator.release_cached();
  CHECK(allocate(8 * kKiB) == first);
  CHECK(model.allocations == 2);
  allocator.deallocate(apart, 2 * kKiB, 0);
}

TEST_CASE("device allocator: without caching, blocks are the system's, of the bytes that were asked for") {
  Model model;
  DeviceAllocator allocator(model, "model:0", false);
  allocator.reserve(kKiB);
  void* const block = allocator.allocate(1000, 0);
  CHECK(model.held == 1000);
  model.use(block, 1000, 0);
  model.use(block, 1000, 1);
  allocator.deallocate(block, 1000, set_of({0, 1}));
  CHECK(model.held == 0);
  CHECK(model.waits == 2);
  CHECK(model.wrong == 0);
  CHECK(allocator.statistics().in_use + allocator.statistics().cached == 0);
  CHECK(allocator.statistics().system_allocations == 1);
}

TEST_CASE_FIXTURE(Fixture, "device allocator: eight threads allocate and free at once") {
  std::vector<std::thread> threads;
  std::atomic<int> torn = 0;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < 3000; ++i) {
        const Philox4 words = philox({static_cast<uint64_t>(t), 1}, i);
        const size_t bytes = 2 + words.v[0] % 3000;
        auto* const block = static_cast<volatile char*>(allocate(bytes, t % 4));
        for (const size_t end : {size_t{0}, bytes - 1}) block[end] = static_cast<char>(t);
        if (i % 100 == 0) std::this_thread::yield();
        torn += block[0] != t || block[bytes - 1] != t;
        allocator.deallocate(const_cast<char*>(block), bytes, set_of({t % 4}));
        if (t == 0 && i % 500 == 0) allocator.release_cached();
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(torn == 0);
  CHECK(allocator.statistics().in_use == 0);
}
