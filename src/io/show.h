// How what a file holds is shown in errors.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace mica::io {

/// `name` in quotes, cut after 80 bytes, with what does not print as '?'.
std::string quoted(std::string_view name);

/// "93 4e 55"
std::string hexadecimal(std::span<const unsigned char> bytes);

}  // namespace mica::io
