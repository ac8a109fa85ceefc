// Histories, and how they are saved.
#include <cmath>
#include <nlohmann/json.hpp>

#include "io/atomic_file.h"
#include "mica/core/error.h"
#include "mica/nn/callbacks.h"
#include "nn/csv.h"

namespace MICA_EXPORT mica {
namespace nn {

namespace {

std::string csv(const std::vector<Logs>& epochs) {
  const Logs header = epochs.empty() ? Logs() : epochs.front();
  std::string text = csv_header(header);
  for (size_t i = 0; i < epochs.size(); ++i) text += csv_row(static_cast<int64_t>(i) + 1, header, epochs[i]);
  return text;
}

// nlohmann's writer quotes the names; its numbers are not always the shortest.
std::string json(const std::vector<Logs>& epochs) {
  std::string text = "{";
  if (!epochs.empty())
    for (const auto& [name, unused] : epochs.front()) {
      text += text.size() > 1 ? ",\n " : "\n ";
      text += nlohmann::json(name).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + ": [";
      for (size_t i = 0; i < epochs.size(); ++i) {
        if (i > 0) text += ", ";
        const double value = epochs[i].contains(name) ? epochs[i][name] : NAN;
        if (std::isfinite(value))
          append_text(text, value);
        else
          text += "null";
      }
      text += "]";
    }
  return text + "\n}\n";
}

}  // namespace

std::vector<double> History::operator[](const std::string& name) const {
  std::vector<double> values;
  for (const Logs& logs : epochs_) values.push_back(logs[name]);
  return values;
}

void History::visit_state(StateVisitor& v) {
  std::string names;  // each closed by a NUL, and each epoch's by one more
  std::vector<double> values;
  for (const Logs& logs : epochs_) {
    for (const auto& [name, value] : logs) {
      names += name + '\0';
      values.push_back(value);
    }
    names += '\0';
  }
  v("names", names);
  v("values", values);
  v("stopped", stopped);
  std::vector<Logs> read(1);
  size_t next = 0;
  for (size_t at = 0, end; (end = names.find('\0', at)) != names.npos; at = end + 1) {
    if (end == at) {
      read.emplace_back();
      continue;
    }
    check(next < values.size(), "history", "there are more names than values");
    read.back().set(names.substr(at, end - at), values[next++]);
  }
  check(next == values.size() && read.back().size() == 0, "history", "there are more values than names");
  read.pop_back();
  epochs_ = std::move(read);
}

void History::save(const std::string& path) const {
  const bool as_csv = path.ends_with(".csv");
  check(as_csv || path.ends_with(".json"), "history", "the file's name must end in .csv or .json: ", path);
  const std::string text = as_csv ? csv(epochs_) : json(epochs_);
  io::AtomicFile file("history", path);
  file.write(text.data(), text.size());
  file.commit();
}

}  // namespace nn
}  // namespace mica
