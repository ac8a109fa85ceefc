// Runs of parameters that lie one after another, as packing leaves them: what is done to each is done to a run at once.
#pragma once

#include <cstdint>
#include <vector>

#include "autograd/packing.h"
#include "mica/autograd/parameter.h"

namespace mica::optim {

/// Whether an update changes the parameter.
inline bool takes_part(const mica::detail::Leaf& leaf) { return leaf.has_gradient && leaf.trainable; }

/// Whether `next` begins `bytes` after `first`.
inline bool follows(const Tensor& first, const Tensor& next, size_t bytes) {
  return static_cast<const char*>(next.raw()) == static_cast<const char*>(first.raw()) + bytes;
}

/// Calls run(i, n) for the parameters from i on that take part and whose gradients lie one after another, n elements in
/// all with what pads them. joins(i, j, bytes) says whether the j-th also belongs in other ways, `bytes` after the
/// i-th.
template <class Joins, class Run>
void for_each_run(const std::vector<Parameter>& parameters, const Joins& joins, const Run& run) {
  for (size_t i = 0; i < parameters.size();) {
    const mica::detail::Leaf& first = *parameters[i].leaf();
    if (!takes_part(first)) {
      ++i;
      continue;
    }
    size_t bytes = 0, end = i;
    for (; end < parameters.size(); ++end) {
      const mica::detail::Leaf& leaf = *parameters[end].leaf();
      if (end > i && !(takes_part(leaf) && leaf.gradient.dtype() == first.gradient.dtype() &&
                       follows(first.gradient, leaf.gradient, bytes) && joins(i, end, bytes)))
        break;
      bytes += mica::detail::packed_bytes(leaf.gradient);  // only what lies between may include the padding
    }
    const Tensor& last = parameters[end - 1].leaf()->gradient;
    bytes -= mica::detail::packed_bytes(last) - last.bytes();
    run(i, static_cast<int64_t>(bytes / size_of(last.dtype())));
    i = end;
  }
}

}  // namespace mica::optim
