// TableEncoder: what it learns, and encoding. JSON is in table_encoder_json.cpp.
#include "mica/data/table_encoder.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "data/table_encoder_state.h"
#include "data/table_errors.h"
#include "io/utf8.h"
#include "mica/core/error.h"

namespace MICA_EXPORT mica {
namespace data {

namespace {

constexpr const char* kOp = "table_encoder";
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// A value, as errors name it: by its field, and in a table by its row.
struct Cell {
  const EncodedField& field;
  int64_t row = -1;
};
void append_text(std::string& text, const Cell& cell) {
  append_text(text += "field ", Quoted{cell.field.name});
  if (cell.row >= 0) text += mica::detail::concat(" of row ", cell.row);
}

// A column as it is for a field: numbers, or texts. A column without any value is of either type.
struct Source {
  std::span<const double> numbers = {};
  const Texts* texts = nullptr;  // null: numbers
};

Source source(const char* op, const Table& table, const EncodedField& field) {
  check(table.contains(field.name), op, "the table has no column ", Quoted{field.name});
  if (table.type(field.name) == ColumnType::text) {
    check(field.type() == ColumnType::text, op, "column ", Quoted{field.name}, " must hold numbers, not texts");
    return {{}, &table.texts(field.name)};
  }
  const std::span<const double> numbers = table.numbers(field.name);
  const auto none = [](double x) { return std::isnan(x); };
  check(field.type() == ColumnType::number || std::all_of(numbers.begin(), numbers.end(), none), op, "column ",
        Quoted{field.name}, " must hold texts, not numbers: load_csv's option .texts keeps them so");
  return {numbers, nullptr};
}

// The number behind a text: its place in the order, NaN where it has none.
double place_number(const EncodedField& field, std::string_view text) {
  const size_t place = place_of(text, field.categories, field.sorted);
  return place < field.categories.size() ? static_cast<double>(place) : kNaN;
}

// What is standardised of number x.
double transformed(const char* op, const Cell& cell, double x) {
  if (std::isnan(x)) return x;
  check(std::isfinite(x), op, cell, " must be finite, got ", x);
  if (!cell.field.log1p) return x;
  check(x > -1, op, cell, " must be above -1 for log1p, got ", x);
  return std::log1p(x);
}

// The features of a number (NaN: missing), at `out`, which is 0.
void put_number(const Cell& cell, double x, float* out) {
  if (std::isnan(x)) {
    if (cell.field.missing) out[1] = 1;
    return;
  }
  out[0] = static_cast<float>((transformed("encode", cell, x) - cell.field.mean) / cell.field.deviation);
  check(std::isfinite(out[0]), "encode", cell, " is too far from what it was in training: ", x);
}

// Likewise of a text (empty: missing).
void put_text(const Cell& cell, std::string_view text, float* out) {
  const EncodedField& field = cell.field;
  if (field.encoding == Encoding::ordinal) return put_number(cell, place_number(field, text), out);
  const size_t count = field.categories.size();
  if (text.empty()) {
    if (field.missing) out[count] = 1;
  } else if (const size_t place = place_of(text, field.categories, field.sorted); place < count) {
    out[place] = 1;
  }
}

// Mean, deviation, and whether any is missing, of training numbers.
void learn_number(EncodedField& field, std::vector<double> numbers) {
  double sum = 0, least = INFINITY, most = -INFINITY;
  int64_t count = 0;
  for (size_t i = 0; i < numbers.size(); ++i) {
    double& x = numbers[i];
    x = transformed(kOp, {field, static_cast<int64_t>(i)}, x);
    if (std::isnan(x)) {
      field.missing = true;
      continue;
    }
    sum += x;
    ++count;
    least = std::min(least, x);
    most = std::max(most, x);
  }
  if (count == 0) return;
  field.mean = least == most ? least : sum / static_cast<double>(count);
  double squares = 0;
  for (const double x : numbers)
    if (!std::isnan(x)) squares += (x - field.mean) * (x - field.mean);
  const double deviation = std::sqrt(squares / static_cast<double>(count));
  check(std::isfinite(field.mean) && std::isfinite(deviation), kOp, "the numbers of column ", Quoted{field.name},
        " are too large to be standardised");
  if (deviation > 0) field.deviation = deviation;  // else it is constant
}

std::vector<std::string> different(const Texts& texts) {
  std::set<std::string_view> all;
  for (int64_t i = 0; i < texts.size(); ++i)
    if (!texts[i].empty()) all.insert(texts[i]);
  return {all.begin(), all.end()};
}

void learn_text(EncodedField& field, const Texts& texts, int64_t max_categories) {
  for (int64_t i = 0; i < texts.size(); ++i) field.missing |= texts[i].empty();
  field.categories = different(texts);
  check(static_cast<int64_t>(field.categories.size()) <= max_categories, kOp, "column ", Quoted{field.name}, " has ",
        uint64_t{field.categories.size()}, " different texts, more than max_categories (", max_categories,
        "): drop it, or allow more");
}

void check_names(const Table& table, const char* option, const std::string& name, ColumnType type,
                 const std::string& target) {
  check(table.contains(name), kOp, option, " names ", Quoted{name}, ", which is no column");
  check(name != target, kOp, option, " names ", Quoted{name}, ", which is the target");
  check(table.type(name) == type, kOp, option, " names ", Quoted{name}, ", which does not hold ",
        type == ColumnType::number ? "numbers" : "texts");
}

bool has_duplicates(std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  return std::adjacent_find(names.begin(), names.end()) != names.end();
}

EncodedField learn_field(const Table& table, const std::string& name, const TableEncoderOptions& options) {
  EncodedField field{.name = name};
  if (table.type(name) == ColumnType::number) {
    field.log1p = std::find(options.log1p.begin(), options.log1p.end(), name) != options.log1p.end();
    const std::span<const double> numbers = table.numbers(name);
    learn_number(field, {numbers.begin(), numbers.end()});
    return field;
  }
  const Texts& texts = table.texts(name);
  const auto ordinal = std::find_if(options.ordinal.begin(), options.ordinal.end(),
                                    [&](const Ordinal& each) { return each.field == name; });
  if (ordinal == options.ordinal.end()) {
    field.encoding = Encoding::one_hot;
    learn_text(field, texts, options.max_categories);
    return field;
  }
  field.encoding = Encoding::ordinal;
  field.categories = ordinal->categories;
  field.sorted = sorted_places(field.categories);
  std::vector<double> places;
  for (int64_t i = 0; i < texts.size(); ++i) {
    places.push_back(place_number(field, texts[i]));
    check(texts[i].empty() || !std::isnan(places.back()), kOp, "column ", Quoted{name}, " holds ", Quoted{texts[i]},
          ", which is not in its order");
  }
  learn_number(field, std::move(places));
  return field;
}

void check_options(const Table& table, const TableEncoderOptions& options) {
  check(table.rows() > 0, kOp, "the table has no rows to learn from");
  check(options.max_categories >= 1, kOp, "max_categories must be at least 1, got ", options.max_categories);
  check(options.target.empty() || table.contains(options.target), kOp, "the target ", Quoted{options.target},
        " is no column");
  check(options.classes.empty() || (!options.target.empty() && table.type(options.target) == ColumnType::text), kOp,
        "classes are for a target that holds texts");
  check(!has_duplicates(options.classes), kOp, "the classes must differ");
  for (const std::string& name : options.log1p) check_names(table, "log1p", name, ColumnType::number, options.target);
  std::vector<std::string> ordinals;
  for (const Ordinal& ordinal : options.ordinal) {
    check_names(table, "ordinal", ordinal.field, ColumnType::text, options.target);
    ordinals.push_back(ordinal.field);
    const std::vector<std::string>& all = ordinal.categories;
    check(!all.empty() && !has_duplicates(all) && std::find(all.begin(), all.end(), "") == all.end(), kOp,
          "the order of ", Quoted{ordinal.field}, " must list texts that differ, none of them empty");
  }
  check(!has_duplicates(ordinals), kOp, "ordinal names a field twice");
  check(table.columns() > !options.target.empty(), kOp, "the table has no column but the target");
}

}  // namespace

size_t place_of(std::string_view text, const std::vector<std::string>& texts, const std::vector<size_t>& sorted) {
  const auto found = std::lower_bound(sorted.begin(), sorted.end(), text,
                                      [&](size_t place, std::string_view wanted) { return texts[place] < wanted; });
  return found != sorted.end() && texts[*found] == text ? *found : texts.size();
}

std::vector<size_t> sorted_places(const std::vector<std::string>& texts) {
  std::vector<size_t> places(texts.size());
  std::iota(places.begin(), places.end(), size_t{0});
  std::sort(places.begin(), places.end(), [&](size_t a, size_t b) { return texts[a] < texts[b]; });
  return places;
}

void TableEncoder::State::finish() {
  names.clear();
  features = 0;
  for (EncodedField& field : fields) {
    names.push_back(field.name);
    field.sorted = sorted_places(field.categories);
    field.first = features;
    features += field.features();
  }
  sorted = sorted_places(names);
}

TableEncoder::TableEncoder(const Table& training, const TableEncoderOptions& options) {
  check_options(training, options);
  auto state = std::make_shared<State>();
  size_t categories = 0, text = 0;
  const auto count = [&](const std::string& name) {
    check(io::is_utf8(name), kOp, "names and texts must be UTF-8: ", Quoted{name});
    text += name.size();
  };
  for (const std::string& name : training.names()) {
    count(name);
    if (name == options.target) continue;
    state->fields.push_back(learn_field(training, name, options));
    const EncodedField& field = state->fields.back();
    categories += field.categories.size();
    std::for_each(field.categories.begin(), field.categories.end(), count);
  }
  state->target = options.target;
  if (!options.target.empty() && training.type(options.target) == ColumnType::text) {
    state->classes = options.classes.empty() ? different(training.texts(options.target)) : options.classes;
    check(!state->classes.empty(), kOp, "the target ", Quoted{options.target}, " misses all of its values");
    categories += state->classes.size();
    std::for_each(state->classes.begin(), state->classes.end(), count);
  }
  check(state->fields.size() <= kMaxEncoderFields && categories <= kMaxEncoderCategories && text <= kMaxEncoderText,
        kOp, "the table has ", uint64_t{state->fields.size()}, " fields and ", uint64_t{categories}, " categories of ",
        uint64_t{text}, " bytes; at most ", uint64_t{kMaxEncoderFields}, ", ", uint64_t{kMaxEncoderCategories}, " and ",
        uint64_t{kMaxEncoderText}, " may be");
  state->finish();
  check(state->features > 0, kOp, "no field of the table holds a value");
  state_ = std::move(state);
  if (!options.target.empty()) targets(training);  // each must be there
}

const TableEncoder::State& TableEncoder::state(const char* op) const {
  check(defined(), op, "the encoder has learned nothing: make it of a training table");
  return *state_;
}

int64_t TableEncoder::features() const { return state("features").features; }

std::vector<std::string> TableEncoder::feature_names() const {
  std::vector<std::string> names;
  for (const EncodedField& field : state("feature_names").fields) {
    if (field.encoding != Encoding::one_hot) names.push_back(field.name);
    if (field.encoding == Encoding::one_hot)
      for (const std::string& category : field.categories) names.push_back(field.name + "=" + category);
    if (field.missing) names.push_back(field.name + " (missing)");
  }
  return names;
}

std::vector<int64_t> TableEncoder::feature_fields() const {
  std::vector<int64_t> places;
  const State& s = state("feature_fields");
  for (size_t i = 0; i < s.fields.size(); ++i)
    places.insert(places.end(), static_cast<size_t>(s.fields[i].features()), static_cast<int64_t>(i));
  return places;
}

std::vector<std::string> TableEncoder::field_names() const { return state("field_names").names; }

Tensor TableEncoder::encode(const Table& table) const {
  const State& s = state("encode");
  std::vector<Source> sources;
  for (const EncodedField& field : s.fields) sources.push_back(source("encode", table, field));
  Tensor y = zeros({table.rows(), s.features}, {float32, Device::cpu()});
  float* out = y.mutable_data<float>();
  for (int64_t row = 0; row < table.rows(); ++row, out += s.features)
    for (size_t i = 0; i < sources.size(); ++i) {
      const EncodedField& field = s.fields[i];
      if (field.type() == ColumnType::number)
        put_number({field, row}, sources[i].numbers[static_cast<size_t>(row)], out + field.first);
      else
        put_text({field, row}, sources[i].texts ? (*sources[i].texts)[row] : std::string_view(), out + field.first);
    }
  return y;
}

Tensor TableEncoder::encode(const Row& row) const {
  const State& s = state("encode");
  std::vector<const Value*> values(s.names.size());
  for (const auto& [name, value] : row) {
    const size_t place = place_of(name, s.names, s.sorted);
    check(place < s.names.size(), "encode", "there is no field ", Quoted{name});
    check(!values[place], "encode", "field ", Quoted{name}, " comes twice");
    values[place] = &value;
  }
  Tensor y = zeros({1, s.features}, {float32, Device::cpu()});
  float* out = y.mutable_data<float>();
  for (size_t i = 0; i < values.size(); ++i) {
    const EncodedField& field = s.fields[i];
    check(values[i] != nullptr, "encode", "field ", Quoted{field.name}, " is not there");
    const Value& value = *values[i];
    if (field.type() == ColumnType::number) {
      check(!value.text(), "encode", "field ", Quoted{field.name}, " must be a number, got ",
            Quoted{value.text() ? *value.text() : std::string_view()});
      check(value.missing() || std::isfinite(*value.number()), "encode", "field ", Quoted{field.name},
            " must be finite, got ", value.missing() ? 0 : *value.number());
      put_number({field}, value.missing() ? kNaN : *value.number(), out + field.first);
    } else {
      check(!value.number(), "encode", "field ", Quoted{field.name}, " must be a text, got ",
            value.number() ? *value.number() : 0);
      put_text({field}, value.missing() ? std::string_view() : *value.text(), out + field.first);
    }
  }
  return y;
}

Tensor TableEncoder::targets(const Table& table) const {
  const State& s = state("targets");
  check(!s.target.empty(), "targets", "the encoder was made without a target");
  const size_t rows = static_cast<size_t>(table.rows());
  if (s.classes.empty()) {
    const std::span<const double> numbers = table.numbers(s.target);
    for (size_t i = 0; i < rows; ++i)
      check(std::isfinite(static_cast<float>(numbers[i])), "targets", "the target ", Quoted{s.target}, " of row ",
            uint64_t{i}, std::isnan(numbers[i]) ? " is missing" : " is infinite");
    return tensor(numbers, {table.rows()}).to(float32);
  }
  const Texts& texts = table.texts(s.target);
  const std::vector<size_t> sorted = sorted_places(s.classes);
  std::vector<int64_t> labels;
  for (size_t i = 0; i < rows; ++i) {
    const std::string_view text = texts[static_cast<int64_t>(i)];
    const size_t place = place_of(text, s.classes, sorted);
    check(!text.empty(), "targets", "the target ", Quoted{s.target}, " of row ", uint64_t{i}, " is missing");
    check(place < s.classes.size(), "targets", "the target ", Quoted{s.target}, " of row ", uint64_t{i}, " is ",
          Quoted{text}, ", which is none of its classes");
    labels.push_back(static_cast<int64_t>(place));
  }
  return tensor(labels, {table.rows()});
}

const std::string& TableEncoder::target() const& { return state("target").target; }
const std::vector<std::string>& TableEncoder::classes() const& { return state("classes").classes; }

}  // namespace data
}  // namespace mica
