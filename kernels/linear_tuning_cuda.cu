// Plans of matrix products: cuBLASLt's candidates are timed on the device, with the weight cold in
// the cache as it is in a step, and the fastest is kept. A plan is cuBLASLt's own opaque 64 bytes,
// which it allows to be stored for the same library version.
#include "kernels/linear_tuning.hpp"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <limits>
#include <map>
#include <mutex>
#include <sstream>

#include "kernels/linear_cuda.cuh"

namespace millrace::cuda {
namespace {

struct Plan {
  cublasLtMatmulAlgo_t algorithm;
  bool tuned;
};

std::mutex plans_mutex;
std::map<ProductKey, Plan> plans;

ProductKey bucket_of(ProductKey key) {
  key.m = row_bucket(key.m);
  return key;
}

// First line of a plan file: what its measurements hold for.
std::string signature(Device device) {
  cudaDeviceProp properties{};
  cuda_check(cudaGetDeviceProperties(&properties, device.index), "cudaGetDeviceProperties");
  int driver = 0;
  cuda_check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  std::ostringstream text;
  text << "millrace linear plans 1 | " << properties.name << " | driver " << driver
       << " | cublasLt " << cublasLtGetVersion();
  return text.str();
}

// Seconds do not matter, order does: the median of several runs, each after the L2 cache was
// overwritten.
float measure(const Product& product, const cublasLtMatmulAlgo_t& algorithm, const Tensor& evict,
              Stream stream) {
  constexpr int runs = 5;
  float times[runs];
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  cuda_check(cudaEventCreate(&begin), "cudaEventCreate");
  cuda_check(cudaEventCreate(&end), "cudaEventCreate");
  bool works = true;
  for (int run = -1; run < runs && works; ++run) {  // -1 warms up
    cuda::fill_bytes(evict->data(), run, evict->bytes(), stream);
    cuda_check(cudaEventRecord(begin, native(stream)), "cudaEventRecord");
    works = run_product(product, algorithm, stream);
    cuda_check(cudaEventRecord(end, native(stream)), "cudaEventRecord");
    cuda_check(cudaEventSynchronize(end), "cudaEventSynchronize");
    if (run >= 0) cuda_check(cudaEventElapsedTime(&times[run], begin, end), "cudaEventElapsedTime");
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  if (!works) return std::numeric_limits<float>::infinity();
  std::nth_element(times, times + runs / 2, times + runs);
  return times[runs / 2];
}

}  // namespace

cublasLtMatmulAlgo_t plan_of(const Product& product, Device device) {
  const ProductKey key = bucket_of(product.key);
  {
    const std::lock_guard lock(plans_mutex);
    const auto found = plans.find(key);
    if (found != plans.end()) return found->second.algorithm;
  }
  const cublasLtMatmulAlgo_t algorithm = find_algorithms(product, 1, device).results[0].algo;
  remember_plan(key, algorithm, false);
  return algorithm;
}

void remember_plan(const ProductKey& key, const cublasLtMatmulAlgo_t& algorithm, bool tuned) {
  const std::lock_guard lock(plans_mutex);
  plans[bucket_of(key)] = {algorithm, tuned};
}

bool has_tuned_plan(const ProductKey& key) {
  const std::lock_guard lock(plans_mutex);
  const auto found = plans.find(bucket_of(key));
  return found != plans.end() && found->second.tuned;
}

void tune_linear(const LinearWeight& w, DType out_dtype, bool bias, bool accumulate,
                 const std::vector<std::int64_t>& row_counts, Stream stream) {
  constexpr std::int64_t evict_bytes = std::int64_t{128} << 20;  // more than any L2 cache
  if (row_counts.empty()) return;
  const std::int64_t most = row_bucket(*std::max_element(row_counts.begin(), row_counts.end()));
  const bool fused_bias = bias && out_dtype == w.dtype();
  const Tensor x(w.dtype(), stream.device, {most, w.k});
  const Tensor out(out_dtype, stream.device, {most, w.n});
  const Tensor vector(w.dtype(), stream.device, {w.n});
  const Tensor evict(DType::u8, stream.device, {evict_bytes});
  // Small numbers that are not zero: products of zeros run faster than real ones.
  cuda::fill_bytes(x->data(), 0x3c, x->bytes(), stream);
  cuda::fill_bytes(out->data(), 0x3c, out->bytes(), stream);
  cuda::fill_bytes(vector->data(), 0x3c, vector->bytes(), stream);
  for (const std::int64_t rows : row_counts) {
    Product product{};
    product.key = {row_bucket(rows), w.n, w.k, w.dtype(), out_dtype, fused_bias, accumulate, true};
    product.key.packed = rows_are_packed(x) && rows_are_packed(out) && rows_are_packed(w.data);
    if (has_tuned_plan(product.key)) continue;
    product.out = out->data();
    product.x = x->data();
    product.w = w.data->data();
    product.bias = vector->data();
    product.out_stride = w.n;
    product.x_stride = w.k;
    product.w_stride = w.k;
    const Candidates candidates = find_algorithms(product, Candidates::most, stream.device);
    float best = std::numeric_limits<float>::infinity();
    for (int i = 0; i < candidates.count; ++i) {
      const float time = measure(product, candidates.results[i].algo, evict, stream);
      if (time >= best) continue;
      best = time;
      remember_plan(product.key, candidates.results[i].algo, true);
    }
  }
}

void read_linear_plans(const std::string& path, Device device) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line) || line != signature(device)) return;
  while (std::getline(file, line)) {
    std::istringstream fields(line);
    ProductKey key;
    int dtype = 0;
    int out_dtype = 0;
    cublasLtMatmulAlgo_t algorithm{};
    fields >> key.m >> key.n >> key.k >> dtype >> out_dtype >> key.bias >> key.accumulate >>
        key.packed;
    for (auto& word : algorithm.data) fields >> word;
    if (!fields) continue;  // a line cut short by a full disk
    key.dtype = static_cast<DType>(dtype);
    key.out_dtype = static_cast<DType>(out_dtype);
    remember_plan(key, algorithm, true);
  }
}

void write_linear_plans(const std::string& path, Device device) {
  const std::string unfinished = path + ".tmp";
  {
    std::ofstream file(unfinished);
    file << signature(device) << '\n';
    const std::lock_guard lock(plans_mutex);
    for (const auto& [key, plan] : plans) {
      if (!plan.tuned) continue;
      file << key.m << ' ' << key.n << ' ' << key.k << ' ' << static_cast<int>(key.dtype) << ' '
           << static_cast<int>(key.out_dtype) << ' ' << key.bias << ' ' << key.accumulate << ' '
           << key.packed;
      for (const auto word : plan.algorithm.data) file << ' ' << word;
      file << '\n';
    }
    if (!file.flush()) throw_cannot_write(path);
  }
  if (std::rename(unfinished.c_str(), path.c_str()) != 0) throw_cannot_write(path);
}

}  // namespace millrace::cuda
