// A kernel called on each device with the same memory, where what the kernels of ops are given would not do: pointers
// that are not aligned, say.
#pragma once

#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "core/device_runtime.h"
#include "kernels/context.h"
#include "kernels/kernels.h"
#include "kernels/switch.h"
#include "mica/core/tensor.h"
#include "support/devices.h"
#include "support/tensors.h"

namespace mica::test {

/// Values of a dtype, which lie `shift` elements behind an aligned place.
struct Values {
  DType dtype;
  int64_t count = 0, shift = 0;
  std::vector<unsigned char> bytes;
};

inline Values values(DType dtype, const std::vector<double>& numbers, int64_t shift = 0) {
  Values all{dtype, static_cast<int64_t>(numbers.size()), shift, {}};
  all.bytes.resize(numbers.size() * size_of(dtype));
  kernels::for_number(dtype, [&](auto t) {
    for (size_t i = 0; i < numbers.size(); ++i) {
      t = static_cast<decltype(t)>(numbers[i]);
      std::memcpy(all.bytes.data() + i * sizeof t, &t, sizeof t);
    }
  });
  return all;
}

/// Numbers from -9 to 9, whose sums are exact, and which come up again and again.
inline std::vector<double> whole_numbers(int64_t count, uint64_t salt = 0) {
  std::vector<double> numbers(static_cast<size_t>(count));
  uint64_t state = salt + 1;
  for (double& number : numbers) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    number = static_cast<double>(state >> 33) * (19.0 / (uint64_t{1} << 31)) - 9;
    number = std::floor(number);
  }
  return numbers;
}

/// One call of a kernel: its device's kernels, and memory there.
class Call {
 public:
  const kernels::Table& kernels;
  Context context;

  Call(Device device, const std::vector<Values>& in, const std::vector<Values>& out)
      : kernels(kernels_for(device)), context(mica::context(device)), device_(device) {
    for (const Values& v : in) in_.push_back(copy_of(v));
    for (const Values& v : out) out_.push_back(copy_of(v));
  }
  const void* in(size_t i) const { return place(in_[i]); }
  void* out(size_t i) const { return place(out_[i]); }

  /// What the outputs hold.
  std::vector<std::vector<unsigned char>> results() const {
    std::vector<std::vector<unsigned char>> all;
    for (const Memory& m : out_) {
      all.emplace_back(m.bytes - m.shift_bytes);
      detail::copy_between(Device::cpu(), all.back().data(), device_, place(m), all.back().size());
    }
    return all;
  }

 private:
  struct Memory {
    size_t bytes, shift_bytes;
    std::shared_ptr<void> data;
  };
  static void* place(const Memory& m) { return static_cast<char*>(m.data.get()) + m.shift_bytes; }
  Memory copy_of(const Values& v) const {
    const size_t shift_bytes = static_cast<size_t>(v.shift) * size_of(v.dtype), bytes = v.bytes.size() + shift_bytes;
    const Tensor room = empty({static_cast<int64_t>(bytes)}, {uint8, device_});
    Memory m{bytes, shift_bytes, std::shared_ptr<void>(const_cast<void*>(room.raw()), [room](void*) {})};
    if (!v.bytes.empty()) detail::copy_between(device_, place(m), Device::cpu(), v.bytes.data(), v.bytes.size());
    return m;
  }

  Device device_;
  std::vector<Memory> in_, out_;
};

/// Calls a kernel on each device, and checks that what it leaves in `out` is the CPU's, bit by bit; NaN is NaN.
template <class F>
void check_call(const std::vector<Values>& in, const std::vector<Values>& out, const F& f) {
  std::vector<std::vector<unsigned char>> expected;
  for_each_device([&](Device device) {
    Call call(device, in, out);
    f(call);
    const auto results = call.results();
    if (device == Device::cpu()) expected = results;
    for (size_t i = 0; i < out.size(); ++i) {
      CAPTURE(i);
      CHECK(same_elements(out[i].dtype, results[i].data(), expected[i].data(), expected[i].size()));
    }
  });
}

}  // namespace mica::test
