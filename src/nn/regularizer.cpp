// Regularizers: which parameters have one, and their penalty.
#include "mica/nn/regularizer.h"

#include <cmath>
#include <string>
#include <utility>

#include "mica/nn/layer.h"
#include "mica/ops/elementwise.h"
#include "mica/ops/reduce.h"

namespace MICA_EXPORT mica {
namespace nn {

Regularizer regularizers::l1_l2(double l1, double l2) {
  for (const double factor : {l1, l2})
    check(std::isfinite(factor) && factor >= 0, "regularizer", "the factor must be finite and not negative, got ",
          factor);
  return {l1, l2};
}

Regularizer regularizers::l1(double factor) { return l1_l2(factor, 0); }
Regularizer regularizers::l2(double factor) { return l1_l2(0, factor); }

namespace {

// Pairs "kernel" with the "kernel_regularizer" of the same layer.
class Finder final : public Visitor {
 public:
  std::vector<RegularizedParameter> found;

 private:
  void config(const char* name, Regularizer& r) override {
    if (r.defined()) waiting_.emplace_back(name, r);
  }
  void parameter(const char* name, Parameter& p) override {
    const size_t first = begins_.empty() ? 0 : begins_.back();
    for (size_t i = first; i < waiting_.size(); ++i)
      if (waiting_[i].first == std::string(name) + "_regularizer") found.push_back({p, waiting_[i].second});
  }
  void enter(const char*) override { begins_.push_back(waiting_.size()); }
  void leave() override {
    waiting_.resize(begins_.back());
    begins_.pop_back();
  }

  std::vector<std::pair<std::string, Regularizer>> waiting_;
  std::vector<size_t> begins_;  // where those of each layer that is being visited begin
};

}  // namespace

std::vector<RegularizedParameter> regularized_parameters(Layer& layer) {
  Finder finder;
  layer.visit(finder);
  return finder.found;
}

Tensor penalty(const std::vector<RegularizedParameter>& parameters) {
  Tensor total;
  const auto add = [&](const Tensor& t) { total = total.defined() ? total + t : t; };
  for (const auto& [parameter, regularizer] : parameters) {
    const Tensor w = parameter.tensor();
    if (regularizer.l1 != 0) add(sum(abs(w)) * regularizer.l1);
    if (regularizer.l2 != 0) add(sum(square(w)) * regularizer.l2);
  }
  return total;
}

}  // namespace nn
}  // namespace mica
