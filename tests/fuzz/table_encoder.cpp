// The preprocess section of a saved model, as JSON: refused, or an encoder that says again what it read.
#include "mica/data/table_encoder.h"

#include <cstdlib>

#include "mica/core/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t count) {
  using namespace mica;
  try {
    const std::string_view text(reinterpret_cast<const char*>(bytes), count);
    const data::TableEncoder encoder = data::TableEncoder::from_json(text);
    const std::string json = encoder.to_json();
    if (data::TableEncoder::from_json(json).to_json() != json) std::abort();
    if (static_cast<int64_t>(encoder.feature_names().size()) != encoder.features()) std::abort();
    data::Row row;
    for (const std::string& name : encoder.field_names()) row.emplace_back(name, nullptr);
    if (encoder.encode(row).dim(1) != encoder.features()) std::abort();
  } catch (const Error&) {
  }
  return 0;
}
