// What every loader of files must stand: a file cut anywhere, and one with any bit flipped.
#pragma once

#include <doctest/doctest.h>

#include <string>

#include "mica/core/error.h"
#include "support/temp_dir.h"

namespace mica::test {

/// load(path) must throw a FileError for these bytes cut at any place.
template <class Load>
void check_every_cut(const std::string& bytes, const Load& load) {
  const TempDir folder;
  for (size_t size = 0; size < bytes.size(); ++size) {
    CAPTURE(size);
    const std::string path = folder.write("cut", bytes.substr(0, size));
    CHECK_THROWS_AS(load(path), FileError);
  }
}

/// load(path) must load these bytes, or throw a FileError, with any bit of the first `count` bytes flipped. Returns how
/// often it threw.
template <class Load>
int check_every_flip(std::string bytes, size_t count, const Load& load) {
  const TempDir folder;
  int rejected = 0;
  for (size_t bit = 0; bit < count * 8; ++bit) {
    const auto flip = [&] { bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8))); };
    flip();
    const std::string path = folder.write("flipped", bytes);
    try {
      load(path);
    } catch (const FileError&) {
      ++rejected;
    }
    flip();
  }
  return rejected;
}

}  // namespace mica::test
