// Streams and events: what a device does in which order, and when it has done it.
#pragma once

#include <memory>

#include "mica/core/device.h"
#include "mica/core/macros.h"

namespace MICA_EXPORT mica {

namespace detail {
struct StreamState;
struct EventState;
}  // namespace detail

class Event;

/// A queue of a device's work, and a handle on it: copies are the same stream. What is put into one stream runs in
/// order; two streams may run side by side, and what one makes and another uses needs an Event between them. A tensor
/// may be let go of while streams still work with it: its memory waits for them.
///
/// Work is put into the default stream of the device, or into that of the innermost StreamScope of the thread. The CPU
/// and the emulation have streams too; there, work is done when it has been put in.
class Stream {
 public:
  /// The default stream of `device`. Throws Error where there is no such device.
  explicit Stream(Device device = default_device());
  /// A stream that nobody else has. It does not wait for the default stream, nor the default stream for it. Those that
  /// nobody holds any more are given out again; throws Error beyond 64 of all devices together.
  static Stream create(Device device = default_device());

  Stream(const Stream& other) noexcept;
  Stream& operator=(const Stream& other) noexcept;
  ~Stream();

  Device device() const;
  bool is_default() const;
  /// The cudaStream_t of a CUDA stream (null: the default one).
  void* handle() const;

  /// What is put into this stream from now on runs after what `event` has recorded, of any device. Returns at once.
  void wait(const Event& event) const;
  /// Waits until all that was put in has been done. Throws Error where something went wrong with it.
  void synchronize() const;
  /// Whether it has.
  bool done() const;

  friend bool operator==(const Stream& a, const Stream& b) { return a.state_ == b.state_; }

 private:
  friend class StreamScope;
  friend Stream current_stream(Device device);
  explicit Stream(detail::StreamState& state) noexcept;

  detail::StreamState* state_;
};

/// The stream that this thread's work on `device` is put into.
Stream current_stream(Device device = default_device());

/// Puts this thread's work on the stream's device into `stream` while in scope. Scopes nest, also of several devices.
class StreamScope {
 public:
  explicit StreamScope(const Stream& stream);
  ~StreamScope();
  StreamScope(const StreamScope&) = delete;
  StreamScope& operator=(const StreamScope&) = delete;

 private:
  Stream stream_;
  detail::StreamState* previous_;
};

/// A point in a stream.
class Event {
 public:
  Event();
  Event(Event&& other) noexcept;
  Event& operator=(Event&& other) noexcept;
  ~Event();

  /// Marks what has been put into `stream` so far, in place of what was recorded before.
  void record(const Stream& stream = current_stream());
  /// Waits until that has been done; returns at once where nothing is recorded.
  void wait() const;
  /// Whether it has been.
  bool done() const;

 private:
  friend class Stream;
  friend double elapsed_ms(const Event& start, const Event& end);
  std::unique_ptr<detail::EventState> state_;
};

/// The milliseconds of the device's clock from one event to another, for which it waits. Throws Error unless both have
/// been recorded on one device.
double elapsed_ms(const Event& start, const Event& end);

/// Waits for all streams of `device`. Throws Error where something went wrong there.
void synchronize(Device device = default_device());

}  // namespace mica
