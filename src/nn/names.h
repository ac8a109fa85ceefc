// The names of layers by their position in a model.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mica/nn/layer.h"

namespace mica::nn {

/// "MaxPool2D" is named max_pool2d, "LSTM" lstm, a type "app::Residual" residual.
inline std::string snake_case(const std::string& type) {
  const size_t colon = type.rfind(':');
  std::string name;
  char last = 0;
  for (const char c : colon == std::string::npos ? type : type.substr(colon + 1)) {
    const bool upper = c >= 'A' && c <= 'Z';
    if (upper && last >= 'a' && last <= 'z') name += '_';
    name += upper ? static_cast<char>(c - 'A' + 'a') : c;
    last = c;
  }
  return name;
}

/// How many layers of each type there are, by their names in snake case.
using TypeCounts = std::vector<std::pair<std::string, int64_t>>;

/// The name of the next layer, of `type`: "dense", "dense_1", ... It is counted, and none of `taken`.
inline std::string name_for(const std::string& type, TypeCounts& counts, const std::vector<std::string>& taken) {
  const std::string base = snake_case(type);
  auto own = std::find_if(counts.begin(), counts.end(), [&](const auto& each) { return each.first == base; });
  if (own == counts.end()) own = counts.insert(own, {base, 0});
  std::string name = own->second == 0 ? base : base + "_" + std::to_string(own->second);
  ++own->second;
  // A type may be called as the next of another is.
  const bool doubtful = std::any_of(counts.begin(), counts.end(), [&](const auto& each) {
    return each.first != base && name.starts_with(each.first);
  });
  while (doubtful && std::find(taken.begin(), taken.end(), name) != taken.end()) name += "_";
  return name;
}

/// The inputs with a name each: "input", "input_1", ... where they have none. Throws Error for names that are equal, or
/// are not printable ASCII without a colon.
std::vector<Input> named_inputs(std::span<const Input> inputs);

}  // namespace mica::nn
