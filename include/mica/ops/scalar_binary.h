// The scalar functions of two numbers, and comparisons.
#pragma once

#include "mica/ops/scalar_unary.h"

namespace mica {

namespace scalar {

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

// X(function, Functor).
// clang-format off
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
enum class BinaryOp : unsigned char { MICA_BINARY_OPS(MICA_ENUMERATOR) };
enum class CompareOp : unsigned char { MICA_COMPARE_OPS(MICA_ENUMERATOR) };
#undef MICA_ENUMERATOR

/// Whether a function is defined for integers too: the first ones of the list are.
constexpr bool of_integers(BinaryOp op) { return op <= BinaryOp::minimum; }

}  // namespace mica
