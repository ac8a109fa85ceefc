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

/// a, or a * b where a < 0: b is the slope below 0 (a tensor for a slope to learn: He et al., ICCV
/// 2015). The derivative at 0 is b.
struct LeakyRelu {
  static constexpr const char* name = "leaky_relu";
  static constexpr double low = -2, high = 2;
  template <class T>
  MICA_HD static T forward(T a, T b) {
    return a < T(0) ? a * b : b != b ? b : a;
  }
  template <class T>
  MICA_HD static T derivative_a(T a, T b) {
    return a > T(0) ? T(1) : b;
  }
  template <class T>
  MICA_HD static T derivative_b(T a, T) {
    return a < T(0) ? a : T(0);
  }
};

/// a, or b * (exp(a) - 1) where a < 0. The derivative at 0 is b. Clevert, Unterthiner, Hochreiter, ICLR 2016.
struct Elu {
  static constexpr const char* name = "elu";
  static constexpr double low = -2, high = 2;
  template <class T>
  MICA_HD static T forward(T a, T b) {
    return a < T(0) ? b * math::expm1(a) : b != b ? b : a;
  }
  template <class T>
  MICA_HD static T derivative_a(T a, T b) {
    return a > T(0) ? T(1) : b * math::exp(a);
  }
  template <class T>
  MICA_HD static T derivative_b(T a, T) {
    return a < T(0) ? math::expm1(a) : T(0);
  }
};

/// F(G(a, b)): a chain of a unary and a binary function in one pass over memory. It takes G's interval: F must be
/// defined on what G makes of that. CUDA computes it from F and G as they stand here.
template <class F, class G>
struct Chain {
  static constexpr double low = G::low, high = G::high;
  template <class T>
  MICA_HD static T forward(T a, T b) {
    return F::forward(G::forward(a, b));
  }
  template <class T>
  MICA_HD static T derivative_a(T a, T b) {
    return outer(a, b) * G::derivative_a(a, b);
  }
  template <class T>
  MICA_HD static T derivative_b(T a, T b) {
    return outer(a, b) * G::derivative_b(a, b);
  }

 private:
  template <class T>
  MICA_HD static T outer(T a, T b) {
    const T x = G::forward(a, b);
    return F::derivative(F::saves == Saves::input ? x : F::forward(x));
  }
};

/// (a - b)^2
struct SquaredDifference : Chain<Square, Subtract> {
  static constexpr const char* name = "squared_difference";
};

/// |a - b|. The derivative where a = b is 0.
struct AbsoluteDifference : Chain<Abs, Subtract> {
  static constexpr const char* name = "absolute_difference";
};

/// -(b * log(s) + (1 - b) * log(1 - s)) where s = sigmoid(a): the cross-entropy of a logit a where the truth is b.
struct SigmoidCrossEntropy {
  static constexpr const char* name = "sigmoid_cross_entropy";
  static constexpr double low = -2, high = 2;
  template <class T>
  MICA_HD static T forward(T a, T b) {
    const T positive = a < T(0) ? T(0) : a;  // softplus(a) - a * b, the large terms first
    return (positive - a * b) + math::log1p(math::exp(-math::abs(a)));
  }
  template <class T>
  MICA_HD static T derivative_a(T a, T b) {
    return Softplus::derivative(a) - b;
  }
  template <class T>
  MICA_HD static T derivative_b(T a, T) {
    return -a;
  }
};

// A comparison has name and test(a, b), for floats and integers.

#define MICA_COMPARISON(Functor, text, expression) \
  struct Functor {                                 \
    static constexpr const char* name = text;      \
    template <class T>                             \
    MICA_HD static bool test(T a, T b) {           \
      return expression;                           \
    }                                              \
  };
MICA_COMPARISON(Equal, "equal", a == b)
MICA_COMPARISON(NotEqual, "not_equal", a != b)
MICA_COMPARISON(Less, "less", a < b)
MICA_COMPARISON(LessEqual, "less_equal", a <= b)
MICA_COMPARISON(Greater, "greater", a > b)
MICA_COMPARISON(GreaterEqual, "greater_equal", a >= b)
MICA_COMPARISON(LogicalAnd, "logical_and", (a != T(0)) & (b != T(0)))
MICA_COMPARISON(LogicalOr, "logical_or", (a != T(0)) | (b != T(0)))
MICA_COMPARISON(LogicalXor, "logical_xor", (a != T(0)) != (b != T(0)))
#undef MICA_COMPARISON

}  // namespace scalar

// The lists: X(function, Functor). `identity` stays first: it is "no activation".
// clang-format off
#define MICA_UNARY_OPS(X)                                                                              \
  X(identity, Identity) X(negative, Negative) X(abs, Abs) X(square, Square) X(sqrt, Sqrt) X(exp, Exp)  \
  X(log, Log) X(relu, Relu) X(sigmoid, Sigmoid) X(tanh, Tanh) X(gelu, Gelu) X(softplus, Softplus)      \
  X(silu, Silu) X(log1p, Log1p) X(expm1, Expm1) X(reciprocal, Reciprocal) X(rsqrt, Rsqrt) X(sin, Sin)  \
  X(cos, Cos) X(erf, Erf) X(sign, Sign) X(floor, Floor) X(ceil, Ceil) X(round, Round)
// Those that matrix products and convolutions apply in passing: the derivative comes from the result alone. (Sigmoid
// stays an op of its own, which cross-entropy looks for.)
#define MICA_FUSED_OPS(X) X(identity, Identity) X(relu, Relu) X(tanh, Tanh)
#define MICA_BINARY_OPS(X)                                                                             \
  X(add, Add) X(subtract, Subtract) X(multiply, Multiply) X(divide, Divide) X(power, Power)            \
  X(maximum, Maximum) X(minimum, Minimum) X(leaky_relu, LeakyRelu) X(elu, Elu)                         \
  X(squared_difference, SquaredDifference) X(absolute_difference, AbsoluteDifference)                  \
  X(sigmoid_cross_entropy, SigmoidCrossEntropy)
#define MICA_COMPARE_OPS(X)                                                                            \
  X(equal, Equal) X(not_equal, NotEqual) X(less, Less) X(less_equal, LessEqual) X(greater, Greater)    \
  X(greater_equal, GreaterEqual) X(logical_and, LogicalAnd) X(logical_or, LogicalOr)                   \
  X(logical_xor, LogicalXor)
// clang-format on

#define MICA_ENUMERATOR(function, Functor) function,
enum class UnaryOp : unsigned char { MICA_UNARY_OPS(MICA_ENUMERATOR) };
enum class BinaryOp : unsigned char { MICA_BINARY_OPS(MICA_ENUMERATOR) };
enum class CompareOp : unsigned char { MICA_COMPARE_OPS(MICA_ENUMERATOR) };
#undef MICA_ENUMERATOR

/// Whether a function is defined for integers too: the first ones of the list are.
constexpr bool of_integers(BinaryOp op) { return op <= BinaryOp::minimum; }

}  // namespace mica
