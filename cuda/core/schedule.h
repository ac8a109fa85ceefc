// The order in which the emulation's threads run: the queue of those that may, and random numbers to draw from it.
#pragma once

#include <array>
#include <utility>

#include "cuda/core/emulate.h"

namespace mica::kernels::emulated {

inline constexpr int kMaxThreads = 1024;  // of a block

/// Of the schedule of the process's launches.
uint32_t schedule_seed();

// splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014): orders, not data.
inline uint64_t next_random(uint64_t& state) {
  uint64_t z = state += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

/// Threads that may run, in order.
class ReadyQueue {
 public:
  bool empty() const { return count_ == 0; }
  void clear() { head_ = count_ = 0; }
  void push_back(int rank) { ranks_[(head_ + count_++) % kMaxThreads] = static_cast<int16_t>(rank); }
  void push_front(int rank) {
    head_ = (head_ + kMaxThreads - 1) % kMaxThreads;
    ++count_;
    ranks_[head_] = static_cast<int16_t>(rank);
  }
  int pop() {
    const int rank = ranks_[head_];
    head_ = (head_ + 1) % kMaxThreads;
    --count_;
    return rank;
  }
  int pop_random(uint64_t& state) {
    std::swap(ranks_[head_], ranks_[(head_ + next_random(state) % count_) % kMaxThreads]);
    return pop();
  }

 private:
  std::array<int16_t, kMaxThreads> ranks_;
  unsigned head_ = 0, count_ = 0;
};

}  // namespace mica::kernels::emulated
