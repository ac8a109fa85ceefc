// The emulation of CUDA threads: what the vocabulary does, and that mistakes are found.
#define MICA_EMULATED
#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "cuda/core/launch.h"
#include "cuda/core/runtime.h"
#include "cuda/table.h"
#include "schedules.h"
#include "support/error_text.h"

using namespace mica;
using namespace mica::kernels;
using namespace mica::kernels::emulated;
using namespace mica::test;

namespace {

// ---- Kernels for the vocabulary ----

// y[blocks]: the sum of each block's x[256], by halving in shared memory.
MICA_KERNEL(256) void sum_kernel(const int* x, int* y) {
  MICA_SHARED(int, part, [256]);
  const int t = static_cast<int>(thread_index().x);
  const int n = static_cast<int>(block_size().x);
  part[t] = x[static_cast<int>(block_index().x) * n + t];
  barrier();
  for (int half = n / 2; half > 0; half /= 2) {
    if (t < half) part[t] += part[t + half];
    barrier();
  }
  if (t == 0) y[block_index().x] = part[0];
}

// Each warp's lanes by shuffles: y[4][threads].
MICA_KERNEL(1024) void shuffle_kernel(int* y, uint32_t* votes) {
  const int t = static_cast<int>(thread_index().x), n = static_cast<int>(block_size().x);
  y[t] = shuffle(t, 3);
  y[n + t] = shuffle_xor(t, 1);
  y[2 * n + t] = shuffle_down(t, 2);
  y[3 * n + t] = shuffle_up(t, 2);
  double sum = t;  // a butterfly, whose phases must not mix
  for (int mask = 16; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
  const uint32_t vote = ballot(t % 3 == 0);
  if (t % 32 == 0) votes[t / 32] = vote + static_cast<uint32_t>(sum);
}

MICA_KERNEL(64) void warp_barrier_kernel(int* y) {
  MICA_SHARED(int, value, [64]);
  const int t = static_cast<int>(thread_index().x);
  value[t] = t;
  warp_barrier();
  const int other = value[t ^ 1];
  warp_barrier();
  value[t] = other * 2;
  warp_barrier();
  y[t] = value[t ^ 1];
}

MICA_KERNEL(64) void scalar_kernel(int n, int* y) {
  MICA_SHARED(int, count);
  const int t = static_cast<int>(thread_index().x);
  if (t == 0) count = 0;
  barrier();
  if (t < n) atomic_add(&count, 1);
  barrier();
  if (t == 0) *y = count;
}

// list[n] of a first element, the count.
MICA_KERNEL(64) void dynamic_kernel(int n, int* y) {
  MICA_DYNAMIC_SHARED(int, list);
  const int t = static_cast<int>(thread_index().x);
  if (t == 0) list[0] = 0;
  barrier();
  if (t < n) list[atomic_add(&list[0], 1) + 1] = t;
  barrier();
  if (t == 0)
    for (int i = 0; i < n; ++i) atomic_max(y, list[i + 1]);
}

MICA_KERNEL(64) void exits_kernel() {
  if (thread_index().x == 5) return;
  barrier();
}
MICA_KERNEL(64) void two_barriers_kernel() {
  if (thread_index().x == 5)
    barrier();
  else
    barrier();
}
MICA_KERNEL(64) void warp_and_block_kernel() {
  if (thread_index().x == 5)
    barrier();
  else
    warp_barrier();
}
MICA_KERNEL(64) void lane_exits_kernel(int* y) {
  if (thread_index().x == 5) return;
  *y = shuffle(1, 0);
}

struct CountsDestruction {
  int* count;
  ~CountsDestruction() { ++*count; }
};
MICA_KERNEL(64) void throws_kernel(int* destroyed) {
  const CountsDestruction counts{destroyed};
  barrier();
  if (thread_index().x == 40 && block_index().x == 1) throw std::runtime_error("thread 40");
  barrier();
}
MICA_KERNEL(32) void outside_kernel(int index) {
  MICA_SHARED(float, tile, [4][8]);
  tile[3][index] = 0;
}
MICA_KERNEL(32) void outside_dynamic_kernel() {
  MICA_DYNAMIC_SHARED(float, list);
  list[16] = 0;
}
MICA_KERNEL(32) void static_and_dynamic_kernel() {
  MICA_DYNAMIC_SHARED(float, list);
  MICA_SHARED(float, value);
  list[0] = value = 0;
}
MICA_KERNEL(64) void ballot_kernel(uint32_t* y) { *y = ballot(true); }
MICA_KERNEL(32) void uninitialised_kernel(float* y) {
  MICA_SHARED(float, value, [1]);
  *y = value[0];
}
MICA_KERNEL(32) void copies_kernel(bool wait, const float* x, float* y) {
  MICA_SHARED(float, value, [32]);
  const int t = static_cast<int>(thread_index().x);
  copy_async(&value[t], &x[t], t < 20);
  if (wait) wait_for_copies();
  barrier();
  y[t] = value[31 - t];
}
MICA_KERNEL(1) void nested_kernel() { launch(exits_kernel, 1, {64}, 0, nullptr); }
MICA_KERNEL(1024) void too_much_shared_kernel() {
  MICA_SHARED(char, bytes, [48 * 1024 + 1]);
  bytes[0] = 0;
}
MICA_KERNEL(64) void index_kernel(unsigned* y) {
  const Dim3 t = thread_index(), b = block_index(), n = block_size(), g = grid_size();
  const unsigned block = b.x + g.x * (b.y + g.y * b.z);
  const unsigned thread = t.x + n.x * (t.y + n.y * t.z);
  ++y[block * n.x * n.y * n.z + thread];
}

// Reads before it writes: the first barrier of the loop keeps the writes back.
MICA_KERNEL(256) void rotate_kernel(int steps, int* y) {
  MICA_SHARED(int, ring, [256]);
  const int t = static_cast<int>(thread_index().x);
  ring[t] = t;
  barrier();
  for (int i = 0; i < steps; ++i) {
    const int next = ring[(t + 1) % 256];
    barrier();
    ring[t] = next;
    barrier();
  }
  y[t] = ring[t];
}

struct Registered {
  Registered() { register_emulated(); }
} registered;

}  // namespace

TEST_CASE("emulated: barriers, under each schedule") {
  std::vector<int> x(5 * 256), y(5);
  std::iota(x.begin(), x.end(), 0);
  under_each_schedule([&] {
    launch(sum_kernel, 5, {256}, 0, nullptr, x.data(), y.data());
    for (int b = 0; b < 5; ++b) CHECK(y[b] == 256 * 256 * b + 255 * 128);
  });
}

TEST_CASE("emulated: a barrier that is missing is found") {
  CHECK(each_barrier_is_needed([] {
          std::vector<int> x(256, 1), y(1);
          launch(sum_kernel, 1, {256}, 0, nullptr, x.data(), y.data());
          return y[0] == 256;
        }) == 2);
  CHECK(each_barrier_is_needed([] {
          std::vector<int> y(256);
          launch(rotate_kernel, 1, {256}, 0, nullptr, 5, y.data());
          for (int t = 0; t < 256; ++t)
            if (y[t] != (t + 5) % 256) return false;
          return true;
        }) == 3);
  CHECK(each_barrier_is_needed([] {
          std::vector<int> y(64);
          launch(warp_barrier_kernel, 1, {64}, 0, nullptr, y.data());
          for (int t = 0; t < 64; ++t)
            if (y[t] != t * 2) return false;
          return true;
        }) == 3);
}

TEST_CASE("emulated: indices in three dimensions") {
  std::vector<unsigned> y(2 * 3 * 4 * 5 * 3 * 2);
  launch(index_kernel, {2, 3, 4}, {5, 3, 2}, 0, nullptr, y.data());
  for (unsigned count : y) CHECK(count == 1);
}

TEST_CASE("emulated: shuffles and ballots, under each schedule") {
  for (int n : {32, 128, 1024}) {
    std::vector<int> y(4 * n);
    std::vector<uint32_t> votes(n / 32);
    under_each_schedule([&] {
      launch(shuffle_kernel, 1, {static_cast<unsigned>(n)}, 0, nullptr, y.data(), votes.data());
      int wrong = 0;
      for (int t = 0; t < n; ++t) {
        const int lane = t % 32, first = t - lane;
        wrong += y[t] != first + 3;
        wrong += y[n + t] != (t ^ 1);
        wrong += y[2 * n + t] != (lane < 30 ? t + 2 : t);
        wrong += y[3 * n + t] != (lane >= 2 ? t - 2 : t);
      }
      for (int w = 0; w < n / 32; ++w) {
        uint32_t vote = 0;
        for (int lane = 0; lane < 32; ++lane) vote |= uint32_t{(w * 32 + lane) % 3 == 0} << lane;
        wrong += votes[w] != vote + static_cast<uint32_t>(32 * 32 * w + 31 * 16);
      }
      CHECK(wrong == 0);
    });
  }
}

TEST_CASE("emulated: a shuffle in a warp that is not full") {
  std::vector<int> y(4 * 40);
  std::vector<uint32_t> votes(2);
  const std::string eight = " is of a warp of 8 lanes; thread (";
  under_each_schedule([&] {
    CHECK(contains(error_text([&] { launch(shuffle_kernel, 1, {40}, 0, nullptr, y.data(), votes.data()); }), eight));
    CHECK(contains(error_text([&] { launch(ballot_kernel, 1, {8}, 0, nullptr, votes.data()); }), eight));
  });
}

TEST_CASE("emulated: warp barriers, one shared variable, dynamic shared memory, atomics") {
  under_each_schedule([&] {
    std::vector<int> y(64);
    launch(warp_barrier_kernel, 1, {64}, 0, nullptr, y.data());
    for (int t = 0; t < 64; ++t) CHECK(y[t] == t * 2);
    int count = 0, most = -1;
    launch(scalar_kernel, 1, {64}, 0, nullptr, 50, &count);
    CHECK(count == 50);
    launch(dynamic_kernel, 3, {64}, 51 * sizeof(int), nullptr, 50, &most);
    CHECK(most == 49);
  });
  CHECK(contains(error_text([] {
                   int most = 0;
                   launch(dynamic_kernel, 3, {64}, 50 * sizeof(int), nullptr, 50, &most);
                 }),
                 "list has 50 there, index 50; thread ("));
}

TEST_CASE("emulated: divergent barriers are errors that name both places") {
  under_each_schedule([&] {
    const std::string exits = error_text([] { launch(exits_kernel, 2, {64}, 0, nullptr); });
    CHECK(contains(exits, "[emulate] divergent barrier: thread (5,0,0) has returned, and thread ("));
    CHECK(contains(exits, "waits at emulate_test.cpp:"));
    CHECK(contains(exits, "of the launch at emulate_test.cpp:"));

    const std::string two = error_text([] { launch(two_barriers_kernel, 1, {64}, 0, nullptr); });
    CHECK(contains(two, "[emulate] divergent barrier: thread ("));
    CHECK(contains(two, "comes to emulate_test.cpp:"));
    CHECK(contains(two, "waits at emulate_test.cpp:"));

    CHECK(contains(error_text([] { launch(warp_and_block_kernel, 1, {32}, 0, nullptr); }),
                   "divergent barrier: thread (5,0,0) waits at emulate_test.cpp:"));

    int y = 0;
    CHECK(contains(error_text([&] { launch(lane_exits_kernel, 1, {64}, 0, nullptr, &y); }),
                   "divergent barrier: thread (5,0,0) has returned, and thread ("));
  });
}

TEST_CASE("emulated: an exception reaches the launcher, the other threads unwind, and the next launch works") {
  under_each_schedule([&] {
    int destroyed = 0;
    CHECK_THROWS_WITH_AS(launch(throws_kernel, 2, {64}, 0, nullptr, &destroyed), "thread 40", std::runtime_error);
    CHECK(destroyed % 64 == 0);
    CHECK(destroyed >= 64);
    std::vector<int> x(256, 1), y(1);
    launch(sum_kernel, 1, {256}, 0, nullptr, x.data(), y.data());
    CHECK(y[0] == 256);
  });
}

TEST_CASE("emulated: shared memory is checked and starts as NaN") {
  CHECK(
      contains(error_text([] { launch(outside_kernel, 1, {1}, 0, nullptr, 8); }),
               "[emulate] outside of shared memory: tile has 8 there, index 8; thread (0,0,0); in block (0,0,0) of the "
               "launch at emulate_test.cpp:"));
  CHECK(contains(error_text([] { launch(outside_kernel, 1, {1}, 0, nullptr, -1); }), "index -1"));
  CHECK(contains(error_text([] { launch(outside_dynamic_kernel, 1, {32}, 64, nullptr); }),
                 "list has 16 there, index 16"));
  CHECK(contains(error_text([] { launch(too_much_shared_kernel, 1, {1}, 0, nullptr); }), "too much shared memory"));
  CHECK(contains(error_text([] { launch(static_and_dynamic_kernel, 1, {1}, 4, nullptr); }),
                 "a kernel with dynamic shared memory has no other: value at emulate_test.cpp:"));
  float y = 0;
  launch(uninitialised_kernel, 1, {1}, 0, nullptr, &y);
  CHECK(y != y);
}

TEST_CASE("emulated: copies that are not waited for have not arrived") {
  const std::vector<float> x(32, 5.0f);
  std::vector<float> y(32);
  launch(copies_kernel, 1, {32}, 0, nullptr, true, x.data(), y.data());
  CHECK(y[12] == 5);
  CHECK(y[11] == 0);
  launch(copies_kernel, 1, {32}, 0, nullptr, false, x.data(), y.data());
  CHECK(y[12] != y[12]);
  CHECK(y[11] != y[11]);
}

TEST_CASE("emulated: launches that CUDA would refuse") {
  CHECK(contains(error_text([] { launch(exits_kernel, 1, {1025}, 0, nullptr); }), "a block has 1 to 1024 threads"));
  CHECK(contains(error_text([] { launch(exits_kernel, 1, {0}, 0, nullptr); }), "a block has 1 to 1024 threads"));
  CHECK(contains(error_text([] { launch(exits_kernel, 0, {1}, 0, nullptr); }), "[cuda] a grid has 1 to"));
  CHECK(contains(error_text([] { launch(exits_kernel, {1, 65536}, {1}, 0, nullptr); }), "[1,65536,1]"));
  launch(dynamic_kernel, 1, {1}, 99 * 1024, nullptr, 0, nullptr);
  CHECK(contains(error_text([] { launch(dynamic_kernel, 1, {1}, 99 * 1024 + 1, nullptr, 0, nullptr); }),
                 "a block has up to 101376 bytes of shared memory: 101377"));
  CHECK(contains(error_text([] { launch(nested_kernel, 1, {1}, 0, nullptr); }), "a kernel cannot launch a kernel"));
}

TEST_CASE("emulated: threads of the host launch side by side") {
  std::vector<std::thread> threads;
  int wrong[4] = {};
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&wrong, i] {
      for (int round = 0; round < 5; ++round) {
        std::vector<int> x(256, i), y(1);
        launch(sum_kernel, 1, {256}, 0, nullptr, x.data(), y.data());
        wrong[i] += y[0] != 256 * i;
      }
    });
  for (auto& thread : threads) thread.join();
  for (int count : wrong) CHECK(count == 0);
}

TEST_CASE("emulated: device memory") {
  const Device device{Device::Type::cuda_emulated, 0};
  const detail::DeviceRuntime& runtime = detail::device_runtime(device);
  CHECK(runtime.count() == 1);
  float values[3] = {1, 2, 3}, back[3] = {};
  void* const block = runtime.allocate(0, sizeof values);
  CHECK(reinterpret_cast<uintptr_t>(block) % 64 == 0);
  detail::copy_between(device, block, Device::cpu(), values, sizeof values);
  detail::copy_between(Device::cpu(), back, device, block, sizeof values);
  runtime.deallocate(0, block, sizeof values);
  CHECK(back[2] == 3);
  CHECK(contains(error_text([&] { runtime.allocate(1, 4); }), "there is one emulated device, not number 1"));
}
