// What a count that was read may be.
#pragma once

#include <cstdint>

namespace mica {

/// Whether `n` can have been counted: not negative, and so far from overflow that counting on is safe.
constexpr bool countable(int64_t n) { return n >= 0 && n <= int64_t{1} << 53; }

}  // namespace mica
