// check_wrong_use: a table of mistakes, and what is said of each.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "mica/core/memory.h"
#include "support/error_text.h"

namespace mica::test {

struct WrongUse {
  std::string text;
  std::function<void()> use;
};

/// Each use must throw an Error of exactly this text, and leave no memory behind.
inline void check_wrong_use(const std::vector<WrongUse>& table) {
  for (const WrongUse& wrong : table) {
    const int64_t before = memory_statistics().in_use;
    CHECK(error_text(wrong.use) == wrong.text);
    CHECK(memory_statistics().in_use == before);
  }
}

}  // namespace mica::test
