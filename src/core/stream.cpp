// Streams and events. The process has a table of at most 64 streams, which are never destroyed: one that nobody holds
// any more serves again. So a number is enough to name a stream, 64 bits to name a set of them, and memory may remember
// the streams that have worked with it for as long as it likes.
#include "mica/core/stream.h"

#include <mutex>
#include <utility>

#include "core/stream_state.h"
#include "mica/core/error.h"

namespace MICA_EXPORT mica {

namespace detail {

namespace {

constexpr int kStreams = 64, kTypes = 3, kDevices = 16;

StreamState table[kStreams];
std::atomic<int> used{0};  // of the table; what is below is ready to be read
std::mutex growing;
std::atomic<StreamState*> defaults[kTypes][kDevices];
thread_local StreamState* scoped[kTypes][kDevices];  // null: the default one

StreamState*& scoped_on(Device device) { return scoped[static_cast<int>(device.type)][device.index]; }

// With the mutex held.
StreamState& add(Device device, const DeviceRuntime& runtime, bool is_default) {
  const int number = used.load(std::memory_order_relaxed);
  check(number < kStreams, "stream", "there are ", kStreams, " streams already, and all are held");
  StreamState& state = table[number];
  state.handle = is_default ? nullptr : runtime.create_stream(device.index);
  state.device = device;
  state.runtime = &runtime;
  state.number = number;
  used.store(number + 1, std::memory_order_release);
  return state;
}

StreamState& default_stream(Device device) {
  if (device.type == Device::Type::cpu) device.index = 0;
  check(device.index >= 0 && device.index < kDevices, "device", "there is no ", device);
  std::atomic<StreamState*>& known = defaults[static_cast<int>(device.type)][device.index];
  if (StreamState* state = known.load(std::memory_order_acquire)) [[likely]]
    return *state;
  const DeviceRuntime& runtime = device_runtime(device);
  const int count = runtime.count();
  check(device.index < count, "device", "there is no ", device, ": devices of its kind: ", count);
  const std::lock_guard lock(growing);
  if (StreamState* state = known.load(std::memory_order_relaxed)) return *state;
  StreamState& state = add(device, runtime, true);
  known.store(&state, std::memory_order_release);
  return state;
}

StreamState& new_stream(Device device) {
  const StreamState& first = default_stream(device);  // says what is wrong with the device
  const std::lock_guard lock(growing);
  for (int i = 0; i < used.load(std::memory_order_relaxed); ++i) {
    StreamState& state = table[i];
    int nobody = 0;
    if (state.device == first.device && state.handle && state.references.compare_exchange_strong(nobody, 1))
      return state;
  }
  StreamState& state = add(first.device, *first.runtime, false);
  state.references = 1;
  return state;
}

}  // namespace

StreamState& current_state(Device device) {
  StreamState& first = default_stream(device);
  StreamState* const inner = scoped_on(first.device);
  return inner ? *inner : first;
}

StreamState& stream_of(Device device, void* handle) {
  StreamState& now = current_state(device);
  if (now.handle == handle) return now;
  for (int i = 0; i < used.load(std::memory_order_acquire); ++i)
    if (table[i].device == now.device && table[i].handle == handle) return table[i];
  fail("stream", "work on ", device, " was put into a stream that is not Mica's");
}

StreamState& stream_of(int number) { return table[number]; }

struct EventState {
  Device device;
  const DeviceRuntime* runtime = nullptr;
  void* handle = nullptr;

  explicit EventState(Device on)
      : device(on), runtime(&device_runtime(on)), handle(runtime->create_event(device.index)) {}
  ~EventState() { runtime->destroy_event(device.index, handle); }
  EventState(const EventState&) = delete;
  EventState& operator=(const EventState&) = delete;
};

}  // namespace detail

// ---- Streams ----

Stream::Stream(detail::StreamState& state) noexcept : state_(&state) { ++state_->references; }

Stream::Stream(Device device) : Stream(detail::default_stream(device)) {}

Stream Stream::create(Device device) {
  detail::StreamState& state = detail::new_stream(device);
  Stream stream(state);
  --state.references;  // new_stream's own
  return stream;
}

Stream::Stream(const Stream& other) noexcept : Stream(*other.state_) {}

Stream& Stream::operator=(const Stream& other) noexcept {
  Stream copy(other);
  std::swap(state_, copy.state_);
  return *this;
}

Stream::~Stream() { --state_->references; }

Device Stream::device() const { return state_->device; }
bool Stream::is_default() const { return state_->handle == nullptr; }
void* Stream::handle() const { return state_->handle; }

void Stream::wait(const Event& event) const {
  if (!event.state_) return;
  if (event.state_->device.type == state_->device.type)
    state_->runtime->stream_wait(state_->device.index, state_->handle, event.state_->handle);
  else
    event.wait();
}

void Stream::synchronize() const { state_->runtime->synchronize(state_->device.index, state_->handle); }

bool Stream::done() const { return state_->runtime->stream_done(state_->device.index, state_->handle); }

Stream current_stream(Device device) { return Stream(detail::current_state(device)); }

StreamScope::StreamScope(const Stream& stream) : stream_(stream) {
  previous_ = std::exchange(detail::scoped_on(stream_.device()), stream_.state_);
}

StreamScope::~StreamScope() { detail::scoped_on(stream_.device()) = previous_; }

void synchronize(Device device) {
  const detail::StreamState& state = detail::default_stream(device);
  state.runtime->synchronize_device(state.device.index);
}

// ---- Events ----

Event::Event() = default;
Event::Event(Event&& other) noexcept = default;
Event& Event::operator=(Event&& other) noexcept = default;
Event::~Event() = default;

void Event::record(const Stream& stream) {
  if (state_ && state_->device != stream.device()) state_.reset();
  if (!state_) state_ = std::make_unique<detail::EventState>(stream.device());
  state_->runtime->record_event(state_->device.index, state_->handle, stream.handle());
}

void Event::wait() const {
  if (state_) state_->runtime->wait_event(state_->device.index, state_->handle);
}

bool Event::done() const { return !state_ || state_->runtime->event_done(state_->device.index, state_->handle); }

double elapsed_ms(const Event& start, const Event& end) {
  check(start.state_ && end.state_, "elapsed_ms", "both events must have been recorded");
  check(start.state_->device == end.state_->device, "elapsed_ms",
        "both events must be of one device: ", start.state_->device, ", ", end.state_->device);
  start.wait();
  end.wait();
  return end.state_->runtime->elapsed_ms(end.state_->device.index, start.state_->handle, end.state_->handle);
}

}  // namespace mica
