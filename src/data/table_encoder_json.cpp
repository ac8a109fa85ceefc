// TableEncoder as JSON: the section "mica.preprocess" of a saved model.
#include <algorithm>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>

#include "data/table_encoder_state.h"
#include "io/show.h"
#include "mica/core/error.h"

namespace MICA_EXPORT mica {
namespace data {

namespace {

using Json = nlohmann::ordered_json;  // written in order
using Parsed = nlohmann::json;        // read

constexpr int64_t kFormatVersion = 1;
constexpr size_t kMaxJson = size_t{16} << 20;  // bytes, of which those of names may be six for one
constexpr size_t kMaxValues = 250'000;         // of JSON: up to seven a field, one a category
constexpr int kMaxDepth = 5;
constexpr const char* kEncodings[] = {"number", "one_hot", "ordinal"};  // in the order of Encoding

class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path) {}

  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    if (path_.empty()) mica::fail("from_json", parts...);
    mica::fail<FileError>("load", path_, ": the preprocess section: ", mica::detail::concat(parts...));
  }

  Parsed parse(std::string_view json) const {
    if (json.size() > kMaxJson) fail("the encoder is larger than ", uint64_t{kMaxJson}, " bytes");
    size_t values = 0;
    const auto count = [&](int depth, Parsed::parse_event_t, Parsed&) {
      if (depth > kMaxDepth || ++values > 2 * kMaxValues) fail("the encoder holds more than an encoder does");
      return true;
    };
    const Parsed parsed = Parsed::parse(json.begin(), json.end(), count, false);
    if (!parsed.is_object()) fail("the encoder is no JSON object");
    return parsed;
  }

  // object[key], of the kind that `is` tells.
  const Parsed& get(const Parsed& object, const char* key, bool (Parsed::*is)() const noexcept,
                    const std::string& where) const {
    const auto found = object.find(key);
    if (found == object.end()) fail(where, " has no \"", key, "\"");
    if (!((*found).*is)()) fail(where, ": \"", key, "\" is of the wrong kind");
    return *found;
  }
  std::string text(const Parsed& object, const char* key, const std::string& where) const {
    return get(object, key, &Parsed::is_string, where).get<std::string>();
  }
  bool flag(const Parsed& object, const char* key, const std::string& where) const {
    return get(object, key, &Parsed::is_boolean, where).get<bool>();
  }
  double number(const Parsed& object, const char* key, const std::string& where) const {
    return get(object, key, &Parsed::is_number, where).get<double>();
  }

  // Texts that differ.
  std::vector<std::string> texts(const Parsed& object, const char* key, const std::string& where) {
    std::vector<std::string> all;
    for (const Parsed& each : get(object, key, &Parsed::is_array, where)) {
      if (!each.is_string()) fail(where, ": \"", key, "\" must hold texts");
      all.push_back(each.get<std::string>());
    }
    check_different(all, where + ": \"" + key + "\" holds ");
    categories_ += all.size();
    if (categories_ > kMaxEncoderCategories)
      fail("the encoder has more than ", uint64_t{kMaxEncoderCategories}, " categories");
    return all;
  }

  void check_different(const std::vector<std::string>& all, const std::string& where) const {
    const std::vector<size_t> sorted = sorted_places(all);
    for (size_t i = 1; i < sorted.size(); ++i)
      if (all[sorted[i]] == all[sorted[i - 1]]) fail(where, io::quoted(all[sorted[i]]), " twice");
  }

  EncodedField field(const Parsed& object, size_t place) {
    const std::string number_of = "field " + std::to_string(place);
    if (!object.is_object()) fail(number_of, " is no object");
    EncodedField field{.name = text(object, "name", number_of)};
    const std::string where = "field " + io::quoted(field.name);
    if (field.name.empty()) fail(number_of, " has an empty name");
    const std::string encoding = text(object, "encoding", where);
    const auto found = std::find(std::begin(kEncodings), std::end(kEncodings), encoding);
    if (found == std::end(kEncodings))
      fail(where, ": its encoding must be number, one_hot or ordinal, got ", io::quoted(encoding));
    field.encoding = static_cast<Encoding>(found - std::begin(kEncodings));
    field.missing = flag(object, "missing", where);
    if (field.encoding == Encoding::number) field.log1p = flag(object, "log1p", where);
    if (field.encoding != Encoding::number) {
      field.categories = texts(object, "categories", where);
      for (const std::string& category : field.categories)
        if (category.empty()) fail(where, ": a category is empty");
    }
    if (field.encoding != Encoding::one_hot) {
      field.mean = number(object, "mean", where);
      field.deviation = number(object, "deviation", where);
      if (!std::isfinite(field.mean)) fail(where, ": its mean must be finite");
      if (!std::isfinite(field.deviation) || field.deviation <= 0)
        fail(where, ": its deviation must be finite and above 0, got ", field.deviation);
    }
    return field;
  }

 private:
  const std::string& path_;
  size_t categories_ = 0;
};

}  // namespace

std::string TableEncoder::to_json() const {
  const State& s = state("to_json");
  Json fields = Json::array();
  for (const EncodedField& field : s.fields) {
    Json written{{"name", field.name}, {"encoding", kEncodings[static_cast<int>(field.encoding)]}};
    if (field.encoding == Encoding::number) written["log1p"] = field.log1p;
    if (field.encoding != Encoding::one_hot) {
      written["mean"] = field.mean;
      written["deviation"] = field.deviation;
    }
    written["missing"] = field.missing;
    if (field.encoding != Encoding::number) written["categories"] = field.categories;
    fields.push_back(std::move(written));
  }
  Json json{{"format", kFormatVersion}, {"fields", std::move(fields)}};
  if (!s.target.empty()) json["target"] = {{"name", s.target}, {"classes", s.classes}};
  return json.dump();
}

TableEncoder read_encoder(std::string_view json, const std::string& path) {
  Reader reader(path);
  const Parsed parsed = reader.parse(json);
  const Parsed& format = reader.get(parsed, "format", &Parsed::is_number_integer, "the encoder");
  if (format != kFormatVersion)
    reader.fail("the encoder's format is ", format.get<int64_t>(), "; this version of Mica reads format ",
                kFormatVersion);
  auto state = std::make_shared<TableEncoder::State>();
  const Parsed& fields = reader.get(parsed, "fields", &Parsed::is_array, "the encoder");
  if (fields.empty() || fields.size() > kMaxEncoderFields)
    reader.fail("the encoder must have 1 to ", uint64_t{kMaxEncoderFields}, " fields");
  for (const Parsed& field : fields) state->fields.push_back(reader.field(field, state->fields.size()));
  state->finish();
  reader.check_different(state->names, "there is a field ");
  if (state->features == 0) reader.fail("the encoder's fields make no features");
  if (parsed.contains("target")) {
    const Parsed& target = reader.get(parsed, "target", &Parsed::is_object, "the encoder");
    state->target = reader.text(target, "name", "the target");
    if (state->target.empty()) reader.fail("the target has an empty name");
    if (place_of(state->target, state->names, state->sorted) < state->names.size())
      reader.fail("the target ", io::quoted(state->target), " is a field too");
    state->classes = reader.texts(target, "classes", "the target");
  }
  TableEncoder encoder;
  encoder.state_ = std::move(state);
  return encoder;
}

TableEncoder TableEncoder::from_json(std::string_view json) { return read_encoder(json, {}); }

}  // namespace data
}  // namespace mica
