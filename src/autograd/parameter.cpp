// Parameters: the state behind the handles, and packing.
#include "mica/autograd/parameter.h"

#include <algorithm>

#include "autograd/packing.h"
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

std::vector<Tensor> detail::packed_zeros(const std::vector<Parameter>& parameters) {
  std::vector<Tensor> packed(parameters.size());
  for (size_t first = 0; first < parameters.size(); ++first) {
    if (packed[first].defined()) continue;
    const Tensor& like = parameters[first].value();
    const auto alike = [&](const Parameter& p) {
      return p.value().dtype() == like.dtype() && p.value().device() == like.device();
    };
    size_t bytes = 0;
    for (const Parameter& p : parameters) bytes += alike(p) ? packed_bytes(p.value()) : 0;
    const Tensor flat = zeros({static_cast<int64_t>(bytes / size_of(like.dtype()))}, {like.dtype(), like.device()});
    size_t offset = 0;
    for (size_t i = first; i < parameters.size(); ++i) {
      if (!alike(parameters[i])) continue;
      packed[i] = TensorAccess::view(flat, offset, parameters[i].shape());
      offset += packed_bytes(parameters[i].value());
    }
  }
  return packed;
}

void pack(const std::vector<Parameter>& given) {
  std::vector<Parameter> parameters;  // each once, of those that have a value
  for (const Parameter& p : given)
    if (p.defined() && std::find(parameters.begin(), parameters.end(), p) == parameters.end()) parameters.push_back(p);
  std::vector<Tensor> values = detail::packed_zeros(parameters), gradients = detail::packed_zeros(parameters);
  for (size_t i = 0; i < parameters.size(); ++i) {
    detail::Leaf& leaf = *parameters[i].leaf();
    values[i].copy_from(leaf.value);
    if (leaf.has_gradient) gradients[i].copy_from(leaf.gradient);
    leaf.value = std::move(values[i]);
    leaf.gradient = std::move(gradients[i]);
  }
}

}  // namespace mica
