// The graph of a saved model: layers, their configuration and who takes whose results, as JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "mica/nn/layer.h"

namespace mica::nn {

struct SavedGraph {
  std::vector<Input> inputs;
  Layer layer;                      // without parameters, where it is read
  std::vector<std::string> frozen;  // the names of parameters that are not trained
};

/// The JSON of a graph. Throws Error for what it cannot hold, such as a layer whose type is not registered.
std::string write_graph(const SavedGraph& graph);
/// A graph from its JSON, in the file at `path`. Throws FileError, naming the node and what is wrong with it.
SavedGraph read_graph(const std::string& path, const std::string& json);

// What both ways share.
namespace saved {
inline constexpr const char* kPaddings[] = {"valid", "same", "causal"};  // in the order of Padding
inline constexpr int kFormatVersion = 1;

inline std::string joined(const std::string& folder, const std::string& name) {
  return folder.empty() ? name : folder + "." + name;
}
}  // namespace saved

}  // namespace mica::nn
