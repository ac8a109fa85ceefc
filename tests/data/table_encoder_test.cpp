// TableEncoder: what it makes of fields, what it remembers as JSON, and what is said of wrong use.
#include "mica/data/table_encoder.h"

#include <doctest/doctest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "support/golden.h"
#include "support/tensors.h"
#include "support/wrong_use.h"

using namespace mica;
using mica::data::Row;
using mica::data::Table;
using mica::data::TableEncoder;
using mica::data::TableEncoderOptions;
using mica::test::check_wrong_use;
using mica::test::close;
using mica::test::error_text;
using mica::test::same_bits;

namespace {

using Strings = std::vector<std::string>;
using Json = nlohmann::ordered_json;

Table loans() {
  Table table;
  table.add("age", std::vector<double>{30, NAN, 50, 40});
  table.add("housing", {"rent", "own", "", "own"});
  table.add("amount", std::vector<double>{0, 99, 999, 9});
  table.add("rating", {"low", "high", "mid", "low"});
  table.add("outcome", {"good", "bad", "good", "good"});
  return table;
}

const TableEncoderOptions options{.target = "outcome",
                                  .classes = {"good", "bad"},
                                  .log1p = {"amount"},
                                  .ordinal = {{"rating", {"low", "mid", "high"}}}};

Row loan() { return {{"amount", 9}, {"rating", "low"}, {"housing", "own"}, {"age", 40}}; }

Row without(Row row, const std::string& name) {
  std::erase_if(row, [&](const auto& field) { return field.first == name; });
  return row;
}

Row with(Row row, const std::string& name, data::Value value) {
  row = without(row, name);
  row.emplace_back(name, std::move(value));
  return row;
}

}  // namespace

TEST_CASE("table_encoder: numbers are standardised, texts one-hot, ordered texts numbers, and missing ones told") {
  const TableEncoder encoder(loans(), options);
  CHECK(encoder.field_names() == Strings{"age", "housing", "amount", "rating"});
  CHECK(encoder.feature_names() ==
        Strings{"age", "age (missing)", "housing=own", "housing=rent", "housing (missing)", "amount", "rating"});
  CHECK(encoder.feature_fields() == std::vector<int64_t>{0, 0, 1, 1, 1, 2, 3});
  CHECK(encoder.features() == 7);
  const double age = 10 / std::sqrt(200. / 3), amount = 1 / std::sqrt(1.25), place = std::sqrt(11. / 16);
  const Tensor x = encoder.encode(loans());
  CHECK(x.dtype() == float32);
  CHECK(x.shape() == Shape{4, 7});
  CHECK(close(x, {-age, 0, 0, 1, 0, -1.5 * amount, -0.75 / place,  //
                  0,    1, 1, 0, 0, 0.5 * amount,  1.25 / place,   //
                  age,  0, 0, 0, 1, 1.5 * amount,  0.25 / place,   //
                  0,    0, 1, 0, 0, -0.5 * amount, -0.75 / place},
              {1e-6, 1e-7}));
  CHECK(encoder.target() == "outcome");
  CHECK(encoder.classes() == Strings{"good", "bad"});
  CHECK(same_bits(encoder.targets(loans()), tensor({0, 1, 0, 0}, {int64})));
}

TEST_CASE("table_encoder: a text that training did not have is all zeros, and so is one that training never missed") {
  Table training;
  training.add("city", {"b", "a", "b"});
  training.add("size", {"s", "m", "s"});
  training.add("n", std::vector<double>{1, 2, 3});
  const TableEncoder encoder(training, {.ordinal = {{"size", {"s", "m", "l"}}}});
  CHECK(encoder.feature_names() == Strings{"city=a", "city=b", "size", "n"});
  const Tensor x = encoder.encode(Row{{"city", "c"}, {"size", "xl"}, {"n", nullptr}});
  CHECK(close(x, {0, 0, 0, 0}));
  CHECK(same_bits(encoder.encode(Row{{"city", nullptr}, {"size", ""}, {"n", 2}}), x));
}

TEST_CASE("table_encoder: columns that training does not vary, and such as have no values, do no harm") {
  Table table;
  table.add("constant", std::vector<double>{0.1, 0.1, 0.1});
  table.add("nothing", std::vector<double>{NAN, NAN, NAN});
  const TableEncoder encoder(table);
  CHECK(encoder.feature_names() == Strings{"constant", "nothing", "nothing (missing)"});
  CHECK(close(encoder.encode(table), {0, 0, 1, 0, 0, 1, 0, 0, 1}));
  // A column without any value is read as numbers, whatever it held in training.
  Table unknown;
  unknown.add("age", std::vector<double>{35});
  unknown.add("housing", std::vector<double>{NAN});
  unknown.add("amount", std::vector<double>{1});
  unknown.add("rating", std::vector<double>{NAN});
  CHECK(TableEncoder(loans(), options).encode(unknown).at({0, 4}) == 1);
}

TEST_CASE("table_encoder: scikit-learn's StandardScaler and OneHotEncoder") {
  for (const test::GoldenCase& c : test::golden("table_encoder")) {
    CAPTURE(c.name);
    const auto table = [&](const std::string& part) {
      const std::vector<double> x = test::doubles(c.input(part, float64));
      const std::vector<double> codes = test::doubles(c.input(part + "_texts", float64));
      Table made;
      for (size_t j = 0; j < 4; ++j) {
        std::vector<double> column;
        for (size_t i = 0; i < codes.size(); ++i) column.push_back(x[i * 4 + j]);
        made.add("x" + std::to_string(j), column);
      }
      Strings texts;
      for (const double code : codes) texts.push_back(std::string(1, static_cast<char>('a' + static_cast<int>(code))));
      made.add("text", texts);
      return made;
    };
    const TableEncoder encoder(table("train"), {.log1p = {"x3"}});
    CHECK(close(encoder.encode(table("test")), c.expected("y"), test::kPointwise));
  }
}

TEST_CASE("table_encoder: one example by its fields, in any order, has the bits of its row in a table") {
  const TableEncoder encoder(loans(), options);
  const Tensor x = encoder.encode(loans());
  CHECK(same_bits(encoder.encode(loan()), x.slice(3, 4)));
  CHECK(same_bits(
      encoder.encode({{"age", nullptr}, {"housing", std::string("own")}, {"amount", 99L}, {"rating", "high"}}),
      x.slice(1, 2)));
}

TEST_CASE("table_encoder: a target of numbers stays as it is; without classes they are in alphabetical order") {
  CHECK(close(TableEncoder(loans(), {.target = "amount"}).targets(loans()), {0, 99, 999, 9}));
  CHECK(TableEncoder(loans(), {.target = "amount"}).targets(loans()).dtype() == float32);
  CHECK(TableEncoder(loans(), {.target = "amount"}).classes().empty());
  CHECK(TableEncoder(loans(), {.target = "outcome"}).classes() == Strings{"bad", "good"});
  CHECK(TableEncoder(loans()).field_names().size() == 5);
}

TEST_CASE("table_encoder: what an encoder that is gone at once gives stays") {
  const auto made = [] { return TableEncoder(loans(), options); };
  const Strings& classes = made().classes();
  const std::string& target = made().target();
  CHECK(classes == Strings{"good", "bad"});
  CHECK(target == "outcome");
  const TableEncoder encoder = made();
  CHECK(&encoder.classes() == &encoder.classes());  // no copy of one that stays
}

TEST_CASE("table_encoder: JSON brings back the same bits") {
  for (const TableEncoder& encoder :
       {TableEncoder(loans(), options), TableEncoder(loans()), TableEncoder(loans(), {.target = "amount"})}) {
    const std::string json = encoder.to_json();
    const TableEncoder again = TableEncoder::from_json(json);
    CHECK(again.to_json() == json);
    CHECK(same_bits(again.encode(loans()), encoder.encode(loans())));
    CHECK(again.feature_names() == encoder.feature_names());
    CHECK(again.classes() == encoder.classes());
    CHECK(again.target() == encoder.target());
  }
}

TEST_CASE("table_encoder: what is said of an example that does not fit") {
  const TableEncoder encoder(loans(), options);
  const auto encode = [&](const Row& row) { return [&encoder, row] { encoder.encode(row); }; };
  check_wrong_use({
      {"[encode] field \"age\" is not there", encode(without(loan(), "age"))},
      {"[encode] there is no field \"Age\"", encode(with(loan(), "Age", 3))},
      {"[encode] there is no field \"outcome\"", encode(with(loan(), "outcome", "good"))},
      {"[encode] field \"age\" comes twice",
       [&] {
         Row row = loan();
         row.emplace_back("age", 3);
         encoder.encode(row);
       }},
      {"[encode] field \"age\" must be a number, got \"35\"", encode(with(loan(), "age", "35"))},
      {"[encode] field \"housing\" must be a text, got 3", encode(with(loan(), "housing", 3))},
      {"[encode] field \"rating\" must be a text, got 0.5", encode(with(loan(), "rating", 0.5))},
      {"[encode] field \"age\" must be finite, got nan", encode(with(loan(), "age", NAN))},
      {"[encode] field \"age\" must be finite, got inf", encode(with(loan(), "age", INFINITY))},
      {"[encode] field \"age\" is too far from what it was in training: 1e+300", encode(with(loan(), "age", 1e300))},
      {"[encode] field \"amount\" must be above -1 for log1p, got -1", encode(with(loan(), "amount", -1))},
      {"[encode] field \"amount\" is too far from what it was in training: 1e+300",
       [] {
         Table narrow;
         narrow.add("amount", std::vector<double>{0, 1e-40});
         TableEncoder(narrow, {.log1p = {"amount"}}).encode(Row{{"amount", 1e300}});
       }},
  });
}

TEST_CASE("table_encoder: what is said of a table that does not fit") {
  const TableEncoder encoder(loans(), options);
  Table other = loans().drop({"age"}), mistyped = loans().drop({"age"}), untold = loans().drop({"housing"});
  mistyped.add("age", Strings{"1", "2", "3", "4"});
  untold.add("housing", std::vector<double>{NAN, 1, NAN, NAN});
  Table classes = loans().drop({"outcome"}), missing = classes;
  classes.add("outcome", {"good", "ugly", "bad", "bad"});
  missing.add("outcome", {"good", "", "bad", "bad"});
  check_wrong_use({
      {"[encode] the table has no column \"age\"", [&] { encoder.encode(other); }},
      {"[encode] column \"age\" must hold numbers, not texts", [&] { encoder.encode(mistyped); }},
      {"[encode] column \"housing\" must hold texts, not numbers: load_csv's option .texts keeps them so",
       [&] { encoder.encode(untold); }},
      {"[targets] the target \"outcome\" of row 1 is \"ugly\", which is none of its classes",
       [&] { encoder.targets(classes); }},
      {"[targets] the target \"outcome\" of row 1 is missing", [&] { encoder.targets(missing); }},
      {"[targets] the encoder was made without a target", [&] { TableEncoder(loans()).targets(loans()); }},
      {"[targets] the target \"age\" of row 1 is missing", [&] { TableEncoder(loans(), {.target = "age"}); }},
      {"[encode] the encoder has learned nothing: make it of a training table", [&] { TableEncoder().encode(other); }},
  });
}

TEST_CASE("table_encoder: what is said of a number of a table names its row") {
  const TableEncoder encoder(loans(), options);
  const auto encode = [&](const char* name, double third) {
    Table table = loans().drop({name});
    table.add(name, std::vector<double>{1, 2, third, 3});
    return [&encoder, table] { encoder.encode(table); };
  };
  Table infinite, below;
  infinite.add("n", std::vector<double>{1, INFINITY});
  below.add("n", std::vector<double>{1, 2, -1});
  check_wrong_use({
      {"[encode] field \"age\" of row 2 must be finite, got -inf", encode("age", -INFINITY)},
      {"[encode] field \"age\" of row 2 is too far from what it was in training: 1e+300", encode("age", 1e300)},
      {"[encode] field \"amount\" of row 2 must be above -1 for log1p, got -2", encode("amount", -2)},
      {"[table_encoder] field \"n\" of row 1 must be finite, got inf", [&] { TableEncoder learned(infinite); }},
      {"[table_encoder] field \"n\" of row 2 must be above -1 for log1p, got -1",
       [&] { TableEncoder learned(below, {.log1p = {"n"}}); }},
  });
}

TEST_CASE("table_encoder: what is said of options that do not fit") {
  const auto make = [](const TableEncoderOptions& given) { return [given] { TableEncoder encoder(loans(), given); }; };
  Table large, latin, unlabelled = loans().drop({"outcome"});
  unlabelled.add("outcome", Strings(4));
  large.add("x", std::vector<double>{1e308, -1e308, 1e308});
  latin.add("x", {"\xe9"});
  check_wrong_use({
      {"[table_encoder] the table has no rows to learn from", [] { TableEncoder encoder(loans().slice(0, 0)); }},
      {"[table_encoder] the table has no column but the target",
       [] { TableEncoder encoder(loans().select({"age"}), {.target = "age"}); }},
      {"[table_encoder] the target \"x\" is no column", make({.target = "x"})},
      {"[table_encoder] the target \"outcome\" misses all of its values",
       [&] { TableEncoder encoder(unlabelled, {.target = "outcome"}); }},
      {"[table_encoder] classes are for a target that holds texts", make({.target = "age", .classes = {"a"}})},
      {"[table_encoder] the classes must differ", make({.target = "outcome", .classes = {"a", "a"}})},
      {"[targets] the target \"outcome\" of row 1 is \"bad\", which is none of its classes",
       make({.target = "outcome", .classes = {"good"}})},
      {"[table_encoder] log1p names \"x\", which is no column", make({.log1p = {"x"}})},
      {"[table_encoder] log1p names \"amount\", which is the target", make({.target = "amount", .log1p = {"amount"}})},
      {"[table_encoder] log1p names \"housing\", which does not hold numbers", make({.log1p = {"housing"}})},
      {"[table_encoder] ordinal names \"age\", which does not hold texts", make({.ordinal = {{"age", {"a"}}}})},
      {"[table_encoder] ordinal names a field twice", make({.ordinal = {{"housing", {"a"}}, {"housing", {"b"}}}})},
      {"[table_encoder] the order of \"rating\" must list texts that differ, none of them empty",
       make({.ordinal = {{"rating", {"low", "low"}}}})},
      {"[table_encoder] column \"rating\" holds \"high\", which is not in its order",
       make({.ordinal = {{"rating", {"low", "mid"}}}})},
      {"[table_encoder] column \"rating\" has 3 different texts, more than max_categories (2): drop it, or allow more",
       make({.max_categories = 2})},
      {"[table_encoder] max_categories must be at least 1, got 0", make({.max_categories = 0})},
      {"[table_encoder] the numbers of column \"x\" are too large to be standardised",
       [&] { TableEncoder encoder(large); }},
      {"[table_encoder] names and texts must be UTF-8: \"?\"", [&] { TableEncoder encoder(latin); }},
  });
}

TEST_CASE("table_encoder: what is said of JSON that is malformed") {
  const Json good = Json::parse(TableEncoder(loans(), options).to_json());
  // The error of `good` after `change`.
  const auto rejection = [&](const auto& change) {
    Json json = good;
    change(json);
    return error_text([&] { TableEncoder::from_json(json.dump()); });
  };
  const auto of_field = [&](size_t i, const char* key, const Json& value) {
    return rejection([&](Json& json) { json["fields"][i][key] = value; });
  };
  CHECK(rejection([](Json&) {}) == "no error");
  CHECK(error_text([] { TableEncoder::from_json("{"); }) == "[from_json] the encoder is no JSON object");
  CHECK(error_text([] { TableEncoder::from_json("[]"); }) == "[from_json] the encoder is no JSON object");
  CHECK(error_text([] { TableEncoder::from_json("[[[[[[[[["); }) ==
        "[from_json] the encoder holds more than an encoder does");
  CHECK(error_text([] { TableEncoder::from_json("{\"mean\": 1e999}"); }) ==
        "[from_json] the encoder is no JSON object");
  CHECK(error_text([] { TableEncoder::from_json(std::string((16 << 20) + 1, ' ')); }) ==
        "[from_json] the encoder is larger than 16777216 bytes");
  CHECK(rejection([](Json& json) { json.erase("format"); }) == "[from_json] the encoder has no \"format\"");
  CHECK(rejection([](Json& json) { json["format"] = 2; }) ==
        "[from_json] the encoder's format is 2; this version of Mica reads format 1");
  CHECK(rejection([](Json& json) { json["fields"] = 3; }) ==
        "[from_json] the encoder: \"fields\" is of the wrong kind");
  CHECK(rejection([](Json& json) { json["fields"] = Json::array(); }) ==
        "[from_json] the encoder must have 1 to 10000 fields");
  CHECK(rejection([](Json& json) { json["fields"][1] = 3; }) == "[from_json] field 1 is no object");
  CHECK(rejection([](Json& json) { json["fields"][1].erase("name"); }) == "[from_json] field 1 has no \"name\"");
  CHECK(of_field(1, "name", "") == "[from_json] field 1 has an empty name");
  CHECK(of_field(1, "name", "age") == "[from_json] there is a field \"age\" twice");
  CHECK(of_field(0, "encoding", "hash") ==
        "[from_json] field \"age\": its encoding must be number, one_hot or ordinal, got \"hash\"");
  CHECK(of_field(0, "missing", 1) == "[from_json] field \"age\": \"missing\" is of the wrong kind");
  CHECK(of_field(0, "mean", nullptr) == "[from_json] field \"age\": \"mean\" is of the wrong kind");
  CHECK(of_field(0, "deviation", 0) == "[from_json] field \"age\": its deviation must be finite and above 0, got 0");
  CHECK(of_field(3, "deviation", -1) ==
        "[from_json] field \"rating\": its deviation must be finite and above 0, got -1");
  CHECK(of_field(1, "categories", {"a", "b", "a"}) ==
        "[from_json] field \"housing\": \"categories\" holds \"a\" twice");
  CHECK(of_field(1, "categories", {"a", 3}) == "[from_json] field \"housing\": \"categories\" must hold texts");
  CHECK(of_field(1, "categories", {"a", ""}) == "[from_json] field \"housing\": a category is empty");
  CHECK(of_field(1, "categories", "a") == "[from_json] field \"housing\": \"categories\" is of the wrong kind");
  CHECK(rejection([](Json& json) { json["target"] = "outcome"; }) ==
        "[from_json] the encoder: \"target\" is of the wrong kind");
  CHECK(rejection([](Json& json) { json["target"]["name"] = "age"; }) ==
        "[from_json] the target \"age\" is a field too");
  CHECK(rejection([](Json& json) { json["target"]["name"] = ""; }) == "[from_json] the target has an empty name");
  CHECK(rejection([](Json& json) {
          json["target"]["classes"] = {"a", "a"};
        }) == "[from_json] the target: \"classes\" holds \"a\" twice");
  CHECK(
      rejection([](Json& json) {
        json["fields"] = {{{"name", "a"}, {"encoding", "one_hot"}, {"missing", false}, {"categories", Json::array()}}};
      }) == "[from_json] the encoder's fields make no features");
  CHECK(rejection([](Json& json) {
          Json& categories = json["fields"][1]["categories"];
          for (int i = 0; i < 50'001; ++i) categories.push_back(std::to_string(i));
        }) == "[from_json] the encoder has more than 50000 categories");
}
