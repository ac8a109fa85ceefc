// The seam: the table of kernels of each backend, and the single place that says "not built" or "no such kernel".
#pragma once

#include <string_view>

#include "kernels/args.h"
#include "kernels/context.h"
#include "mica/core/device.h"
#include "mica/core/macros.h"

namespace mica::kernels {

[[noreturn]] void no_such_kernel(const char* name, const char* backend);

/// One entry of a table: callable like the kernel; empty until a backend assigns its function.
template <class Signature>
class Kernel;
template <class... Args>
class Kernel<void(Args...)> {
 public:
  using Function = void (*)(Args...);
  constexpr explicit Kernel(const char* name, const char* const* backend) : name_(name), backend_(backend) {}
  Kernel& operator=(Function function) {
    function_ = function;
    return *this;
  }
  explicit operator bool() const { return function_ != nullptr; }
  const char* name() const { return name_; }
  void operator()(Args... args) const {
    if (!function_) [[unlikely]]
      no_such_kernel(name_, *backend_);
    function_(static_cast<Args>(args)...);
  }

 private:
  Function function_ = nullptr;
  const char* name_;
  const char* const* backend_;
};

/// The kernels of one backend. `backend` reads "cpu/avx2", "cuda", ...
struct Table {
  const char* backend;

  explicit Table(const char* backend_name) : backend(backend_name) {}
  Table(const Table&) = delete;
#define KERNEL(name, parameters) Kernel<void parameters> name{#name, &backend};
#include "kernels/kernels.def"
#undef KERNEL

  /// Calls visit(kernel) for each entry, in the order of the list.
  template <class F>
  void for_each(F visit) const {
#define KERNEL(name, parameters) visit(name);
#include "kernels/kernels.def"
#undef KERNEL
  }
};

/// The table of `device`'s backend. Throws Error where it is not built.
const Table& table(Device device);

/// Used by the backends to make themselves known; the tests link the emulated one.
void register_backend(Device::Type type, const Table& table);

}  // namespace mica::kernels

namespace mica {
/// What ops call: kernels_for(x.device()).matmul(ctx, ...)
inline const kernels::Table& kernels_for(Device device) { return kernels::table(device); }
}  // namespace mica
