// The machine's peaks. The loops of multiply-adds are compiled for each vector width and chosen by the processor.
#include "machine.h"

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "mica/core/threads.h"

namespace mica::bench {

namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// `steps` rounds of `kChains` independent chains of multiply-adds on vectors of `kBytes`: more chains than the units'
// latency needs. Returns operations.
template <int kBytes, int kChains>
[[gnu::always_inline]] inline double chains(int64_t steps, float* sink) {
  typedef float V __attribute__((vector_size(kBytes)));
  V sum[kChains];
  const V a = V{} + 0.999f, b = V{} + 0.001f;
  for (int i = 0; i < kChains; ++i) sum[i] = V{} + static_cast<float>(i);
  for (int64_t s = 0; s < steps; ++s)
#pragma GCC unroll 32
    for (int i = 0; i < kChains; ++i) sum[i] = sum[i] * a + b;
  float total = 0;
  for (int i = 0; i < kChains; ++i) total += sum[i][0];
  *sink = total;
  return static_cast<double>(steps) * kChains * (kBytes / 4) * 2;
}

#if defined(__x86_64__)
[[gnu::target("avx512f")]] double run_avx512(int64_t steps, float* sink) { return chains<64, 16>(steps, sink); }
[[gnu::target("avx2,fma")]] double run_avx2(int64_t steps, float* sink) { return chains<32, 12>(steps, sink); }
#endif
double run_baseline(int64_t steps, float* sink) { return chains<16, 12>(steps, sink); }

double measure_gflops(int threads) {
  double (*run)(int64_t, float*) = run_baseline;
#if defined(__x86_64__)
  if (simd_level() == std::string_view("avx512"))
    run = run_avx512;
  else if (simd_level() == std::string_view("avx2"))
    run = run_avx2;
#endif
  double best = 0;
  for (int round = 0; round < 20; ++round) {
    double flops = 0;
    const double start = now();
#pragma omp parallel num_threads(threads) reduction(+ : flops)
    {
      volatile float keep;
      float sink;
      flops += run(1'000'000, &sink);
      keep = sink;
      (void)keep;
    }
    best = std::max(best, flops / (now() - start) / 1e9);
  }
  return best;
}

double measure_gbytes(int64_t bytes, int threads) {
  const size_t each = static_cast<size_t>(std::max<int64_t>(64, bytes / 2 / threads));
  std::vector<std::vector<char>> from(static_cast<size_t>(threads)), to(static_cast<size_t>(threads));
  const int repeats = static_cast<int>(std::max<int64_t>(1, (int64_t{64} << 20) / std::max<int64_t>(1, bytes)));
  double best = 0;
#pragma omp parallel num_threads(threads)
  {
    const auto t = static_cast<size_t>(omp_get_thread_num());
    from[t].assign(each, 1);
    to[t].assign(each, 2);
  }
  for (int round = 0; round < 10; ++round) {
    const double start = now();
#pragma omp parallel num_threads(threads)
    {
      const auto t = static_cast<size_t>(omp_get_thread_num());
      for (int r = 0; r < repeats; ++r) {
        std::memcpy(to[t].data(), from[t].data(), each);
        asm volatile("" : : "r"(to[t].data()) : "memory");
      }
    }
    best = std::max(best, 2.0 * static_cast<double>(each) * threads * repeats / (now() - start) / 1e9);
  }
  return best;
}

}  // namespace

const char* simd_level() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return "avx512";
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "avx2";
#endif
  return "baseline";
}

double peak_gflops(int threads) {
  static std::map<int, double> known;
  double& peak = known[threads];
  if (peak == 0) peak = measure_gflops(threads);
  return peak;
}

double peak_gbytes(int64_t bytes, int threads) {
  static std::map<std::pair<int64_t, int>, double> known;
  double& peak = known[{bytes, threads}];
  if (peak == 0) peak = measure_gbytes(bytes, threads);
  return peak;
}

void Timed::report_flops(double flops) {
  state_.counters["GFLOP/s"] = rate(flops) / 1e9;
  state_.counters["%peak"] = rate(flops) / 1e9 / peak_gflops(num_threads()) * 100;
}

void Timed::report_bytes(int64_t bytes) {
  const double gbytes = rate(static_cast<double>(bytes)) / 1e9;
  state_.counters["GB/s"] = gbytes;
  state_.counters["%peak"] = gbytes / peak_gbytes(bytes, num_threads()) * 100;
}

void Timed::report_rate(const char* name, double count) { state_.counters[name] = rate(count); }

}  // namespace mica::bench
