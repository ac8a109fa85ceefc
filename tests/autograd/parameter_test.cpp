// Parameters: handles on a value and its gradient, and how pack() lays them out.
#include "mica/autograd/parameter.h"

#include <doctest/doctest.h>

#include "core/tensor_access.h"
#include "mica/autograd/tape.h"
#include "mica/ops/elementwise.h"
#include "mica/ops/reduce.h"
#include "support/error_text.h"
#include "support/tensors.h"

using namespace mica;
using namespace mica::test;

namespace {

const char* address(const Tensor& x) { return static_cast<const char*>(x.raw()); }

void backward_of(const Parameter& p, double factor) {
  Tape tape;
  tape.backward(sum(p.tensor() * factor));
}

}  // namespace

TEST_CASE("copies of a parameter are one parameter") {
  Parameter a(tensor({1, 2})), b(tensor({3}));
  const Parameter copy = a;
  CHECK(copy == a);
  CHECK(!(a == b));
  copy.value().fill(7);
  copy.set_name("w");
  copy.set_trainable(false);
  CHECK(close(a.tensor(), {7, 7}));
  CHECK(a.name() == "w");
  CHECK(!a.trainable());
  a.value() = tensor({1, 2, 3});  // rebound: the handles follow
  CHECK(copy.shape() == Shape{3});
  a = b;
  CHECK(a == b);
  CHECK(copy.shape() == Shape{3});
}

TEST_CASE("a parameter without a value is undefined, and so is a gradient that was never computed") {
  const Parameter p;
  CHECK(!p.defined());
  CHECK(!p.tensor().defined());
  CHECK(!p.gradient().defined());
}

TEST_CASE("a parameter whose value is replaced by one of another shape gets gradients of that shape") {
  const Parameter p(tensor({1, 2}));
  backward_of(p, 3);
  p.value() = tensor({1, 2, 3});
  backward_of(p, 5);
  CHECK(close(p.gradient(), {5, 5, 5}));
}

TEST_CASE("a recorded parameter lives as long as the record") {
  Tape tape;
  Tensor y;
  {
    const Parameter p(tensor({1, 2}));
    y = sum(square(p.tensor()));
  }
  tape.backward(y);
}

TEST_CASE("pack() keeps values, gradients, names and handles") {
  const std::vector<Parameter> parameters = {Parameter(sample({3, 5}, float32, 1)), Parameter(sample({1}, float32, 2)),
                                             Parameter(sample({33}, float32, 3)), Parameter(zeros({0, 4}))};
  parameters[1].set_name("bias");
  backward_of(parameters[0], 2);
  Tensors values;
  for (const Parameter& p : parameters) values.push_back(p.value().clone());
  pack(parameters);
  for (size_t i = 0; i < parameters.size(); ++i) CHECK(same_bits(parameters[i].value(), values[i]));
  CHECK(close(parameters[0].gradient(), full({3, 5}, 2), kExact));
  CHECK(!parameters[1].gradient().defined());
  CHECK(parameters[1].name() == "bias");
  backward_of(parameters[0], 3);  // gradients go on in the new place
  backward_of(parameters[1], 4);
  CHECK(close(parameters[0].gradient(), full({3, 5}, 5), kExact));
  CHECK(close(parameters[1].gradient(), {4}));
}

TEST_CASE("pack() puts values into one storage and gradients into another, each parameter at a multiple of 64 bytes") {
  const std::vector<Parameter> parameters = {Parameter(ones({3, 5})), Parameter(ones({1})), Parameter(ones({16})),
                                             Parameter(ones({17}))};
  pack(parameters);
  for (const Parameter& p : parameters) backward_of(p, 1);
  int64_t offset = 0;
  for (const Parameter& p : parameters) {
    CHECK(p.value().shares_storage_with(parameters[0].value()));
    CHECK(p.gradient().shares_storage_with(parameters[0].gradient()));
    CHECK(address(p.value()) - address(parameters[0].value()) == offset);
    CHECK(address(p.gradient()) - address(parameters[0].gradient()) == offset);
    CHECK(reinterpret_cast<uintptr_t>(p.value().raw()) % 64 == 0);
    offset += (static_cast<int64_t>(p.value().bytes()) + 63) / 64 * 64;
  }
  CHECK(!parameters[0].value().shares_storage_with(parameters[0].gradient()));
  // Between parameters lie zeros, over which an update may pass.
  const Tensor host = on_cpu(TensorAccess::view(parameters[0].value(), 0, {32}));
  const float* flat = host.data<float>();
  CHECK(flat[15] == 0);
  for (int i = 17; i < 32; ++i) CHECK(flat[i] == 0);
}

TEST_CASE("pack() keeps dtypes apart, takes a parameter once, and passes over those without a value") {
  const Parameter a(ones({3})), b(ones({3}, {float64})), c(ones({3})), none;
  pack({a, b, none, c, a});
  CHECK(a.value().shares_storage_with(c.value()));
  CHECK(!a.value().shares_storage_with(b.value()));
  CHECK(address(c.value()) - address(a.value()) == 64);
  CHECK(b.value().dtype() == float64);
  CHECK(!none.defined());
  pack({});
}

TEST_CASE("parameters packed again, with others, keep their values") {
  const Parameter a(tensor({1, 2})), b(tensor({3, 4}));
  pack({a});
  backward_of(a, 2);
  pack({b, a});
  CHECK(close(a.value(), {1, 2}));
  CHECK(close(b.value(), {3, 4}));
  CHECK(close(a.gradient(), {2, 2}));
  CHECK(address(a.value()) - address(b.value()) == 64);
}
