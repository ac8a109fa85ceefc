// Arrays that the kernels of every device take by the addresses at which the CPU reads them.
#pragma once

#include <algorithm>
#include <vector>

#include "mica/core/device_memory.h"

namespace mica::test {

/// `count` elements in page-locked memory, where a GPU reads and writes them too; without one it is ordinary memory.
/// What a device was told to do with them must be done (synchronize) before they are looked at, changed or let go of.
template <class T>
class Pinned {
 public:
  Pinned() = default;
  explicit Pinned(int64_t count)
      : room_(empty_pinned({count}, dtype_of<T>)), data_(static_cast<T*>(room_.mutable_raw())), count_(count) {}
  Pinned(const std::vector<T>& values) : Pinned(static_cast<int64_t>(values.size())) {
    std::copy(values.begin(), values.end(), data_);
  }
  Pinned(const Pinned& other) : Pinned(other.count_) { std::copy_n(other.data_, count_, data_); }
  Pinned(Pinned&&) noexcept = default;
  Pinned& operator=(Pinned&&) noexcept = default;

  int64_t size() const { return count_; }
  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](int64_t i) { return data_[i]; }
  T operator[](int64_t i) const { return data_[i]; }

 private:
  Tensor room_;
  T* data_ = nullptr;
  int64_t count_ = 0;
};

}  // namespace mica::test
