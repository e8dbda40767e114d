#include "kernels/linear_tuning.hpp"

#include "kernels/base/dispatch.hpp"

namespace millrace {

void tune_linear(const LinearWeight& w, DType out_dtype, bool bias, bool accumulate,
                 const std::vector<std::int64_t>& row_counts, Stream stream) {
  MILLRACE_DISPATCH(stream.device, tune_linear, w, out_dtype, bias, accumulate, row_counts, stream);
}

void read_linear_plans(const std::string& path, Device device) {
  MILLRACE_DISPATCH(device, read_linear_plans, path, device);
}

void write_linear_plans(const std::string& path, Device device) {
  MILLRACE_DISPATCH(device, write_linear_plans, path, device);
}

namespace cpu {

void tune_linear(const LinearWeight&, DType, bool, bool, const std::vector<std::int64_t>&, Stream) {
}
void read_linear_plans(const std::string&, Device) {}
void write_linear_plans(const std::string&, Device) {}

}  // namespace cpu

}  // namespace millrace
