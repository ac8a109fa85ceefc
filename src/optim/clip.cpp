// Gradient clipping.
#include "mica/optim/clip.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/kernels.h"
#include "optim/clip.h"
#include "optim/runs.h"

namespace MICA_EXPORT mica {
namespace optim {

namespace {

// A parameter that is given twice counts once.
bool repeated(const std::vector<Parameter>& parameters, size_t i) {
  const auto end = parameters.begin() + static_cast<std::ptrdiff_t>(i);
  return std::find(parameters.begin(), end, parameters[i]) != end;
}

}  // namespace

double gradient_norm(const std::vector<Parameter>& parameters) {
  double total = 0;
  Tensor sums;  // of the parameters of one device, which are copied to the host at once
  int64_t count = 0;
  const auto add_sums = [&] {
    if (count == 0) return;
    const Tensor host = sums.slice(0, count).to(Device::cpu());
    for (int64_t i = 0; i < count; ++i) total += host.data<double>()[i];
    count = 0;
  };
  for (size_t i = 0; i < parameters.size(); ++i) {
    const mica::detail::Leaf& leaf = *parameters[i].leaf();
    if (!takes_part(leaf) || repeated(parameters, i)) continue;
    // One parameter at a time: what a sum has in it must not depend on the packing.
    const Tensor& g = leaf.gradient;
    if (count > 0 && sums.device() != g.device()) add_sums();
    if (count == 0) sums = empty({static_cast<int64_t>(parameters.size())}, {float64, g.device()});
    Context ctx = context(g.device());
    kernels_for(g.device())
        .sum_squares(ctx, g.dtype(), g.elements(), g.raw(), static_cast<double*>(sums.mutable_raw()) + count++);
  }
  add_sums();
  return std::sqrt(total);
}

void clip(const std::vector<Parameter>& parameters, double scale, double limit) {
  for_each_run(
      parameters, [&](size_t i, size_t j, size_t) { return !repeated(parameters, i) && !repeated(parameters, j); },
      [&](size_t i, int64_t n) {
        if (repeated(parameters, i)) return;
        Tensor& g = parameters[i].leaf()->gradient;
        Context ctx = context(g.device());
        kernels_for(g.device()).clip(ctx, g.dtype(), n, scale, limit, g.mutable_raw());
      });
}

double clip_gradients(const std::vector<Parameter>& parameters, double max_norm) {
  check(max_norm > 0, "clip_gradients", "max_norm must be above 0, got ", max_norm);
  const double norm = gradient_norm(parameters);
  if (norm > max_norm && std::isfinite(norm))
    clip(parameters, max_norm / norm, std::numeric_limits<double>::infinity());
  return norm;
}

}  // namespace optim
}  // namespace mica
