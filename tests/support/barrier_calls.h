// Calls of kernels that the CPU and the emulation can both make, so that results can be compared.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "mica/core/error.h"
#include "mica/core/tensor.h"

namespace mica::test {

/// One call being made: memory on its device, full of the same numbers on each device, and the kernels.
class Calling {
 public:
  explicit Calling(Device on);
  ~Calling();
  Calling(const Calling&) = delete;
  Calling& operator=(const Calling&) = delete;

  Device device;
  Context ctx;
  const kernels::Table& kernels;

  /// Numbers in [low, high): of an integer type whole ones.
  void* in(DType dtype, int64_t n, double low = -2, double high = 2) { return allocate(dtype, n, low, high, false); }
  /// What the kernel is to write: nobody has written it.
  void* out(DType dtype, int64_t n) { return allocate(dtype, n, 0, 0, true); }
  /// What the kernel updates.
  void* inout(DType dtype, int64_t n, double low = -2, double high = 2) { return allocate(dtype, n, low, high, true); }
  /// Whole numbers from 0 up to `limit`.
  int64_t* indices(int64_t n, int64_t limit) {
    return static_cast<int64_t*>(in(int64, n, 0, static_cast<double>(limit)));
  }
  /// Zeros and ones.
  uint8_t* mask(int64_t n) { return static_cast<uint8_t*>(in(uint8, n, 0, 2)); }
  /// A result that is on the host.
  void result(double value) { on_host_.push_back(value); }

  struct Result {
    DType dtype;
    std::vector<double> values;
  };
  /// All that out, inout and result were asked for.
  std::vector<Result> results() const;

 private:
  struct Block {
    DType dtype;
    int64_t n;
    detail::Storage* storage;
    bool is_result;
  };
  void* allocate(DType dtype, int64_t n, double low, double high, bool is_result);

  std::vector<Block> blocks_;
  std::vector<double> on_host_;
};

struct Call {
  std::string name;
  std::function<void(Calling&)> make;

  /// Makes the call on `device`. Throws what the kernel throws.
  std::vector<Calling::Result> on(Device device) const {
    Calling calling(device);
    make(calling);
    return calling.results();
  }
};
using Calls = std::vector<Call>;

/// Where the results differ by more than rounding: "element 12 of result 0: 3 instead of 4", or "".
std::string difference(const std::vector<Calling::Result>& found, const std::vector<Calling::Result>& wanted);

/// Calls of all kernels that have barriers, at shapes that reach each launch of their launchers.
Calls calls_with_barriers();

}  // namespace mica::test
