// The encoder that a saved model remembers.
#pragma once

#include <string>

#include "mica/io/safetensors.h"
#include "mica/nn/model.h"

namespace mica::nn {

/// Writes the model's encoder, where it has one, into the metadata of a file.
void save_preprocess(const Model& model, io::Metadata& metadata);
/// Gives the model, which is built, the encoder in the file, where there is one.
void load_preprocess(Model& model, const io::SafetensorsFile& file);

}  // namespace mica::nn
