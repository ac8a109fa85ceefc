// Memory and results of calls that are made on several devices.
#include "support/barrier_calls.h"

#include <cmath>

#include "core/device_runtime.h"
#include "kernels/switch.h"

namespace mica::test {

namespace {

// In [0, 1), by splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
double number(uint64_t i) {
  uint64_t z = (i + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

template <class T>
T converted(double value) {
  if constexpr (std::is_same_v<T, BFloat16>)
    return BFloat16(static_cast<float>(value));
  else
    return static_cast<T>(value);
}
template <class T>
double as_double(T value) {
  if constexpr (std::is_same_v<T, BFloat16>)
    return static_cast<double>(static_cast<float>(value));
  else
    return static_cast<double>(value);
}

}  // namespace

Calling::Calling(Device on) : device(on), kernels(kernels_for(on)) { ctx.device = on; }

Calling::~Calling() {
  for (const Block& block : blocks_) detail::Storage::destroy(block.storage);
}

void* Calling::allocate(DType dtype, int64_t n, double low, double high, bool is_result) {
  const size_t bytes = static_cast<size_t>(n) * size_of(dtype);
  detail::Storage* const storage = detail::Storage::create(device, bytes);
  const uint64_t first = uint64_t{blocks_.size()} << 32;
  blocks_.push_back({dtype, n, storage, is_result});
  if (low < high)
    kernels::for_any(dtype, [&](auto zero) {
      std::vector<decltype(zero)> values(static_cast<size_t>(n));
      for (size_t i = 0; i < values.size(); ++i)
        values[i] = converted<decltype(zero)>(low + (high - low) * number(first + i));
      detail::copy_between(device, storage->data, Device::cpu(), values.data(), bytes);
    });
  return storage->data;
}

std::vector<Calling::Result> Calling::results() const {
  std::vector<Result> results;
  for (const Block& block : blocks_) {
    if (!block.is_result) continue;
    Result& result = results.emplace_back(Result{block.dtype, {}});
    kernels::for_any(block.dtype, [&](auto zero) {
      std::vector<decltype(zero)> values(static_cast<size_t>(block.n));
      detail::copy_between(Device::cpu(), values.data(), device, block.storage->data, values.size() * sizeof(zero));
      for (auto value : values) result.values.push_back(as_double(value));
    });
  }
  if (!on_host_.empty()) results.push_back({float64, on_host_});
  return results;
}

std::string difference(const std::vector<Calling::Result>& found, const std::vector<Calling::Result>& wanted) {
  for (size_t r = 0; r < wanted.size(); ++r) {
    const DType dtype = wanted[r].dtype;
    const double tolerance = dtype == float32 ? 1e-4 : dtype == float64 ? 1e-9 : dtype == bfloat16 ? 1e-2 : 0;
    for (size_t i = 0; i < wanted[r].values.size(); ++i) {
      const double a = found[r].values[i], b = wanted[r].values[i];
      if (a == b || (a != a && b != b) || std::abs(a - b) <= tolerance * (1 + std::abs(b))) continue;
      return detail::concat("element ", static_cast<uint64_t>(i), " of result ", static_cast<uint64_t>(r), ": ", a,
                            " instead of ", b);
    }
  }
  return "";
}

}  // namespace mica::test
