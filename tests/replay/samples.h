// PyTorch's own samples (tests/golden/opinfo) and what replays them: a table from the op of a case to a call of Mica's.
#pragma once

#include <algorithm>
#include <functional>
#include <map>

#include "mica/ops/conv.h"
#include "mica/ops/manipulate.h"
#include "support/golden.h"

namespace mica::test::samples {

/// A case and its inputs in the dtype of the moment.
struct Sample {
  const GoldenCase& c;
  const Tensors& x;
  DType dtype = float32;

  /// The input of that name; undefined where the case has none.
  Tensor at(const char* name) const {
    const auto place = std::find(c.inputs.begin(), c.inputs.end(), name);
    return place == c.inputs.end() ? Tensor() : x[static_cast<size_t>(place - c.inputs.begin())];
  }
  int axis(const char* name = "axis") const { return static_cast<int>(c.number(name)); }
  int64_t count(const char* name) const { return static_cast<int64_t>(c.number(name)); }
  Size2 size(const char* name) const {
    const auto [h, w] = c.pair(name);
    return {h, w};
  }
  Shape shape() const { return Shape(std::span<const int64_t>(c.list("shape"))); }
  Axes axes() const {
    const std::vector<int64_t> list = c.list("axes");
    const std::vector<int> axes(list.begin(), list.end());
    return Axes(std::span<const int>(axes));
  }
};

using Call = std::function<Tensor(const Sample&)>;
struct Op {
  Call call;
  Tolerance tolerance = kPointwise;
  Tolerance broadcast = tolerance;  // where inputs broadcast: their gradients are sums
};
using Table = std::map<std::string, Op>;

inline Padding padding_of(const Sample& s) { return s.c.text("padding") == "same" ? Padding::same : Padding::valid; }

/// PyTorch's padding by numbers is a border put around the image, or the sequence, first.
inline Tensor bordered(const Sample& s, double value) {
  const std::vector<int64_t> w = s.c.list("pads");
  if (w == std::vector<int64_t>{0, 0, 0, 0}) return s.x[0];
  if (s.x[0].rank() == 3) return pad(s.x[0], {{0, 0}, {w[2], w[3]}, {0, 0}}, {.value = value});
  return pad(s.x[0], {{0, 0}, {w[0], w[1]}, {w[2], w[3]}, {0, 0}}, {.value = value});
}

/// Replays the file's cases, each by its entry in `table`. There must be so many of them, and of gradients in all.
inline void replay_samples(const std::string& family, size_t cases, size_t gradients, const Table& table) {
  size_t replayed = 0;  // gradients
  CHECK(golden("opinfo/" + family).size() == cases);
  for (const GoldenCase& c : golden("opinfo/" + family)) {
    CAPTURE(c.name);
    const auto op = table.find(c.op);
    REQUIRE_MESSAGE(op != table.end(), "no function replays ", c.op);
    const auto call = [&](const Tensors& x) { return op->second.call({c, x, x[0].dtype()}); };
    if (c.inputs.empty()) {  // made of numbers
      CAPTURE(c.op);
      CAPTURE(c.arguments());
      for (const DType dtype : {float32, float64}) {
        const Tensors none;
        const Tensor y = op->second.call({c, none, dtype});
        CHECK(y.dtype() == dtype);
        CHECK(close(y, c.expected("y"), tolerance_of(dtype, op->second.tolerance)));
      }
      continue;
    }
    if (is_floating(c.expected("y").dtype())) {
      bool broadcasts = false;
      for (const std::string& input : c.inputs)
        broadcasts = broadcasts || !(c.expected(input).shape() == c.expected("y").shape());
      replayed += replay(c, broadcasts ? op->second.broadcast : op->second.tolerance, call);
      continue;
    }
    Tensors x;
    for (const std::string& input : c.inputs) x.push_back(c.input(input, float32));
    CAPTURE(c.op);
    CAPTURE(c.arguments());
    CHECK(close(call(x), c.expected("y"), kExact));
  }
  CHECK(replayed == gradients);
}

}  // namespace mica::test::samples
