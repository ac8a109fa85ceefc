// What a Model's handle points to.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "mica/data/table_encoder.h"
#include "mica/nn/model.h"

namespace mica::nn {

struct Model::State {
  Layer layer;
  std::vector<Input> inputs;  // none: not known yet
  bool built = false;
  Device device = default_device();
  data::TableEncoder preprocess;
  optim::Optimizer optimizer;
  losses::Loss loss;
  std::vector<metrics::Metric> metrics;
  std::vector<std::string> metric_names;
  std::atomic<uint64_t> step{0};  // training calls so far: keys dropout
  int64_t epochs = 0;             // that fit has trained: keys the order of the examples
};

}  // namespace mica::nn
