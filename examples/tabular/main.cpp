// Learns from a CSV file who repays a loan, tells by cross-validation how well, saves the model with the encodings of
// its fields, and scores an applicant with what was saved.
#include <mica/mica.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

using namespace mica;

namespace {

struct Arguments {
  int64_t epochs = 30;
  int64_t folds = 5;
  uint64_t seed = 0;
  int threads = 1;  // so small a network gains nothing by more
  std::string data = MICA_EXAMPLE_DATA "/finance/germancredit.csv.gz";
  std::string save = "tabular.safetensors";
  double require_auc = 0;
};

const data::TableEncoderOptions encoding{.target = "creditability",
                                         .classes = {"good", "bad"},  // what is predicted: how likely is "bad"
                                         .log1p = {"duration_in_month", "credit_amount", "age_in_years"}};

// A model that takes the raw fields of `table`, trained on all of its rows.
nn::Sequential train(const data::Table& table, int64_t epochs) {
  const data::TableEncoder encoder(table, encoding);
  nn::Sequential model{
      nn::Input({encoder.features()}),
      nn::Dropout(0.2),  // a thousand rows are few: it must not rely on any one field
      nn::Dense(32, {.activation = relu}),
      nn::Dropout(0.5),
      nn::Dense(1, {.activation = sigmoid}),
  };
  model.set_preprocess(encoder);
  const int64_t batch_size = 64, steps = std::max<int64_t>(epochs * table.rows() / batch_size, 1);
  model.compile({.optimizer = optim::AdamW({.learning_rate = optim::cosine_decay(5e-3, steps), .weight_decay = 0.1}),
                 .loss = losses::binary_crossentropy});
  model.fit(encoder.encode(table), encoder.targets(table).reshape({-1, 1}),
            {.epochs = epochs, .batch_size = batch_size});
  return model;
}

double auc(const nn::Model& model, const data::Table& table) {
  const data::TableEncoder& encoder = model.preprocess();
  return metrics::auc(model.predict(encoder.encode(table)), encoder.targets(table));
}

// As a bank would ask: every field by its name, nullptr for what is not known.
const data::Row applicant = {
    {"status_of_existing_checking_account", "... < 0 DM"},
    {"duration_in_month", 36},
    {"credit_history", "existing credits paid back duly till now"},
    {"purpose", "car (new)"},
    {"credit_amount", 8200},
    {"savings_account_and_bonds", "... < 100 DM"},
    {"present_employment_since", "1 <= ... < 4 years"},
    {"installment_rate_in_percentage_of_disposable_income", 4},
    {"personal_status_and_sex", "male : single"},
    {"other_debtors_or_guarantors", "none"},
    {"present_residence_since", 2},
    {"property", nullptr},
    {"age_in_years", 26},
    {"other_installment_plans", "none"},
    {"housing", "rent"},
    {"number_of_existing_credits_at_this_bank", 1},
    {"job", "skilled employee / official"},
    {"number_of_people_being_liable_to_provide_maintenance_for", 1},
    {"telephone", "none"},
    {"foreign_worker", "yes"},
};

// How likely the model holds it that the loan goes bad, and the fields that say so most: gradient times input, summed
// over the features of each field.
void score(const nn::Model& model, const data::Row& row) {
  const data::TableEncoder& encoder = model.preprocess();
  Tensor x = encoder.encode(row);
  const nn::ModeScope no_dropout(nn::Mode::inference);
  Tape tape;
  tape.watch(x);
  const Tensor probability = model(x);
  const Tensor shares = x * tape.gradient(probability, {x})[0];
  std::printf("An applicant's loan goes bad with probability %.2f, most of all for\n", probability.item());

  const std::vector<std::string> names = encoder.field_names();
  const std::vector<int64_t> fields = encoder.feature_fields();
  std::vector<std::pair<double, std::string>> totals;
  for (const std::string& name : names) totals.emplace_back(0, name);
  for (size_t i = 0; i < fields.size(); ++i)
    totals[static_cast<size_t>(fields[i])].first += shares.at({0, static_cast<int64_t>(i)});
  std::sort(totals.rbegin(), totals.rend());
  for (size_t i = 0; i < 3; ++i) std::printf("  %s (%+.3f)\n", totals[i].second.c_str(), totals[i].first);
}

int run(const Arguments& arguments) {
  set_seed(arguments.seed);
  set_num_threads(arguments.threads);
  const data::Table table = data::load_csv(arguments.data);
  std::printf("%s\n\n",
              to_string(table.select({"age_in_years", "purpose", "credit_amount", "creditability"}), 3).c_str());

  const Tensor labels = data::TableEncoder(table, encoding).targets(table);
  double sum = 0;
  for (const auto& [train_rows, test_rows] : data::kfold(labels, {.folds = arguments.folds})) {
    const nn::Sequential model = train(table.take(train_rows), arguments.epochs);
    const double area = auc(model, table.take(test_rows));
    std::printf("ROC-AUC %.4f on %zu rows, trained on the other %zu\n", area, test_rows.size(), train_rows.size());
    sum += area;
  }
  const double mean = sum / static_cast<double>(arguments.folds);
  std::printf("mean ROC-AUC %.4f\n\n", mean);

  train(table, arguments.epochs).save(arguments.save);
  std::printf("A model of all rows is saved to %s.\n", arguments.save.c_str());
  score(nn::Model::load(arguments.save), applicant);

  if (mean >= arguments.require_auc) return 0;
  std::fprintf(stderr, "The mean ROC-AUC is below the required %.4f.\n", arguments.require_auc);
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("Learns from a CSV file who repays a loan.");
  app.option_defaults()->always_capture_default();
  app.add_option("--epochs", arguments.epochs, "Passes over the training rows")->check(CLI::Range(0, 10000));
  app.add_option("--folds", arguments.folds, "Of the cross-validation")->check(CLI::Range(2, 100));
  app.add_option("--seed", arguments.seed, "Of folds, weights and order");
  app.add_option("--threads", arguments.threads, "That compute")->check(CLI::Range(1, 256));
  app.add_option("--data", arguments.data, "The German credit data as CSV, raw or gzipped");
  app.add_option("--save", arguments.save, "Where the model goes");
  app.add_option("--require-auc", arguments.require_auc, "Fail below this mean ROC-AUC")->check(CLI::Range(0.0, 1.0));
  CLI11_PARSE(app, argc, argv);
  try {
    return run(arguments);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tabular: %s\n", error.what());
    return 1;
  }
}
