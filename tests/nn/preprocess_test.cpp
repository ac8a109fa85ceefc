// The encoder that a model remembers: saved and loaded to the bit, copied, and checked.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "mica/mica.h"
#include "support/error_text.h"
#include "support/temp_dir.h"
#include "support/tensors.h"

using namespace mica;
using mica::test::error_text;
using mica::test::same_bits;
using mica::test::TempDir;

namespace {

data::Table training_table() {
  data::Table table;
  table.add("age", std::vector<double>{30, NAN, 50.1, 41});
  table.add("housing", {"rent", "own", "own", "für \"free\""});
  table.add("outcome", {"good", "bad", "good", "bad"});
  return table;
}

data::TableEncoder small_encoder() { return data::TableEncoder(training_table(), {.target = "outcome"}); }

nn::Sequential small_model(int64_t features = 5) {
  return nn::Sequential{nn::Input({features}), nn::Dense(1, {.activation = sigmoid})};
}

nn::Sequential model_with_encoder() {
  nn::Sequential model = small_model();
  model.set_preprocess(small_encoder());
  return model;
}

// Saves the model with this section in place of its own, and gives the error of loading it, without the path.
std::string section_rejection(const std::string& section) {
  const TempDir folder;
  const std::string path = folder.file("model");
  model_with_encoder().save(path);
  io::Metadata metadata = io::load_safetensors(path).metadata;
  for (auto& [key, value] : metadata)
    if (key == "mica.preprocess") value = section;
  io::save_safetensors(path, io::load_safetensors(path).tensors, metadata);
  std::string text = error_text<FileError>([&] { nn::Model::load(path); });
  const std::string start = "[load] " + path + ": ";
  return text.starts_with(start) ? text.substr(start.size()) : text;
}

}  // namespace

TEST_CASE("preprocess: a loaded model scores raw fields with the same bits") {
  const TempDir folder;
  const nn::Sequential model = model_with_encoder();
  model.save(folder.file("model"));
  const nn::Model loaded = nn::Model::load(folder.file("model"));
  CHECK(loaded.preprocess().defined());
  CHECK(loaded.preprocess().to_json() == small_encoder().to_json());
  const data::Row row{{"age", 37.7}, {"housing", "für \"free\""}};
  CHECK(same_bits(loaded.predict(loaded.preprocess().encode(row)), model.predict(small_encoder().encode(row))));
  CHECK(same_bits(loaded.preprocess().encode(training_table()), small_encoder().encode(training_table())));
  CHECK(loaded.preprocess().classes() == std::vector<std::string>{"bad", "good"});
  loaded.save(folder.file("again"));
  CHECK(test::read_file(folder.file("again")) == test::read_file(folder.file("model")));
}

TEST_CASE("preprocess: a model without an encoder has none, before and after") {
  const TempDir folder;
  const nn::Sequential model = small_model();
  CHECK(!model.preprocess().defined());
  model.save(folder.file("model"));
  CHECK(!io::load_safetensors(folder.file("model")).find_metadata("mica.preprocess"));
  CHECK(!nn::Model::load(folder.file("model")).preprocess().defined());
  nn::Sequential cleared = model_with_encoder();
  cleared.set_preprocess({});
  CHECK(!cleared.preprocess().defined());
}

TEST_CASE("preprocess: copies of a model share its encoder, clones have one of their own") {
  nn::Sequential model = model_with_encoder();
  nn::Model copy = model, clone = model.clone();
  CHECK(clone.preprocess().to_json() == small_encoder().to_json());
  model.set_preprocess({});
  CHECK(!copy.preprocess().defined());
  CHECK(clone.preprocess().defined());
}

TEST_CASE("preprocess: an encoder outlives the model that gave it") {
  const data::TableEncoder& encoder = model_with_encoder().preprocess();
  CHECK(encoder.to_json() == small_encoder().to_json());
}

TEST_CASE("preprocess: the encoder must make what the model takes") {
  nn::Sequential model = small_model(7);
  CHECK(error_text([&] { model.set_preprocess(small_encoder()); }) ==
        "[set_preprocess] the encoder makes 5 features, but the model's input is [7] float32");
  CHECK(!model.preprocess().defined());
  // A model that is not built yet takes any; it is found out when it is saved.
  nn::Sequential later{nn::Dense(1)};
  later.set_preprocess(small_encoder());
  later.build(nn::Input({4}));
  const TempDir folder;
  CHECK(error_text([&] { later.save(folder.file("model")); }) ==
        "[save] the encoder makes 5 features, but the model's input is [4] float32");
  CHECK(folder.size() == 0);
}

TEST_CASE("preprocess: what is said of a file whose section is malformed") {
  const std::string good = small_encoder().to_json();
  CHECK(section_rejection(good) == "no error");
  CHECK(section_rejection("") == "the preprocess section: the encoder is no JSON object");
  CHECK(section_rejection("{}") == "the preprocess section: the encoder has no \"format\"");
  auto json = nlohmann::ordered_json::parse(good);
  json["fields"][0]["deviation"] = 0;
  CHECK(section_rejection(json.dump()) ==
        "the preprocess section: field \"age\": its deviation must be finite and above 0, got 0");
  json = nlohmann::ordered_json::parse(good);
  json["fields"].erase(1);
  CHECK(section_rejection(json.dump()) ==
        "the preprocess section: the encoder makes 2 features, but the model's input is [5] float32");
}

TEST_CASE("preprocess: any damage to a model's section is refused, or leaves an encoder of as many features") {
  const std::string good = small_encoder().to_json();
  int refused = 0;
  for (size_t i = 0; i < good.size(); ++i) {
    CAPTURE(i);
    CHECK_THROWS_AS(data::TableEncoder::from_json(good.substr(0, i)), Error);
    std::string changed = good;
    changed[i] = changed[i] == '0' ? 'x' : '0';
    try {
      const int64_t features = data::TableEncoder::from_json(changed).features();
      CHECK(features == small_encoder().features());
    } catch (const Error&) {
      ++refused;
    }
  }
  CHECK(refused > 100);
}
