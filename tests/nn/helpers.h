// What the tests of layers and models share: tensors compared to the bit, and small tasks to learn.
#pragma once

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "mica/autograd/parameter.h"
#include "mica/autograd/tape.h"
#include "mica/core/tensor.h"
#include "mica/data/dataset.h"
#include "mica/nn/dense.h"
#include "mica/nn/layer.h"
#include "mica/ops/elementwise.h"
#include "support/tensors.h"

namespace mica::test {

inline std::vector<float> floats(const Tensor& x) {
  const Tensor host = on_cpu(x);
  const auto values = host.values<float>();
  return {values.begin(), values.end()};
}

/// The largest |a - b|, NaN if there is one; shapes must be equal.
inline double largest_difference(const Tensor& a, const Tensor& b) {
  check(a.shape() == b.shape(), "test", "shapes differ: ", a.shape(), " and ", b.shape());
  const std::vector<double> p = doubles(a), q = doubles(b);
  double most = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    const double d = std::fabs(p[i] - q[i]);
    if (!(d <= most)) most = d;
  }
  return most;
}

/// The values of parameters, copied, so that they can be compared later.
inline Tensors snapshot(const std::vector<Parameter>& parameters) {
  Tensors values;
  for (const Parameter& p : parameters) values.push_back(p.value().clone());
  return values;
}

inline bool same_bits(const Tensors& a, const Tensors& b) {
  bool same = a.size() == b.size();
  for (size_t i = 0; same && i < a.size(); ++i) same = static_cast<bool>(same_bits(a[i], b[i]));
  return same;
}

/// Writes down the ops that a tape goes back through.
struct OpWatcher final : Tape::Observer {
  void observe(const Tape::Step& step) override { ops.emplace_back(step.op); }
  std::vector<std::string> ops;
};

/// The ops behind loss(), the last first, as they are recorded where nobody looks at each.
template <class Loss>
std::vector<std::string> ops_behind(const Loss& loss, bool detect_anomaly = false) {
  Tape tape;
  tape.set_detect_anomaly(detect_anomaly);
  const Tensor value = loss();
  OpWatcher watcher;
  tape.set_observer(&watcher);
  tape.backward(value);
  return watcher.ops;
}

struct Task {
  Tensor x, y;
};

/// y = 2 a - 3 b + 0.5, of points in [-1, 1]^2.
inline Task line(int64_t n) {
  const Tensor points = random_uniform({n, 2}, -1, 1, {.stream = 11});
  const std::vector<float> x = floats(points);
  std::vector<float> y(static_cast<size_t>(n));
  for (size_t i = 0; i < y.size(); ++i) y[i] = 2 * x[2 * i] - 3 * x[2 * i + 1] + 0.5f;
  return {points, tensor(y, {n, 1})};
}

/// `arms` spirals that wind around each other; labels int64 [n].
inline Task spiral(int64_t n, int64_t arms) {
  std::vector<float> x;
  std::vector<int64_t> y;
  const std::vector<float> noise = floats(random_normal({n}, 0, 0.05, {.stream = 12}));
  for (int64_t i = 0; i < n; ++i) {
    const double r = 0.1 + 0.9 * static_cast<double>(i) / static_cast<double>(n);
    const double angle = 4 * r + 6.283185307 * static_cast<double>(i % arms) / static_cast<double>(arms) +
                         static_cast<double>(noise[static_cast<size_t>(i)]);
    x.push_back(static_cast<float>(r * std::cos(angle)));
    x.push_back(static_cast<float>(r * std::sin(angle)));
    y.push_back(i % arms);
  }
  return {tensor(x, {n, 2}), tensor(y, {n})};
}

/// The layer of the design's example: its sum with its input. Any size of input that ends in 4.
struct Residual {
  nn::Dense inner{4, {.activation = relu}};
  Tensor operator()(const Tensor& x) const { return x + inner(x); }
  void visit(nn::Visitor& v) { v("inner", inner); }
};

}  // namespace mica::test
