// Numbers as people read them.
#pragma once

#include <cstdint>
#include <string>

namespace mica::nn {

/// 1234567 as "1,234,567".
inline std::string grouped(int64_t value) {
  std::string text = std::to_string(value);
  for (auto i = static_cast<int>(text.size()) - 3; i > 0; i -= 3) text.insert(static_cast<size_t>(i), ",");
  return text;
}

}  // namespace mica::nn
