// Streams and events, where work is done when it has been put in; what tensors note of streams; page-locked memory.
#include "mica/core/stream.h"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "core/stream_state.h"
#include "core/tensor_access.h"
#include "kernels/context.h"
#include "mica/core/device_memory.h"
#include "support/devices.h"
#include "support/error_text.h"

using namespace mica;
using mica::test::contains;
using mica::test::error_text;
using mica::test::for_each_device;

TEST_CASE("stream: each device has a default one, and gives others") {
  for_each_device([](Device device) {
    const Stream first(device), again(device);
    CHECK(first == again);
    CHECK(first.is_default());
    CHECK(first.handle() == nullptr);
    CHECK(first.device() == device);
    CHECK(current_stream(device) == first);

    const Stream other = Stream::create(device), another = Stream::create(device);
    CHECK_FALSE(other.is_default());
    CHECK(other.device() == device);
    CHECK_FALSE(other == first);
    CHECK_FALSE(other == another);
    CHECK(other.handle() != another.handle());
    Stream copy = first;
    copy = other;
    CHECK(copy == other);
  });
}

TEST_CASE("stream: a stream that nobody holds is given out again") {
  for_each_device([](Device device) {
    void* handle = nullptr;
    {
      const Stream stream = Stream::create(device);
      const Stream copy = stream;
      handle = copy.handle();
    }
    for (int i = 0; i < 200; ++i) CHECK(Stream::create(device).handle() == handle);
  });
}

TEST_CASE("stream: there are 64 at most") {
  const Device device = test::emulated_device();
  const pid_t child = fork();  // as they stay
  REQUIRE(child >= 0);
  if (child == 0) {
    std::vector<Stream> streams;
    const std::string text = error_text([&] {
      for (int i = 0; i < 64; ++i) streams.push_back(Stream::create(device));
    });
    streams.pop_back();
    streams.push_back(Stream::create(device));
    _exit(text == "[stream] there are 64 streams already, and all are held" ? 0 : 1);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("stream: a scope says where this thread's work goes, until its brace") {
  for_each_device([](Device device) {
    const Stream first(device), other = Stream::create(device);
    {
      const StreamScope scope(other);
      CHECK(current_stream(device) == other);
      CHECK(context(device).stream == (device.type == Device::Type::cpu ? nullptr : other.handle()));
      {
        const StreamScope inner(first);
        CHECK(current_stream(device) == first);
        CHECK(context(device).stream == nullptr);
      }
      CHECK(current_stream(device) == other);
      if (device.type != Device::Type::cpu) CHECK(current_stream(Device::cpu()).is_default());
      std::thread([&] { CHECK(current_stream(device) == first); }).join();
    }
    CHECK(current_stream(device) == first);
  });
}

TEST_CASE("stream: a scope holds its stream") {
  for_each_device([](Device device) {
    const StreamScope scope(Stream::create(device));
    CHECK_FALSE(Stream::create(device) == current_stream(device));
  });
}

TEST_CASE("stream: events tell what has been done, and when") {
  for_each_device([](Device device) {
    const Stream stream = Stream::create(device), other = Stream::create(device);
    Event start, end;
    CHECK(start.done());
    start.wait();
    stream.wait(start);  // of nothing: no wait
    CHECK(error_text([&] { elapsed_ms(start, end); }) == "[elapsed_ms] both events must have been recorded");

    start.record(stream);
    const Tensor x = full({1000}, 1, {float32, Device::cpu()}).to(device);
    end.record(stream);
    end.record(stream);  // the last one counts
    other.wait(end);
    other.synchronize();
    stream.synchronize();
    synchronize(device);
    CHECK(stream.done());
    CHECK(end.done());
    end.wait();
    CHECK(elapsed_ms(start, end) >= 0);
    CHECK(elapsed_ms(start, end) < 60'000);
    const Event moved = std::move(end);
    CHECK(moved.done());
  });
}

TEST_CASE("stream: events of other devices") {
  const Device device = test::emulated_device();
  Event host, emulated;
  host.record(Stream(Device::cpu()));
  emulated.record(Stream(device));
  Stream(device).wait(host);
  Stream(Device::cpu()).wait(emulated);
  CHECK(error_text([&] { elapsed_ms(host, emulated); }) ==
        "[elapsed_ms] both events must be of one device: cpu, cuda-emulated");
  host.record(Stream(device));  // an event may change its device
  CHECK(elapsed_ms(host, emulated) <= 0);
}

TEST_CASE("stream: devices that are not there") {
  const std::string none = error_text([] { Stream({Device::Type::cuda, 15}); });
  const bool built_with_cuda =
      none != "[device] cuda:15 has no device memory: its runtime is not built or not linked in";
  if (built_with_cuda)
    CHECK(none == "[device] there is no cuda:15: devices of its kind: " + std::to_string(Device::cuda_count()));
  else
    CHECK(Device::cuda_count() == 0);
  CHECK(error_text([] { Stream({Device::Type::cuda_emulated, -1}); }) == "[device] there is no cuda-emulated");
  test::emulated_device();
  CHECK(error_text([] {
          Stream({Device::Type::cuda_emulated, 1});
        }) == "[device] there is no cuda-emulated: devices of its kind: 1");
}

TEST_CASE("stream: memory remembers the streams that have worked with it") {
  const Device device = test::emulated_device();
  const Stream first(device), other = Stream::create(device);
  Tensor x = empty({10}, {float32, device});
  const auto streams = [&] { return TensorAccess::streams(x); };
  const uint64_t first_bit = detail::current_state(device).bit();
  CHECK(streams() == first_bit);
  {
    const StreamScope scope(other);
    const uint64_t other_bit = detail::current_state(device).bit();
    CHECK(streams() == first_bit);
    const Tensor row = x.slice(2, 3);  // a view, which is no work
    CHECK(streams() == first_bit);
    row.raw();
    CHECK(streams() == (first_bit | other_bit));
    const Tensor y = empty({10}, {float32, device});
    CHECK(TensorAccess::streams(y) == other_bit);
  }
}

TEST_CASE("stream: copies between the host and a device on any stream") {
  for_each_device([](Device device) {
    const StreamScope scope(Stream::create(device));
    for (const int64_t n : {0, 1, 1000, 2'000'000}) {  // the last is not staged
      const Tensor x = arange(0, static_cast<double>(n), 1, {float32, Device::cpu()});
      const Tensor back = x.to(device).to(Device::cpu());
      CHECK(back.elements() == n);
      if (n > 0) CHECK(back.values<float>().back() == static_cast<float>(n - 1));
    }
  });
}

TEST_CASE("stream: page-locked tensors copy by themselves") {
  for_each_device([](Device device) {
    Tensor x = empty_pinned({3, 1000}), back = empty_pinned({3, 1000});
    CHECK(x.device() == Device::cpu());
    CHECK(x.dtype() == float32);
    x.fill(7);
    const Tensor on_device = x.to(device);
    back.copy_from(on_device);
    synchronize(device);
    CHECK(back.values<float>()[2999] == 7);
    Tensor rows = empty_pinned({2, 1000}, float32);
    rows[1].copy_from(on_device[2]);
    synchronize(device);
    CHECK(rows.values<float>()[1999] == 7);
  });
  CHECK(error_text([] { empty_pinned({2, -1}); }) == "[empty_pinned] sizes must not be negative: [2,-1]");
}

TEST_CASE("stream: page-locked memory waits for the copies that it is in") {
  const Device device = test::emulated_device();
  Tensor x = empty_pinned({1000});
  CHECK(x.pinned());
  CHECK_FALSE(empty({1}, {float32, Device::cpu()}).pinned());
  CHECK(TensorAccess::streams(x) == 0);
  const Tensor y = empty({1000}, {float32, device});
  const StreamScope scope(Stream::create(device));
  x.copy_from(y);
  CHECK(TensorAccess::streams(x) == detail::current_state(device).bit());
}

TEST_SUITE_BEGIN("threads");

TEST_CASE("stream: threads with a stream each") {
  const Device device = test::emulated_device();
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        const StreamScope scope(Stream::create(device));
        const Tensor x = full({100 + t}, t, {float32, Device::cpu()});
        const Tensor y = x.to(device).to(Device::cpu());
        wrong += y.values<float>()[99] != static_cast<float>(t);
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_SUITE_END();
