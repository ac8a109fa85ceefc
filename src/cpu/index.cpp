// CPU kernels that go by indices: gather, scatter, sort.
#include <cstring>

#include "cpu/common.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

void gather(Context& ctx, const GatherArgs& args, const void* x, const int64_t* index, void* y) {
  const int64_t n = args.n, m = args.m, inner = args.inner;
  if (inner == 0) return;
  for_size(args.dtype, [&](auto t) {
    using T = decltype(t);
    parallel::ranges(ctx.threads, args.outer * m, max(1, kGrain / max(1, inner)), [&](int64_t begin, int64_t end, int) {
      for (int64_t item = begin; item < end; ++item) {
        const T* in = static_cast<const T*>(x) + item / m * n * inner;
        T* out = static_cast<T*>(y) + item * inner;
        if (args.shared) {
          std::memcpy(out, in + index[item % m] * inner, static_cast<size_t>(inner) * sizeof(T));
        } else {
          const int64_t* at = index + item * inner;
          for (int64_t j = 0; j < inner; ++j) out[j] = in[at[j] * inner + j];
        }
      }
    });
  });
}

void scatter_add(Context& ctx, const GatherArgs& args, const void* x, const int64_t* index, void* y) {
  const int64_t n = args.n, m = args.m, inner = args.inner;
  if (m == 0 || inner == 0) return;
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    const auto strip = [&](int64_t outer, int64_t first, int64_t last) {
      const T* in = static_cast<const T*>(x) + outer * m * inner;
      T* out = static_cast<T*>(y) + outer * n * inner;
      for (int64_t i = 0; i < m; ++i) {
        const T* from = in + i * inner;
        if (args.shared) {
          T* to = out + index[i] * inner;
          for (int64_t j = first; j < last; ++j) to[j] += from[j];
        } else {
          const int64_t* at = index + (outer * m + i) * inner;
          for (int64_t j = first; j < last; ++j) out[at[j] * inner + j] += from[j];
        }
      }
    };
    // Two threads never write to one place: each has rows of `outer`, or columns of `inner`, to itself.
    if (args.outer >= ctx.threads)
      parallel::ranges(ctx.threads, args.outer, max(1, kGrain / max(1, m * inner)),
                       [&](int64_t begin, int64_t end, int) {
                         for (int64_t o = begin; o < end; ++o) strip(o, 0, inner);
                       });
    else
      parallel::ranges(ctx.threads, inner, max(16, kGrain / max(1, m * args.outer)),
                       [&](int64_t begin, int64_t end, int) {
                         for (int64_t o = 0; o < args.outer; ++o) strip(o, begin, end);
                       });
  });
}

namespace {

// Whether a comes before b: NaN is the largest.
template <class T>
[[gnu::always_inline]] inline bool before(T a, T b, bool descending) {
  return descending ? (a > b || (a != a && b == b)) : (a < b || (b != b && a == a));
}

// The positions of value(0..n-1) in order, by merging runs, into `index`; `spare` has n places too.
template <class Value>
void merge_sort(int64_t n, bool descending, const Value& value, int64_t* index, int64_t* spare) {
  for (int64_t i = 0; i < n; ++i) index[i] = i;
  int64_t *from = index, *to = spare;
  for (int64_t width = 1; width < n; width *= 2) {
    for (int64_t begin = 0; begin < n; begin += 2 * width) {
      const int64_t middle = min(begin + width, n), end = min(begin + 2 * width, n);
      int64_t a = begin, b = middle;
      for (int64_t i = begin; i < end; ++i) {
        const bool second = a == middle || (b < end && before(value(from[b]), value(from[a]), descending));
        to[i] = second ? from[b++] : from[a++];
      }
    }
    int64_t* const other = from;
    from = to;
    to = other;
  }
  if (from != index) std::memcpy(index, from, static_cast<size_t>(n) * sizeof(int64_t));
}

// The first k positions in order, for a small k: each value goes to its place among the k best so far.
template <class Value>
void insert_best(int64_t n, int64_t k, bool descending, const Value& value, int64_t* best) {
  int64_t found = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (found == k && (k == 0 || !before(value(i), value(best[k - 1]), descending))) continue;
    int64_t place = found < k ? found++ : k - 1;
    for (; place > 0 && before(value(i), value(best[place - 1]), descending); --place) best[place] = best[place - 1];
    best[place] = i;
  }
}

}  // namespace

void argsort(Context& ctx, const ReduceArgs& args, bool descending, int64_t k, const void* x, int64_t* index) {
  const int64_t n = args.n, inner = args.inner;
  if (k == 0) return;
  const bool few = k <= 16 && k < n;
  const int64_t scratch = few ? k : 2 * n;
  const Workspace workspace = ctx.workspace(static_cast<size_t>(scratch * ctx.threads) * sizeof(int64_t));
  for_number(args.dtype, [&](auto t) {
    using T = decltype(t);
    parallel::ranges(ctx.threads, args.outer * inner, max(1, kGrain / 8 / max(1, n)),
                     [&](int64_t begin, int64_t end, int part) {
                       int64_t* order = workspace.as<int64_t>() + part * scratch;
                       for (int64_t item = begin; item < end; ++item) {
                         const int64_t o = item / inner, j = item % inner;
                         const T* in = static_cast<const T*>(x) + o * n * inner + j;
                         const auto value = [&](int64_t i) { return in[i * inner]; };
                         if (few)
                           insert_best(n, k, descending, value, order);
                         else
                           merge_sort(n, descending, value, order, order + n);
                         for (int64_t i = 0; i < k; ++i) index[(o * k + i) * inner + j] = order[i];
                       }
                     });
  });
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
