// Initializers: what a parameter holds before training.
#pragma once

#include <string>

#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {
namespace nn {

/// A rule that fills a parameter, known by name. fan_in and fan_out of a kernel [..., in, out] are its inputs and
/// outputs times the window's elements.
struct Initializer {
  enum class Rule : unsigned char { zeros, ones, glorot_uniform, glorot_normal, he_uniform, he_normal };
  Rule rule = Rule::zeros;

  /// float32 values of `shape` from the stream of `key`.
  Tensor operator()(const Shape& shape, RandomKey key, Device device = Device::cpu()) const;
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
}  // namespace init

}  // namespace nn
}  // namespace mica
