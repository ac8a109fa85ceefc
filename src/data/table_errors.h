// What errors about tables are made of.
#pragma once

#include <string>
#include <string_view>

#include "io/show.h"

namespace mica::data {

/// A text that an error shows in quotes: nothing is made of it unless there is one.
struct Quoted {
  std::string_view text;
};
inline void append_text(std::string& text, Quoted part) { text += io::quoted(part.text); }

}  // namespace mica::data
