// Parts of work, run by the calling thread and by the workers of one pool that all callers share.
#pragma once

#include <cstdint>

namespace mica::parallel {

namespace detail {
void run(int parts, void (*body)(const void* f, int part), const void* f) noexcept;
}

/// Runs body(part) for each part in [0, parts), in any order, and returns when all have ended. What a part does must
/// not depend on which thread runs it, so results depend on the number of parts alone. The body does not throw and does
/// not allocate.
template <class Body>
inline void run(int parts, const Body& body) noexcept {
  if (parts > 1)
    detail::run(
        parts, [](const void* f, int part) { (*static_cast<const Body*>(f))(part); }, &body);
  else if (parts == 1)
    body(0);
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
