#include "kernels/linear_tuning.hpp"

#include <algorithm>
#include <bit>

#include "kernels/base/dispatch.hpp"

namespace millrace {

std::int64_t row_bucket(std::int64_t m) {
  if (m <= 16) return static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(m)));
  const std::int64_t step = m > 2048 ? 2048 : m > 512 ? 64 : m > 64 ? 32 : 16;
  return (m + step - 1) / step * step;
}

std::vector<std::int64_t> row_buckets(std::int64_t most) {
  std::vector<std::int64_t> buckets;
  for (std::int64_t m = 1; m <= most; m = buckets.back() + 1) buckets.push_back(row_bucket(m));
  return buckets;
}

int tune_linear(const LinearWeight& w, DType out_dtype, bool bias, bool accumulate,
                const std::vector<std::int64_t>& row_counts, Stream stream) {
  return MILLRACE_DISPATCH(stream.device, tune_linear, w, out_dtype, bias, accumulate, row_counts,
                           stream);
}

std::string linear_plan_name(Device device) {
  return MILLRACE_DISPATCH(device, linear_plan_name, device);
}

void read_linear_plans(const std::string& path, Device device) {
  MILLRACE_DISPATCH(device, read_linear_plans, path, device);
}

void write_linear_plans(const std::string& path, Device device) {
  MILLRACE_DISPATCH(device, write_linear_plans, path, device);
}

namespace cpu {

int tune_linear(const LinearWeight&, DType, bool, bool, const std::vector<std::int64_t>&, Stream) {
  return 0;
}
std::string linear_plan_name(Device) { return {}; }
void read_linear_plans(const std::string&, Device) {}
void write_linear_plans(const std::string&, Device) {}

}  // namespace cpu

}  // namespace millrace
