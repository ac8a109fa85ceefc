// Seeds and streams; the generator itself is in the header, for kernels.
#include "mica/core/random.h"

#include <atomic>

namespace MICA_EXPORT mica {

namespace {
std::atomic<uint64_t> global_seed{0};
}

uint64_t seed() { return global_seed.load(std::memory_order_relaxed); }
void set_seed(uint64_t seed) { global_seed.store(seed, std::memory_order_relaxed); }

uint64_t random_stream(uint64_t seed, std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  // SplitMix64's finaliser, so that near seeds give far streams.
  uint64_t z = hash + (seed + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

}  // namespace mica
