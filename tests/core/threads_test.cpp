// How many threads the kernels use, and how callers share them.
#include "mica/core/threads.h"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "core/parallel.h"
#include "mica/core/error.h"
#include "support/error_text.h"
#include "support/keep_threads.h"

using namespace mica;
using mica::test::error_text;
using mica::test::KeepThreads;

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

TEST_CASE("threads: each part runs once, whatever the numbers of parts and threads") {
  for (const int threads : {1, 2, 3, 8})
    for (const int parts : {0, 1, 2, 3, 7, 8, 100, 300}) {
      CAPTURE(threads);
      CAPTURE(parts);
      const ThreadScope scope(threads);
      std::vector<std::atomic<int>> ran(static_cast<size_t>(parts));
      for (int round = 1; round <= 50; ++round) {
        parallel::run(parts, [&](int part) { ++ran[static_cast<size_t>(part)]; });
        for (const std::atomic<int>& times : ran) REQUIRE(times == round);
      }
    }
}

TEST_CASE("threads: what parts have written is there when run returns") {
  const ThreadScope scope(8);
  std::vector<int64_t> sums(8);
  for (int64_t round = 0; round < 20'000; ++round) {
    parallel::run(8, [&](int part) { sums[static_cast<size_t>(part)] += part + round; });
    int64_t all = 0;
    for (const int64_t sum : sums) all += sum;
    REQUIRE(all == (round + 1) * 28 + 8 * (round * (round + 1) / 2));
  }
}

TEST_CASE("threads: many callers at once, with parts within parts") {
  std::atomic<int64_t> wrong = 0;
  std::vector<std::thread> callers;
  for (int t = 0; t < 8; ++t)
    callers.emplace_back([&, t] {
      const ThreadScope scope(2 + t % 3);
      for (int i = 0; i < 500; ++i) {
        int outer[4] = {};
        parallel::run(4, [&](int part) {
          int inner[3] = {};
          parallel::run(3, [&](int j) { inner[j] = t + part + j; });
          outer[part] = inner[0] + inner[1] + inner[2];
        });
        for (int part = 0; part < 4; ++part) wrong += outer[part] != 3 * (t + part) + 3;
      }
    });
  for (std::thread& caller : callers) caller.join();
  CHECK(wrong == 0);
}

TEST_CASE("threads: no caller waits for parts that nobody has begun") {
  std::atomic<int> begun = 0;
  std::atomic<bool> release = false;
  std::thread slow([&] {  // keeps itself and a worker, or itself alone
    const ThreadScope scope(2);
    parallel::run(2, [&](int) {
      ++begun;
      while (!release) std::this_thread::yield();
    });
  });
  while (begun == 0) std::this_thread::yield();
  const ThreadScope scope(2);
  int ran[2] = {};
  for (int i = 0; i < 1000; ++i) parallel::run(2, [&](int part) { ++ran[part]; });
  CHECK(ran[0] == 1000);
  CHECK(ran[1] == 1000);
  release = true;
  slow.join();
  CHECK(begun == 2);
}

TEST_CASE("threads: a forked process, which has no workers, computes all the same") {
  const ThreadScope scope(4);
  int ran[4] = {};
  const auto job = [&] { parallel::run(4, [&](int part) { ++ran[part]; }); };
  job();  // there are workers
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    job();
    _exit(ran[0] == 2 && ran[1] == 2 && ran[2] == 2 && ran[3] == 2 ? 0 : 1);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_SUITE_END();
