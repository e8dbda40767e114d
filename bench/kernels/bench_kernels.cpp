// Measures the CPU ops against what this machine can do. Rows are comma-separated; lines with # say
// how.
//   bench_kernels [op...]     all ops when none is named
#include <fmt/format.h>
#include <omp.h>

#include <map>
#include <string>

#include "bench/kernels/rows.hpp"
#include "kernels/simd/isa.hpp"

int main(int argc, char** argv) {
  using namespace millrace;
  const std::map<std::string, void (*)(const bench::Ceilings&)> ops = {
      {"linear", bench::linear_rows}, {"attention", bench::attention_rows},
      {"norm", bench::norm_rows},     {"activation", bench::activation_rows},
      {"rope", bench::rope_rows},     {"sampling", bench::sampling_rows}};
  const bench::Ceilings ceilings = bench::measure_ceilings();
  fmt::print(
      "# {} threads, {} instructions; ceilings: read {:.1f} GB/s, copy {:.1f} GB/s (read + "
      "written), "
      "oneDNN sgemm 2048^3 {:.1f} GFLOP/s\n",
      omp_get_max_threads(), name(cpu::active_isa()), ceilings.read_bytes_per_second / 1e9,
      ceilings.copy_bytes_per_second / 1e9, ceilings.gemm_flops_per_second / 1e9);
  fmt::print(
      "# each case: 0.05 s warm-up, then calls for 0.3 s; fractions are of the best call; one "
      "thread "
      "is timed by CPU time, several by wall time\n");
  fmt::print("op,case,best_us,median_us,gb_per_s,gflop_per_s,fraction_of_read,fraction_of_gemm\n");
  for (const auto& [op, rows] : ops) {
    bool wanted = argc == 1;
    for (int i = 1; i < argc; ++i) wanted = wanted || op == argv[i];
    if (wanted) rows(ceilings);
  }
}
