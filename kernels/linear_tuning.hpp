// Choosing the algorithm of matrix products by measurement, and keeping the choice in a file.
//
// Only CUDA has a choice; on the CPU these do nothing. A plan file begins with the GPU, driver and
// library version that its plans were measured on; under any other it is ignored and overwritten.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/linear.hpp"

namespace millrace {

// Row counts that share an algorithm, by the largest of them: dense where decode batches lie,
// coarse beyond.
std::int64_t row_bucket(std::int64_t m);

// The buckets of 1 to `most` rows.
std::vector<std::int64_t> row_buckets(std::int64_t most);

// Measures the products of `w` with each of these row counts and keeps the fastest algorithm for
// each row count's bucket. x and the output are of `dtype` and `out_dtype`. Buckets that have a
// measured plan already are skipped; answers how many were not. Allocates and synchronises: for
// start-up only.
int tune_linear(const LinearWeight& w, DType out_dtype, bool bias, bool accumulate,
                const std::vector<std::int64_t>& row_counts, Stream stream);

// A name for a file of this device's plans: GPU, driver and library, as letters, digits and dashes.
// Empty on the CPU.
std::string linear_plan_name(Device device);

// Reads measured plans for this device; a file that is missing or made elsewhere counts as empty.
void read_linear_plans(const std::string& path, Device device);

// Writes every measured plan. Throws UserError when the file cannot be written.
void write_linear_plans(const std::string& path, Device device);

namespace cpu {
decltype(millrace::tune_linear) tune_linear;
decltype(millrace::linear_plan_name) linear_plan_name;
decltype(millrace::read_linear_plans) read_linear_plans;
decltype(millrace::write_linear_plans) write_linear_plans;
}  // namespace cpu
namespace cuda {
decltype(millrace::tune_linear) tune_linear;
decltype(millrace::linear_plan_name) linear_plan_name;
decltype(millrace::read_linear_plans) read_linear_plans;
decltype(millrace::write_linear_plans) write_linear_plans;
}  // namespace cuda

}  // namespace millrace
