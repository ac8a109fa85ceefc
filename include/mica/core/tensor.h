// Tensor: a value handle on a shaped, typed piece of storage.
#pragma once

#include <atomic>
#include <concepts>
#include <initializer_list>
#include <iosfwd>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mica/core/device.h"
#include "mica/core/dtype.h"
#include "mica/core/error.h"
#include "mica/core/macros.h"
#include "mica/core/random.h"
#include "mica/core/shape.h"

namespace MICA_EXPORT mica {

namespace detail {

/// Reference-counted memory. Writes in place bump the version, by which the tape knows a stale saved tensor.
struct Storage {
  std::atomic<int32_t> references{1};
  std::atomic<uint32_t> version{0};
  Device device;
  bool pinned = false;  // on the CPU and page-locked (mica/core/device_memory.h)
  size_t bytes = 0;
  void* data = nullptr;
  std::atomic<uint64_t> streams{0};  // those that may be working with the memory: its allocator waits for them

  /// Uninitialised memory on `device`, aligned to 64 bytes.
  static Storage* create(Device device, size_t bytes);
  /// On the CPU, page-locked where there is a device.
  static Storage* create_pinned(size_t bytes);
  static void destroy(Storage* storage) noexcept;
};

/// Notes that the current stream of the storage's device may be working with it from now on.
void note_use(Storage& storage);

struct Leaf;      // a parameter's state (mica/autograd/parameter.h)
struct GradSlot;  // where a tape collects the gradient of a tensor (mica/autograd/tape.h)

void retain(Leaf* leaf) noexcept;
void release(Leaf* leaf) noexcept;

/// What a tensor is to the tape: nothing, a result on the tape `tape`, or (tape == kLeaf) the value of a parameter.
class Provenance {
 public:
  static constexpr uint64_t kLeaf = 1;

  Provenance() = default;
  Provenance(uint64_t tape, GradSlot* slot) : tape_(tape), slot_(slot) {}
  explicit Provenance(Leaf* leaf) : tape_(kLeaf), leaf_(leaf) { retain(leaf); }
  Provenance(const Provenance& other) : tape_(other.tape_), slot_(other.slot_) {
    if (tape_ == kLeaf) retain(leaf_);
  }
  Provenance(Provenance&& other) noexcept : tape_(std::exchange(other.tape_, 0)), slot_(other.slot_) {}
  Provenance& operator=(Provenance other) noexcept {
    std::swap(tape_, other.tape_);
    std::swap(slot_, other.slot_);
    return *this;
  }
  ~Provenance() {
    if (tape_ == kLeaf) release(leaf_);
  }

  Leaf* leaf() const { return tape_ == kLeaf ? leaf_ : nullptr; }
  GradSlot* slot_on(uint64_t tape) const { return tape_ == tape ? slot_ : nullptr; }

 private:
  uint64_t tape_ = 0;
  union {
    GradSlot* slot_ = nullptr;
    Leaf* leaf_;
  };
};

}  // namespace detail

/// A handle on `elements()` values of one dtype, contiguous and row-major. Copies share the storage; reshape and slices
/// along the first axis are views of it; everything else copies. A default-constructed Tensor is undefined.
class Tensor {
 public:
  Tensor() = default;
  /// A float32 scalar.
  explicit Tensor(double value);
  Tensor(const Tensor& other)
      : storage_(other.storage_), offset_(other.offset_), shape_(other.shape_), dtype_(other.dtype_),
        from_(other.from_) {
    if (storage_) storage_->references.fetch_add(1, std::memory_order_relaxed);
  }
  Tensor(Tensor&& other) noexcept
      : storage_(std::exchange(other.storage_, nullptr)), offset_(other.offset_), shape_(other.shape_),
        dtype_(other.dtype_), from_(std::move(other.from_)) {}
  Tensor& operator=(Tensor other) noexcept {
    swap(other);
    return *this;
  }
  ~Tensor() { reset(); }

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  /// The size of `axis` (negative: from the end).
  int64_t dim(int axis) const { return shape_[axis]; }
  int64_t elements() const { return shape_.elements(); }
  size_t bytes() const { return static_cast<size_t>(elements()) * size_of(dtype_); }
  DType dtype() const { return dtype_; }
  Device device() const { return storage_ ? storage_->device : Device::cpu(); }
  /// Whether it is on the CPU in page-locked memory (empty_pinned).
  bool pinned() const { return storage_ && storage_->pinned; }

  /// The elements, in the tensor's device memory, for the work of the current stream. T must be the tensor's dtype.
  template <class T>
  const T* data() const {
    check_dtype(dtype_of<T>);
    return static_cast<const T*>(raw());
  }
  /// The same for writing: bumps the storage's version, so that a tape that saved the old values throws.
  template <class T>
  T* mutable_data() {
    check_dtype(dtype_of<T>);
    return static_cast<T*>(mutable_raw());
  }
  const void* raw() const {
    if (!storage_) return nullptr;
    if (storage_->device.type != Device::Type::cpu) [[unlikely]]
      detail::note_use(*storage_);
    return static_cast<const char*>(storage_->data) + offset_;
  }
  void* mutable_raw();

  /// The elements on the CPU as a span; throws Error when the tensor is elsewhere or of another dtype.
  template <class T>
  std::span<const T> values() const {
    check_cpu("values");
    return {data<T>(), static_cast<size_t>(elements())};
  }

  /// The only element, as a double; throws Error unless there is exactly one. Waits for the device.
  double item() const;
  /// The element at `index` (one number an axis), as a double. Waits for the device.
  double at(std::initializer_list<int64_t> index) const;

  /// The same elements under another shape, as a view. One size may be -1. Differentiable.
  Tensor reshape(const Shape& shape) const;
  /// Rows [begin, end) along the first axis, as a view; negative bounds count from the end. Differentiable.
  Tensor slice(int64_t begin, int64_t end) const;
  /// Row `index` along the first axis, as a view without that axis. Differentiable.
  Tensor operator[](int64_t index) const;

  /// A copy in storage of its own. Differentiable.
  Tensor clone() const;
  /// Converted to `dtype`: floats to integers truncate toward zero (NaN gives 0, out of range saturates).
  /// Differentiable between float32 and float64.
  Tensor to(DType dtype) const;
  /// On `device`: the tensor itself when it is there already. Differentiable.
  Tensor to(Device device) const;
  /// The same values, unknown to any tape.
  Tensor detach() const;

  /// In-place writes. They are not recorded, and bump the storage's version.
  void fill(double value);
  /// Copies `source` (same shape and dtype, any device) into this tensor's storage. What is not page-locked memory
  /// (empty_pinned) may be read or changed at once.
  void copy_from(const Tensor& source);

  bool shares_storage_with(const Tensor& other) const { return storage_ && storage_ == other.storage_; }
  /// The number of in-place writes to the storage so far.
  uint32_t version() const { return storage_ ? storage_->version.load(std::memory_order_relaxed) : 0; }

  void swap(Tensor& other) noexcept {
    std::swap(storage_, other.storage_);
    std::swap(offset_, other.offset_);
    std::swap(shape_, other.shape_);
    std::swap(dtype_, other.dtype_);
    std::swap(from_, other.from_);
  }

 private:
  friend struct TensorAccess;

  void reset() noexcept {
    if (storage_ && storage_->references.fetch_sub(1, std::memory_order_acq_rel) == 1)
      detail::Storage::destroy(storage_);
    storage_ = nullptr;
  }
  void check_dtype(DType wanted) const {
    if (dtype_ != wanted || !storage_) [[unlikely]]
      dtype_mismatch(wanted);
  }
  [[noreturn]] void dtype_mismatch(DType wanted) const;
  void check_cpu(const char* op) const;

  detail::Storage* storage_ = nullptr;
  size_t offset_ = 0;  // bytes
  Shape shape_;
  DType dtype_ = DType::float32;
  detail::Provenance from_;
};

using Tensors = std::vector<Tensor>;

/// How a tensor is made: its element type and where it lives, the default device (device.h) unless said.
struct TensorOptions {
  DType dtype = float32;
  Device device = default_device();
};

/// Uninitialised. Throws Error when a size is negative or the bytes overflow.
Tensor empty(const Shape& shape, TensorOptions options = {});
Tensor empty_like(const Tensor& x);
Tensor zeros(const Shape& shape, TensorOptions options = {});
Tensor zeros_like(const Tensor& x);
Tensor ones(const Shape& shape, TensorOptions options = {});
Tensor full(const Shape& shape, double value, TensorOptions options = {});
/// start, start + step, ... below stop.
Tensor arange(double start, double stop, double step = 1, TensorOptions options = {});
/// `count` values from start to stop, both among them.
Tensor linspace(double start, double stop, int64_t count, TensorOptions options = {});
/// [rows, columns] with ones on the k-th diagonal (above the main one for k > 0) / on and below it, zeros elsewhere.
/// columns -1: as many as rows.
Tensor eye(int64_t rows, int64_t columns = -1, int64_t k = 0, TensorOptions options = {});
Tensor tri(int64_t rows, int64_t columns = -1, int64_t k = 0, TensorOptions options = {});
/// Uniform in [low, high) / normal, from Philox under `key`: the same numbers on every device (normal ones to the
/// rounding of its math library). float32 or float64.
Tensor random_uniform(const Shape& shape, double low, double high, RandomKey key, TensorOptions options = {});
Tensor random_normal(const Shape& shape, double mean, double stddev, RandomKey key, TensorOptions options = {});
/// 1 with probability `p`, else 0.
Tensor random_bernoulli(const Shape& shape, double p, RandomKey key, TensorOptions options = {});
/// int64 [n], on the CPU: 0..n-1 in an order drawn under `key` (Fisher and Yates's shuffle).
Tensor random_permutation(int64_t n, RandomKey key);

namespace detail {
// A number as written; not made from a list in braces, so that {{1}, {2}} is two rows.
struct Number {
  double value;
  template <class T>
    requires std::integral<T> || std::floating_point<T>
  constexpr Number(T v) : value(static_cast<double>(v)) {}
  constexpr operator double() const { return value; }
};
}  // namespace detail

/// tensor({1, 2, 3}), tensor({{1, 2}, {3, 4}}): values as written; rows must have one length.
Tensor tensor(std::initializer_list<detail::Number> values, TensorOptions options = {});
Tensor tensor(std::initializer_list<std::initializer_list<double>> rows, TensorOptions options = {});
/// A copy of `values`, whose number must match the shape. The dtype is T's.
template <class T>
Tensor tensor(std::span<const T> values, const Shape& shape);
template <class T>
Tensor tensor(const std::vector<T>& values, const Shape& shape) {
  return tensor(std::span<const T>(values), shape);
}

/// As NumPy prints; more than 1,000 elements are summarised.
std::string to_string(const Tensor& x);
std::ostream& operator<<(std::ostream& out, const Tensor& x);

namespace detail {
Tensor copy_to_tensor(const void* values, size_t count, const Shape& shape, DType dtype);
}

template <class T>
Tensor tensor(std::span<const T> values, const Shape& shape) {
  return detail::copy_to_tensor(values.data(), values.size(), shape, dtype_of<T>);
}

}  // namespace mica
