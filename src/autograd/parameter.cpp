// Parameters: the state behind the handles, and packing.
#include "mica/autograd/parameter.h"

#include <algorithm>

#include "core/tensor_access.h"

namespace MICA_EXPORT mica {

namespace detail {
void retain(Leaf* leaf) noexcept { leaf->references.fetch_add(1, std::memory_order_relaxed); }
void release(Leaf* leaf) noexcept {
  if (leaf->references.fetch_sub(1, std::memory_order_acq_rel) == 1) delete leaf;
}
}  // namespace detail

void Parameter::attach(Tensor& t) const {
  if (t.defined()) TensorAccess::set_provenance(t, detail::Provenance(leaf_));  // of no value there is no gradient
}

void pack(const std::vector<Parameter>& parameters) {
  std::vector<detail::Leaf*> todo;
  for (const Parameter& p : parameters)
    if (p.defined() && std::find(todo.begin(), todo.end(), p.leaf()) == todo.end()) todo.push_back(p.leaf());
  while (!todo.empty()) {
    // The parameters of the first one's dtype and device, in order.
    const DType dtype = todo[0]->value.dtype();
    const Device device = todo[0]->value.device();
    const auto rest = std::stable_partition(todo.begin(), todo.end(), [&](const detail::Leaf* leaf) {
      return leaf->value.dtype() == dtype && leaf->value.device() == device;
    });
    const auto padded = [](const detail::Leaf* leaf) { return (leaf->value.bytes() + 63) / 64 * 64; };
    size_t bytes = 0;
    for (auto leaf = todo.begin(); leaf != rest; ++leaf) bytes += padded(*leaf);
    // Padding is zero, so that an update may pass over it.
    const Shape flat{static_cast<int64_t>(bytes / size_of(dtype))};
    const Tensor values = zeros(flat, {dtype, device}), gradients = zeros(flat, {dtype, device});
    size_t offset = 0;
    for (auto leaf = todo.begin(); leaf != rest; ++leaf) {
      Tensor value = TensorAccess::view(values, offset, (*leaf)->value.shape());
      Tensor gradient = TensorAccess::view(gradients, offset, (*leaf)->value.shape());
      value.copy_from((*leaf)->value);
      if ((*leaf)->has_gradient) gradient.copy_from((*leaf)->gradient);
      (*leaf)->value = std::move(value);
      (*leaf)->gradient = std::move(gradient);
      offset += padded(*leaf);
    }
    todo.erase(todo.begin(), rest);
  }
}

}  // namespace mica
