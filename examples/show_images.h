// Test images drawn in the terminal, each with what a model says: shared by the examples.
#pragma once

#include <mica/mica.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

namespace examples {

struct ShowOptions {
  int64_t rows = 0, columns = 0;  ///< left out at each edge
  bool shades = false;            ///< dots for the shades of grey, instead of what is lighter than a third
};

/// The images [n,H,W,1] side by side, two rows of pixels to a line of half blocks; below each the class that is the
/// most probable, how sure the model is, and whether it is wrong.
inline void show_images(const mica::Tensor& images, const mica::Tensor& labels, const mica::Tensor& probabilities,
                        const std::vector<std::string>& names, ShowOptions options = {}) {
  const mica::Tensor classes = mica::argmax(probabilities);
  const int64_t count = images.dim(0), height = images.dim(1), width = images.dim(2);
  // Ordered dithering: in each 2x2 pixels a threshold of every kind. Bayer, ICC 1973.
  const auto lit = [&](int64_t image, int64_t y, int64_t x) {
    constexpr double kThresholds[2][2] = {{0.125, 0.625}, {0.875, 0.375}};
    return y < height && images.at({image, y, x, 0}) > (options.shades ? kThresholds[y % 2][x % 2] : 0.35);
  };
  for (int64_t y = options.rows; y < height - options.rows; y += 2) {
    std::string line = "  ";
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t x = options.columns; x < width - options.columns; ++x) {
        const bool upper = lit(i, y, x), lower = lit(i, y + 1, x);
        line += upper && lower ? "█" : upper ? "▀" : lower ? "▄" : " ";
      }
      line += " ";
    }
    std::printf("%s\n", line.c_str());
  }
  std::string line = "  ";
  for (int64_t i = 0; i < count; ++i) {
    const auto predicted = static_cast<int64_t>(classes.at({i}));
    char text[64];
    std::snprintf(text, sizeof text, "%s %3.0f %%%s", names[static_cast<size_t>(predicted)].c_str(),
                  100 * probabilities.at({i, predicted}),
                  static_cast<double>(predicted) == labels.at({i}) ? "" : " (wrong)");
    const std::string caption = text;
    const auto cell_width = static_cast<size_t>(width - 2 * options.columns + 1);
    std::string cell((cell_width - std::min(cell_width, caption.size())) / 2, ' ');
    cell += caption;
    cell.resize(cell_width, ' ');
    line += cell;
  }
  std::printf("%s\n\n", line.c_str());
}

}  // namespace examples
