// Timing of GPU ops: medians of device events over back-to-back calls, on data that is not zero and
// does not fit the cache, beside ceilings measured in the same run.
#pragma once

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kernels/base/tensor.hpp"

namespace millrace::bench {

class GpuBench {
 public:
  GpuBench();

  Stream stream() const { return stream_.stream(); }
  Device device() const { return stream().device; }

  // Median seconds of one call: `repeats` replays of a graph of `calls` calls, after warm-up.
  double seconds(const std::function<void()>& call, int calls = 10, int repeats = 9) const;

  // Normal-like random elements of a float dtype, the same 16 MiB over and over.
  Tensor random(DType dtype, std::initializer_list<std::int64_t> shape, float scale = 1) const;
  Tensor ints(const std::vector<std::int32_t>& values) const;

  double copy_bytes_per_second() const { return copy_rate_; }
  double matmul_flops_per_second() const { return matmul_rate_; }

  // One row of the table.
  void report_bytes(const std::string& op, const std::string& shape, double seconds,
                    double bytes) const;
  void report_flops(const std::string& op, const std::string& shape, double seconds,
                    double flops) const;

 private:
  void report(const std::string& op, const std::string& shape, double seconds, double rate,
              double ceiling, const char* unit) const;
  void measure_ceilings();

  OwnedStream stream_{Device::cuda(0)};
  double copy_rate_ = 0;
  double matmul_rate_ = 0;
};

void bench_rows(const GpuBench& bench);
void bench_sampling(const GpuBench& bench);
void bench_linear(const GpuBench& bench);
void bench_decode_attention(const GpuBench& bench);
void bench_prefill_attention(const GpuBench& bench);

}  // namespace millrace::bench
