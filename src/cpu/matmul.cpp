// CPU matrix products. float32 runs on the register tiles of tile.h, blocked for the caches; float64, which serves
// gradient checks and references, on Eigen's product.
#include <Eigen/Core>

#include "cpu/tile.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

namespace {

// One product, or a part of one, for one thread.
template <class T>
struct Product {
  int64_t m, n, k;
  const T* a;
  int64_t lda;
  bool transpose_a;
  const T* b;
  int64_t ldb;
  bool transpose_b;
  T* c;
  int64_t ldc;
  bool accumulate;
  const T* bias;
  UnaryOp activation;
  bool is_column = false;  // one column, as of a layer of one unit: a tile would leave most of its lanes empty
};

// What is decided once for all the parts of a product: how much scratch each needs, and the blocking.
template <class T>
class Plan;

// A block of packed columns stays in the last-level cache, a panel of it in the first; a block of packed rows in the
// second. Lengths are cut into nearly equal blocks: 288 steps as 256 and 32 would read and write the results twice.
template <>
class Plan<float> {
 public:
  Plan(int64_t m, int64_t n, int64_t k)
      : steps(block(k, 384, 1)), columns(block(n, 1024, kPanel<float>)), rows(block(m, 8 * kTileRows, kTileRows)),
        // Rows that meet few columns are read where they lie, unless they would fall on each other in the cache.
        packs_rows_(n > 2 * kPanel<float>) {}
  bool packs_rows(int64_t lda, bool transposed) const {
    return packs_rows_ || transposed || lda * static_cast<int64_t>(sizeof(float)) % 1024 == 0;
  }
  int64_t columns_bytes() const { return packed_bytes<float>(steps, columns); }
  int64_t bytes() const { return columns_bytes() + packed_rows_bytes(rows, steps); }

  int64_t steps, columns, rows;  // of a block

 private:
  static int64_t block(int64_t length, int64_t most, int64_t unit) {
    const int64_t blocks = max(1, (length + most - 1) / most), each = (length + blocks - 1) / blocks;
    return max(1, (each + unit - 1) / unit * unit);
  }
  bool packs_rows_;
};

// kRows results, from row i on, of a product of one column: sums along the rows.
template <int kRows>
void sum_rows(const Product<float>& g, int64_t i) {
  using V = Vector<float>;
  const float* a = g.a + i * g.lda;
  V::Type sums[kRows] = {};
  int64_t p = 0;
  for (; p + V::kWidth <= g.k; p += V::kWidth) {
    const V::Type b = V::load(g.b + p);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) sums[r] += V::load(a + r * g.lda + p) * b;
  }
  for (int r = 0; r < kRows; ++r) {
    float sum = 0;
    for (int64_t l = 0; l < V::kWidth; ++l) sum += sums[r][l];
    for (int64_t q = p; q < g.k; ++q) sum += a[r * g.lda + q] * g.b[q];
    float* c = g.c + (i + r) * g.ldc;
    *c = sum + (g.accumulate ? *c : 0) + (g.bias ? *g.bias : 0);
  }
  if (g.activation != UnaryOp::identity) activate(kRows, 1, g.c + i * g.ldc, g.ldc, g.activation);
}

void multiply(const Product<float>& g, const Plan<float>& plan, char* scratch) {
  if (g.m == 0) return;
  if (g.is_column) {
    int64_t i = 0;
    for (; i + 8 <= g.m; i += 8) sum_rows<8>(g, i);
    for (; i < g.m; ++i) sum_rows<1>(g, i);
    return;
  }
  float* packed = reinterpret_cast<float*>(scratch);
  float* rows = reinterpret_cast<float*>(scratch + plan.columns_bytes());
  const bool packs_rows = plan.packs_rows(g.lda, g.transpose_a);
  const int64_t row_stride = g.transpose_a ? 1 : g.lda, step_stride = g.transpose_a ? g.lda : 1;
  for (int64_t j = 0; j < g.n; j += plan.columns) {
    const int64_t columns = min(plan.columns, g.n - j);
    for (int64_t p = 0; p == 0 || p < g.k; p += plan.steps) {
      const int64_t steps = min(plan.steps, g.k - p);
      const bool last = p + steps == g.k;
      const float* b = g.b + (g.transpose_b ? j * g.ldb + p : p * g.ldb + j);
      // What meets one tile of rows alone is read where it lies.
      const int64_t direct = g.m <= kTileRows && !g.transpose_b ? columns / kPanel<float> * kPanel<float> : 0;
      if (direct < columns) pack_columns(steps, columns - direct, b + direct, g.ldb, g.transpose_b, packed);
      // Where rows are not packed, a tile's are read from memory for its first panel and from the cache for the next.
      const int64_t block = packs_rows ? plan.rows : kTileRows;
      for (int64_t i = 0; i < g.m; i += block) {
        const int64_t height = min(block, g.m - i);
        Tile<float> t{.a = g.a + i * row_stride + p * step_stride,
                      .row_stride = row_stride,
                      .step_stride = step_stride,
                      .steps = steps,
                      .b = packed,
                      .c = g.c + i * g.ldc + j,
                      .ldc = g.ldc,
                      .columns = 0,
                      .accumulate = g.accumulate || p > 0,
                      .bias = last && g.bias ? g.bias + j : nullptr};
        if (packs_rows) {
          pack_rows(height, steps, t.a, row_stride, step_stride, rows);
          t.a = rows;
          t.row_stride = 1;
          t.step_stride = kTileRows;
          t.packed_steps = steps;
        }
        const int64_t next = min(block, g.m - i - height), tiles = TileHeights(height).count * panels<float>(columns);
        const float* ahead = g.a + (i + height) * row_stride + p * step_stride;
        Fetch<float> fetch = g.transpose_a ? Fetch<float>(ahead, next > 0 ? steps : 0, next, g.lda, tiles)
                                           : Fetch<float>(ahead, next, steps, g.lda, tiles);
        const UnaryOp activation = last ? g.activation : UnaryOp::identity;
        if (direct > 0) {
          Tile<float> in_place = t;
          in_place.b = b;
          in_place.b_stride = g.ldb;
          run_tiles(height, direct, in_place, activation);
          t.c += direct;
          if (t.bias) t.bias += direct;
        }
        run_tiles(height, columns - direct, t, activation, [&](const Tile<float>& tile, int64_t r) {
          for (int64_t q = 0; q < r; ++q) {
            __builtin_prefetch(tile.c + q * tile.ldc, 1);
            __builtin_prefetch(tile.c + q * tile.ldc + 16, 1);
          }
          fetch.next();
        });
      }
    }
  }
}

// Eigen's blocked product with buffers that the caller brings: its public product takes them from the stack or malloc.
// The blocking of the largest part serves them all: Eigen may want more for a smaller product.
template <>
class Plan<double> : public Eigen::internal::level3_blocking<double, double> {
 public:
  Plan(int64_t m, int64_t n, int64_t k) {
    m_mc = max(n, 1);  // row-major c = a b is column-major c' = b' a'
    m_nc = max(m, 1);
    m_kc = max(k, 1);
    Eigen::internal::computeProductBlockingSizes<double, double, 1>(m_kc, m_mc, m_nc, Eigen::Index(1));
  }
  int64_t bytes_a() const { return (m_kc * m_mc * 8 + 127) / 64 * 64; }
  int64_t bytes() const { return bytes_a() + (m_kc * m_nc * 8 + 127) / 64 * 64; }
  void set_buffers(char* scratch) {
    m_blockA = reinterpret_cast<double*>(scratch);
    m_blockB = reinterpret_cast<double*>(scratch + bytes_a());
  }
};

template <int kLeft, int kRight>
void eigen_product(const Product<double>& g, Plan<double> blocking, char* scratch) {
  blocking.set_buffers(scratch);
  Eigen::internal::general_matrix_matrix_product<Eigen::Index, double, kLeft, false, double, kRight, false,
                                                 Eigen::ColMajor, 1>::run(g.n, g.m, g.k, g.b, g.ldb, g.a, g.lda, g.c, 1,
                                                                          g.ldc, 1.0, blocking, nullptr);
}

void multiply(const Product<double>& g, const Plan<double>& plan, char* scratch) {
  if (!g.accumulate)
    for (int64_t i = 0; i < g.m; ++i)
      for (int64_t j = 0; j < g.n; ++j) g.c[i * g.ldc + j] = 0;
  if (g.k > 0) {
    constexpr int kAsIs = Eigen::ColMajor, kTransposed = Eigen::RowMajor;
    if (g.transpose_a)
      g.transpose_b ? eigen_product<kTransposed, kTransposed>(g, plan, scratch)
                    : eigen_product<kAsIs, kTransposed>(g, plan, scratch);
    else
      g.transpose_b ? eigen_product<kTransposed, kAsIs>(g, plan, scratch)
                    : eigen_product<kAsIs, kAsIs>(g, plan, scratch);
  }
  if (g.bias)
    for (int64_t i = 0; i < g.m; ++i)
      for (int64_t j = 0; j < g.n; ++j) g.c[i * g.ldc + j] += g.bias[j];
  if (g.activation != UnaryOp::identity) activate(g.m, g.n, g.c, g.ldc, g.activation);
}

// Each product is cut along its longer side into pieces, enough for every thread.
template <class T>
void multiply_all(Context& ctx, const MatmulArgs& args, const T* a, const T* b, T* c) {
  const int64_t m = args.m, n = args.n, k = args.k;
  if (args.batch == 0 || m == 0 || n == 0) return;
  if (n == 1 && m > 1 && args.transpose_a && args.ldc == 1 && !args.bias) {  // c' = b' a', whose lanes are rows of c
    MatmulArgs turned = args;
    turned.m = 1;
    turned.n = turned.ldc = m;
    turned.transpose_a = !args.transpose_b;
    turned.transpose_b = false;
    turned.lda = args.ldb;
    turned.ldb = args.lda;
    turned.a_batch_stride = args.b_batch_stride;
    turned.b_batch_stride = args.a_batch_stride;
    return multiply_all(ctx, turned, b, a, c);
  }
  constexpr double kWorth = 65536;  // multiplications that pay for a second thread
  constexpr int64_t kStep = 16;
  const double work = static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(max(k, 1));
  const auto parts_for = [&](double total) {
    return static_cast<int64_t>(total / kWorth < 256 ? total / kWorth + 1 : 256);
  };
  const bool by_rows = m >= n;
  const int64_t length = by_rows ? m : n;
  int64_t pieces = min((ctx.threads + args.batch - 1) / args.batch, min(parts_for(work), (length + kStep - 1) / kStep));
  pieces = max(1, pieces);
  const int64_t piece = ((length + pieces - 1) / pieces + kStep - 1) / kStep * kStep;
  const int64_t items = args.batch * pieces;
  const int parts = static_cast<int>(min(items, min(ctx.threads, parts_for(work * static_cast<double>(args.batch)))));
  const Plan<T> plan(by_rows ? min(piece, m) : m, by_rows ? n : min(piece, n), k);
  const int64_t scratch = (plan.bytes() + 63) / 64 * 64;
  const Workspace workspace = ctx.workspace(static_cast<size_t>(scratch * parts));
  parallel::run(parts, [&](int part) {
    for (int64_t item = items * part / parts; item < items * (part + 1) / parts; ++item) {
      const int64_t batch = item / pieces, first = min(item % pieces * piece, length),
                    last = min(first + piece, length);
      const int64_t i = by_rows ? first : 0, j = by_rows ? 0 : first;
      Product<T> g{.m = by_rows ? last - first : m,
                   .n = by_rows ? n : last - first,
                   .k = k,
                   .a = a + batch * args.a_batch_stride + (args.transpose_a ? i : i * args.lda),
                   .lda = args.lda,
                   .transpose_a = args.transpose_a,
                   .b = b + batch * args.b_batch_stride + (args.transpose_b ? j * args.ldb : j),
                   .ldb = args.ldb,
                   .transpose_b = args.transpose_b,
                   .c = c + batch * args.c_batch_stride + i * args.ldc + j,
                   .ldc = args.ldc,
                   .accumulate = args.write == Write::accumulate,
                   .bias = args.bias ? static_cast<const T*>(args.bias) + j : nullptr,
                   .activation = args.activation,
                   .is_column = n == 1 && !args.transpose_a && (args.transpose_b || args.ldb == 1)};
      multiply(g, plan, workspace.as<char>(static_cast<size_t>(scratch * part)));
    }
  });
}

}  // namespace

void matmul(Context& ctx, const MatmulArgs& args, const void* a, const void* b, void* c) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    multiply_all(ctx, args, static_cast<const T*>(a), static_cast<const T*>(b), static_cast<T*>(c));
  });
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
