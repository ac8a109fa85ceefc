// Initializers: what a parameter holds before training.
#pragma once

#include <string>

#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {
namespace nn {

/// A rule that fills a parameter, known by name ("he_normal", "normal(0.05)"). fan_in and fan_out of a kernel [..., in,
/// out] are its inputs and outputs times the window's elements.
struct Initializer {
  enum class Rule : unsigned char {
    zeros,
    ones,
    glorot_uniform,
    glorot_normal,
    he_uniform,
    he_normal,
    constant,
    uniform,
    normal,
    truncated_normal,
    orthogonal
  };
  Rule rule = Rule::zeros;
  double parameter = 0;  ///< of the rules from `constant` on

  /// float32 values of `shape` from the stream of `key`.
  Tensor operator()(const Shape& shape, RandomKey key, Device device = default_device()) const;
  std::string name() const;
  /// By name; throws Error for an unknown one.
  static Initializer named(const std::string& name);
};

/// Glorot, Bengio, AISTATS 2010, equation 16: uniform within sqrt(6 / (fan_in + fan_out)), or normal of the same
/// variance. He et al., ICCV 2015, equation 10: variance 2 / fan_in.
namespace init {
inline constexpr Initializer zeros{Initializer::Rule::zeros};
inline constexpr Initializer ones{Initializer::Rule::ones};
inline constexpr Initializer glorot_uniform{Initializer::Rule::glorot_uniform};
inline constexpr Initializer glorot_normal{Initializer::Rule::glorot_normal};
inline constexpr Initializer he_uniform{Initializer::Rule::he_uniform};
inline constexpr Initializer he_normal{Initializer::Rule::he_normal};
constexpr Initializer constant(double value) { return {Initializer::Rule::constant, value}; }
/// Uniform in [-limit, limit) / normal / normal, drawn again beyond two deviations.
constexpr Initializer uniform(double limit = 0.05) { return {Initializer::Rule::uniform, limit}; }
constexpr Initializer normal(double stddev = 0.05) { return {Initializer::Rule::normal, stddev}; }
constexpr Initializer truncated_normal(double stddev = 0.05) { return {Initializer::Rule::truncated_normal, stddev}; }
/// `gain` times orthonormal columns (or rows, where there are fewer) of [product of the other axes, last axis]: the Q
/// of a matrix of normal numbers. Saxe, McClelland, Ganguli, ICLR 2014. Throws Error unless there are at least 2 axes.
constexpr Initializer orthogonal(double gain = 1) { return {Initializer::Rule::orthogonal, gain}; }
}  // namespace init

}  // namespace nn
}  // namespace mica
