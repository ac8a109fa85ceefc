// Philox 4x32-10: random numbers as a function of a key and a position, with no generator state.
// Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 5.1.
#pragma once

#include <cstdint>
#include <string_view>

#include "mica/core/macros.h"

namespace MICA_EXPORT mica {

/// What keys a stream of random numbers: the seed and the path of the layer (or another name), mixed; and the step.
struct RandomKey {
  uint64_t stream = 0;
  uint64_t step = 0;
};

/// The process-wide seed from which models are initialised and data is shuffled; 0 until set.
uint64_t seed();
void set_seed(uint64_t seed);

/// The stream of `name` under `seed`: FNV-1a of the name, mixed with the seed.
uint64_t random_stream(uint64_t seed, std::string_view name);

struct Philox4 {
  uint32_t v[4];
};

/// Four random words for block `block` of the stream.
MICA_HD Philox4 philox(RandomKey key, uint64_t block) {
  uint32_t c0 = static_cast<uint32_t>(block), c1 = static_cast<uint32_t>(block >> 32);
  uint32_t c2 = static_cast<uint32_t>(key.step), c3 = static_cast<uint32_t>(key.step >> 32);
  uint32_t k0 = static_cast<uint32_t>(key.stream), k1 = static_cast<uint32_t>(key.stream >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c0, p1 = uint64_t{0xCD9E8D57u} * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

/// Uniform in [0, 1), with 24 random bits.
MICA_HD float to_unit(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

}  // namespace mica
