// The mutation test of the CUDA kernels: each barrier of each kernel is taken out in turn, and some schedule of the
// emulation must then fail, by a wrong result or an error. A barrier that nobody misses is one too many; one that no
// call comes to is a hole in the list of calls.
#define MICA_EMULATED
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "cuda/core/launch.h"
#include "support/barrier_calls.h"
#include "support/devices.h"

namespace mica::test {

namespace {

using namespace mica::kernels::emulated;

struct Turn {
  Schedule schedule;
  uint32_t seed;
};
constexpr Turn kTurns[] = {{Schedule::round_robin, 0}, {Schedule::reversed, 0}, {Schedule::ahead, 0},
                           {Schedule::random, 0},      {Schedule::random, 1},   {Schedule::random, 2}};

std::string place(const Site& site) {
  return detail::concat(std::filesystem::path(site.file).filename().string(), ":", site.line);
}

struct MadeCall {
  const Call* call;
  std::vector<Calling::Result> wanted;
  double seconds = 0;

  std::string failure_under(Turn turn) const {
    set_schedule(turn.schedule, turn.seed);
    try {
      return difference(call->on(Device::cuda_emulated()), wanted);
    } catch (const Error& error) {
      return error.what();
    }
  }
  bool fails_under_some_schedule() const {
    return std::any_of(std::begin(kTurns), std::end(kTurns), [&](Turn turn) { return failure_under(turn) != ""; });
  }
};

struct Barrier {
  Site site;
  std::vector<const MadeCall*> calls;  // that come to it
};

// The lines of cuda/ that have a barrier: "softmax.cu:123".
std::set<std::string> barriers_in_sources() {
  std::set<std::string> places;
  for (const auto& entry : std::filesystem::directory_iterator(MICA_SOURCE_DIR "/cuda")) {
    const std::string extension = entry.path().extension().string();
    if (extension != ".cu" && extension != ".h") continue;
    std::ifstream file(entry.path());
    std::string line;
    for (int number = 1; std::getline(file, line); ++number)
      if (line.substr(0, line.find("//")).find("barrier();") != std::string::npos)
        places.insert(detail::concat(entry.path().filename().string(), ":", number));
  }
  return places;
}

}  // namespace

TEST_CASE("barriers: each one of each kernel is needed, and some call comes to it") {
  emulated_device();
  const Schedule before = schedule();
  const Calls calls = calls_with_barriers();
  std::vector<MadeCall> made;
  made.reserve(calls.size());
  std::vector<Barrier> barriers;
  take_reached_barriers();
  for (const Call& call : calls) {
    CAPTURE(call.name);
    MadeCall& m = made.emplace_back(MadeCall{&call, call.on(Device::cpu()), 0});
    const auto start = std::chrono::steady_clock::now();
    const std::string failure = m.failure_under({Schedule::round_robin, 0});
    CHECK(failure == "");
    m.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    for (const Site& site : take_reached_barriers()) {
      if (failure != "") continue;
      auto known = std::find_if(barriers.begin(), barriers.end(),
                                [&](const Barrier& barrier) { return place(barrier.site) == place(site); });
      if (known == barriers.end()) known = barriers.insert(known, {site, {}});
      known->calls.push_back(&m);
    }
  }

  std::set<std::string> missed = barriers_in_sources();
  for (Barrier& barrier : barriers) {
    CAPTURE(place(barrier.site));
    missed.erase(place(barrier.site));
    // A kernel that lacks a barrier may read anywhere: nothing but the shadow stops it.
    if (!has_shadow()) continue;
    std::sort(barrier.calls.begin(), barrier.calls.end(),
              [](const MadeCall* a, const MadeCall* b) { return a->seconds < b->seconds; });
    const DisabledBarrier disabled(barrier.site);
    CHECK(std::any_of(barrier.calls.begin(), barrier.calls.end(),
                      [](const MadeCall* m) { return m->fails_under_some_schedule(); }));
  }
  for (const std::string& unreached : missed) {
    CAPTURE(unreached);
    CHECK_MESSAGE(false, "no call comes to this barrier");
  }
  set_schedule(before);
}

}  // namespace mica::test
