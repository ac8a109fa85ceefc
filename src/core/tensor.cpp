// Tensors: creation, access, copies between devices. Views and conversions with gradients are ops (ops/view.cpp).
#include "mica/core/tensor.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/stream_state.h"
#include "core/tensor_access.h"
#include "kernels/kernels.h"
#include "mica/autograd/tape.h"
#include "mica/core/device_memory.h"

namespace MICA_EXPORT mica {

namespace {

// Throws before anything is allocated.
size_t checked_bytes(const char* op, const Shape& shape, DType dtype) {
  int64_t n = 1;  // without sizes of 0: the product of any of the axes must not overflow
  for (const int64_t size : shape) {
    check(size >= 0, op, "sizes must not be negative: ", shape);
    if (size > 0)
      check(!__builtin_mul_overflow(n, size, &n) && n < (int64_t{1} << 46), op, "too many elements: ", shape);
  }
  return static_cast<size_t>(shape.elements()) * size_of(dtype);
}

void fill_values(Tensor& x, double value) {
  Context ctx = context(x.device());
  kernels_for(x.device()).fill(ctx, x.dtype(), x.elements(), value, TensorAccess::data(x));
}

}  // namespace

Tensor::Tensor(double value) : Tensor(full({}, value)) {}

void* Tensor::mutable_raw() {
  if (storage_) storage_->version.fetch_add(1, std::memory_order_relaxed);
  return const_cast<void*>(raw());
}

void Tensor::dtype_mismatch(DType wanted) const {
  if (!storage_) fail("data", "the tensor is undefined");
  fail("data", "the tensor is ", dtype_, ", not ", wanted);
}

void Tensor::check_cpu(const char* op) const {
  check(device().type == Device::Type::cpu, op, "the tensor is on ", device(), ": move it with .to(Device::cpu())");
}

namespace {
double element(const Tensor& x, int64_t i) {
  switch (x.dtype()) {
    case DType::float32: return static_cast<const float*>(x.raw())[i];
    case DType::float64: return static_cast<const double*>(x.raw())[i];
    case DType::bfloat16: return static_cast<float>(static_cast<const BFloat16*>(x.raw())[i]);
    case DType::int32: return static_cast<const int32_t*>(x.raw())[i];
    case DType::int64: return static_cast<double>(static_cast<const int64_t*>(x.raw())[i]);
    case DType::uint8: return static_cast<const uint8_t*>(x.raw())[i];
  }
  return 0;
}
}  // namespace

double Tensor::item() const {
  check(defined() && elements() == 1, "item", "the tensor must have one element, shape ", shape_);
  return element(device().type == Device::Type::cpu ? *this : to(Device::cpu()), 0);
}

double Tensor::at(std::initializer_list<int64_t> index) const {
  check(defined() && static_cast<int>(index.size()) == rank(), "at", "one index for each axis of ", shape_, ", got ",
        static_cast<uint64_t>(index.size()));
  int64_t offset = 0;
  int axis = 0;
  for (const int64_t i : index) {
    const int64_t size = shape_[axis];
    check(i >= -size && i < size, "at", "index ", i, " is out of range for axis ", axis, " of ", shape_);
    offset = offset * size + (i < 0 ? i + size : i);
    ++axis;
  }
  if (device().type == Device::Type::cpu) return element(*this, offset);
  const size_t size = size_of(dtype_);
  return element(TensorAccess::view(*this, static_cast<size_t>(offset) * size, {1}).to(Device::cpu()), 0);
}

Tensor Tensor::detach() const { return TensorAccess::view(*this, 0, shape_); }

Tensor Tensor::to(Device target) const {
  check(defined(), "to", "the tensor is undefined");
  if (target == device()) return *this;
  Tensor y = empty(shape_, {dtype_, target});
  y.copy_from(*this);
  if (Tape* tape = Tape::recording(*this))
    tape->record("to", {this}, {&y}, {}, [from = device()](Gradients& g) { g.add(0, g.dy().to(from)); });
  return y;
}

void Tensor::fill(double value) {
  check(defined(), "fill", "the tensor is undefined");
  mutable_raw();
  fill_values(*this, value);
}

void Tensor::copy_from(const Tensor& source) {
  check(defined() && source.defined(), "copy_from", "both tensors must be defined");
  check(source.shape() == shape_ && source.dtype() == dtype_, "copy_from", "shape and dtype must match: ", shape_, " ",
        dtype_, " from ", source.shape(), " ", source.dtype());
  void* to = mutable_raw();
  if (to == source.raw() || bytes() == 0) return;
  const bool to_host = device().type == Device::Type::cpu, from_host = source.device().type == Device::Type::cpu;
  if (to_host && from_host) {
    std::memmove(to, source.raw(), bytes());
    return;
  }
  detail::Storage& host = from_host ? *source.storage_ : *storage_;  // or neither is the host's
  if (host.pinned)                                                   // the copy goes on by itself
    host.streams.fetch_or(detail::current_state(from_host ? device() : source.device()).bit());
  detail::copy_between(device(), to, source.device(), source.raw(), bytes(), host.pinned);
}

Tensor empty(const Shape& shape, TensorOptions options) {
  const size_t bytes = checked_bytes("empty", shape, options.dtype);
  return TensorAccess::make(detail::Storage::create(options.device, bytes), shape, options.dtype);
}

Tensor empty_pinned(const Shape& shape, DType dtype) {
  const size_t bytes = checked_bytes("empty_pinned", shape, dtype);
  return TensorAccess::make(detail::Storage::create_pinned(bytes), shape, dtype);
}

Tensor empty_like(const Tensor& x) { return empty(x.shape(), {x.dtype(), x.device()}); }

Tensor full(const Shape& shape, double value, TensorOptions options) {
  Tensor x = empty(shape, options);
  fill_values(x, value);
  return x;
}

Tensor zeros(const Shape& shape, TensorOptions options) { return full(shape, 0, options); }
Tensor ones(const Shape& shape, TensorOptions options) { return full(shape, 1, options); }
Tensor zeros_like(const Tensor& x) { return zeros(x.shape(), {x.dtype(), x.device()}); }

Tensor arange(double start, double stop, double step, TensorOptions options) {
  check(std::isfinite(start) && std::isfinite(stop) && std::isfinite(step) && step != 0, "arange",
        "start, stop and step must be finite, and step not 0: ", start, ", ", stop, ", ", step);
  const double count = std::ceil((stop - start) / step);
  check(count < 0x1p46, "arange", "too many elements: ", start, " to ", stop, " by ", step);
  Tensor x = empty({count > 0 ? static_cast<int64_t>(count) : 0}, {float64, Device::cpu()});
  double* values = x.mutable_data<double>();
  for (int64_t i = 0; i < x.elements(); ++i) values[i] = start + static_cast<double>(i) * step;
  return x.to(options.dtype).to(options.device);
}

Tensor linspace(double start, double stop, int64_t count, TensorOptions options) {
  check(std::isfinite(start) && std::isfinite(stop), "linspace", "start and stop must be finite: ", start, ", ", stop);
  check(count >= 0 && count < (int64_t{1} << 46), "linspace", "the count must not be negative or huge, got ", count);
  Tensor x = empty({count}, {float64, Device::cpu()});
  double* values = x.mutable_data<double>();
  const double step = count > 1 ? (stop - start) / static_cast<double>(count - 1) : 0;
  for (int64_t i = 0; i < count; ++i) values[i] = start + static_cast<double>(i) * step;
  if (count > 1) values[count - 1] = stop;
  if (!is_floating(options.dtype))
    for (int64_t i = 0; i < count; ++i) values[i] = std::floor(values[i]);  // as NumPy does
  return x.to(options.dtype).to(options.device);
}

namespace {

// 1 where test(column - row), else 0.
template <class Test>
Tensor banded(const char* op, int64_t rows, int64_t columns, TensorOptions options, const Test& test) {
  check(rows >= 0 && columns >= -1, op, "sizes must not be negative: ", rows, ", ", columns);
  Tensor x = empty({rows, columns < 0 ? rows : columns}, {uint8, Device::cpu()});
  uint8_t* values = x.mutable_data<uint8_t>();
  for (int64_t i = 0; x.elements() > 0 && i < rows; ++i)
    for (int64_t j = 0; j < x.dim(1); ++j) *values++ = test(j - i);
  return x.to(options.dtype).to(options.device);
}

}  // namespace

Tensor eye(int64_t rows, int64_t columns, int64_t k, TensorOptions options) {
  return banded("eye", rows, columns, options, [k](int64_t diagonal) { return diagonal == k; });
}

Tensor tri(int64_t rows, int64_t columns, int64_t k, TensorOptions options) {
  return banded("tri", rows, columns, options, [k](int64_t diagonal) { return diagonal <= k; });
}

Tensor random_uniform(const Shape& shape, double low, double high, RandomKey key, TensorOptions options) {
  check(options.dtype == float32 || options.dtype == float64, "random_uniform", "not defined for ", options.dtype);
  check(low <= high, "random_uniform", "low must not be above high: ", low, ", ", high);
  Tensor x = empty(shape, options);
  Context ctx = context(options.device);
  kernels_for(options.device).random_uniform(ctx, options.dtype, x.elements(), low, high, key, TensorAccess::data(x));
  return x;
}

Tensor random_normal(const Shape& shape, double mean, double stddev, RandomKey key, TensorOptions options) {
  check(options.dtype == float32 || options.dtype == float64, "random_normal", "not defined for ", options.dtype);
  check(stddev >= 0, "random_normal", "the standard deviation must not be negative: ", stddev);
  Tensor x = empty(shape, options);
  Context ctx = context(options.device);
  kernels_for(options.device).random_normal(ctx, options.dtype, x.elements(), mean, stddev, key, TensorAccess::data(x));
  return x;
}

Tensor random_bernoulli(const Shape& shape, double p, RandomKey key, TensorOptions options) {
  check(p >= 0 && p <= 1, "random_bernoulli", "the probability must be within [0, 1], got ", p);
  Tensor x = empty(shape, {uint8, Device::cpu()});
  uint8_t* values = x.mutable_data<uint8_t>();
  for (int64_t i = 0; i < x.elements(); ++i) {
    const Philox4 words = philox(key, static_cast<uint64_t>(i));
    const uint64_t bits = (uint64_t{words.v[0]} << 32 | words.v[1]) >> 11;
    values[i] = static_cast<double>(bits) * 0x1p-53 < p;
  }
  return x.to(options.dtype).to(options.device);
}

Tensor random_permutation(int64_t n, RandomKey key) {
  check(n >= 0, "random_permutation", "the length must not be negative, got ", n);
  Tensor x = arange(0, static_cast<double>(n), 1, {int64, Device::cpu()});
  int64_t* order = x.mutable_data<int64_t>();
  for (int64_t i = n - 1; i > 0; --i) {
    const Philox4 words = philox(key, static_cast<uint64_t>(i));
    const uint64_t random = uint64_t{words.v[0]} << 32 | words.v[1];
    std::swap(order[i], order[random % static_cast<uint64_t>(i + 1)]);
  }
  return x;
}

namespace {
Tensor of_doubles(const std::vector<double>& values, const Shape& shape, TensorOptions options) {
  Tensor x = empty(shape, {float64, Device::cpu()});
  std::copy(values.begin(), values.end(), x.mutable_data<double>());
  return x.to(options.dtype).to(options.device);
}
}  // namespace

Tensor tensor(std::initializer_list<detail::Number> numbers, TensorOptions options) {
  const std::vector<double> values(numbers.begin(), numbers.end());
  return of_doubles(values, {static_cast<int64_t>(values.size())}, options);
}

Tensor tensor(std::initializer_list<std::initializer_list<double>> rows, TensorOptions options) {
  const size_t columns = rows.size() ? rows.begin()->size() : 0;
  std::vector<double> values;
  values.reserve(rows.size() * columns);
  for (const auto& row : rows) {
    check(row.size() == columns, "tensor", "rows must have one length, got ", static_cast<uint64_t>(columns), " and ",
          static_cast<uint64_t>(row.size()));
    values.insert(values.end(), row);
  }
  return of_doubles(values, {static_cast<int64_t>(rows.size()), static_cast<int64_t>(columns)}, options);
}

Tensor detail::copy_to_tensor(const void* values, size_t count, const Shape& shape, DType dtype) {
  const size_t bytes = checked_bytes("tensor", shape, dtype);
  check(static_cast<int64_t>(count) == shape.elements(), "tensor",
        "the number of values must match the shape: ", static_cast<uint64_t>(count), " values for ", shape);
  Tensor x = empty(shape, {dtype});
  copy_between(x.device(), TensorAccess::data(x), Device::cpu(), values, bytes);
  return x;
}

}  // namespace mica
