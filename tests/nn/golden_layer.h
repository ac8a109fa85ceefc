// Golden cases of whole layers: parameters by name, forward and gradients in float32 and float64.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "mica/nn/functional.h"
#include "mica/nn/sequence.h"
#include "nn/visitors.h"
#include "support/golden.h"

namespace mica::test {

/// Finds a layer's parameters by the names that they have within it.
class ParameterFinder final : public nn::PathVisitor {
 public:
  std::vector<std::pair<std::string, Parameter>> found;

 private:
  void parameter(const char* name, Parameter& p) override { found.emplace_back(path(name), p); }
};

/// A layer of the parameters of a case, called with its x and context and with their masks: its y and the gradients of
/// sum(y * dy) must be the case's, in float32 and in float64. make() gives a new layer.
template <class Make>
void replay_layer(const GoldenCase& c, Tolerance float32_tolerance, const Make& make) {
  CAPTURE(c.name);
  for (const DType dtype : {float32, float64}) {
    CAPTURE(dtype);
    const Tolerance tolerance = tolerance_of(dtype, float32_tolerance);
    nn::Layer layer = make();
    ParameterFinder parameters;
    layer.visit(parameters);
    size_t used = 0;
    const auto input = [&](const std::string& name) { return c.input(name, dtype).to(default_device()); };
    for (auto& [name, parameter] : parameters.found) parameter.value() = input(name), ++used;

    std::vector<nn::Symbol> symbols, operands;
    Tensors xs;
    const auto add_input = [&](const std::string& name) {
      xs.push_back(input(name));
      symbols.push_back(nn::Input(xs.back().shape().tail(), xs.back().dtype()));
      ++used;
      return symbols.back();
    };
    for (const auto& [name, mask] : {std::pair{"x", "mask"}, std::pair{"context", "context_mask"}}) {
      if (!c.expected(name).defined()) continue;
      const nn::Symbol x = add_input(name);
      operands.push_back(c.expected(mask).defined() ? nn::WithMask()({x, add_input(mask)}) : x);
    }
    REQUIRE(used == c.inputs.size());
    const nn::Functional model(symbols, operands.size() == 1 ? layer(operands[0]) : layer({operands[0], operands[1]}));

    const Tensor dy = input("dy");
    {
      Tape tape;
      const Tensor y = model(xs);
      CHECK(y.dtype() == dtype);
      CHECK(close(y, c.expected("y"), tolerance));
      if (!parameters.found.empty()) tape.backward(sum(y * dy));
    }
    for (const auto& named : parameters.found) {
      CAPTURE(named.first);
      CHECK(close(named.second.gradient(), c.expected("d" + named.first), tolerance));
    }
    Tape tape;
    Tensors wanted;
    for (Tensor& x : xs)
      if (is_floating(x.dtype())) tape.watch(x), wanted.push_back(x);
    const Tensors gradients = tape.gradient(sum(model(xs) * dy), wanted);
    CHECK(close(gradients[0], c.expected("dx"), tolerance));
    if (gradients.size() > 1) CHECK(close(gradients[1], c.expected("dcontext"), tolerance));
  }
}

}  // namespace mica::test
