// The calls for which the barriers of the CUDA kernels are tested: each launch of each launcher, at sizes just large
// enough to cross the borders of its tiles.
#include "support/barrier_calls.h"

namespace mica::test {

namespace {

using namespace mica::kernels;

void add_copies(Calls& calls) {
  for (Write write : {Write::overwrite, Write::accumulate})
    calls.push_back({"copy, transposed", [=](Calling& c) {
                       const int64_t m = 70, n = 40;
                       const StridedDims dims{.rank = 2, .size = {n, m}, .a_stride = {1, n}, .b_stride = {m, 1}};
                       const void* const x = c.in(float32, m * n);
                       c.kernels.copy(c.ctx, float32, dims, x,
                                      write == Write::overwrite ? c.out(float32, m * n) : c.inout(float32, m * n),
                                      write);
                     }});
}

void add_reductions(Calls& calls) {
  struct Shape {
    int64_t outer, n, inner;
  };
  // Long rows in one piece and in several; columns, few and many, in one piece and in several.
  for (const Shape& shape :
       {Shape{2, 1500, 1}, Shape{1, 9000, 1}, Shape{3, 40, 5}, Shape{1, 300, 70}, Shape{1, 5000, 3}}) {
    const std::string text = detail::concat(" of ", shape.outer, "x", shape.n, "x", shape.inner);
    for (DType dtype : {float32, float64, int64}) {
      const ReduceArgs args{dtype, shape.outer, shape.n, shape.inner};
      const int64_t count = shape.outer * shape.n * shape.inner, results = shape.outer * shape.inner;
      calls.push_back({"reduce_sum" + text, [=](Calling& c) {
                         const void* const x = c.in(dtype, count, -9, 9);
                         c.kernels.reduce_sum(c.ctx, args, 1, x, c.out(dtype, results), Write::overwrite);
                       }});
      calls.push_back({"reduce" + text, [=](Calling& c) {
                         const void* const x = c.in(dtype, count, -1e6, 1e6);
                         c.kernels.reduce(c.ctx, ReduceOp::max, args, x, c.out(dtype, results));
                       }});
      calls.push_back({"arg_reduce" + text, [=](Calling& c) {
                         const void* const x = c.in(dtype, count, -1e6, 1e6);
                         c.kernels.arg_reduce(c.ctx, ReduceOp::min, args, x,
                                              static_cast<int64_t*>(c.out(int64, results)));
                       }});
      calls.push_back({"cumsum" + text, [=](Calling& c) {
                         const void* const x = c.in(dtype, count, -9, 9);
                         c.kernels.cumsum(c.ctx, args, dtype == float64, x, c.out(dtype, count));
                       }});
    }
    calls.push_back({"product_gradient" + text, [=](Calling& c) {
                       const ReduceArgs args{float64, shape.outer, shape.n, shape.inner};
                       const void* const x = c.in(float64, shape.outer * shape.n * shape.inner, 0.9, 1.1);
                       const void* const dy = c.in(float64, shape.outer * shape.inner);
                       c.kernels.product_gradient(c.ctx, args, x, dy,
                                                  c.out(float64, shape.outer * shape.n * shape.inner));
                     }});
  }
  calls.push_back({"sum_squares", [](Calling& c) {
                     const void* const x = c.in(float32, 9000);
                     c.kernels.sum_squares(c.ctx, float32, 9000, x, static_cast<double*>(c.out(float64, 1)));
                   }});
  for (const Shape& shape : {Shape{5, 300, 1}, Shape{1, 2000, 2}, Shape{2, 5000, 1}})
    for (DType dtype : {float32, float64})
      calls.push_back({detail::concat("argsort of ", shape.n), [=](Calling& c) {
                         const ReduceArgs args{dtype, shape.outer, shape.n, shape.inner};
                         const int64_t count = shape.outer * shape.n * shape.inner;
                         const void* const x = c.in(dtype, count);
                         c.kernels.argsort(c.ctx, args, false, shape.n, x, static_cast<int64_t*>(c.out(int64, count)));
                       }});
  for (bool shared : {false, true})
    calls.push_back({"scatter_add", [=](Calling& c) {
                       const GatherArgs args{float32, 2, 50, 300, 3, shared};
                       const void* const x = c.in(float32, 2 * 300 * 3);
                       const int64_t* const index = c.indices(shared ? 300 : 2 * 300 * 3, 50);
                       c.kernels.scatter_add(c.ctx, args, x, index, c.inout(float32, 2 * 50 * 3));
                     }});
}

void add_rows(Calls& calls) {
  for (int64_t n : {70, 1500, 5000, 20000})
    for (DType dtype : {float32, float64}) {
      const int64_t rows = n > 2000 ? 1 : 3, count = rows * n;
      const std::string text = detail::concat(" of rows of ", n);
      calls.push_back({"softmax" + text, [=](Calling& c) {
                         const void* const x = c.in(dtype, count);
                         c.kernels.softmax(c.ctx, dtype, rows, n, x, c.out(dtype, count));
                       }});
      calls.push_back({"log_softmax_gradient" + text, [=](Calling& c) {
                         const void *const y = c.in(dtype, count, -3, 0), *const dy = c.in(dtype, count);
                         c.kernels.log_softmax_gradient(c.ctx, dtype, rows, n, y, dy, c.out(dtype, count),
                                                        Write::overwrite);
                       }});
      calls.push_back({"sparse_cross_entropy" + text, [=](Calling& c) {
                         const void* const logits = c.in(dtype, count);
                         const int64_t* const labels = c.indices(rows, n);
                         c.kernels.sparse_cross_entropy(c.ctx, dtype, rows, n, 0.1, logits, labels, c.out(dtype, rows));
                       }});
      calls.push_back({"sparse_cross_entropy_gradient" + text, [=](Calling& c) {
                         const void* const logits = c.in(dtype, count);
                         const int64_t* const labels = c.indices(rows, n);
                         const void* const dloss = c.in(dtype, rows);
                         c.kernels.sparse_cross_entropy_gradient(c.ctx, dtype, rows, n, 0.1, logits, labels, dloss,
                                                                 c.out(dtype, count), Write::overwrite);
                       }});
      calls.push_back({"cross_entropy" + text, [=](Calling& c) {
                         const void *const logits = c.in(dtype, count), *const targets = c.in(dtype, count, 0, 1);
                         c.kernels.cross_entropy(c.ctx, dtype, rows, n, logits, targets, c.out(dtype, rows));
                       }});
      calls.push_back({"cross_entropy_gradient" + text, [=](Calling& c) {
                         const void *const logits = c.in(dtype, count), *const targets = c.in(dtype, count, 0, 1);
                         const void* const dloss = c.in(dtype, rows);
                         c.kernels.cross_entropy_gradient(c.ctx, dtype, rows, n, logits, targets, dloss,
                                                          c.out(dtype, count), Write::overwrite);
                       }});
      calls.push_back(
          {"layer_norm" + text, [=](Calling& c) {
             const void *const x = c.in(dtype, count), *const gamma = c.in(dtype, n), *const beta = c.in(dtype, n);
             void *const y = c.out(dtype, count), *const mean = c.out(dtype, rows);
             c.kernels.layer_norm(c.ctx, dtype, rows, n, 1e-3, x, gamma, beta, y, mean, c.out(dtype, rows));
           }});
      calls.push_back({"layer_norm_gradient" + text, [=](Calling& c) {
                         const void *const x = c.in(dtype, count), *const mean = c.in(dtype, rows),
                                           *const inverse = c.in(dtype, rows), *const gamma = c.in(dtype, n),
                                           *const dy = c.in(dtype, count);
                         void *const dx = c.out(dtype, count), *const dgamma = c.out(dtype, n);
                         c.kernels.layer_norm_gradient(c.ctx, dtype, rows, n, x, mean, inverse, gamma, dy, dx, dgamma,
                                                       c.out(dtype, n));
                       }});
    }
  for (int64_t n : {5, 70})
    for (DType dtype : {float32, float64}) {
      const int64_t rows = 400, count = rows * n;
      calls.push_back({"column_moments", [=](Calling& c) {
                         const void* const x = c.in(dtype, count);
                         void* const mean = c.out(dtype, n);
                         c.kernels.column_moments(c.ctx, dtype, rows, n, x, mean, c.out(dtype, n));
                       }});
      calls.push_back(
          {"batch_norm_gradient", [=](Calling& c) {
             const void *const x = c.in(dtype, count), *const mean = c.in(dtype, n), *const inverse = c.in(dtype, n),
                               *const gamma = c.in(dtype, n), *const dy = c.in(dtype, count);
             void *const dx = c.out(dtype, count), *const dgamma = c.out(dtype, n);
             c.kernels.batch_norm_gradient(c.ctx, dtype, rows, n, true, x, mean, inverse, gamma, dy, dx, dgamma,
                                           c.out(dtype, n));
           }});
      calls.push_back({"activation_gradient", [=](Calling& c) {
                         const void *const y = c.in(dtype, count), *const dy = c.in(dtype, count);
                         void* const dz = c.out(dtype, count);
                         c.kernels.activation_gradient(c.ctx, UnaryOp::tanh, dtype, rows, n, y, dy, dz, c.out(dtype, n),
                                                       Write::overwrite);
                       }});
    }
}

void add_products(Calls& calls) {
  // One slice of the depth and several; tiles of each shape; a long depth, which is split.
  struct Shape {
    int64_t m, n, k;
  };
  for (const Shape& shape :
       {Shape{70, 66, 16}, Shape{70, 66, 48}, Shape{20, 140, 48}, Shape{140, 20, 48}, Shape{9, 12, 600},
        Shape{1, 512, 520}, Shape{40, 1, 50}, Shape{3, 1, 5000}, Shape{2048, 1536, 16}})
    for (DType dtype : {float32, float64}) {
      if (shape.m > 200 && dtype == float64) continue;
      calls.push_back({detail::concat("matmul of ", shape.m, "x", shape.n, "x", shape.k), [=](Calling& c) {
                         MatmulArgs args;
                         args.dtype = dtype;
                         args.m = shape.m;
                         args.n = shape.n;
                         args.k = args.lda = shape.k;
                         args.ldb = args.ldc = shape.n;
                         const void* const a = c.in(dtype, args.m * args.k);
                         const void* const b = c.in(dtype, args.k * args.n);
                         c.kernels.matmul(c.ctx, args, a, b, c.out(dtype, args.m * args.n));
                       }});
    }
}

Conv2DArgs convolution(DType dtype, int64_t size, int64_t channels, int64_t filters, int64_t window, int64_t stride,
                       int64_t groups) {
  Conv2DArgs args;
  args.dtype = dtype;
  args.n = 2;
  args.h = args.w = size;
  args.c = channels;
  args.o = filters;
  args.kh = args.kw = window;
  args.sh = args.sw = stride;
  args.oh = args.ow = (size - 1) / stride + 1;
  args.pad_top = args.pad_left = (window - 1) / 2;
  args.groups = groups;
  return args;
}

void add_convolutions(Calls& calls) {
  for (DType dtype : {float32, float64})
    for (const Conv2DArgs& args : {convolution(dtype, 9, 3, 8, 3, 1, 1), convolution(dtype, 9, 16, 24, 3, 1, 1),
                                   convolution(dtype, 9, 8, 8, 3, 2, 1), convolution(dtype, 9, 8, 12, 1, 1, 1),
                                   convolution(dtype, 9, 8, 8, 3, 1, 8), convolution(dtype, 9, 8, 16, 3, 1, 2),
                                   convolution(dtype, 9, 1, 8, 5, 1, 1)}) {
      const std::string text = detail::concat(" of ", args.c, " channels, ", args.o, " filters of ", args.kh, ", in ",
                                              args.groups, " groups");
      const int64_t x_count = args.n * args.h * args.w * args.c,
                    w_count = args.kh * args.kw * args.c / args.groups * args.o,
                    y_count = args.n * args.oh * args.ow * args.o;
      calls.push_back({"conv2d" + text, [=](Calling& c) {
                         const void *const x = c.in(dtype, x_count), *const w = c.in(dtype, w_count),
                                           *const bias = c.in(dtype, args.o);
                         c.kernels.conv2d(c.ctx, args, x, w, bias, c.out(dtype, y_count));
                       }});
      calls.push_back({"conv2d_gradient" + text, [=](Calling& c) {
                         const void *const x = c.in(dtype, x_count), *const w = c.in(dtype, w_count),
                                           *const dy = c.in(dtype, y_count);
                         void* const dx = c.out(dtype, x_count);
                         c.kernels.conv2d_gradient(c.ctx, args, x, w, dy, dx, Write::overwrite, c.out(dtype, w_count),
                                                   Write::overwrite);
                       }});
    }
}

AttentionArgs attention_args(DType dtype, int64_t tq, int64_t tk, int64_t d, int64_t dv) {
  AttentionArgs args;
  args.dtype = dtype;
  args.batch = 1;
  args.heads = 2;
  args.tq = tq;
  args.tk = tk;
  args.d = d;
  args.dv = dv;
  const auto strides = [&](int64_t length, int64_t features) {
    return HeadStrides{length * args.heads * features, args.heads * features, features};
  };
  args.q = strides(tq, d);
  args.k = strides(tk, d);
  args.v = strides(tk, dv);
  args.y = strides(tq, dv);
  args.scale = 0.2;
  return args;
}

void add_attention(Calls& calls) {
  for (DType dtype : {float32, float64})
    for (const AttentionArgs& args : {attention_args(dtype, 40, 70, 20, 24), attention_args(dtype, 40, 140, 40, 40),
                                      attention_args(dtype, 40, 70, 70, 100), attention_args(dtype, 40, 70, 40, 200),
                                      attention_args(dtype, 20, 70, 700, 40), attention_args(dtype, 1, 300, 40, 40),
                                      attention_args(dtype, 1, 70, 40, 100)}) {
      const int64_t rows = args.heads * args.tq, q_count = rows * args.d, k_count = args.heads * args.tk * args.d,
                    v_count = args.heads * args.tk * args.dv, y_count = rows * args.dv;
      const std::string text =
          detail::concat(" of ", args.tq, " queries, ", args.tk, " keys, ", args.d, " and ", args.dv, " features");
      calls.push_back({"attention" + text, [=](Calling& c) {
                         const void *const q = c.in(dtype, q_count), *const k = c.in(dtype, k_count),
                                           *const v = c.in(dtype, v_count);
                         void* const y = c.out(dtype, y_count);
                         c.kernels.attention(c.ctx, args, q, k, v, y, c.out(dtype, rows));
                       }});
      calls.push_back({"attention_gradient" + text, [=](Calling& c) {
                         const void *const q = c.in(dtype, q_count, -1, 1), *const k = c.in(dtype, k_count, -1, 1),
                                           *const v = c.in(dtype, v_count), *const y = c.in(dtype, y_count),
                                           *const log_sum = c.in(dtype, rows, 4, 6), *const dy = c.in(dtype, y_count);
                         void *const dq = c.out(dtype, q_count), *const dk = c.out(dtype, k_count);
                         c.kernels.attention_gradient(c.ctx, args, q, k, v, y, log_sum, dy, dq, dk,
                                                      c.out(dtype, v_count));
                       }});
    }
}

void add_recurrent(Calls& calls) {
  struct Kind {
    const char* name;
    RecurrentKind kind;
    bool reset_after;
  };
  for (const Kind& kind : {Kind{"rnn", RecurrentKind::rnn, true}, Kind{"lstm", RecurrentKind::lstm, true},
                           Kind{"gru", RecurrentKind::gru, true}, Kind{"gru before", RecurrentKind::gru, false}})
    for (int64_t h : {12, 200})
      for (DType dtype : {float32, float64}) {
        if (h > 100 && dtype == float64) continue;
        RecurrentArgs shape;
        shape.dtype = dtype;
        shape.kind = kind.kind;
        shape.reset_after = kind.reset_after;
        shape.b = 3;
        shape.t = 3;
        shape.h = h;
        const bool lstm = kind.kind == RecurrentKind::lstm, gru = kind.kind == RecurrentKind::gru;
        const int64_t gates = gates_of(kind.kind), states = shape.b * h, steps = states * shape.t;
        const auto with_memory = [=](Calling& c) {
          RecurrentArgs args = shape;
          args.u = c.in(dtype, h * gates * h, -0.1, 0.1);
          if (gru && kind.reset_after) args.bias = c.in(dtype, gates * h);
          return args;
        };
        calls.push_back({detail::concat(kind.name, " of ", h), [=](Calling& c) {
                           const RecurrentArgs args = with_memory(c);
                           void* const z = c.inout(dtype, steps * gates);
                           void* const y = kind.kind == RecurrentKind::rnn ? z : c.out(dtype, steps);
                           void* const inner = lstm || gru ? c.out(dtype, steps) : nullptr;
                           void* const state = c.inout(dtype, states);
                           c.kernels.recurrent(c.ctx, args, z, y, inner, state,
                                               lstm ? c.inout(dtype, states) : nullptr);
                         }});
        calls.push_back(
            {detail::concat("gradient of ", kind.name, " of ", h), [=](Calling& c) {
               const RecurrentArgs args = with_memory(c);
               const void* const z = c.in(dtype, steps * gates, 0.1, 0.9);
               const void* const y = kind.kind == RecurrentKind::rnn ? z : c.in(dtype, steps, -1, 1);
               const void* const inner = lstm || gru ? c.in(dtype, steps, -1, 1) : nullptr;
               const void *const h0 = c.in(dtype, states, -1, 1), *const c0 =
                                                                      lstm ? c.in(dtype, states, -1, 1) : nullptr;
               const void* const dy = c.in(dtype, steps);
               void *const dh = c.inout(dtype, states), *const dc = lstm ? c.inout(dtype, states) : nullptr;
               void *const dz = c.out(dtype, steps * gates), *const da = gru && kind.reset_after
                                                                             ? c.out(dtype, steps * gates)
                                                                             : nullptr;
               c.kernels.recurrent_gradient(c.ctx, args, z, y, inner, h0, c0, dy, dh, dc, dz, da, c.out(dtype, steps));
             }});
      }
}

}  // namespace

Calls calls_with_barriers() {
  Calls calls;
  add_copies(calls);
  add_reductions(calls);
  add_rows(calls);
  add_products(calls);
  add_convolutions(calls);
  add_attention(calls);
  add_recurrent(calls);
  return calls;
}

}  // namespace mica::test
