// The shadow of the emulation: small kernels, each with one fault that it finds, and beside each the kernel without it.
#define MICA_EMULATED
#include <doctest/doctest.h>

#include <string>
#include <thread>
#include <vector>

#include "cuda/core/launch.h"
#include "cuda/core/runtime.h"
#include "cuda/table.h"
#include "mica/core/tensor.h"

using namespace mica;
using namespace mica::kernels;
using namespace mica::kernels::emulated;

namespace {

/// Device memory with what a test puts there.
template <class T>
class Memory {
 public:
  explicit Memory(size_t size) : storage_(detail::Storage::create(Device::cuda_emulated(), size * sizeof(T))) {}
  Memory(size_t size, T value) : Memory(size) {
    const std::vector<T> values(size, value);
    detail::copy_between(storage_->device, storage_->data, Device::cpu(), values.data(), size * sizeof(T));
  }
  ~Memory() { detail::Storage::destroy(storage_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  operator T*() const { return static_cast<T*>(storage_->data); }

 private:
  detail::Storage* storage_;
};

/// What the first thread to do something wrong under each schedule has done: "race", "memory that nobody wrote",
/// "outside of device memory", or ""; "?" where the schedules differ.
template <class F>
std::string fault_of(const F& f) {
  const Schedule before = schedule();
  std::string found;
  for (Schedule schedule : kSchedules) {
    set_schedule(schedule);
    std::string fault;
    try {
      f();
    } catch (const Error& error) {
      fault = error.what();
      fault = fault.substr(0, fault.find(':')).substr(fault.find(' ') + 1);
    }
    found = schedule == kSchedules[0] || found == fault ? fault : "?";
  }
  set_schedule(before);
  return found;
}

template <class F>
std::string text_of(const F& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

int self() { return static_cast<int>(thread_index().x); }
int block() { return static_cast<int>(block_index().x); }

// ---- Races in shared memory ----

// y[t] = t + 1: each thread reads what its neighbour wrote.
template <class T>
MICA_KERNEL(1024)
void neighbour_kernel(bool barrier_between, int* y) {
  MICA_SHARED(T, value, [2][64]);
  value[1][self()] = static_cast<T>(self());
  if (barrier_between) barrier();
  y[self()] = static_cast<int>(value[1][(self() + 1) % 64]);
}

// A buffer used twice; its values of the first round must have been read when the second one writes.
MICA_KERNEL(64) void reuse_kernel(bool barrier_between, int* y) {
  MICA_SHARED(int, value, [64]);
  int sum = 0;
  for (int round = 0; round < 2; ++round) {
    value[self()] = self();
    barrier();
    sum += value[63 - self()];
    if (barrier_between) barrier();
  }
  y[self()] = sum;
}

// Every thread writes the same to one variable, or one does.
MICA_KERNEL(64) void same_value_kernel(bool one, int* y) {
  MICA_SHARED(int, value);
  if (!one || self() == 0) value = 7;
  barrier();
  y[self()] = value;
}

enum class Order { none, shuffled, warp, block };

// Lanes read what another lane of their warp, or of the next one, wrote.
MICA_KERNEL(64) void lanes_kernel(Order order, bool next_warp, int* y) {
  MICA_SHARED(int, value, [64]);
  value[self()] = self();
  if (order == Order::shuffled) shuffle(0, 0);
  if (order == Order::warp) warp_barrier();
  if (order == Order::block) barrier();
  y[self()] = value[self() ^ (next_warp ? 32 : 1)];
}

MICA_KERNEL(64) void counter_kernel(bool atomic, bool barrier_between, int* y) {
  MICA_SHARED(int, count);
  if (self() == 0) count = 0;
  barrier();
  if (atomic)
    atomic_add(&count, 1);
  else
    ++count;
  if (barrier_between) barrier();
  y[self()] = count;
}

MICA_KERNEL(64) void dynamic_kernel(bool barrier_between, float* y) {
  MICA_DYNAMIC_SHARED(float, value);
  value[self()] = 1;
  if (barrier_between) barrier();
  y[self()] = value[63 - self()];
}

// What a block leaves in shared memory is no matter of the next one's.
MICA_KERNEL(64) void bytes_kernel(int n, uint8_t* y) {
  MICA_SHARED(uint8_t, value, [64]);
  value[self()] = static_cast<uint8_t>(self());
  barrier();
  if (self() < n) y[block() * n + self()] = value[63 - self()];
}

MICA_KERNEL(32) void beyond_kernel(int i) {
  MICA_SHARED(int, value, [4]);
  int* const p = &value[0];
  p[i] = 1;
}

// ---- Device memory ----

MICA_KERNEL(64) void fill_kernel(int per_block, int n, int* y) {
  const int i = block() * per_block + self();
  if (i < n) y[i] = i;
}
MICA_KERNEL(64) void copy_kernel(const int* x, int* y) { y[block() * 64 + self()] = x[block() * 64 + self()]; }
MICA_KERNEL(64) void copy4_kernel(const Vector4<float>* x, Vector4<float>* y) { y[self()] = x[self()]; }
MICA_KERNEL(64) void byte_kernel(int first, uint8_t* y) { y[first + self()] = 1; }
MICA_KERNEL(64) void total_kernel(bool atomic, int* y) {
  if (atomic)
    atomic_add(y, 1);
  else
    *y += 1;
}
// Blocks that read what the one before has written.
MICA_KERNEL(64) void chain_kernel(int* y) {
  y[block() * 64 + self()] = block() == 0 ? 0 : y[block() * 64 + self() - 64] + 1;
}
// A thread that reads what another one of its block wrote to device memory.
MICA_KERNEL(64) void exchange_kernel(bool barrier_between, int* y) {
  y[self()] = self();
  if (barrier_between) barrier();
  const int other = y[63 - self()];
  barrier();
  y[self()] = other;
}

struct NoShadow {
  NoShadow() { register_emulated(); }
  explicit operator bool() const { return !has_shadow(); }
};

}  // namespace

TEST_CASE("shadow: races in shared memory") {
  if (NoShadow()) return;
  const Memory<int> y(64);
  const auto neighbour = [&](auto zero, bool barrier_between) {
    return fault_of([&] { launch(neighbour_kernel<decltype(zero)>, 3, {64}, 0, nullptr, barrier_between, y); });
  };
  CHECK(neighbour(0, true) == "race");  // of the three blocks, in y
  const auto one_block = [&](auto kernel, auto... args) {
    return fault_of([&] { launch(kernel, 1, {64}, 0, nullptr, args..., y); });
  };
  const auto each_type = [&](auto zero) {
    CHECK(one_block(neighbour_kernel<decltype(zero)>, true) == "");
    CHECK(one_block(neighbour_kernel<decltype(zero)>, false) == "race");
  };
  each_type(uint8_t{});
  each_type(int16_t{});
  each_type(int{});
  each_type(double{});

  CHECK(one_block(reuse_kernel, true) == "");
  CHECK(one_block(reuse_kernel, false) == "race");
  CHECK(one_block(same_value_kernel, true) == "");
  CHECK(one_block(same_value_kernel, false) == "race");

  CHECK(one_block(lanes_kernel, Order::none, false) == "race");
  CHECK(one_block(lanes_kernel, Order::shuffled, false) == "race");
  CHECK(one_block(lanes_kernel, Order::warp, false) == "");
  CHECK(one_block(lanes_kernel, Order::block, false) == "");
  CHECK(one_block(lanes_kernel, Order::warp, true) == "race");
  CHECK(one_block(lanes_kernel, Order::block, true) == "");

  CHECK(one_block(counter_kernel, true, true) == "");
  CHECK(one_block(counter_kernel, true, false) == "race");
  CHECK(one_block(counter_kernel, false, true) == "race");

  const Memory<float> z(64);
  for (bool barrier_between : {true, false})
    CHECK(fault_of([&] { launch(dynamic_kernel, 1, {64}, 256, nullptr, barrier_between, z); }) ==
          (barrier_between ? "" : "race"));
}

TEST_CASE("shadow: beyond the arrays of shared memory") {
  if (NoShadow()) return;
  CHECK(fault_of([] { launch(beyond_kernel, 1, {1}, 0, nullptr, 3); }) == "");
  CHECK(fault_of([] { launch(beyond_kernel, 1, {1}, 0, nullptr, 4); }) == "outside of shared memory");
}

TEST_CASE("shadow: races in device memory") {
  if (NoShadow()) return;
  const Memory<int> y(256);
  CHECK(fault_of([&] { launch(fill_kernel, 4, {64}, 0, nullptr, 64, 256, y); }) == "");
  CHECK(fault_of([&] { launch(fill_kernel, 4, {64}, 0, nullptr, 63, 256, y); }) == "race");
  CHECK(fault_of([&] { launch(chain_kernel, 2, {64}, 0, nullptr, y); }) == "race");
  CHECK(fault_of([&] { launch(chain_kernel, 1, {64}, 0, nullptr, y); }) == "");
  CHECK(fault_of([&] { launch(exchange_kernel, 1, {64}, 0, nullptr, true, y); }) == "");
  CHECK(fault_of([&] { launch(exchange_kernel, 1, {64}, 0, nullptr, false, y); }) == "race");
  CHECK(fault_of([&] { launch(total_kernel, 4, {64}, 0, nullptr, true, y); }) == "");
  CHECK(fault_of([&] { launch(total_kernel, 4, {64}, 0, nullptr, false, y); }) == "race");
  CHECK(fault_of([&] { launch(total_kernel, 2, {1}, 0, nullptr, false, y); }) == "race");
  // Bytes are told apart, and blocks that write the neighbours of others' bytes are right.
  const Memory<uint8_t> bytes(64);
  CHECK(fault_of([&] { launch(bytes_kernel, 5, {64}, 0, nullptr, 11, bytes); }) == "");
  CHECK(fault_of([&] { launch(bytes_kernel, 1, {64}, 0, nullptr, 64, bytes); }) == "");
  // Launches follow one another.
  const Memory<int> z(256);
  CHECK(fault_of([&] {
          launch(fill_kernel, 4, {64}, 0, nullptr, 64, 256, y);
          launch(copy_kernel, 4, {64}, 0, nullptr, y, z);
          launch(copy_kernel, 4, {64}, 0, nullptr, z, y);
        }) == "");
}

TEST_CASE("shadow: memory that nobody wrote") {
  if (NoShadow()) return;
  const Memory<int> written(64, 1), y(64);
  CHECK(fault_of([&] { launch(copy_kernel, 1, {64}, 0, nullptr, written, y); }) == "");
  CHECK(fault_of([&] {
          const Memory<int> fresh(64);
          launch(copy_kernel, 1, {64}, 0, nullptr, fresh, y);
        }) == "memory that nobody wrote");
  CHECK(fault_of([&] {
          const Memory<int> total(1);
          launch(total_kernel, 1, {64}, 0, nullptr, true, total);
        }) == "memory that nobody wrote");
  const Memory<float> x(256);
  const Memory<float> z(256);
  CHECK(fault_of([&] {
          launch(copy4_kernel, 1, {64}, 0, nullptr, reinterpret_cast<Vector4<float>*>(+x),
                 reinterpret_cast<Vector4<float>*>(+z));
        }) == "memory that nobody wrote");
}

TEST_CASE("shadow: beside allocations of device memory") {
  if (NoShadow()) return;
  const Memory<int> y(60);
  CHECK(fault_of([&] { launch(fill_kernel, 1, {64}, 0, nullptr, 64, 60, y); }) == "");
  CHECK(fault_of([&] { launch(fill_kernel, 1, {64}, 0, nullptr, 64, 61, y); }) == "outside of device memory");
  CHECK(fault_of([&] { launch(fill_kernel, 1, {64}, 0, nullptr, 64, 60, y - 1); }) == "outside of device memory");
  CHECK(fault_of([&] {
          int* freed = nullptr;
          {
            const Memory<int> memory(64, 1);
            freed = memory;
          }
          launch(copy_kernel, 1, {64}, 0, nullptr, freed, y);
        }) == "outside of device memory");
  const Memory<uint8_t> bytes(67);
  CHECK(fault_of([&] { launch(byte_kernel, 1, {64}, 0, nullptr, 3, bytes); }) == "");
  CHECK(fault_of([&] { launch(byte_kernel, 1, {64}, 0, nullptr, 4, bytes); }) == "outside of device memory");
  CHECK(fault_of([&] { launch(byte_kernel, 1, {64}, 0, nullptr, -1, bytes); }) == "outside of device memory");
}

TEST_CASE("shadow: the messages") {
  if (NoShadow()) return;
  const auto matches = [](const std::string& text, const std::string& begin, const std::string& end) {
    CAPTURE(text);
    CHECK(text.starts_with(begin));
    CHECK(text.find(end) != std::string::npos);
  };
  const Schedule before = schedule();
  set_schedule(Schedule::round_robin);
  const Memory<int> y(128);
  matches(
      text_of([&] { launch(neighbour_kernel<int>, 1, {64}, 0, nullptr, false, y); }),
      "[emulate] race: thread (1,0,0) writes value[1][1], which thread (0,0,0) read, with no barrier between them; in "
      "block (0,0,0) of the launch at shadow_test.cpp:",
      "");
  matches(text_of([&] { launch(reuse_kernel, 1, {64}, 0, nullptr, false, y); }),
          "[emulate] race: thread (32,0,0) reads value[31], which thread (31,0,0) wrote, with no barrier between them "
          "since "
          "that at shadow_test.cpp:",
          "; in block (0,0,0) of the launch at shadow_test.cpp:");
  matches(
      text_of([&] { launch(fill_kernel, 2, {64}, 0, nullptr, 63, 128, y); }),
      "[emulate] race: thread (0,0,0) writes byte 252 of an allocation of 512 bytes, which thread (63,0,0) of block "
      "(0,0,0) wrote; in block (1,0,0) of",
      "");
  matches(text_of([&] { launch(fill_kernel, 3, {64}, 0, nullptr, 64, 192, y); }),
          "[emulate] outside of device memory: thread (0,0,0) writes byte 512 from the start of an allocation of 512 "
          "bytes; in "
          "block (2,0,0) of",
          "");
  set_schedule(before);
}

TEST_CASE("shadow: threads of the host launch side by side") {
  if (NoShadow()) return;
  const Memory<int> x(256, 1);
  std::string faults[4];
  std::vector<std::thread> threads;
  for (std::string& fault : faults)
    threads.emplace_back([&] {
      for (int round = 0; round < 20; ++round) {
        const Memory<int> y(256), z(64);
        fault += text_of([&] {
          launch(copy_kernel, 4, {64}, 0, nullptr, x, y);
          launch(copy_kernel, 4, {64}, 0, nullptr, y, y);
          launch(reuse_kernel, 1, {64}, 0, nullptr, true, z);
        });
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (const std::string& fault : faults) CHECK(fault == "");
}
