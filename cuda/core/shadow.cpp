// The shadow: two records for each 4 bytes of memory, of the last write and of the reads since, checked and renewed at
// each access. In the manner of FastTrack (Flanagan, Freund, "FastTrack: Efficient and Precise Dynamic Race Detection",
// PLDI 2009), where barriers are all the synchronisation there is: a time says what vector clocks say.
#include "cuda/core/shadow.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <string_view>

#include "cuda/core/emulate.h"

namespace mica::kernels::emulated {

constinit thread_local Shadow* Shadow::running = nullptr;

/// Relaxed atomics: several host threads may launch kernels that read the same memory.
struct Shadow::Cell {
  std::atomic<uint64_t> write, read;

  uint64_t wrote() const { return write.load(std::memory_order_relaxed); }
  uint64_t was_read() const { return read.load(std::memory_order_relaxed); }
  void set_write(uint64_t record) { write.store(record, std::memory_order_relaxed); }
  void set_read(uint64_t record) { read.store(record, std::memory_order_relaxed); }
};

namespace {

using Cell = Shadow::Cell;

// What a write record is when it is no access. Those of accesses are larger.
enum : uint64_t {
  kUnknown,  // not device memory
  kBeside,   // device memory that has not been handed out
  kSplit,    // look at the bytes' cells
  kFresh,    // never written
  kWritten,  // by the host
};

// Flags of a record. Reads, and atomic accesses, of several threads become one record.
constexpr uint64_t kSeveralLanes = 1, kSeveralWarps = 2, kSeveralBlocks = 4, kAtomic = 8;

constexpr uint64_t kLaneBits = uint64_t{31} << Shadow::kRankShift;

constexpr int kWordBytes = 4;

}  // namespace

// Cells are found in two steps: a table of the address space in chunks of 4 MB, and a chunk's cells for words and for
// bytes, the latter only used where something smaller than a word is accessed. All of it is reserved address space;
// memory is what is touched.
struct ShadowChunk {
  static constexpr int kBits = 22;
  static constexpr size_t kBytes = size_t{1} << kBits;

  Cell words[kBytes / kWordBytes];
  Cell bytes[kBytes];
};

namespace {

constexpr int kAddressBits = 47;
constexpr size_t kChunks = size_t{1} << (kAddressBits - ShadowChunk::kBits);
using Table = std::atomic<ShadowChunk*>[kChunks];

void* reserve(size_t bytes) {
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

bool wanted() {
  const char* text = std::getenv("MICA_EMULATE_SHADOW");
  return !text || std::string_view(text) != "0";
}

// Null where it is not wanted, or the address space is limited.
Table* const chunks = wanted() ? static_cast<Table*>(reserve(sizeof(Table))) : nullptr;

ShadowChunk* find_chunk(uintptr_t address) {
  return (*chunks)[(address >> ShadowChunk::kBits) % kChunks].load(std::memory_order_acquire);
}

struct Allocations {
  std::mutex mutex;
  std::map<uintptr_t, size_t> reserved, handed_out;  // addresses, bytes

  static Allocations& all() {
    static Allocations* const allocations = new Allocations;  // tensors may be freed when the program ends
    return *allocations;
  }
};

void split(ShadowChunk& chunk, size_t offset) {
  Cell& word = chunk.words[offset / kWordBytes];
  if (word.wrote() == kSplit) return;
  for (size_t i = 0; i < kWordBytes; ++i) {
    Cell& byte = chunk.bytes[offset / kWordBytes * kWordBytes + i];
    byte.set_write(word.wrote());
    byte.set_read(word.was_read());
  }
  word.set_write(kSplit);
  word.set_read(0);
}

// Makes the state of [begin, end) in a chunk `state`; with `known` where it is device memory, and leaves the rest.
void set_state(ShadowChunk& chunk, size_t begin, size_t end, uint64_t state, bool known) {
  const auto set = [&](Cell& cell) {
    if (known && cell.wrote() <= kBeside) return;
    cell.set_write(state);
    cell.set_read(0);
  };
  for (size_t at = begin; at < end;) {
    Cell& word = chunk.words[at / kWordBytes];
    if (known && word.wrote() <= kBeside) {
      at = (at / kWordBytes + 1) * kWordBytes;
    } else if (at % kWordBytes == 0 && end - at >= kWordBytes && !(known && word.wrote() == kSplit)) {
      set(word);
      at += kWordBytes;
    } else {
      split(chunk, at);
      set(chunk.bytes[at++]);
    }
  }
}

// Calls f(chunk or null, begin, end) for the parts of a range that lie in one chunk.
template <class F>
void for_chunks(uintptr_t begin, uintptr_t end, const F& f) {
  while (begin < end) {
    const uintptr_t next = std::min(end, (begin / ShadowChunk::kBytes + 1) * ShadowChunk::kBytes);
    f(find_chunk(begin), begin % ShadowChunk::kBytes, begin % ShadowChunk::kBytes + (next - begin), begin);
    begin = next;
  }
}

void set_range(uintptr_t begin, uintptr_t end, uint64_t state, bool known = false) {
  for_chunks(begin, end, [&](ShadowChunk* chunk, size_t first, size_t last, uintptr_t address) {
    if (!chunk) {
      if (known) return;
      chunk = static_cast<ShadowChunk*>(reserve(sizeof(ShadowChunk)));
      if (!chunk) throw std::bad_alloc();
      (*chunks)[address >> ShadowChunk::kBits].store(chunk, std::memory_order_release);
    }
    set_state(*chunk, first, last, state, known);
  });
}

uintptr_t number(const void* address) { return reinterpret_cast<uintptr_t>(address); }

}  // namespace

void shadow_reserved(const void* memory, size_t bytes) {
  if (!chunks) return;
  Allocations& all = Allocations::all();
  const std::lock_guard lock(all.mutex);
  bytes = bytes / kWordBytes * kWordBytes;
  all.reserved[number(memory)] = bytes;
  set_range(number(memory), number(memory) + bytes, kBeside);
}

void shadow_released(const void* memory) {
  if (!chunks) return;
  Allocations& all = Allocations::all();
  const std::lock_guard lock(all.mutex);
  if (const auto found = all.reserved.extract(number(memory)))
    set_range(found.key(), found.key() + found.mapped(), kUnknown);
}

void shadow_allocated(const void* block, size_t bytes) {
  if (!chunks) return;
  Allocations& all = Allocations::all();
  const std::lock_guard lock(all.mutex);
  all.handed_out[number(block)] = bytes;
  set_range(number(block), number(block) + bytes, kFresh);
}

void shadow_freed(const void* block) {
  if (!chunks) return;
  Allocations& all = Allocations::all();
  const std::lock_guard lock(all.mutex);
  if (const auto found = all.handed_out.extract(number(block)))
    set_range(found.key(), found.key() + found.mapped(), kBeside);
}

void shadow_written(const void* at, size_t bytes) {
  if (chunks) set_range(number(at), number(at) + bytes, kWritten, true);
}

std::string allocation_text(const void* address) {
  Allocations& all = Allocations::all();
  const std::lock_guard lock(all.mutex);
  const uintptr_t at = number(address);
  const auto size_text = [](size_t bytes) {
    return detail::concat(" an allocation of ", static_cast<uint64_t>(bytes), " bytes");
  };
  const auto after = all.handed_out.upper_bound(at);
  if (after != all.handed_out.begin()) {
    const auto [begin, bytes] = *std::prev(after);
    if (at < begin + bytes) return detail::concat("byte ", static_cast<uint64_t>(at - begin), " of", size_text(bytes));
    if (at < begin + bytes + kRedzone)
      return detail::concat("byte ", static_cast<uint64_t>(at - begin), " from the start of", size_text(bytes));
  }
  if (after != all.handed_out.end() && after->first - at <= kRedzone)
    return detail::concat(static_cast<uint64_t>(after->first - at), " bytes before", size_text(after->second));
  return "memory that is free";
}

// ---- The running thread ----

namespace {

// Behind that of each launch that has ended.
constinit std::atomic<uint64_t> latest_time{0};

}  // namespace

void Shadow::thread_runs(int rank) {
  if (!on_) return;
  me_ = time_ << kTimeShift | static_cast<uint64_t>(rank) << kRankShift;
  warp_has_read_ = me_ | kLaneBits | kSeveralLanes;
  warp_synchronised_now_ = std::max(warp_synchronised_[rank / 32], block_synchronised_);
  running = this;
}

bool Shadow::is_wanted() { return chunks != nullptr; }

Shadow::Shadow() = default;

Shadow::~Shadow() {
  if (shared_) munmap(shared_, sizeof(ShadowChunk));
}

void Shadow::start_launch(const void* shared_memory) {
  if (!chunks) return;
  if (!shared_) {
    shared_ = static_cast<ShadowChunk*>(reserve(sizeof(ShadowChunk)));
    if (!shared_) return;
    set_state(*shared_, 0, kMaxShared, kWritten, false);
  }
  on_ = true;
  shared_begin_ = number(shared_memory);
  time_ = std::max(time_, latest_time.load()) + 1;
  launch_first_ = time_ << kTimeShift;
  blocks_.clear();
}

void Shadow::end_launch() {
  uint64_t latest = latest_time.load();
  while (latest < time_ && !latest_time.compare_exchange_weak(latest, time_)) {
  }
}

void Shadow::start_block(uint64_t block) {
  block_first_ = block_synchronised_ = ++time_ << kTimeShift;
  if (on_) blocks_.push_back({block_first_, block});
}

/// One access of the running thread to memory of a chunk.
struct Access {
  enum class Kind : uint8_t { read, write, atomic };

  Shadow& shadow;
  ShadowChunk& chunk;
  bool shared;
  // Records before `limit` are ordered before this access. To a later one that has the flag `settled`, as to one of
  // several lanes of this warp just now, a read adds nothing.
  uint64_t limit, settled;

  static Access to_shared(Shadow& s) { return {s, *s.shared_, true, s.block_synchronised_, kSeveralWarps}; }
  static Access to_device(Shadow& s, ShadowChunk& chunk) { return {s, chunk, false, s.launch_first_, kSeveralBlocks}; }

  /// The usual cases in a few instructions; false: it may be another one.
  template <Kind kind>
  bool quick(Cell& cell) const {
    const uint64_t me = shadow.me_, read = cell.was_read(), write = cell.wrote();
    if constexpr (kind == Kind::read) {
      if (read == me) return true;
      if (write - kWritten >= limit - kWritten) return false;
      if (read >= limit) return (read & settled) || (read | kLaneBits) == shadow.warp_has_read_;
      cell.set_read(me);
      return true;
    } else if constexpr (kind == Kind::write) {
      if (write == me) return true;
      if (write - kFresh >= limit - kFresh || (read >= limit && read != me)) return false;
      cell.set_write(me);
      return true;
    } else {
      return false;
    }
  }

  /// Any access within a chunk; `offset` is that of the memory in the chunk.
  template <Kind kind>
  [[gnu::noinline]] void any(size_t offset, size_t bytes, uintptr_t address) const {
    for (const size_t end = offset + bytes; offset < end;) {
      const size_t begin = offset;
      Cell& word = chunk.words[offset / kWordBytes];
      const size_t next = std::min(end, (offset / kWordBytes + 1) * kWordBytes);
      const bool whole = next - offset == kWordBytes;
      if (whole && word.wrote() != kSplit) {
        check(word, kind, address);
      } else if (word.wrote() != kUnknown) {
        split(chunk, offset);
        for (; offset < next; ++offset) check(chunk.bytes[offset], kind, address + (offset - begin));
        if (whole && kind == Kind::write) {  // of one thread again
          word.set_write(shadow.me_);
          word.set_read(0);
        }
      }
      offset = next;
      address += next - begin;
    }
  }

  void check(Cell& cell, Kind kind, uintptr_t address) const {
    const uint64_t first = shared ? shadow.block_first_ : shadow.launch_first_;
    const uint64_t write = cell.wrote(), read = cell.was_read();
    if (write == kUnknown) return;
    if (write == kBeside) return fault(MemoryFault::Kind::outside, kind, address);
    const bool both_atomic = kind == Kind::atomic && (write & kAtomic);
    if (write == kFresh && kind != Kind::write)
      fault(MemoryFault::Kind::unwritten, kind, address);
    else if (write >= first && !both_atomic && !is_ordered(write))
      fault(MemoryFault::Kind::race, kind, address, write, true);
    else if (kind != Kind::read && read >= first && !is_ordered(read))
      fault(MemoryFault::Kind::race, kind, address, read, false);

    if (kind == Kind::read)
      cell.set_read(joined(read, first));
    else if (kind == Kind::write)
      cell.set_write(shadow.me_);
    else  // with a plain write of the same thread's it stays a plain one
      cell.set_write(both_atomic ? joined(write, first) | kAtomic
                                 : shadow.me_ | (write < shadow.block_synchronised_ ? kAtomic : 0));
  }

  bool same_warp(uint64_t record) const { return ((record ^ shadow.me_) >> (Shadow::kRankShift + 5)) % 32 == 0; }
  bool same_thread(uint64_t record) const { return ((record ^ shadow.me_) >> Shadow::kRankShift) % 1024 == 0; }

  /// Whether each access of a record of this launch, or of this block's shared memory, is ordered before this one.
  bool is_ordered(uint64_t record) const {
    if (record < shadow.block_first_ || (record & kSeveralBlocks)) return false;
    if (record < shadow.block_synchronised_) return true;
    if ((record & kSeveralWarps) || !same_warp(record)) return false;
    if (record < shadow.warp_synchronised_now_) return true;
    return same_thread(record) && !(record & kSeveralLanes);
  }

  /// A record of what `record` says and of this access.
  uint64_t joined(uint64_t record, uint64_t first) const {
    const uint64_t me = shadow.me_;
    if (record < first) return me;
    if (record < shadow.block_first_ || (record & kSeveralBlocks)) return me | kSeveralBlocks;
    if (record < shadow.block_synchronised_) return me;
    if (!same_warp(record) || (record & kSeveralWarps)) return me | kSeveralWarps;
    if (record < shadow.warp_synchronised_now_) return me;
    return same_thread(record) && !(record & kSeveralLanes) ? me : me | kSeveralLanes;
  }

  void fault(MemoryFault::Kind what, Kind kind, uintptr_t address, uint64_t other = 0, bool other_wrote = false) const {
    MemoryFault f;
    f.kind = what;
    f.shared = shared;
    f.address = reinterpret_cast<const void*>(address);
    f.writes = kind != Kind::read;
    f.other_wrote = other_wrote;
    f.other_thread = static_cast<int>((other >> Shadow::kRankShift) % 1024);
    if (other & (kSeveralLanes | kSeveralWarps | kSeveralBlocks)) f.other_thread = MemoryFault::kSeveral;
    const auto& blocks = shadow.blocks_;
    const auto after = std::upper_bound(blocks.begin(), blocks.end(), other,
                                        [](uint64_t record, const auto& block) { return record < block.first; });
    if ((other & kSeveralBlocks) || after == blocks.begin())
      f.other_block = MemoryFault::kSeveral;
    else
      f.other_block = static_cast<int64_t>(std::prev(after)->index);
    memory_fault(f);
  }

  template <int bytes, Kind kind>
  [[gnu::always_inline]] void sized(size_t offset, uintptr_t address) const {
    if constexpr (bytes % kWordBytes == 0) {
      if (offset % kWordBytes == 0) [[likely]] {
        for (size_t i = 0; i < bytes; i += kWordBytes)
          if (!quick<kind>(chunk.words[(offset + i) / kWordBytes])) [[unlikely]]
            any<kind>(offset + i, kWordBytes, address + i);
        return;
      }
    }
    any<kind>(offset, bytes, address);
  }

  template <Kind kind>
  static void beyond_shared(Shadow& s, uintptr_t address) {
    to_shared(s).fault(MemoryFault::Kind::outside, kind, address);
  }

  /// An aligned access, which lies in one chunk.
  template <int bytes, Kind kind>
  [[gnu::always_inline]] static void of(const volatile void* at) {
    Shadow* const s = Shadow::running;
    if (!s) return;
    const uintptr_t address = reinterpret_cast<uintptr_t>(at);
    const uintptr_t offset = address - s->shared_begin_;
    if (offset < kMaxShared) {
      if (offset + bytes > s->shared_bytes_) [[unlikely]]
        return beyond_shared<kind>(*s, address);
      to_shared(*s).sized<bytes, kind>(offset, address);
    } else if (ShadowChunk* const chunk = find_chunk(address)) {
      to_device(*s, *chunk).sized<bytes, kind>(address % ShadowChunk::kBytes, address);
    }
  }

  template <Kind kind>
  static void of_range(const volatile void* at, size_t bytes) {
    Shadow* const s = Shadow::running;
    if (!s || bytes == 0) return;
    const uintptr_t address = reinterpret_cast<uintptr_t>(at);
    const uintptr_t offset = address - s->shared_begin_;
    if (offset < kMaxShared) {
      if (offset + bytes > s->shared_bytes_) return beyond_shared<kind>(*s, address);
      to_shared(*s).any<kind>(offset, bytes, address);
    } else {
      for_chunks(address, address + bytes, [&](ShadowChunk* in, size_t begin, size_t end, uintptr_t from) {
        if (in) to_device(*s, *in).any<kind>(begin, end - begin, from);
      });
    }
  }
};

}  // namespace mica::kernels::emulated

// ---- What g++ calls ----

using mica::kernels::emulated::Access;

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_read(void**) {}
void __tsan_vptr_update(void**, void*) {}

void __tsan_read_range(void* at, size_t bytes) { Access::of_range<Access::Kind::read>(at, bytes); }
void __tsan_write_range(void* at, size_t bytes) { Access::of_range<Access::Kind::write>(at, bytes); }

#define MICA_ACCESS(bytes)                                                                         \
  void __tsan_read##bytes(void* at) { Access::of<bytes, Access::Kind::read>(at); }                 \
  void __tsan_write##bytes(void* at) { Access::of<bytes, Access::Kind::write>(at); }               \
  void __tsan_unaligned_read##bytes(void* at) { Access::of_range<Access::Kind::read>(at, bytes); } \
  void __tsan_unaligned_write##bytes(void* at) { Access::of_range<Access::Kind::write>(at, bytes); }
MICA_ACCESS(1)
MICA_ACCESS(2)
MICA_ACCESS(4)
MICA_ACCESS(8)
MICA_ACCESS(16)
#undef MICA_ACCESS

// Atomic accesses are done here, the strong way, whatever order is asked for.
#define MICA_ATOMIC_UPDATE(bits, T, name)                        \
  T __tsan_atomic##bits##_##name(volatile T* at, T value, int) { \
    Access::of<bits / 8, Access::Kind::atomic>(at);              \
    return __atomic_##name(at, value, __ATOMIC_SEQ_CST);         \
  }
#define MICA_ATOMIC(bits, T)                                                                             \
  T __tsan_atomic##bits##_load(const volatile T* at, int) {                                              \
    Access::of<bits / 8, Access::Kind::atomic>(at);                                                      \
    return __atomic_load_n(at, __ATOMIC_SEQ_CST);                                                        \
  }                                                                                                      \
  void __tsan_atomic##bits##_store(volatile T* at, T value, int) {                                       \
    Access::of<bits / 8, Access::Kind::atomic>(at);                                                      \
    __atomic_store_n(at, value, __ATOMIC_SEQ_CST);                                                       \
  }                                                                                                      \
  T __tsan_atomic##bits##_exchange(volatile T* at, T value, int) {                                       \
    Access::of<bits / 8, Access::Kind::atomic>(at);                                                      \
    return __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                      \
  bool __tsan_atomic##bits##_compare_exchange_strong(volatile T* at, T* expected, T value, int, int) {   \
    Access::of<bits / 8, Access::Kind::atomic>(at);                                                      \
    return __atomic_compare_exchange_n(at, expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);  \
  }                                                                                                      \
  bool __tsan_atomic##bits##_compare_exchange_weak(volatile T* at, T* expected, T value, int a, int b) { \
    return __tsan_atomic##bits##_compare_exchange_strong(at, expected, value, a, b);                     \
  }                                                                                                      \
  MICA_ATOMIC_UPDATE(bits, T, fetch_add)                                                                 \
  MICA_ATOMIC_UPDATE(bits, T, fetch_sub)                                                                 \
  MICA_ATOMIC_UPDATE(bits, T, fetch_and)                                                                 \
  MICA_ATOMIC_UPDATE(bits, T, fetch_or)                                                                  \
  MICA_ATOMIC_UPDATE(bits, T, fetch_xor)
MICA_ATOMIC(8, uint8_t)
MICA_ATOMIC(16, uint16_t)
MICA_ATOMIC(32, uint32_t)
MICA_ATOMIC(64, uint64_t)
#undef MICA_ATOMIC
#undef MICA_ATOMIC_UPDATE

void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int) { __atomic_signal_fence(__ATOMIC_SEQ_CST); }

}  // extern "C"
