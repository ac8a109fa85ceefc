// The types of layers that models can be saved with, by name.
#pragma once

#include <string>

#include "mica/nn/layer.h"

namespace mica::nn {

/// Makes a layer of the type that is registered under `name`; null where there is none.
Layer (*find_layer_type(const std::string& name))();

/// The name under which a layer's type is registered: its kType may be inherited from another. Empty: it is not.
std::string registered_name(const Layer& layer);

}  // namespace mica::nn
