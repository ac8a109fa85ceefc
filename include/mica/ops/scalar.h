// The scalar functions: one functor each, from which the CPU loop, the CUDA kernel, the gradient check and the
// benchmark all come. Adding one: write its functor, add its line to the list below it.
#pragma once

#include <cmath>

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
    return positive + math::log1p(math::exp(x < T(0) ? x : -x));
  }
  template <class T>
  MICA_HD static T derivative(T x) {
    return T(1) / (T(1) + math::exp(-x));
  }
};

// A binary functor has name, the box that the tests sample, and
//   forward(a, b), derivative_a(a, b), derivative_b(a, b).

struct Add {
  static constexpr const char* name = "add";
  static constexpr double low = -2, high = 2;
  template <class T>
  MICA_HD static T forward(T a, T b) {
    return a + b;
  }
  template <class T>
  MICA_HD static T derivative_a(T, T) {
    return T(1);
  }
  template <class T>
  MICA_HD static T derivative_b(T, T) {
    return T(1);
  }
};

struct Subtract {
  static constexpr const char* name = "subtract";
  static constexpr double low = -2, high = 2;
  template <class T>
  MICA_HD static T forward(T a, T b) {
    return a - b;
  }
  template <class T>
  MICA_HD static T derivative_a(T, T) {
    return T(1);
  }
  template <class T>
  MICA_HD static T derivative_b(T, T) {
    return T(-1);
  }
};

struct Multiply {
  static constexpr const char* name = "multiply";
  static constexpr double low = -2, high = 2;
  template <class T>
  MICA_HD static T forward(T a, T b) {
    return a * b;
  }
  template <class T>
  MICA_HD static T derivative_a(T, T b) {
    return b;
  }
  template <class T>
  MICA_HD static T derivative_b(T a, T) {
    return a;
  }
};

struct Divide {
  static constexpr const char* name = "divide";
  static constexpr double low = 0.5, high = 2;
  template <class T>
  MICA_HD static T forward(T a, T b) {
    return math::divide(a, b);
  }
  template <class T>
  MICA_HD static T derivative_a(T, T b) {
    return T(1) / b;
  }
  template <class T>
  MICA_HD static T derivative_b(T a, T b) {
    return -math::divide(a, b) / b;
  }
};

struct Power {
  static constexpr const char* name = "power";
  static constexpr double low = 0.5, high = 2;
  template <class T>
  MICA_HD static T forward(T a, T b) {
    return math::pow(a, b);
  }
  template <class T>
  MICA_HD static T derivative_a(T a, T b) {
    return b == T(0) ? T(0) : b * math::pow(a, b - T(1));
  }
  template <class T>
  MICA_HD static T derivative_b(T a, T b) {
    return a == T(0) ? T(0) : math::pow(a, b) * math::log(a);
  }
};

/// NaN where either is NaN. Where both are equal, each gets half of the gradient.
struct Maximum {
  static constexpr const char* name = "maximum";
  static constexpr double low = -2, high = 2;
  template <class T>
  MICA_HD static T forward(T a, T b) {
    return a != a ? a : b != b ? b : a > b ? a : b;
  }
  template <class T>
  MICA_HD static T derivative_a(T a, T b) {
    return a > b ? T(1) : a == b ? T(0.5) : T(0);
  }
  template <class T>
  MICA_HD static T derivative_b(T a, T b) {
    return b > a ? T(1) : a == b ? T(0.5) : T(0);
  }
};

struct Minimum {
  static constexpr const char* name = "minimum";
  static constexpr double low = -2, high = 2;
  template <class T>
  MICA_HD static T forward(T a, T b) {
    return a != a ? a : b != b ? b : a < b ? a : b;
  }
  template <class T>
  MICA_HD static T derivative_a(T a, T b) {
    return a < b ? T(1) : a == b ? T(0.5) : T(0);
  }
  template <class T>
  MICA_HD static T derivative_b(T a, T b) {
    return b < a ? T(1) : a == b ? T(0.5) : T(0);
  }
};

}  // namespace scalar

// The lists: X(function, Functor). `identity` stays first: it is "no activation".
// clang-format off
#define MICA_UNARY_OPS(X)                                                                             \
  X(identity, Identity) X(negative, Negative) X(abs, Abs) X(square, Square) X(sqrt, Sqrt) X(exp, Exp) \
  X(log, Log) X(relu, Relu) X(sigmoid, Sigmoid) X(tanh, Tanh) X(gelu, Gelu) X(softplus, Softplus)
#define MICA_BINARY_OPS(X)                                                                            \
  X(add, Add) X(subtract, Subtract) X(multiply, Multiply) X(divide, Divide) X(power, Power)           \
  X(maximum, Maximum) X(minimum, Minimum)
// clang-format on

#define MICA_ENUMERATOR(function, Functor) function,
enum class UnaryOp : unsigned char { MICA_UNARY_OPS(MICA_ENUMERATOR) };
enum class BinaryOp : unsigned char { MICA_BINARY_OPS(MICA_ENUMERATOR) };
#undef MICA_ENUMERATOR

}  // namespace mica
