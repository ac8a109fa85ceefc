// Whether a tensor is finite, and where it is not.
#include "core/finite.h"

#include <algorithm>
#include <cmath>

#include "core/tensor_access.h"

namespace MICA_EXPORT mica {

namespace {

template <class T>
int64_t search(const T* values, int64_t n) {
  const T* end = values + n;
  const T* bad = std::find_if(values, end, [](T v) { return !std::isfinite(v); });
  return bad == end ? -1 : bad - values;
}

}  // namespace

int64_t first_nonfinite(const Tensor& x) {
  if (!x.defined() || !is_floating(x.dtype())) return -1;
  const Tensor on_cpu = x.detach().to(Device::cpu());
  const Tensor y = x.dtype() == bfloat16 ? on_cpu.to(float32) : on_cpu;
  return y.dtype() == float64 ? search(y.data<double>(), y.elements()) : search(y.data<float>(), y.elements());
}

std::string nonfinite_text(const Tensor& x, int64_t position) {
  const Tensor one = TensorAccess::view(x, static_cast<size_t>(position) * size_of(x.dtype()), {}).to(Device::cpu());
  Shape index = x.shape();
  for (int axis = x.rank() - 1; axis >= 0; --axis) {
    index[axis] = position % x.dim(axis);
    position /= x.dim(axis);
  }
  return detail::concat("element ", index, " of shape ", x.shape(), " is ", one.item());
}

}  // namespace mica
