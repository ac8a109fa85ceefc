// Text for errors.
#include "io/show.h"

#include <algorithm>

#include "io/utf8.h"

namespace mica::io {

std::string quoted(std::string_view name) {
  constexpr size_t kShown = 80;
  size_t shown = std::min(name.size(), kShown);
  if (shown < name.size())  // not in the middle of a character
    while (shown > 0 && (static_cast<unsigned char>(name[shown]) & 0xc0) == 0x80) --shown;
  std::string text = "\"";
  for (size_t at = 0; at < shown;) {
    const auto c = static_cast<unsigned char>(name[at]);
    const size_t length = std::max(utf8_length(name, at), size_t{1});
    if (c < 0x20 || c == 0x7f || (c >= 0x80 && length == 1)) {
      text += '?';
    } else {
      text += name.substr(at, length);
    }
    at += length;
  }
  text += shown < name.size() ? "...\"" : "\"";
  return text;
}

std::string hexadecimal(std::span<const unsigned char> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : bytes) {
    if (!text.empty()) text += ' ';
    text.append(1, kDigits[byte >> 4]).append(1, kDigits[byte & 15]);
  }
  return text;
}

}  // namespace mica::io
