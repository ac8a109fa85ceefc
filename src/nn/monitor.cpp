// Monitor.
#include "nn/monitor.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "mica/core/error.h"

namespace mica::callbacks {

void Monitor::reset() {
  any_ = false;
  best_ = std::numeric_limits<double>::quiet_NaN();
}

bool Monitor::more_is_better() const {
  if (mode_ != Mode::automatic) return mode_ == Mode::max;
  constexpr std::string_view kValidation = "val_";
  std::string_view name = name_;
  if (name.starts_with(kValidation)) name.remove_prefix(kValidation.size());
  constexpr std::array<std::string_view, 4> kMore = {"precision", "recall", "f1", "auc"};
  if (name.ends_with("accuracy") || std::find(kMore.begin(), kMore.end(), name) != kMore.end()) return true;
  check(name.ends_with("loss") || name.ends_with("error"), op_, "whether more or less of \"", name_,
        "\" is better is not known: give .mode = callbacks::Mode::min or max");
  return false;
}

bool Monitor::better(const nn::Logs& logs) {
  if (!logs.contains(name_)) {
    std::string names;
    for (const auto& [name, value] : logs) names += (names.empty() ? "" : ", ") + name;
    fail(op_, "there is no \"", name_, "\" to monitor, but ", names,
         name_.starts_with("val_") ? " (those of validation need validation data)" : "");
  }
  const bool more = more_is_better();
  const double value = logs[name_];
  if (std::isnan(value)) return false;
  if (any_ && !(more ? value - min_delta_ > best_ : value + min_delta_ < best_)) return false;
  any_ = true;
  best_ = value;
  return true;
}

}  // namespace mica::callbacks
