// The shadow of memory: what the emulation remembers of each 4 bytes of shared and device memory, so as to find races
// between CUDA threads, reads of device memory that nobody wrote, and accesses beside allocations.
//
// Kernel files are compiled with the instrumentation of -fsanitize=thread and without its runtime: the functions that
// g++ calls at each access to memory are ours (shadow.cpp). Where the build is not instrumented (clang, a sanitizer,
// another processor) MICA_SHADOW is not defined and nothing below does anything.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace mica::kernels::emulated {

/// What a CUDA thread must not do with memory.
struct MemoryFault {
  enum class Kind : uint8_t { race, unwritten, outside };
  static constexpr int kSeveral = -1;

  Kind kind = Kind::race;
  bool shared = false;  // memory of the block; else of the device
  const void* address = nullptr;
  bool writes = false;
  // Of a race, who came before.
  bool other_wrote = false;
  int other_thread = 0;     // its rank in its block, or kSeveral
  int64_t other_block = 0;  // or kSeveral, of the same launch
};

#if defined(MICA_SHADOW)

/// Bytes on both sides of what the device runtime takes from the host that belong to nobody.
inline constexpr size_t kRedzone = 256;

/// For the device runtime: memory is taken from the host, and given back to it. No kernel may touch it but where it has
/// been handed out.
void shadow_reserved(const void* memory, size_t bytes);
void shadow_released(const void* memory);
/// Memory is handed out, which nobody has written, and taken back.
void shadow_allocated(const void* block, size_t bytes);
void shadow_freed(const void* block);
/// The host, or a copy, has written device memory. Other memory may be given too.
void shadow_written(const void* at, size_t bytes);

/// Where an address lies: "byte 12 of an allocation of 64 bytes".
std::string allocation_text(const void* address);

/// Defined by the emulation: told of what the running thread is about to do. It ends the block; it does not return but
/// where the block is being ended already.
void memory_fault(const MemoryFault& fault) noexcept;

struct ShadowChunk;

/// The threads that one host thread emulates, as the shadow sees them: who runs, and which accesses of the past are
/// ordered before what it does next.
///
/// A record of an access is its time, the thread's rank and some flags, in one number. Time goes on at each barrier and
/// each start of a block or launch, so comparing a record with the times of these says whether they came between.
class Shadow {
 public:
  Shadow();
  ~Shadow();
  Shadow(const Shadow&) = delete;
  Shadow& operator=(const Shadow&) = delete;

  void start_launch(const void* shared_memory);
  void end_launch();
  void start_block(uint64_t block);
  void set_shared_bytes(size_t bytes) { shared_bytes_ = bytes; }
  /// Each thread of the block has come to a barrier.
  void block_barrier() { block_synchronised_ = ++time_ << kTimeShift; }
  void warp_barrier(int warp) { warp_synchronised_[warp] = ++time_ << kTimeShift; }
  void thread_runs(int rank);
  void nobody_runs() { running = nullptr; }

  struct Cell;
  static constexpr int kTimeShift = 16, kRankShift = 6;  // of a record

  /// That whose thread runs; null outside of kernels.
  static constinit thread_local Shadow* running;
  static bool is_wanted();

 private:
  friend struct Access;

  bool on_ = false;
  // In the order in which an access reads them.
  uintptr_t shared_begin_ = 0;
  size_t shared_bytes_ = 0;
  ShadowChunk* shared_ = nullptr;
  uint64_t me_ = 0;                              // the record of what the running thread does now
  uint64_t warp_has_read_ = 0;                   // that of a read by several lanes of its warp, with kLaneBits
  uint64_t launch_first_ = 0, block_first_ = 0;  // older records are of another launch, of another block
  uint64_t block_synchronised_ = 0, warp_synchronised_now_ = 0;
  uint64_t time_ = 0;
  std::array<uint64_t, 32> warp_synchronised_ = {};
  struct Block {
    uint64_t first, index;
  };
  std::vector<Block> blocks_;  // of this launch, as they ran
};

#else

inline constexpr size_t kRedzone = 0;
inline void shadow_reserved(const void*, size_t) {}
inline void shadow_released(const void*) {}
inline void shadow_allocated(const void*, size_t) {}
inline void shadow_freed(const void*) {}
inline void shadow_written(const void*, size_t) {}
inline std::string allocation_text(const void*) { return {}; }

class Shadow {
 public:
  void start_launch(const void*) {}
  void end_launch() {}
  void start_block(uint64_t) {}
  void set_shared_bytes(size_t) {}
  void block_barrier() {}
  void warp_barrier(int) {}
  void thread_runs(int) {}
  void nobody_runs() {}
  static bool is_wanted() { return false; }
};

#endif

}  // namespace mica::kernels::emulated
