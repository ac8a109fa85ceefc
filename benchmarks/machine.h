// What this machine can do at most, measured: every benchmark says what share of it a kernel reaches.
#pragma once

#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdint>

namespace mica::bench {

/// float32 multiply-adds a second, counted as two operations each, in GFLOP/s on `threads` threads.
double peak_gflops(int threads);

/// The instructions that it is measured with, by the name of Mica's level: avx512, avx2 or baseline.
const char* simd_level();

/// GB/s of reading and writing `bytes` in all, as a copy within a working set of that size on `threads` threads.
double peak_gbytes(int64_t bytes, int threads);

/// Times the iterations of a benchmark (registered with UseManualTime), and reports rates and shares of the peak:
///   bench::Timed timed(state);
///   for (auto _ : state) timed([&] { ... });
///   timed.report_flops(flops of one iteration);
class Timed {
 public:
  explicit Timed(benchmark::State& state) : state_(state) {}

  template <class F>
  void operator()(const F& f) {
    const auto start = std::chrono::steady_clock::now();
    f();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    state_.SetIterationTime(seconds);
    total_ += seconds;
  }

  /// Adds "GFLOP/s" and "%peak" for a kernel of `flops` operations an iteration.
  void report_flops(double flops);
  /// Adds "GB/s" and "%peak" for a kernel that reads and writes `bytes` an iteration.
  void report_bytes(int64_t bytes);
  /// Adds `count` a second under `name`.
  void report_rate(const char* name, double count);

 private:
  double rate(double each) const { return each * static_cast<double>(state_.iterations()) / total_; }

  benchmark::State& state_;
  double total_ = 0;
};

}  // namespace mica::bench
