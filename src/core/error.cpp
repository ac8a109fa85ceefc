// Error texts.
#include "mica/core/error.h"

#include <charconv>
#include <cmath>
#include <stdexcept>

namespace MICA_EXPORT mica {

Error::Error(std::string_view op, std::string_view message) {
  text_.reserve(op.size() + message.size() + 3);
  text_.append("[").append(op).append("] ").append(message);
}

void Error::add_layer(std::string_view name) { text_.insert(0, std::string(name) + ": "); }

namespace {
template <class T>
void append_number(std::string& text, T value) {
  char buffer[32];
  text.append(buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr);
}
}  // namespace

void append_text(std::string& text, std::string_view part) { text.append(part); }
void append_text(std::string& text, double value) {
  if (std::isnan(value)) value = std::fabs(value);  // "nan", whatever its sign
  append_number(text, value);
}
void append_text(std::string& text, int64_t value) { append_number(text, value); }
void append_text(std::string& text, uint64_t value) { append_number(text, value); }

void detail::assertion_failed(const char* condition, const char* file, int line) {
  throw std::logic_error(concat("a bug in Mica: ", condition, " does not hold at ", file, ":", line));
}

}  // namespace mica
