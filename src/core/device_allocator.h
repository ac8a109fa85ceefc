// The caching allocator of device memory and of page-locked host memory, in the order of streams. It knows no device:
// what it needs of one is a MemoryBackend.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "core/size_class.h"
#include "mica/core/memory.h"

namespace mica::detail {

/// What the allocator asks of the system. Streams are numbers below 64.
class MemoryBackend {
 public:
  virtual ~MemoryBackend() = default;

  /// Aligned to 256 bytes; null where there is no more.
  virtual void* allocate(size_t bytes) = 0;
  virtual void deallocate(void* block) noexcept = 0;
  /// Marks the point that `stream` has been told to come to, in place of the mark before. False where that cannot be:
  /// the stream is being captured.
  virtual bool mark(int stream) = 0;
  /// Whether the stream has come to its mark. Does not wait.
  virtual bool passed(int stream) = 0;
  /// Waits for all that the stream has been told to do. False, without waiting, where the stream is being captured.
  virtual bool synchronize(int stream) = 0;
  /// A block is about to be handed out to `stream`, for `bytes`.
  virtual void hand_out(void* /*block*/, size_t /*bytes*/, int /*stream*/) {}
  /// It has been given back.
  virtual void take_back(void* /*block*/) noexcept {}
};

/// Hands out blocks by size class. A block is given back with the streams that work with it, which may not have
/// finished yet. Handed out to one of them again, it needs no waiting for that one, since what is put into a stream
/// runs in order; the others must have passed the point at which it was given back. Thus in a program of one stream, a
/// warm allocation is a look into a list.
///
/// Whether a stream has passed that point is asked when nothing else is left, and by one mark a stream: each block that
/// is given back gets the next number, a mark stands for all numbers so far, and once it has been passed so have they.
class DeviceAllocator {
 public:
  static constexpr int kHost = -1;  // in place of a stream: no stream may be working with the block
  static constexpr int kStreams = 64;

  /// `name` is what errors call the memory. Without caching each block comes from the system and goes back to it.
  DeviceAllocator(MemoryBackend& backend, std::string name, bool caching);
  DeviceAllocator(const DeviceAllocator&) = delete;
  DeviceAllocator& operator=(const DeviceAllocator&) = delete;

  /// Memory for what is put into `stream` from now on, aligned to 256 bytes. Throws std::bad_alloc, whose what() tells
  /// of the memory.
  void* allocate(size_t bytes, int stream);
  /// Gives back a block of `bytes` that the streams whose bits are set may still be working with. Allocates nothing.
  void deallocate(void* block, size_t bytes, uint64_t streams) noexcept;

  /// Takes `bytes` from the system, out of which blocks are cut before the system is asked again. Once only; without
  /// caching it does nothing.
  void reserve(size_t bytes);
  /// Gives free blocks back to the system, waiting for streams that work with them: all but blocks of streams that are
  /// being captured, and what was reserved, which becomes one piece again once none of it is in use.
  void release_cached();
  MemoryStatistics statistics();

 private:
  using Classes = SizeClasses<256>;

  struct Block {
    void* data;
    uint64_t streams;
    uint64_t number;  // of its being given back
  };
  struct Mark {
    uint64_t number = 0;  // what it stands for
    uint64_t passed = 0;  // the latest known to have been passed
  };

  bool usable(const Block& block, int stream) const;
  void* take(int size_class, int stream);
  void make_room(int size_class);
  void* cut(size_t bytes);
  void* from_system(size_t bytes);
  void ask(uint64_t streams);
  bool give_back_cached();
  bool reserved(const void* block) const;
  size_t size_of(size_t bytes) const;

  MemoryBackend& backend_;
  const std::string name_;
  const bool caching_;

  std::mutex mutex_;
  std::vector<Block> free_[Classes::kCount];
  size_t made_[Classes::kCount] = {};  // blocks of the class that there are: `free_` has room for them
  uint64_t number_ = 0;
  Mark marks_[kStreams];
  char* reserve_ = nullptr;
  size_t reserve_bytes_ = 0, reserve_cut_ = 0, reserve_in_use_ = 0;
  MemoryStatistics statistics_;
};

}  // namespace mica::detail
