// Golden cases: what PyTorch computed (tests/golden), replayed in float32 and float64, forward and gradients.
#pragma once

#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

#include "mica/autograd/tape.h"
#include "mica/core/tensor.h"
#include "mica/ops/elementwise.h"
#include "mica/ops/reduce.h"
#include "support/tensors.h"

namespace mica::test {

/// One case of a golden file.
class GoldenCase {
 public:
  std::string name;  ///< "conv.3x3_stride1_same"
  std::string op;
  std::vector<std::string> inputs;  ///< without dy

  /// The arguments of the op, all of them as JSON; each of the others throws where the case does not have it.
  const std::string& arguments() const { return arguments_; }
  bool has(const std::string& argument) const;
  bool flag(const std::string& argument) const;
  double number(const std::string& argument) const;
  std::string text(const std::string& argument) const;
  std::vector<int64_t> list(const std::string& argument) const;
  std::pair<int64_t, int64_t> pair(const std::string& argument) const;

  /// An input: floating ones in `dtype`, integers as they are.
  Tensor input(const std::string& input_name, DType dtype) const;
  /// What is expected, float64; undefined where the case does not tell.
  Tensor expected(const std::string& output_name) const;

 private:
  friend const std::vector<GoldenCase>& golden(const std::string& family);
  std::string arguments_;  // JSON
  std::vector<std::pair<std::string, Tensor>> tensors_;
};

/// The cases of tests/golden/<family>.safetensors, of which there is at least one.
const std::vector<GoldenCase>& golden(const std::string& family);

/// Runs y = forward(inputs) and the gradient of sum(y * dy) in float32 and in float64, and checks y and each d<input>
/// that the case has. Returns how many of these it has: a file that lost some looks no different otherwise.
template <class Forward>
size_t replay(const GoldenCase& golden_case, Tolerance float32_tolerance, const Forward& forward) {
  CAPTURE(golden_case.name);
  CAPTURE(golden_case.op);
  CAPTURE(golden_case.arguments());
  size_t count = 0;
  for (const DType dtype : {float32, float64}) {
    CAPTURE(dtype);
    const Tolerance tolerance = tolerance_of(dtype, float32_tolerance);
    Tape tape;
    Tensors xs, wanted;
    std::vector<std::string> wanted_names;
    for (const std::string& input : golden_case.inputs) {
      xs.push_back(golden_case.input(input, dtype));
      if (!golden_case.expected("d" + input).defined()) continue;
      tape.watch(xs.back());
      wanted.push_back(xs.back());
      wanted_names.push_back("d" + input);
    }
    const Tensor y = forward(xs);
    CHECK(y.dtype() == dtype);
    CHECK(close(y, golden_case.expected("y"), tolerance));
    count = wanted.size();
    if (wanted.empty()) continue;
    const Tensors gradients = tape.gradient(sum(y * golden_case.input("dy", dtype)), wanted);
    for (size_t i = 0; i < wanted.size(); ++i) {
      CAPTURE(wanted_names[i]);
      CHECK(gradients[i].dtype() == dtype);
      CHECK(close(gradients[i], golden_case.expected(wanted_names[i]), tolerance));
    }
  }
  return count;
}

}  // namespace mica::test
