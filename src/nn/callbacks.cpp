// Logs.
#include "mica/nn/callbacks.h"

#include "mica/core/error.h"

namespace MICA_EXPORT mica {
namespace nn {

double Logs::operator[](const std::string& name) const {
  for (const auto& [key, value] : values_)
    if (key == name) return value;
  fail("logs", "there is no \"", name, "\"");
}

bool Logs::contains(const std::string& name) const {
  for (const auto& [key, value] : values_)
    if (key == name) return true;
  return false;
}

void Logs::set(const std::string& name, double value) {
  for (auto& [key, kept] : values_)
    if (key == name) {
      kept = value;
      return;
    }
  values_.emplace_back(name, value);
}

}  // namespace nn
}  // namespace mica
