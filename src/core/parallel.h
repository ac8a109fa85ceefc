// OpenMP, and nothing else of it anywhere: parts of work run by as many threads as are free.
#pragma once

#include <cstdint>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace mica::parallel {

/// Takes up to `wanted` extra threads out of the process's budget; give them back with release(). Concurrent callers
/// share it, so that a server's threads do not oversubscribe the processors.
int acquire(int wanted) noexcept;
void release(int taken) noexcept;

/// Runs body(part) for each part in [0, parts), on up to `parts` threads. What a part does must not depend on which
/// thread runs it, so results depend on the number of parts alone. The body does not throw and does not allocate.
template <class Body>
inline void run(int parts, const Body& body) noexcept {
#ifdef _OPENMP
  if (parts > 1) {
    const int extra = acquire(parts - 1);
    if (extra > 0) {
#pragma omp parallel num_threads(extra + 1) default(none) shared(body, parts)
      {
        const int team = omp_get_num_threads();
        for (int part = omp_get_thread_num(); part < parts; part += team) body(part);
      }
      release(extra);
      return;
    }
  }
#endif
  for (int part = 0; part < parts; ++part) body(part);
}

/// Cuts [0, n) into at most `threads` ranges of at least `grain`, and runs body(begin, end, part) for each.
template <class Body>
inline void ranges(int threads, int64_t n, int64_t grain, const Body& body) noexcept {
  if (n <= 0) return;
  const int64_t most = (n + grain - 1) / grain;
  const int parts = static_cast<int>(most < threads ? most : threads);
  run(parts, [&](int part) { body(n * part / parts, n * (part + 1) / parts, part); });
}

}  // namespace mica::parallel
