// How many threads the kernels use, and how callers share them.
#include "mica/core/threads.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "core/parallel.h"
#include "mica/core/error.h"
#include "support/error_text.h"

using namespace mica;
using mica::test::error_text;

namespace {

// Sets num_threads back at the end of a test.
struct KeepThreads {
  const int before = num_threads();
  ~KeepThreads() { set_num_threads(before); }
};

}  // namespace

TEST_SUITE_BEGIN("threads");

TEST_CASE("threads: there is at least one, and set_num_threads says how many") {
  const KeepThreads keep;
  CHECK(num_threads() >= 1);
  set_num_threads(5);
  CHECK(num_threads() == 5);
  set_num_threads(1);
  CHECK(num_threads() == 1);
  set_num_threads(256);
  CHECK(num_threads() == 256);
}

TEST_CASE("threads: a number outside of 1..256 is refused and changes nothing") {
  const KeepThreads keep;
  set_num_threads(3);
  CHECK(error_text([] { set_num_threads(0); }) == "[set_num_threads] the number of threads must be in 1..256, got 0");
  CHECK(error_text([] { set_num_threads(-1); }) == "[set_num_threads] the number of threads must be in 1..256, got -1");
  CHECK(error_text([] { set_num_threads(257); }) ==
        "[set_num_threads] the number of threads must be in 1..256, got 257");
  CHECK(error_text([] { ThreadScope scope(257); }) ==
        "[threads] the number of threads must be in 1..256 (0: as is), got 257");
  CHECK(error_text([] { ThreadScope scope(-1); }) ==
        "[threads] the number of threads must be in 1..256 (0: as is), got -1");
  CHECK(num_threads() == 3);
}

TEST_CASE("threads: scopes nest, and end with their braces") {
  const KeepThreads keep;
  set_num_threads(3);
  {
    const ThreadScope outer(7);
    CHECK(num_threads() == 7);
    {
      const ThreadScope inner(2);
      CHECK(num_threads() == 2);
      const ThreadScope nothing(0);
      CHECK(num_threads() == 2);
    }
    CHECK(num_threads() == 7);
    set_num_threads(4);
    CHECK(num_threads() == 7);  // the scope is nearer
  }
  CHECK(num_threads() == 4);
}

TEST_CASE("threads: a scope is one thread's own") {
  const KeepThreads keep;
  set_num_threads(3);
  const ThreadScope scope(7);
  int seen = 0;
  std::thread([&] { seen = num_threads(); }).join();
  CHECK(seen == 3);
}

TEST_CASE("threads: concurrent callers share one budget: a team is whole, or its caller works alone") {
  const KeepThreads keep;
  const int budget = std::max(8, static_cast<int>(std::thread::hardware_concurrency()));  // with the caller
  const ThreadScope scope(8);
  std::vector<int> teams;
  for (int left = budget - 1; left >= 7; left -= 7) teams.push_back(parallel::acquire_team());
  for (const int team : teams) CHECK(team == 8);
  CHECK(parallel::acquire_team() == 1);  // nobody waits
  parallel::release_team(1);
  for (const int team : teams) parallel::release_team(team);
  const ThreadScope one(1);
  CHECK(parallel::acquire_team() == 1);
  parallel::release_team(1);
}

TEST_CASE("threads: eight callers at once never take more than there is, and give it all back") {
  const KeepThreads keep;
  const int budget = std::max(8, static_cast<int>(std::thread::hardware_concurrency())) - 1;
  std::atomic<int> taken = 0, most = 0;
  std::vector<std::thread> callers;
  for (int t = 0; t < 8; ++t)
    callers.emplace_back([&, t] {
      const ThreadScope some(2 + t % 3);
      for (int i = 0; i < 10'000; ++i) {
        const int team = parallel::acquire_team();
        const int now = taken += team - 1;
        int seen = most;
        while (now > seen && !most.compare_exchange_weak(seen, now)) {
        }
        taken -= team - 1;
        parallel::release_team(team);
      }
    });
  for (std::thread& caller : callers) caller.join();
  CHECK(most >= 1);
  CHECK(most <= budget);
  const ThreadScope all(budget + 1);
  CHECK(parallel::acquire_team() == budget + 1);
  parallel::release_team(budget + 1);
}

TEST_SUITE_END();
