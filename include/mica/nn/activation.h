// Activation: a function of a tensor that layers apply to their result, and the layer that does nothing else.
#pragma once

#include "mica/nn/layer.h"
#include "mica/ops/elementwise.h"
#include "mica/ops/softmax.h"

/// The activations that are more than one scalar function.
#define MICA_OTHER_ACTIVATIONS(X) X(softmax) X(log_softmax) X(leaky_relu) X(elu)

namespace MICA_EXPORT mica {
namespace nn {

/// `.activation = relu`, `nn::Activation(softmax)`: any Tensor f(const Tensor&). Those of Mica are known by name, which
/// is what a saved model holds; register_activation names others.
class Activation : public Module<Activation> {
 public:
  using Function = Tensor (*)(const Tensor&);
  static constexpr const char* kType = "Activation";

  Activation() = default;
  // In the header: a function has one address only within a program or library.
  Activation(Function function) : function_(function), scalar_(false), name_(nullptr) {
#define MICA_KNOWN(f, Functor) \
  if (function == static_cast<Function>(mica::f)) set(UnaryOp::f, #f);
    MICA_UNARY_OPS(MICA_KNOWN)
#undef MICA_KNOWN
#define MICA_KNOWN(f) \
  if (function == static_cast<Function>(mica::f)) name_ = #f;
    MICA_OTHER_ACTIVATIONS(MICA_KNOWN)
#undef MICA_KNOWN
  }
  /// A lambda without captures.
  template <class F>
    requires(!std::same_as<F, Activation> && !std::same_as<F, Function> && std::convertible_to<F, Function>)
  Activation(F function) : Activation(static_cast<Function>(function)) {}
  /// By name; throws Error for one that is neither Mica's nor registered.
  static Activation named(const std::string& name);
  /// The name; throws Error for a function that has none.
  std::string name() const;

  /// The scalar function, if it is one: what kernels can fuse. Else identity, and `after` applies the function.
  UnaryOp op() const { return op_; }
  bool scalar() const { return scalar_; }
  Tensor after(const Tensor& z) const { return scalar_ ? z : function_(z); }

  Tensor forward(const Tensor& x, Call&) const { return scalar_ ? mica::detail::unary(op_, x) : function_(x); }
  void visit(Visitor& v) { v("activation", *this); }

 private:
  void set(UnaryOp op, const char* name) {
    op_ = op;
    scalar_ = true;
    name_ = name;
  }

  Function function_ = nullptr;
  UnaryOp op_ = UnaryOp::identity;
  bool scalar_ = true;
  const char* name_ = "identity";
};

/// Gives a function a name for saved models. Names of Mica's own functions are taken.
void register_activation(const char* name, Activation::Function function);

}  // namespace nn
}  // namespace mica
