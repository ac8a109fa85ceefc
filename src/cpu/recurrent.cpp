// CPU kernels of recurrent networks: a sequence in one call. Rows of the batch do not meet, so each thread takes some
// of them through all the steps and waits for nobody; u is packed once.
#include <cstring>

#include "cpu/tile.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

namespace {

template <class T>
[[gnu::always_inline]] inline T sigmoid(T x) {
  return scalar::Sigmoid::forward(x);
}

// Packed weights [k, n], and products with rows that lie side by side.
template <class T>
struct Weights {
  int64_t k = 0, n = 0;
  const T* packed = nullptr;

  // before() is called before each tile.
  template <class Before>
  void multiply(int64_t m, const T* rows, int64_t ld, T* c, int64_t ldc, bool accumulate, const Before& before) const {
    run_tiles<T>(m, n,
                 {.a = rows,
                  .row_stride = ld,
                  .step_stride = 1,
                  .steps = k,
                  .b = packed,
                  .c = c,
                  .ldc = ldc,
                  .columns = 0,
                  .accumulate = accumulate},
                 UnaryOp::identity, [&](const Tile<T>&, int64_t) { before(); });
  }
  void multiply(int64_t m, const T* rows, int64_t ld, T* c, int64_t ldc, bool accumulate) const {
    multiply(m, rows, ld, c, ldc, accumulate, [] {});
  }
  int64_t tiles(int64_t m) const { return TileHeights(m).count * panels<T>(n); }
};

// While a step's product runs, what the gates read next is fetched: each row of the batch is on a page of its own.
template <class T>
Fetch<T> fetch(const T* x, int64_t at, int64_t rows, int64_t steps, int64_t width, int64_t parts) {
  return x ? Fetch<T>(x + at * width, rows, width, steps * width, parts) : Fetch<T>();
}

// u, or its transpose, packed. A gru that resets before the product multiplies in two parts: z and r, then n.
template <class T>
class PackedWeights {
 public:
  PackedWeights(Context& ctx, const RecurrentArgs& args, bool transpose)
      : split_(args.kind == RecurrentKind::gru && !args.reset_after), transpose_(transpose), h_(args.h),
        ld_(gates_of(args.kind) * args.h), first_columns_(split_ ? 2 * h_ : ld_), first_bytes_(bytes(first_columns_)),
        memory_(ctx.workspace(static_cast<size_t>(first_bytes_ + (split_ ? bytes(h_) : 0)))) {
    const T* u = static_cast<const T*>(args.u);
    all = pack(u, first_columns_, memory_.as<T>());
    if (split_) last = pack(u + 2 * h_, h_, memory_.as<T>(static_cast<size_t>(first_bytes_)));
  }

  Weights<T> all, last;  // of a split one, z and r; n

 private:
  int64_t bytes(int64_t columns) const {
    return transpose_ ? packed_bytes<T>(columns, h_) : packed_bytes<T>(h_, columns);
  }
  Weights<T> pack(const T* u, int64_t columns, T* to) const {
    const int64_t k = transpose_ ? columns : h_, n = transpose_ ? h_ : columns;
    pack_columns<T>(k, n, u, ld_, transpose_, to);
    return {k, n, to};
  }

  bool split_, transpose_;
  int64_t h_, ld_, first_columns_, first_bytes_;
  Workspace memory_;
};

// Runs body(first row, rows, scratch) with `values` of scratch a row.
template <class T, class Body>
void for_row_blocks(Context& ctx, const RecurrentArgs& args, int64_t values, const Body& body) {
  const int64_t work = max(1, args.t * args.h * args.h * gates_of(args.kind));
  const Workspace workspace = ctx.workspace(static_cast<size_t>(args.b * values) * sizeof(T));
  T* scratch = workspace.as<T>();
  parallel::ranges(ctx.threads, args.b, max(1, 16 * kGrain / work),
                   [=](int64_t begin, int64_t end, int) { body(begin, end - begin, scratch + begin * values); });
}

// One row and step of each cell: z [G*H], made the gates, and a = h u [G*H] give the next h, written twice.
template <class T>
void rnn_step(int64_t n, UnaryOp activation, T* __restrict z, const T* __restrict a, T* __restrict h) {
  for_fused(activation, [=](auto f) {
#pragma GCC ivdep
    for (int64_t j = 0; j < n; ++j) h[j] = z[j] = f.forward(z[j] + a[j]);
  });
}

template <class T>
void lstm_step(int64_t n, T* __restrict z, const T* __restrict a, T* __restrict h, T* __restrict y, T* __restrict c,
               T* __restrict cells) {
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) {
    const T i = sigmoid(z[j] + a[j]), f = sigmoid(z[n + j] + a[n + j]);
    const T g = math::tanh(z[2 * n + j] + a[2 * n + j]), o = sigmoid(z[3 * n + j] + a[3 * n + j]);
    const T next = f * c[j] + i * g;
    z[j] = i;
    z[n + j] = f;
    z[2 * n + j] = g;
    z[3 * n + j] = o;
    c[j] = cells[j] = next;
    h[j] = y[j] = o * math::tanh(next);
  }
}

// `bias` is added to a, and may be null.
template <class T>
void gru_step_after(int64_t n, T* __restrict z, T* __restrict a, const T* __restrict bias, T* __restrict h,
                    T* __restrict y, T* __restrict inner) {
  if (bias) {
#pragma GCC ivdep
    for (int64_t j = 0; j < 3 * n; ++j) a[j] += bias[j];
  }
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) {
    const T update = sigmoid(z[j] + a[j]), reset = sigmoid(z[n + j] + a[n + j]);
    const T candidate = math::tanh(z[2 * n + j] + reset * a[2 * n + j]);
    z[j] = update;
    z[n + j] = reset;
    z[2 * n + j] = candidate;
    inner[j] = a[2 * n + j];
    h[j] = y[j] = candidate + update * (h[j] - candidate);
  }
}

// The two halves of the other one: the gates z and r and what the product of n takes, then the candidate.
template <class T>
void gru_step_gates(int64_t n, T* __restrict z, const T* __restrict a, const T* __restrict in, T* __restrict inner) {
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) {
    z[j] = sigmoid(z[j] + a[j]);
    z[n + j] = sigmoid(z[n + j] + a[n + j]);
    inner[j] = z[n + j] * in[j];
  }
}
template <class T>
void gru_step_candidate(int64_t n, T* __restrict z, const T* __restrict a, T* __restrict h, T* __restrict y) {
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) {
    const T candidate = math::tanh(z[2 * n + j] + a[2 * n + j]);
    z[2 * n + j] = candidate;
    h[j] = y[j] = candidate + z[j] * (h[j] - candidate);
  }
}

template <class T>
void copy_row(int64_t n, const T* x, T* y) {
  std::memcpy(y, x, static_cast<size_t>(n) * sizeof(T));
}

template <class T>
void run(Context& ctx, const RecurrentArgs& args, T* gates, T* y, T* inner, T* h, T* c) {
  const int64_t n = args.h, steps = args.t, width = gates_of(args.kind) * n;
  const PackedWeights<T> u(ctx, args, false);
  const T *drop = static_cast<const T*>(args.drop), *bias = static_cast<const T*>(args.bias);
  for_row_blocks<T>(ctx, args, width + n, [=, &u](int64_t first, int64_t rows, T* scratch) {
    T *product = scratch, *dropped = scratch + rows * width;
    for (int64_t s = 0; s < steps; ++s) {
      const int64_t t = args.reverse ? steps - 1 - s : s;
      const T* in = h + first * n;
      if (drop) {
        for (int64_t j = 0; j < rows * n; ++j) dropped[j] = in[j] * drop[first * n + j];
        in = dropped;
      }
      const int64_t now = first * steps + t, tiles = u.all.tiles(rows);
      Fetch<T> ahead_z = fetch(gates, now, rows, steps, width, tiles), ahead_y = fetch(y, now, rows, steps, n, tiles),
               ahead_inner = fetch(inner, now, rows, steps, n, tiles);
      u.all.multiply(rows, in, n, product, width, false, [&] { ahead_z.next(), ahead_y.next(), ahead_inner.next(); });
      const auto each = [&](const auto& step) {
        for (int64_t i = 0; i < rows; ++i) {
          const int64_t row = first + i, at = row * steps + t;
          if (args.mask && !args.mask[at]) continue;
          step(i, gates + at * width, y + at * n, inner ? inner + at * n : nullptr, h + row * n);
        }
      };
      switch (args.kind) {
        case RecurrentKind::rnn:
          each([&](int64_t i, T* z, T*, T*, T* state) { rnn_step(n, args.activation, z, product + i * n, state); });
          break;
        case RecurrentKind::lstm:
          each([&](int64_t i, T* z, T* out, T* cells, T* state) {
            lstm_step(n, z, product + i * width, state, out, c + (first + i) * n, cells);
          });
          break;
        case RecurrentKind::gru:
          if (args.reset_after) {
            each([&](int64_t i, T* z, T* out, T* candidate, T* state) {
              gru_step_after(n, z, product + i * width, bias, state, out, candidate);
            });
            break;
          }
          each([&](int64_t i, T* z, T*, T* reset, T*) {
            T* a = product + i * width;
            gru_step_gates(n, z, a, in + i * n, reset);
            copy_row(n, reset, a);  // z and r's part has been read: the rows of r * h, side by side
          });
          u.last.multiply(rows, product, width, product + 2 * n, width, false);
          each([&](int64_t i, T* z, T* out, T*, T* state) {
            gru_step_candidate(n, z, product + i * width, state, out);
          });
      }
      for (int64_t i = 0; args.mask && i < rows; ++i) {  // where it is masked, nothing changes
        const int64_t row = first + i, at = row * steps + t;
        if (args.mask[at]) continue;
        copy_row(n, h + row * n, y + at * n);
        if (c)
          copy_row(n, c + row * n, inner + at * n);
        else if (inner)  // the gradient multiplies it with 0
          std::memset(inner + at * n, 0, static_cast<size_t>(n) * sizeof(T));
      }
    }
  });
}

// The gradients of one row and step: d is that of the state after it, `dz` and `da` those of z and a = in u, and
// `carry` what of d goes to the state before without a product.
template <class T>
void lstm_gradient(int64_t n, const T* __restrict gates, const T* __restrict cells, const T* __restrict before,
                   const T* __restrict d, T* __restrict dc, T* __restrict dz) {
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) {
    const T i = gates[j], f = gates[n + j], g = gates[2 * n + j], o = gates[3 * n + j];
    const T th = math::tanh(cells[j]), dcell = dc[j] + d[j] * o * (T(1) - th * th);
    dz[j] = dcell * g * i * (T(1) - i);
    dz[n + j] = dcell * before[j] * f * (T(1) - f);
    dz[2 * n + j] = dcell * i * (T(1) - g * g);
    dz[3 * n + j] = d[j] * th * o * (T(1) - o);
    dc[j] = dcell * f;
  }
}

template <class T>
void gru_gradient_after(int64_t n, const T* __restrict gates, const T* __restrict inner, const T* __restrict before,
                        const T* __restrict d, T* __restrict dz, T* __restrict da, T* __restrict carry) {
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) {
    const T update = gates[j], reset = gates[n + j], candidate = gates[2 * n + j];
    const T dn = d[j] * (T(1) - update) * (T(1) - candidate * candidate);
    dz[j] = da[j] = d[j] * (before[j] - candidate) * update * (T(1) - update);
    dz[n + j] = da[n + j] = dn * inner[j] * reset * (T(1) - reset);
    dz[2 * n + j] = dn;
    da[2 * n + j] = dn * reset;
    carry[j] = d[j] * update;
  }
}

template <class T>
void gru_gradient_candidate(int64_t n, const T* __restrict gates, const T* __restrict before, const T* __restrict d,
                            T* __restrict dz, T* __restrict carry) {
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) {
    const T update = gates[j], candidate = gates[2 * n + j];
    dz[j] = d[j] * (before[j] - candidate) * update * (T(1) - update);
    dz[2 * n + j] = d[j] * (T(1) - update) * (T(1) - candidate * candidate);
    carry[j] = d[j] * update;
  }
}

// dreset: the gradient of r * in, made what of it goes to `in` without another product.
template <class T>
void gru_gradient_reset(int64_t n, const T* __restrict gates, const T* __restrict in, T* __restrict dreset,
                        T* __restrict dz) {
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) {
    const T reset = gates[n + j];
    dz[n + j] = dreset[j] * in[j] * reset * (T(1) - reset);
    dreset[j] *= reset;
  }
}

template <class T>
struct Pointers {
  const T *gates, *y, *inner, *h0, *c0, *dy;
  T *dh, *dc, *dz, *da, *previous;
};

template <class T>
void run_gradient(Context& ctx, const RecurrentArgs& args, const Pointers<T>& p) {
  const int64_t n = args.h, steps = args.t, width = gates_of(args.kind) * n;
  const PackedWeights<T> u(ctx, args, true);
  const T* drop = static_cast<const T*>(args.drop);
  const bool split = args.kind == RecurrentKind::gru && !args.reset_after;
  for_row_blocks<T>(ctx, args, width + 2 * n, [=, &u](int64_t first, int64_t rows, T* scratch) {
    // The gradients of a, and of h by way of u, of this step's rows side by side; what goes to h without u.
    T *product = scratch, *through = product + rows * width, *carry = through + rows * n;
    for (int64_t s = 0; s < steps; ++s) {
      const int64_t t = args.reverse ? s : steps - 1 - s, before = args.reverse ? t + 1 : t - 1;
      const bool start = s + 1 == steps;
      const auto each = [&](const auto& step) {
        for (int64_t i = 0; i < rows; ++i) {
          const int64_t row = first + i, at = row * steps + t;
          const T* h = start ? p.h0 + row * n : p.y + (row * steps + before) * n;
          step(i, row, at, h, args.mask && !args.mask[at]);
        }
      };
      each([&](int64_t i, int64_t row, int64_t at, const T* h, bool masked) {
        T *d = p.dh + row * n, *in = p.previous + at * n, *dz = p.dz + at * width, *da = product + i * width;
        if (p.dy)
          for (int64_t j = 0; j < n; ++j) d[j] += p.dy[at * n + j];
        for (int64_t j = 0; j < n; ++j) in[j] = drop ? h[j] * drop[row * n + j] : h[j];
        if (masked) {
          std::memset(dz, 0, static_cast<size_t>(width) * sizeof(T));
          std::memset(da, 0, static_cast<size_t>(width) * sizeof(T));
          copy_row(n, d, carry + i * n);
        } else if (args.kind == RecurrentKind::rnn) {
          for_fused(args.activation, [=, out = p.y + at * n](auto f) {
#pragma GCC ivdep
            for (int64_t j = 0; j < n; ++j) dz[j] = d[j] * f.derivative(out[j]);
          });
        } else if (args.kind == RecurrentKind::lstm) {
          const T* cell = start ? p.c0 + row * n : p.inner + (row * steps + before) * n;
          lstm_gradient(n, p.gates + at * width, p.inner + at * n, cell, d, p.dc + row * n, dz);
        } else if (args.reset_after) {
          gru_gradient_after(n, p.gates + at * width, p.inner + at * n, h, d, dz, da, carry + i * n);
        } else {
          gru_gradient_candidate(n, p.gates + at * width, h, d, dz, carry + i * n);
        }
        if (!masked && args.kind != RecurrentKind::gru) {
          copy_row(width, dz, da);
          std::memset(carry + i * n, 0, static_cast<size_t>(n) * sizeof(T));
        }
        if (split && !masked) copy_row(n, dz + 2 * n, da);
        if (p.da) copy_row(width, da, p.da + at * width);
      });
      if (split) {
        u.last.multiply(rows, product, width, through, n, false);
        each([&](int64_t i, int64_t, int64_t at, const T*, bool masked) {
          T* dz = p.dz + at * width;
          if (!masked) gru_gradient_reset(n, p.gates + at * width, p.previous + at * n, through + i * n, dz);
          copy_row(2 * n, dz, product + i * width);
        });
      }
      const int64_t next = first * steps + (start ? t : before), tiles = start ? 1 : u.all.tiles(rows),
                    ahead = start ? 0 : rows;
      Fetch<T> z = fetch(p.gates, next, ahead, steps, width, tiles), dz = fetch(p.dz, next, ahead, steps, width, tiles),
               states = fetch(p.inner, next, ahead, steps, n, tiles), dy = fetch(p.dy, next, ahead, steps, n, tiles),
               in = fetch(p.previous, next, ahead, steps, n, tiles);
      u.all.multiply(rows, product, width, through, n, split,
                     [&] { z.next(), dz.next(), states.next(), dy.next(), in.next(); });
      each([&](int64_t i, int64_t row, int64_t, const T*, bool) {
        const T *direct = carry + i * n, *back = through + i * n;
        T* d = p.dh + row * n;
        for (int64_t j = 0; j < n; ++j) d[j] = direct[j] + (drop ? back[j] * drop[row * n + j] : back[j]);
      });
    }
  });
}

}  // namespace

void recurrent(Context& ctx, const RecurrentArgs& args, void* gates, void* y, void* inner, void* h, void* c) {
  if (args.h == 0) return;
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    run<T>(ctx, args, static_cast<T*>(gates), static_cast<T*>(y), static_cast<T*>(inner), static_cast<T*>(h),
           static_cast<T*>(c));
  });
}

void recurrent_gradient(Context& ctx, const RecurrentArgs& args, const void* gates, const void* y, const void* inner,
                        const void* h0, const void* c0, const void* dy, void* dh, void* dc, void* dz, void* da,
                        void* previous) {
  if (args.h == 0) return;
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    run_gradient<T>(
        ctx, args,
        {static_cast<const T*>(gates), static_cast<const T*>(y), static_cast<const T*>(inner),
         static_cast<const T*>(h0), static_cast<const T*>(c0), static_cast<const T*>(dy), static_cast<T*>(dh),
         static_cast<T*>(dc), static_cast<T*>(dz), static_cast<T*>(da), static_cast<T*>(previous)});
  });
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
