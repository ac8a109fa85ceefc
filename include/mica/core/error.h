// Errors: what a person did wrong, said as "[op] the rule that was broken: the values".
#pragma once

#include "mica/core/macros.h"

#include <cstdint>
#include <exception>
#include <string>
#include <string_view>

namespace MICA_EXPORT mica {

/// Thrown on wrong use, before anything is allocated or changed. what() reads "[op] rule: values"; each layer that the
/// error passes on its way out puts its name in front ("conv2d_1: [conv2d] ...").
class Error : public std::exception {
 public:
  Error(std::string_view op, std::string_view message);
  const char* what() const noexcept override { return text_.c_str(); }
  /// Puts "name: " in front of the text.
  void add_layer(std::string_view name);

 private:
  std::string text_;
};

/// A file that is malformed, truncated, or cannot be read or written.
class FileError : public Error {
  using Error::Error;
};

/// How the parts of an error become text; other types bring their own overload.
void append_text(std::string& text, std::string_view part);
void append_text(std::string& text, double value);
void append_text(std::string& text, int64_t value);
void append_text(std::string& text, uint64_t value);
inline void append_text(std::string& text, char value) { text += value; }
inline void append_text(std::string& text, int value) { append_text(text, int64_t{value}); }
inline void append_text(std::string& text, const char* part) { append_text(text, std::string_view(part)); }
inline void append_text(std::string& text, const std::string& part) { append_text(text, std::string_view(part)); }

namespace detail {

template <class... Parts>
std::string concat(const Parts&... parts) {
  std::string text;
  (append_text(text, parts), ...);
  return text;
}

[[noreturn]] void assertion_failed(const char* condition, const char* file, int line);

}  // namespace detail

template <class E = Error, class... Parts>
[[noreturn, gnu::noinline, gnu::cold]] void fail(std::string_view op, const Parts&... parts) {
  throw E(op, detail::concat(parts...));
}

/// Throws an E made of `op` and the concatenated `parts` unless `ok`. The text is built only on failure.
template <class E = Error, class... Parts>
inline void check(bool ok, std::string_view op, const Parts&... parts) {
  if (!ok) [[unlikely]]
    fail<E>(op, parts...);
}

}  // namespace mica

/// An invariant of Mica's own. A failure is a bug in Mica, thrown as std::logic_error in every build.
#define MICA_ASSERT(condition) \
  (static_cast<bool>(condition) ? void(0) : ::mica::detail::assertion_failed(#condition, __FILE__, __LINE__))
