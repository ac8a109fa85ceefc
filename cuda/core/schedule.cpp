// The schedule of the process's launches, and its name.
#include "cuda/core/schedule.h"

#include <cstdlib>
#include <string_view>

namespace mica::kernels::emulated {

namespace {

constexpr uint64_t pack(Schedule schedule, uint32_t seed) {
  return uint64_t{static_cast<uint8_t>(schedule)} << 32 | seed;
}

uint64_t schedule_of_environment() {
  const char* text = std::getenv("MICA_EMULATE_SCHEDULE");
  if (!text || !*text) return pack(Schedule::round_robin, 0);
  std::string_view name = text;
  uint32_t seed = 0;
  if (const size_t colon = name.find(':'); colon != std::string_view::npos) {
    seed = static_cast<uint32_t>(std::strtoul(text + colon + 1, nullptr, 10));
    name = name.substr(0, colon);
  }
  for (Schedule schedule : kSchedules)
    if (name == to_string(schedule)) return pack(schedule, seed);
  fail("emulate", "MICA_EMULATE_SCHEDULE=", text, ": the schedules are round_robin, reversed, random[:seed] and ahead");
}

std::atomic<uint64_t>& current_schedule() {
  static std::atomic<uint64_t> schedule(schedule_of_environment());
  return schedule;
}

}  // namespace

const char* to_string(Schedule schedule) {
  switch (schedule) {
    case Schedule::round_robin: return "round_robin";
    case Schedule::reversed: return "reversed";
    case Schedule::random: return "random";
    case Schedule::ahead: return "ahead";
  }
  return "?";
}

void set_schedule(Schedule schedule, uint32_t seed) { current_schedule().store(pack(schedule, seed)); }
Schedule schedule() { return static_cast<Schedule>(current_schedule().load() >> 32); }
uint32_t schedule_seed() { return static_cast<uint32_t>(current_schedule().load(std::memory_order_relaxed)); }

}  // namespace mica::kernels::emulated
