// error_text: what an error says.
#pragma once

#include <string>
#include <string_view>

#include "mica/core/error.h"

namespace mica::test {

/// The text of the E that `action` throws, or "no error". Other exceptions pass.
template <class E = Error, class Action>
std::string error_text(const Action& action) {
  try {
    action();
  } catch (const E& error) {
    return error.what();
  }
  return "no error";
}

inline bool contains(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

}  // namespace mica::test
