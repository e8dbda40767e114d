// How kernels are timed: calls until 0.3 s have passed after a warm-up, each timed alone; the best
// and the median are reported. Fractions of a ceiling use the best times of both, which other work
// on the machine disturbs least.
#pragma once

#include <functional>
#include <string>

namespace millrace::bench {

struct Timing {
  double best_seconds = 0;
  double median_seconds = 0;
};

Timing time_calls(const std::function<void()>& call);

// What this machine can do with the threads given to this process.
struct Ceilings {
  double read_bytes_per_second = 0;  // summing an array much larger than the caches
  double copy_bytes_per_second = 0;  // copying one to another, bytes read + bytes written
  double gemm_flops_per_second = 0;  // oneDNN's sgemm at 2048 x 2048 x 2048
};

Ceilings measure_ceilings();

// Prints one row: op, case, best and median microseconds, GB/s, GFLOP/s, and the better of the
// fractions of read bandwidth and of the GEMM rate. bytes: what the op must move at least once;
// flops: 0 for none.
void print_row(const std::string& op, const std::string& shape, const Timing& timing, double bytes,
               double flops, const Ceilings& ceilings);

}  // namespace millrace::bench
