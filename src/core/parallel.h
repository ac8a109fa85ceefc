// OpenMP, and nothing else of it anywhere: parts of work run by as many threads as are free.
#pragma once

#include <cstdint>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace mica::parallel {

/// The size of a team to run on now: num_threads(), or 1 where that many are not free. Concurrent callers share the
/// process's budget of threads, so that a server's threads do not oversubscribe the processors. Give it back.
int acquire_team() noexcept;
void release_team(int team) noexcept;

/// Runs body(part) for each part in [0, parts). What a part does must not depend on which thread runs it, so results
/// depend on the number of parts alone. The body does not throw and does not allocate.
template <class Body>
inline void run(int parts, const Body& body) noexcept {
#ifdef _OPENMP
  if (parts > 1) {
    // A thread always brings teams of one size, though some may have no part: OpenMP ends the threads that a smaller
    // team has no use for, and starts them anew for the next larger one.
    const int team = acquire_team();
    if (team > 1) {
#pragma omp parallel num_threads(team) default(none) shared(body, parts)
      {
        const int threads = omp_get_num_threads();
        for (int part = omp_get_thread_num(); part < parts; part += threads) body(part);
      }
      release_team(team);
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
