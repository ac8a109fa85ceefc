// The scalar functions of one number.
#pragma once

#include "mica/ops/scalar_math.h"

namespace mica {

namespace scalar {

/// Which value a unary function's derivative is computed from: the less that has to be kept, the better.
enum class Saves : unsigned char { input, output };

// A unary functor has name, saves, low..high (where the derivative is defined and the tests sample), and
//   forward(x), derivative(s): dy/dx from s = x or y.

struct Identity {
  static constexpr const char* name = "identity";
  static constexpr Saves saves = Saves::output;
  static constexpr double low = -2, high = 2;
  template <class T>
  MICA_HD static T forward(T x) {
    return x;
  }
  template <class T>
  MICA_HD static T derivative(T) {
    return T(1);
  }
};

struct Negative {
  static constexpr const char* name = "negative";
  static constexpr Saves saves = Saves::output;
  static constexpr double low = -2, high = 2;
  template <class T>
  MICA_HD static T forward(T x) {
    return -x;
  }
  template <class T>
  MICA_HD static T derivative(T) {
    return T(-1);
  }
};

struct Abs {
  static constexpr const char* name = "abs";
  static constexpr Saves saves = Saves::input;
  static constexpr double low = -2, high = 2;
  template <class T>
  MICA_HD static T forward(T x) {
    return x < T(0) ? -x : x == T(0) ? T(0) : x;
  }
  template <class T>
  MICA_HD static T derivative(T x) {
    return x > T(0) ? T(1) : x < T(0) ? T(-1) : T(0);
  }
};

struct Square {
  static constexpr const char* name = "square";
  static constexpr Saves saves = Saves::input;
  static constexpr double low = -2, high = 2;
  template <class T>
  MICA_HD static T forward(T x) {
    return x * x;
  }
  template <class T>
  MICA_HD static T derivative(T x) {
    return x + x;
  }
};

struct Sqrt {
  static constexpr const char* name = "sqrt";
  static constexpr Saves saves = Saves::output;
  static constexpr double low = 0.2, high = 4;
  template <class T>
  MICA_HD static T forward(T x) {
    return math::sqrt(x);
  }
  template <class T>
  MICA_HD static T derivative(T y) {
    return T(0.5) / y;
  }
};

struct Exp {
  static constexpr const char* name = "exp";
  static constexpr Saves saves = Saves::output;
  static constexpr double low = -3, high = 3;
  template <class T>
  MICA_HD static T forward(T x) {
    return math::exp(x);
  }
  template <class T>
  MICA_HD static T derivative(T y) {
    return y;
  }
};

struct Log {
  static constexpr const char* name = "log";
  static constexpr Saves saves = Saves::input;
  static constexpr double low = 0.2, high = 4;
  template <class T>
  MICA_HD static T forward(T x) {
    return math::log(x);
  }
  template <class T>
  MICA_HD static T derivative(T x) {
    return T(1) / x;
  }
};

/// max(x, 0); NaN stays NaN. The derivative at 0 is 0.
struct Relu {
  static constexpr const char* name = "relu";
  static constexpr Saves saves = Saves::output;
  static constexpr double low = -2, high = 2;
  template <class T>
  MICA_HD static T forward(T x) {
    return x < T(0) ? T(0) : x;
  }
  template <class T>
  MICA_HD static T derivative(T y) {
    return y > T(0) ? T(1) : T(0);
  }
};

struct Sigmoid {
  static constexpr const char* name = "sigmoid";
  static constexpr Saves saves = Saves::output;
  static constexpr double low = -4, high = 4;
  template <class T>
  MICA_HD static T forward(T x) {
    return T(1) / (T(1) + math::exp(-x));
  }
  template <class T>
  MICA_HD static T derivative(T y) {
    return y * (T(1) - y);
  }
};

struct Tanh {
  static constexpr const char* name = "tanh";
  static constexpr Saves saves = Saves::output;
  static constexpr double low = -3, high = 3;
  template <class T>
  MICA_HD static T forward(T x) {
    return math::tanh(x);
  }
  template <class T>
  MICA_HD static T derivative(T y) {
    return T(1) - y * y;
  }
};

/// x * Phi(x), exactly. Hendrycks, Gimpel, "Gaussian error linear units", 2016, section 2.
struct Gelu {
  static constexpr const char* name = "gelu";
  static constexpr Saves saves = Saves::input;
  static constexpr double low = -3, high = 3;
  template <class T>
  MICA_HD static T forward(T x) {
    return T(0.5) * x * (T(1) + math::erf(x * T(0.70710678118654752440)));
  }
  template <class T>
  MICA_HD static T derivative(T x) {
    const T cdf = T(0.5) * (T(1) + math::erf(x * T(0.70710678118654752440)));
    return cdf + x * T(0.39894228040143267794) * math::exp(T(-0.5) * x * x);
  }
};

/// log(1 + exp(x)), without overflow.
struct Softplus {
  static constexpr const char* name = "softplus";
  static constexpr Saves saves = Saves::input;
  static constexpr double low = -4, high = 4;
  template <class T>
  MICA_HD static T forward(T x) {
    const T positive = x < T(0) ? T(0) : x;
    return positive + math::log1p(math::exp(-math::abs(x)));
  }
  template <class T>
  MICA_HD static T derivative(T x) {
    return T(1) / (T(1) + math::exp(-x));
  }
};

/// x * sigmoid(x). Elfwing, Uchibe, Doya, Neural Networks 107, 2018; "swish" to others.
struct Silu {
  static constexpr const char* name = "silu";
  static constexpr Saves saves = Saves::input;
  static constexpr double low = -4, high = 4;
  template <class T>
  MICA_HD static T forward(T x) {
    return x / (T(1) + math::exp(-x));
  }
  template <class T>
  MICA_HD static T derivative(T x) {
    const T s = T(1) / (T(1) + math::exp(-x));
    return s + x * s * (T(1) - s);
  }
};

struct Log1p {
  static constexpr const char* name = "log1p";
  static constexpr Saves saves = Saves::input;
  static constexpr double low = -0.5, high = 4;
  template <class T>
  MICA_HD static T forward(T x) {
    return math::log1p(x);
  }
  template <class T>
  MICA_HD static T derivative(T x) {
    return T(1) / (T(1) + x);
  }
};

struct Expm1 {
  static constexpr const char* name = "expm1";
  static constexpr Saves saves = Saves::output;
  static constexpr double low = -3, high = 3;
  template <class T>
  MICA_HD static T forward(T x) {
    return math::expm1(x);
  }
  template <class T>
  MICA_HD static T derivative(T y) {
    return y + T(1);
  }
};

struct Reciprocal {
  static constexpr const char* name = "reciprocal";
  static constexpr Saves saves = Saves::output;
  static constexpr double low = 0.5, high = 3;
  template <class T>
  MICA_HD static T forward(T x) {
    return math::divide(T(1), x);
  }
  template <class T>
  MICA_HD static T derivative(T y) {
    return -y * y;
  }
};

/// 1 / sqrt(x)
struct Rsqrt {
  static constexpr const char* name = "rsqrt";
  static constexpr Saves saves = Saves::output;
  static constexpr double low = 0.2, high = 4;
  template <class T>
  MICA_HD static T forward(T x) {
    return math::divide(T(1), math::sqrt(x));
  }
  template <class T>
  MICA_HD static T derivative(T y) {
    return T(-0.5) * y * y * y;
  }
};

struct Sin {
  static constexpr const char* name = "sin";
  static constexpr Saves saves = Saves::input;
  static constexpr double low = -3, high = 3;
  template <class T>
  MICA_HD static T forward(T x) {
    return math::sin(x);
  }
  template <class T>
  MICA_HD static T derivative(T x) {
    return math::cos(x);
  }
};

struct Cos {
  static constexpr const char* name = "cos";
  static constexpr Saves saves = Saves::input;
  static constexpr double low = -3, high = 3;
  template <class T>
  MICA_HD static T forward(T x) {
    return math::cos(x);
  }
  template <class T>
  MICA_HD static T derivative(T x) {
    return -math::sin(x);
  }
};

struct Erf {
  static constexpr const char* name = "erf";
  static constexpr Saves saves = Saves::input;
  static constexpr double low = -3, high = 3;
  template <class T>
  MICA_HD static T forward(T x) {
    return math::erf(x);
  }
  template <class T>
  MICA_HD static T derivative(T x) {
    return T(1.12837916709551257390) * math::exp(-x * x);
  }
};

/// -1, 0 or 1; NaN stays NaN. The derivative is 0, as that of the roundings below.
struct Sign {
  static constexpr const char* name = "sign";
  static constexpr Saves saves = Saves::input;
  static constexpr double low = 0.1, high = 2;
  template <class T>
  MICA_HD static T forward(T x) {
    return x > T(0) ? T(1) : x < T(0) ? T(-1) : x;
  }
  template <class T>
  MICA_HD static T derivative(T) {
    return T(0);
  }
};

struct Floor {
  static constexpr const char* name = "floor";
  static constexpr Saves saves = Saves::input;
  static constexpr double low = 0.1, high = 0.9;
  template <class T>
  MICA_HD static T forward(T x) {
    return math::floor(x);
  }
  template <class T>
  MICA_HD static T derivative(T) {
    return T(0);
  }
};

struct Ceil {
  static constexpr const char* name = "ceil";
  static constexpr Saves saves = Saves::input;
  static constexpr double low = 0.1, high = 0.9;
  template <class T>
  MICA_HD static T forward(T x) {
    return math::ceil(x);
  }
  template <class T>
  MICA_HD static T derivative(T) {
    return T(0);
  }
};

/// To the nearest integer, halves to the even one.
struct Round {
  static constexpr const char* name = "round";
  static constexpr Saves saves = Saves::input;
  static constexpr double low = 0.6, high = 1.4;
  template <class T>
  MICA_HD static T forward(T x) {
    return math::round(x);
  }
  template <class T>
  MICA_HD static T derivative(T) {
    return T(0);
  }
};

}  // namespace scalar

// X(function, Functor). `identity` stays first: it is "no activation".
// clang-format off
#define MICA_UNARY_OPS(X)                                                                              \
  X(identity, Identity) X(negative, Negative) X(abs, Abs) X(square, Square) X(sqrt, Sqrt) X(exp, Exp)  \
  X(log, Log) X(relu, Relu) X(sigmoid, Sigmoid) X(tanh, Tanh) X(gelu, Gelu) X(softplus, Softplus)      \
  X(silu, Silu) X(log1p, Log1p) X(expm1, Expm1) X(reciprocal, Reciprocal) X(rsqrt, Rsqrt) X(sin, Sin)  \
  X(cos, Cos) X(erf, Erf) X(sign, Sign) X(floor, Floor) X(ceil, Ceil) X(round, Round)
// Those that matrix products and convolutions apply in passing: the derivative comes from the result alone. (Sigmoid
// stays an op of its own, which cross-entropy looks for.)
#define MICA_FUSED_OPS(X) X(identity, Identity) X(relu, Relu) X(tanh, Tanh)
// clang-format on

#define MICA_ENUMERATOR(function, Functor) function,
enum class UnaryOp : unsigned char { MICA_UNARY_OPS(MICA_ENUMERATOR) };
#undef MICA_ENUMERATOR

}  // namespace mica
