// Metrics.
#include "mica/nn/metrics.h"

#include <cmath>

#include "mica/autograd/tape.h"
#include "mica/ops/reduce.h"
#include "nn/targets.h"

namespace MICA_EXPORT mica {
namespace metrics {

namespace {

Tensor on_cpu(const Tensor& x, DType dtype) { return x.detach().to(Device::cpu()).to(dtype); }

template <class F>
detail::Total over_elements(const char* name, const Tensor& prediction, const Tensor& target, const F& f) {
  Tape::Pause pause;
  check(prediction.defined() && target.defined() && prediction.shape() == target.shape(), name,
        "prediction and target must have one shape: prediction ", prediction.shape(), ", target ", target.shape());
  const DType dtype = prediction.dtype() == float64 ? float64 : float32;
  const Tensor p = on_cpu(prediction, dtype), t = on_cpu(target, dtype);
  detail::Total total{0, static_cast<double>(p.elements())};
  for (int64_t i = 0; i < p.elements(); ++i)
    total.sum += dtype == float64 ? f(p.data<double>()[i], t.data<double>()[i])
                                  : f(static_cast<double>(p.data<float>()[i]), static_cast<double>(t.data<float>()[i]));
  return total;
}

}  // namespace

detail::Total Accuracy::of(const Tensor& prediction, const Tensor& target) {
  Tape::Pause pause;
  const nn::Targets kind = nn::checked_targets(kName, prediction, target);
  if (kind == nn::Targets::binary)
    return over_elements(kName, prediction.reshape(target.shape()), target,
                         [](double p, double t) { return (p > 0.5) == (t > 0.5) ? 1.0 : 0.0; });
  if (prediction.elements() == 0) return {};
  const Tensor guess = argmax(on_cpu(prediction, prediction.dtype())), truth = nn::classes_of(kind, target);
  detail::Total total{0, static_cast<double>(guess.elements())};
  for (int64_t i = 0; i < guess.elements(); ++i) total.sum += guess.data<int64_t>()[i] == truth.data<int64_t>()[i];
  return total;
}

detail::Total MeanAbsoluteError::of(const Tensor& prediction, const Tensor& target) {
  return over_elements(kName, prediction, target, [](double p, double t) { return std::fabs(p - t); });
}

detail::Total MeanSquaredError::of(const Tensor& prediction, const Tensor& target) {
  return over_elements(kName, prediction, target, [](double p, double t) { return (p - t) * (p - t); });
}

}  // namespace metrics
}  // namespace mica
