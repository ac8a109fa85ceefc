// Augmentation: what it does in training, evenly and to each image by itself, and that it does nothing else.
#include "mica/nn/augment.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <map>
#include <type_traits>
#include <utility>

#include "mica/autograd/tape.h"
#include "mica/nn/model.h"
#include "mica/nn/sequential.h"
#include "mica/ops/reduce.h"
#include "nn/helpers.h"
#include "support/error_text.h"
#include "support/temp_dir.h"

using namespace mica;
using namespace mica::test;

namespace {

Tensor augmented(const nn::Model& model, const Tensor& x) {
  const nn::ModeScope training(nn::Mode::training);
  return model(x);
}

// Images of which one pixel alone is 1.
Tensor dots(int64_t n, int64_t size, int64_t row, int64_t column) {
  Tensor x = zeros({n, size, size, 1});
  for (int64_t i = 0; i < n; ++i) put(x, (i * size + row) * size + column, 1);
  return x;
}

// How often the dot is where, of the images that have it still.
std::map<std::pair<int64_t, int64_t>, int> found(const Tensor& x) {
  std::map<std::pair<int64_t, int64_t>, int> counts;
  const int64_t height = x.dim(1), width = x.dim(2);
  const std::vector<double> values = doubles(x);
  for (int64_t i = 0; i < x.elements(); ++i)
    if (values[static_cast<size_t>(i)] == 1) ++counts[{i / width % height, i % width}];
  return counts;
}

}  // namespace

TEST_CASE("augmentation: in inference images pass as they are, and in training the same step moves them the same way") {
  const nn::Sequential model{nn::Input({6, 5, 2}), nn::RandomFlip({.vertical = true}), nn::RandomTranslation(2)};
  const Tensor x = sample({16, 6, 5, 2}, float32);
  CHECK(same_bits(model(x), x));
  CHECK(same_bits(model.predict(x), x));
  const auto run = [&](uint64_t seed) {
    nn::Sequential fresh{nn::RandomFlip({.vertical = true}), nn::RandomTranslation(2)};
    fresh.build({{6, 5, 2}}, seed);
    return Tensors{augmented(fresh, x), augmented(fresh, x)};
  };
  const Tensors a = run(1), b = run(1), c = run(2);
  CHECK(same_bits(a, b));
  CHECK_FALSE(same_bits(a[0], a[1]));
  CHECK_FALSE(same_bits(a[0], c[0]));
}

TEST_CASE("random flip: about half of the images, in the directions that are asked for, and each by itself") {
  const auto shares = [](nn::RandomFlipOptions options) {
    const nn::Sequential model{nn::Input({5, 5, 1}), nn::RandomFlip(options)};
    auto counts = found(augmented(model, dots(4000, 5, 1, 0)));
    return std::vector<int>{counts[{1, 0}], counts[{1, 4}], counts[{3, 0}], counts[{3, 4}]};
  };
  const auto about = [](int count, int expected) { return std::abs(count - expected) < 150; };  // 4 deviations
  const std::vector<int> sideways = shares({}), both = shares({.vertical = true}),
                         upside = shares({.horizontal = false, .vertical = true});
  CHECK((about(sideways[0], 2000) && about(sideways[1], 2000) && sideways[2] + sideways[3] == 0));
  CHECK((about(upside[0], 2000) && about(upside[2], 2000) && upside[1] + upside[3] == 0));
  for (const int count : both) CHECK(about(count, 1000));
  CHECK(shares({.horizontal = false}) == std::vector<int>{4000, 0, 0, 0});
}

TEST_CASE("random translation: every whole shift within bounds is about as frequent, down and to the right apart") {
  const nn::Sequential model{nn::Input({7, 7, 1}), nn::RandomTranslation({1, 2})};
  const auto counts = found(augmented(model, dots(6000, 7, 3, 3)));
  CHECK(counts.size() == 15);
  for (const auto& [place, count] : counts) {
    CHECK(std::abs(place.first - 3) <= 1);
    CHECK(std::abs(place.second - 3) <= 2);
    CHECK(std::abs(count - 400) < 80);
  }
}

TEST_CASE("random translation: the edge fills with zeros, a value, the outermost pixels, or the image mirrored") {
  const auto filled = [](PadOptions fill) {
    const nn::Sequential model{nn::Input({1, 3, 1}), nn::RandomTranslation({0, 2}, {.fill = fill})};
    std::map<std::vector<float>, int> seen;
    const Tensor y = augmented(model, broadcast_to(tensor({1, 2, 3}).reshape({1, 1, 3, 1}), {400, 1, 3, 1}));
    for (int64_t i = 0; i < 400; ++i) ++seen[floats(y.slice(i, i + 1))];
    std::vector<std::vector<float>> distinct;
    for (const auto& [values, count] : seen) distinct.push_back(values);
    return distinct;
  };
  using Rows = std::vector<std::vector<float>>;
  CHECK(filled({}) == Rows{{0, 0, 1}, {0, 1, 2}, {1, 2, 3}, {2, 3, 0}, {3, 0, 0}});
  CHECK(filled({.value = 9}) == Rows{{1, 2, 3}, {2, 3, 9}, {3, 9, 9}, {9, 1, 2}, {9, 9, 1}});
  CHECK(filled({.mode = PadMode::edge}) == Rows{{1, 1, 1}, {1, 1, 2}, {1, 2, 3}, {2, 3, 3}, {3, 3, 3}});
  CHECK(filled({.mode = PadMode::reflect}) == Rows{{1, 2, 3}, {2, 1, 2}, {2, 3, 2}, {3, 2, 1}});
}

TEST_CASE("augmentation: what an example is put through does not depend on those after it") {
  const Tensor x = sample({32, 6, 6, 1}, float32);
  const auto first_step = [&](const Tensor& images) {
    nn::Sequential fresh{nn::RandomFlip(), nn::RandomTranslation(2, {.fill = {.mode = PadMode::edge}})};
    fresh.build({{6, 6, 1}}, 3);
    return augmented(fresh, images);
  };
  CHECK(same_bits(first_step(x.slice(0, 7)), first_step(x).slice(0, 7)));
}

TEST_CASE("augmentation: gradients go back to the pixels that are still there") {
  const nn::Sequential model{nn::Input({5, 5, 1}), nn::RandomFlip(), nn::RandomTranslation(2)};
  Tensor x = ones({8, 5, 5, 1});
  Tape tape;
  tape.watch(x);
  const Tensor y = model(x);
  const Tensor dx = tape.gradient(sum(y), {x})[0];
  CHECK(sum(dx).item() == sum(y).item());
  CHECK(sum(dx).item() < 200);
}

TEST_CASE("augmentation: saved and loaded, it does in training what it did") {
  const TempDir folder;
  const std::string path = folder.file("model.safetensors");
  const auto make = [] {
    return nn::Sequential{nn::Input({6, 6, 1}), nn::RandomFlip({.horizontal = false, .vertical = true}),
                          nn::RandomTranslation({3, 1}, {.fill = {.mode = PadMode::reflect}})};
  };
  make().save(path);
  const Tensor x = sample({16, 6, 6, 1}, float32);
  const nn::Model loaded = nn::Model::load(path);
  CHECK(same_bits(loaded(x), x));
  CHECK(same_bits(augmented(loaded, x), augmented(make(), x)));
}

TEST_CASE("augmentation refuses negative distances, and what is no image") {
  nn::RandomFlip flip;
  nn::RandomTranslation move(1);
  CHECK(error_text([] { nn::RandomTranslation(-1); }) ==
        "[random_translation] the most pixels must not be negative, nor huge, got -1 and -1");
  CHECK(error_text([&] {
          move(ones({2, 3}));
        }) == "[random_translation] the input must be images [N,H,W,C], got [2,3]");
  CHECK(error_text([&] { flip(ones({2, 3})); }) == "[random_flip] the input must be images [N,H,W,C], got [2,3]");
  CHECK(error_text([] {
          nn::Sequential{nn::Input({3, 4, 1}), nn::RandomTranslation({2, 4}, {.fill = {.mode = PadMode::reflect}})};
        }) ==
        "random_translation: [random_translation] an image is mirrored for less than its own size: at most 2 and 4 "
        "pixels, of [1,3,4,1]");
  static_assert(!std::is_constructible_v<nn::RandomTranslation, double>);
}
