// Kernels of the emulation under each schedule of its threads, and without each of their barriers.
#pragma once

#define MICA_EMULATED
#include <doctest/doctest.h>

#include <vector>

#include "cuda/core/launch.h"

namespace mica::test {

class ScheduleScope {
 public:
  explicit ScheduleScope(kernels::emulated::Schedule schedule, uint32_t seed = 0)
      : previous_(kernels::emulated::schedule()) {
    kernels::emulated::set_schedule(schedule, seed);
  }
  ~ScheduleScope() { kernels::emulated::set_schedule(previous_); }

 private:
  kernels::emulated::Schedule previous_;
};

template <class Body>
void under_each_schedule(const Body& body) {
  for (kernels::emulated::Schedule schedule : kernels::emulated::kSchedules)
    for (uint32_t seed = 0; seed < (schedule == kernels::emulated::Schedule::random ? 3 : 1); ++seed) {
      CAPTURE(to_string(schedule));
      CAPTURE(seed);
      const ScheduleScope scope(schedule, seed);
      body();
    }
}

/// Runs `is_right` with each barrier that it passes taken out in turn; returns how many there are. With each of them
/// out, some schedule must find a wrong result or an error.
template <class F>
int each_barrier_is_needed(const F& is_right) {
  const auto right_under_each_schedule = [&] {
    bool right = true;
    under_each_schedule([&] {
      try {
        right = is_right() && right;
      } catch (const Error&) {
        right = false;
      }
    });
    return right;
  };
  kernels::emulated::take_reached_barriers();
  CHECK(right_under_each_schedule());
  const std::vector<kernels::emulated::Site> barriers = kernels::emulated::take_reached_barriers();
  for (const kernels::emulated::Site& site : barriers) {
    CAPTURE(site.file);
    CAPTURE(site.line);
    const kernels::emulated::DisabledBarrier disabled(site);
    CHECK_FALSE(right_under_each_schedule());
  }
  CHECK(right_under_each_schedule());
  return static_cast<int>(barriers.size());
}

}  // namespace mica::test
