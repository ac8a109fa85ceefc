// The encoder of raw fields that belongs to a model, in its file under "mica.preprocess".
#include "nn/preprocess.h"

#include "data/table_encoder_state.h"
#include "nn/model_state.h"

namespace MICA_EXPORT mica {
namespace nn {

namespace {

constexpr const char* kPreprocessKey = "mica.preprocess";

// E: what is thrown where the encoder's features are not what the model takes.
template <class E>
void check_features(const Model& model, const data::TableEncoder& encoder, const char* op, const std::string& where) {
  if (!encoder.defined() || !model.built()) return;
  check<E>(model.inputs().size() == 1, op, where, "the encoder makes one input, but the model has ",
           uint64_t{model.inputs().size()});
  const Input& input = model.input();
  check<E>(input.shape == Shape{encoder.features()} && input.dtype == float32, op, where, "the encoder makes ",
           encoder.features(), " features, but the model's input is ", input.shape, " ", input.dtype);
}

}  // namespace

void Model::set_preprocess(const data::TableEncoder& encoder) {
  check_features<Error>(*this, encoder, "set_preprocess", "");
  state_->preprocess = encoder;
}

data::TableEncoder Model::preprocess() const { return state_->preprocess; }

void save_preprocess(const Model& model, io::Metadata& metadata) {
  check_features<Error>(model, model.preprocess(), "save", "");  // it may have been given before the model was built
  if (model.preprocess().defined()) metadata.emplace_back(kPreprocessKey, model.preprocess().to_json());
}

void load_preprocess(Model& model, const io::SafetensorsFile& file) {
  const std::string* json = file.find_metadata(kPreprocessKey);
  if (!json) return;
  const data::TableEncoder encoder = data::read_encoder(*json, file.path);
  check_features<FileError>(model, encoder, "load", file.path + ": the preprocess section: ");
  model.set_preprocess(encoder);
}

}  // namespace nn
}  // namespace mica
