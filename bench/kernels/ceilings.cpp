#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <vector>

#include "bench/kernels/timing.hpp"
#include "kernels/base/tensor.hpp"
#include "oneapi/dnnl/dnnl.h"

namespace millrace::bench {
namespace {

constexpr std::int64_t large = std::int64_t{1}
                               << 27;  // bytes; four times the largest cache of this class

double wall_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The clock that calls are timed with.
double seconds_now() {
  if (omp_get_max_threads() > 1) return wall_seconds();
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace

Timing time_calls(const std::function<void()>& call) {
  for (const double until = wall_seconds() + 0.05; wall_seconds() < until;) call();
  std::vector<double> times;
  for (const double until = wall_seconds() + 0.3; times.size() < 5 || wall_seconds() < until;) {
    const double begin = seconds_now();
    call();
    times.push_back(seconds_now() - begin);
  }
  std::sort(times.begin(), times.end());
  return {times.front(), times[times.size() / 2]};
}

Ceilings measure_ceilings() {
  Ceilings ceilings;
  const Tensor a(DType::u8, Device::cpu(), {large});
  const Tensor b(DType::u8, Device::cpu(), {large});
  const auto share = [](int thread, int threads) { return large / threads / 4096 * 4096 * thread; };
  const auto for_shares = [&](auto body) {
#pragma omp parallel
    {
      const int threads = omp_get_num_threads();
      const int thread = omp_get_thread_num();
      body(share(thread, threads), share(thread + 1, threads) - share(thread, threads));
    }
  };
  auto* to = static_cast<char*>(a->data());
  auto* from = static_cast<char*>(b->data());
  for_shares([&](std::int64_t begin, std::int64_t count) { std::fill_n(from + begin, count, 1); });
  for_shares([&](std::int64_t begin, std::int64_t count) { std::fill_n(to + begin, count, 2); });
  const Timing copy = time_calls([&] {
    for_shares([&](std::int64_t begin, std::int64_t count) {
      std::copy_n(from + begin, count, to + begin);
    });
  });
  ceilings.copy_bytes_per_second = 2.0 * large / copy.best_seconds;
  std::uint64_t total = 0;
  const Timing read = time_calls([&] {
#pragma omp parallel reduction(+ : total)
    {
      const int threads = omp_get_num_threads();
      const std::int64_t begin = share(omp_get_thread_num(), threads);
      const auto* words = reinterpret_cast<const std::uint64_t*>(from + begin);
      const std::int64_t count = (share(omp_get_thread_num() + 1, threads) - begin) / 8;
      std::uint64_t partial[16] = {};
      for (std::int64_t i = 0; i + 16 <= count; i += 16) {
        // The hardware's own prefetcher leaves a fifth of the bandwidth unused on a single stream.
        __builtin_prefetch(words + i + 4096);
        __builtin_prefetch(words + i + 4096 + 8);
        for (int lane = 0; lane < 16; ++lane) partial[lane] += words[i + lane];
      }
      for (const std::uint64_t value : partial) total += value;
    }
  });
  ceilings.read_bytes_per_second = large / read.best_seconds;
  constexpr std::int64_t n = 2048;
  const Tensor x(DType::f32, Device::cpu(), {n, n});
  const Tensor y(DType::f32, Device::cpu(), {n, n});
  const Tensor z(DType::f32, Device::cpu(), {n, n});
  std::fill_n(x->as<float>(), n * n, 0.5F);
  std::fill_n(y->as<float>(), n * n, 0.25F);
  const Timing gemm = time_calls([&] {
    dnnl_sgemm('N', 'T', n, n, n, 1, x->as<float>(), n, y->as<float>(), n, 0, z->as<float>(), n);
  });
  ceilings.gemm_flops_per_second = 2.0 * n * n * n / gemm.best_seconds;
  fmt::print("# checksum {}\n", total);
  return ceilings;
}

void print_row(const std::string& op, const std::string& shape, const Timing& timing, double bytes,
               double flops, const Ceilings& ceilings) {
  const double read = bytes / timing.best_seconds;
  const double rate = flops / timing.best_seconds;
  fmt::print("{},{},{:.1f},{:.1f},{:.1f},{:.1f},{:.2f},{:.2f}\n", op, shape,
             timing.best_seconds * 1e6, timing.median_seconds * 1e6, read / 1e9, rate / 1e9,
             read / ceilings.read_bytes_per_second, rate / ceilings.gemm_flops_per_second);
  std::fflush(stdout);
}

}  // namespace millrace::bench
