// Gradients against finite differences.
#include "mica/autograd/gradcheck.h"

#include <algorithm>
#include <cmath>

#include "mica/autograd/tape.h"
#include "mica/ops/elementwise.h"
#include "mica/ops/reduce.h"

namespace MICA_EXPORT mica {

double detail::gradcheck(Tensor (*call)(const void* f, const Tensors& xs), const void* f, const Tensors& inputs,
                         const GradcheckOptions& options) {
  Tensors xs;
  for (const Tensor& x : inputs) {
    check(x.defined() && x.dtype() == float64, "gradcheck", "inputs must be float64");
    xs.push_back(x.detach().clone());
  }
  Tensor weights;
  const auto value = [&] {
    const Tensor y = call(f, xs);
    if (!weights.defined())
      weights =
          random_uniform(y.shape(), 0.5, 1.5, {random_stream(options.seed, "gradcheck"), 0}, {float64, y.device()});
    return sum(y * weights);
  };
  Tensors gradients;
  {
    Tape tape;
    for (Tensor& x : xs) tape.watch(x);
    const Tensor y = value();
    if (!tape.producer(y)) fail("gradcheck", "the result does not depend on the inputs through recorded ops");
    gradients = tape.gradient(y, xs);
  }
  Tape::Pause pause;
  double worst = 0;
  for (size_t i = 0; i < xs.size(); ++i) {
    Tensor host = xs[i].to(Device::cpu()).clone();
    double* x = host.mutable_data<double>();
    const Tensor gradient = gradients[i].to(Device::cpu());
    const auto value_at = [&](int64_t j, double changed) {
      x[j] = changed;
      xs[i].copy_from(host);
      return value().item();
    };
    for (int64_t j = 0; j < xs[i].elements(); ++j) {
      const double kept = x[j], h = options.step * std::max(1.0, std::fabs(kept));
      const double above = value_at(j, kept + h), below = value_at(j, kept - h);
      x[j] = kept;
      const double numeric = (above - below) / (2 * h), analytic = gradient.data<double>()[j];
      const double error = std::fabs(numeric - analytic) / std::max(1.0, std::fabs(numeric));
      check(error <= options.tolerance, "gradcheck", "input ", static_cast<uint64_t>(i), " of shape ", xs[i].shape(),
            ", element ", j, ": the gradient is ", analytic, ", differences say ", numeric);
      worst = std::max(worst, error);
    }
    xs[i].copy_from(host);
  }
  return worst;
}

}  // namespace mica
