// Recurrent networks over sequences against PyTorch, Keras and ONNX, and their gradients.
#include "mica/ops/recurrent.h"

#include <cmath>
#include <limits>

#include "mica/autograd/gradcheck.h"
#include "mica/core/threads.h"
#include "mica/ops/compare.h"
#include "mica/ops/manipulate.h"
#include "support/devices.h"
#include "support/golden.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;

namespace {

// The ops by name; what one cell alone knows has its default.
RecurrentResult run(const std::string& op, const RecurrentInputs& in, bool reset_after = true,
                    UnaryOp activation = UnaryOp::tanh) {
  return op == "rnn" ? rnn(in, activation) : op == "lstm" ? lstm(in) : gru(in, reset_after);
}

int64_t gates(const std::string& op) { return op == "rnn" ? 1 : op == "lstm" ? 4 : 3; }

// All that an op gives, as one: [y, h, c] along time.
Tensor joined(const RecurrentResult& r) {
  Tensors parts{r.y, expand_dims(r.h, 1)};
  if (r.c.defined()) parts.push_back(expand_dims(r.c, 1));
  return concat(parts, 1);
}

struct Kind {
  const char* op;
  bool reset_after = true;
  UnaryOp activation = UnaryOp::tanh;
};
constexpr Kind kKinds[] = {{"rnn"}, {"rnn", true, UnaryOp::relu}, {"lstm"}, {"gru"}, {"gru", false}};

// Inputs of b sequences of t steps, all of them but the mask: x, both kernels, bias, h, and what the cell has besides.
struct Sizes {
  int64_t b, t, f, h;
};
std::vector<std::string> names(const Kind& kind) {
  std::vector<std::string> list{"x", "kernel", "recurrent_kernel", "bias", "h"};
  if (kind.op == std::string("lstm")) list.push_back("c");
  if (kind.op == std::string("gru") && kind.reset_after) list.push_back("recurrent_bias");
  return list;
}
Tensors samples(const Kind& kind, const Sizes& s, DType dtype = float64) {
  const int64_t width = gates(kind.op) * s.h;
  Tensors xs;
  for (const std::string& name : names(kind)) {
    const Shape shape = name == "x"                  ? Shape{s.b, s.t, s.f}
                        : name == "kernel"           ? Shape{s.f, width}
                        : name == "recurrent_kernel" ? Shape{s.h, width}
                        : name == "h" || name == "c" ? Shape{s.b, s.h}
                                                     : Shape{width};
    xs.push_back(sample(shape, dtype, xs.size() + 1));
  }
  return xs;
}
RecurrentInputs inputs(const std::vector<std::string>& named, const Tensors& xs) {
  RecurrentInputs in;
  for (size_t i = 0; i < named.size(); ++i)
    (named[i] == "x"                  ? in.x
     : named[i] == "kernel"           ? in.kernel
     : named[i] == "recurrent_kernel" ? in.recurrent_kernel
     : named[i] == "bias"             ? in.bias
     : named[i] == "recurrent_bias"   ? in.recurrent_bias
     : named[i] == "h"                ? in.h
     : named[i] == "c"                ? in.c
                                      : in.mask) = xs[i];
  return in;
}

// Rows of all kinds: padded, with holes, without a step.
Tensor some_mask(int64_t b, int64_t t) {
  Tensor mask = random_bernoulli({b, t}, 0.6, {7, 0}, {uint8});
  if (b > 0) mask.slice(b - 1, b).copy_from(zeros({1, t}, {uint8}));
  return mask;
}

}  // namespace

TEST_CASE("rnn, lstm and gru are PyTorch's, Keras's and ONNX's: states, masks, both directions, with their gradients") {
  for (const GoldenCase& c : golden("recurrent"))
    replay(c, kSums, [&](const Tensors& x) {
      RecurrentInputs in = inputs(c.inputs, x);
      in.reverse = c.has("reverse") && c.flag("reverse");
      const bool relu = c.has("activation") && c.text("activation") == "relu";
      return joined(
          run(c.op, in, !c.has("reset_after") || c.flag("reset_after"), relu ? UnaryOp::relu : UnaryOp::tanh));
    });
}

TEST_CASE("recurrent ops pass a gradient check: over several steps, with masks and dropout, both ways") {
  const Sizes sizes[] = {{2, 3, 2, 3}, {1, 1, 1, 1}, {3, 4, 0, 2}, {2, 3, 2, 0},
                         {0, 3, 2, 2}, {2, 0, 2, 3}, {3, 5, 3, 1}};
  for (const Kind& kind : kKinds)
    for (const Sizes& s : sizes)
      for (const bool masked : {false, true}) {
        CAPTURE(kind.op);
        CAPTURE(kind.reset_after);
        CAPTURE(s.t);
        CAPTURE(masked);
        const auto f = [&](const Tensors& xs) {
          RecurrentInputs in = inputs(names(kind), xs);
          in.reverse = masked;
          if (masked) {
            in.mask = some_mask(s.b, s.t);
            in.recurrent_dropout = 2 * random_bernoulli({s.b, s.h}, 0.5, {5, 0}, {float64});
          }
          return joined(run(kind.op, in, kind.reset_after, kind.activation));
        };
        CHECK(gradcheck(f, samples(kind, s)) <= 1e-6);
      }
}

TEST_CASE("a masked step leaves the state as it was, and so a padded sequence is the sequence") {
  for (const Kind& kind : kKinds) {
    CAPTURE(kind.op);
    const RecurrentInputs in = inputs(names(kind), samples(kind, {2, 5, 3, 4}, float32));
    RecurrentInputs padded = in;
    padded.mask = tensor({{1, 1, 1, 0, 0}, {0, 0, 0, 0, 0}}).to(uint8);
    const RecurrentResult r = run(kind.op, padded, kind.reset_after, kind.activation);
    RecurrentInputs cut = in;
    cut.x = slice(in.x, {{}, {0, 3}});
    const RecurrentResult three = run(kind.op, cut, kind.reset_after, kind.activation);
    CHECK(close(r.y.slice(0, 1).reshape({5, 4}).slice(0, 3), three.y.slice(0, 1).reshape({3, 4}), kExact));
    CHECK(close(r.h.slice(0, 1), three.h.slice(0, 1), kExact));
    CHECK(close(r.h.slice(1, 2), in.h.slice(1, 2), kExact));  // not a step: what it began with
    CHECK(close(r.y.slice(1, 2).reshape({5, 4}), broadcast_to(in.h.slice(1, 2), {5, 4}), kExact));
    if (r.c.defined()) {
      CHECK(close(r.c.slice(0, 1), three.c.slice(0, 1), kExact));
      CHECK(close(r.c.slice(1, 2), in.c.slice(1, 2), kExact));
    }
  }
}

TEST_CASE("numbers in masked steps change nothing, whatever they are") {
  for (const Kind& kind : kKinds) {
    CAPTURE(kind.op);
    Tensors xs = samples(kind, {1, 3, 2, 2});
    const double nan = std::numeric_limits<double>::quiet_NaN();
    Tensors spoiled = xs;
    spoiled[0] = concat({slice(xs[0], {{}, {0, 2}}), full({1, 1, 2}, nan, {float64})}, 1);
    const auto result = [&](const Tensors& of) {
      RecurrentInputs in = inputs(names(kind), of);
      in.mask = tensor({{1, 1, 0}}).to(uint8);
      return joined(run(kind.op, in, kind.reset_after, kind.activation));
    };
    CHECK(close(result(spoiled), result(xs), kExact));
    const auto gradients = [&](Tensors of) {
      Tape tape;
      for (Tensor& x : of) tape.watch(x);
      return tape.gradient(sum(result(of)), of);
    };
    const Tensors clean = gradients(xs), of_spoiled = gradients(spoiled);
    for (size_t i = 0; i < clean.size(); ++i) CHECK(close(of_spoiled[i], clean[i], kExact));
  }
}

TEST_CASE("gradients of masked sequences do not depend on what memory held before") {
  for (const Kind& kind : kKinds) {
    CAPTURE(kind.op);
    const Tensors xs = samples(kind, {4, 6, 5, 16});
    RecurrentInputs in = inputs(names(kind), xs);
    in.mask = some_mask(4, 6);
    for (int i = 0; i < 4; ++i) {
      Tensors spoil;  // blocks of the sizes that the op asks for, handed back full of NaN
      for (const int64_t width : {16, 48, 64}) spoil.push_back(full({4, 6, width}, std::nan(""), {float64}));
    }
    Tape tape;
    tape.watch(in.recurrent_kernel);
    const Tensors du = tape.gradient(sum(run(kind.op, in, kind.reset_after, kind.activation).y), {in.recurrent_kernel});
    CHECK(all(isfinite(du[0])).item() == 1);
  }
}

TEST_CASE("a mask that is written to before backward is noticed") {
  RecurrentInputs in = inputs(names({"gru"}), samples({"gru"}, {2, 3, 2, 2}));
  in.mask = ones({2, 3}, {uint8});
  Tape tape;
  tape.watch(in.x);
  const Tensor loss = sum(gru(in).y);
  in.mask.fill(0);
  CHECK(error_text([&] { tape.gradient(loss, {in.x}); }).find("gru") != std::string::npos);
}

TEST_CASE("two halves of a sequence, the second from the state of the first, are the whole one") {
  for (const Kind& kind : kKinds) {
    CAPTURE(kind.op);
    const RecurrentInputs in = inputs(names(kind), samples(kind, {3, 7, 5, 20}, float32));
    const RecurrentResult whole = run(kind.op, in, kind.reset_after, kind.activation);
    RecurrentInputs half = in;
    half.x = slice(in.x, {{}, {0, 4}});
    const RecurrentResult first = run(kind.op, half, kind.reset_after, kind.activation);
    half.x = slice(in.x, {{}, {4, 7}});
    half.h = first.h;
    half.c = first.c;
    const RecurrentResult second = run(kind.op, half, kind.reset_after, kind.activation);
    CHECK(close(concat({first.y, second.y}, 1), whole.y, kPointwise));
    CHECK(close(second.h, whole.h, kPointwise));
  }
}

TEST_CASE("sequences without a step end where they began; a batch of none gives none") {
  for (const Kind& kind : kKinds) {
    CAPTURE(kind.op);
    const RecurrentInputs in = inputs(names(kind), samples(kind, {2, 0, 3, 4}, float32));
    const RecurrentResult r = run(kind.op, in, kind.reset_after, kind.activation);
    CHECK(r.y.shape() == Shape{2, 0, 4});
    CHECK(close(r.h, in.h, kExact));
    const RecurrentInputs none = inputs(names(kind), samples(kind, {0, 3, 3, 4}, float32));
    CHECK(run(kind.op, none, kind.reset_after, kind.activation).y.shape() == Shape{0, 3, 4});
  }
}

TEST_CASE("100,000 steps run forward and backward, in one op") {
  const Tensors xs = samples({"rnn"}, {1, 100000, 1, 2}, float32);
  RecurrentInputs in = inputs(names({"rnn"}), xs);
  Tape tape;
  tape.watch(in.x);
  const RecurrentResult r = rnn(in);
  const Tensors dx = tape.gradient(sum(r.h), {in.x});
  CHECK(r.y.shape() == Shape{1, 100000, 2});
  CHECK(all(isfinite(dx[0])).item() == 1);
}

TEST_CASE("recurrent ops refuse what does not fit") {
  RecurrentInputs in{.x = ones({2, 3, 4}), .kernel = ones({4, 20}), .recurrent_kernel = ones({5, 20})};
  const auto with = [&](auto change) {
    RecurrentInputs changed = in;
    change(changed);
    return changed;
  };
  check_wrong_use({
      {"[lstm] the input must be [batch, time, features], got [2,4]",
       [=] { lstm(with([](auto& i) {
               i.x = ones({2, 4});
             })); }},
      {"[lstm] the input is undefined", [=] { lstm(with([](auto& i) { i.x = Tensor(); })); }},
      {"[lstm] the input must be float32 or float64, got int64",
       [=] { lstm(with([](auto& i) {
               i.x = ones({2, 3, 4}, {int64});
             })); }},
      {"[lstm] the recurrent kernel must be [units, 4 * units], got [5,15]",
       [=] { lstm(with([](auto& i) {
               i.recurrent_kernel = ones({5, 15});
             })); }},
      {"[gru] the recurrent kernel must be [units, 3 * units], got [5,20]", [=] { gru(in); }},
      {"[lstm] the kernel must have as many columns as the recurrent kernel: [4,5] and [5,20]",
       [=] { lstm(with([](auto& i) {
               i.kernel = ones({4, 5});
             })); }},
      {"[lstm] the input's features must match the kernel's rows: input [2,3,4], kernel [3,20]",
       [=] { lstm(with([](auto& i) {
               i.kernel = ones({3, 20});
             })); }},
      {"[lstm] the bias must have one value for each of the kernel's 20 columns, got [5]",
       [=] { lstm(with([](auto& i) { i.bias = ones({5}); })); }},
      {"[lstm] the state h must be [batch, units], here [2,5], got [3,5]",
       [=] { lstm(with([](auto& i) {
               i.h = ones({3, 5});
             })); }},
      {"[lstm] the state c must be [batch, units], here [2,5], got [2,4]",
       [=] { lstm(with([](auto& i) {
               i.c = ones({2, 4});
             })); }},
      {"[lstm] dtypes must match: float32 and float64 (the state h)",
       [=] { lstm(with([](auto& i) {
               i.h = ones({2, 5}, {float64});
             })); }},
      {"[lstm] the mask must be uint8 on " + to_string(default_device()) + ", got float32 on " +
           to_string(default_device()),
       [=] { lstm(with([](auto& i) {
               i.mask = ones({2, 3});
             })); }},
      {"[lstm] the mask must be [batch, time], here [2,3], got [2,4]",
       [=] { lstm(with([](auto& i) {
               i.mask = ones({2, 4}, {uint8});
             })); }},
      {"[lstm] recurrent_dropout must be [batch, units], here [2,5], got [5]",
       [=] { lstm(with([](auto& i) { i.recurrent_dropout = ones({5}); })); }},
      {"[lstm] it has one bias: recurrent_bias is of gru",
       [=] { lstm(with([](auto& i) { i.recurrent_bias = ones({20}); })); }},
      {"[rnn] the activation must be tanh or relu",
       [=] {
         rnn({.x = ones({2, 3, 4}), .kernel = ones({4, 5}), .recurrent_kernel = ones({5, 5})}, UnaryOp::sigmoid);
       }},
      {"[rnn] it has one state: c is of lstm",
       [=] {
         rnn({.x = ones({2, 3, 4}), .kernel = ones({4, 5}), .recurrent_kernel = ones({5, 5}), .c = ones({2, 5})});
       }},
      {"[gru] without reset_after there is no recurrent_bias",
       [=] {
         gru({.x = ones({2, 3, 4}),
              .kernel = ones({4, 15}),
              .recurrent_kernel = ones({5, 15}),
              .recurrent_bias = ones({15})},
             false);
       }},
  });
}

TEST_SUITE_BEGIN("threads");

TEST_CASE("recurrent ops give the same bits at 1, 2 and 8 threads, forward") {
  for (const Kind& kind : kKinds) {
    CAPTURE(kind.op);
    const RecurrentInputs in = inputs(names(kind), samples(kind, {9, 8, 16, 64}, float32));
    Tensor first;
    for (const int threads : thread_counts({1, 2, 8})) {
      const ThreadScope scope(threads);
      const Tensor now = joined(run(kind.op, in, kind.reset_after, kind.activation));
      if (threads == 1) first = now;
      CHECK(close(now, first, kExact));
    }
  }
}

TEST_SUITE_END();
