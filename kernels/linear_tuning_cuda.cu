// Plans of matrix products: the candidates of cuBLASLt and of linear_stream.hpp are timed on the
// device, with the weight cold in the cache as it is in a step, and the fastest is kept. What is
// timed is the product between two small ops, as it stands in a step: a streamed product starts
// under the one and lets the other start under itself, which is half of what it is for, and alone
// it would show none of that. A plan is that the product is streamed, or cuBLASLt's own opaque 64
// bytes, which it allows to be stored for the same library version.
#include "kernels/linear_tuning.hpp"

#include <algorithm>
#include <map>
#include <mutex>
#include <sstream>

#include "kernels/activation.hpp"
#include "kernels/linear_cuda.cuh"
#include "kernels/linear_plan_file.hpp"
#include "kernels/made_up.hpp"
#include "kernels/quantize.hpp"

namespace millrace::cuda {
namespace {

struct Plan {
  ProductPlan how;
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
  text << "millrace linear plans 6 | " << properties.name << " | driver " << driver
       << " | cublasLt " << cublasLtGetVersion();
  return text.str();
}

// Times products with the weight cold in the cache: L2 is overwritten before each run.
class Stopwatch {
 public:
  explicit Stopwatch(Stream stream) : stream_(stream), evict_(DType::u8, stream.device, {bytes}) {
    cuda_check(cudaEventCreate(&begin_), "cudaEventCreate");
    cuda_check(cudaEventCreate(&end_), "cudaEventCreate");
  }
  ~Stopwatch() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

  // The fastest of works 0 to count - 1 by the median of several runs; -1 where none can be done.
  // Work `i` answers whether it can. They take turns, so that a clock which rises or falls
  // meanwhile does so for all; who is no rival in the first round is out.
  template <typename Work>
  int fastest(int count, Work&& work) {
    constexpr float hopeless = 1.35F;
    constexpr float long_milliseconds = 0.4F;  // differences show in fewer runs
    struct Rival {
      int index;
      std::vector<float> times;

      float median() {
        const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
        std::nth_element(times.begin(), middle, times.end());
        return *middle;
      }
    };
    std::vector<Rival> rivals;
    for (int i = 0; i < count; ++i) {
      if (work(i)) rivals.push_back({i, {}});  // and warms up
    }
    const auto run_all = [&] {
      for (Rival& rival : rivals) {
        rival.times.push_back(milliseconds([&] { work(rival.index); }));
      }
    };
    const auto best = [&] {
      return std::min_element(rivals.begin(), rivals.end(),
                              [](Rival& a, Rival& b) { return a.median() < b.median(); });
    };
    if (rivals.empty()) return -1;
    run_all();
    const float first = best()->median();
    std::erase_if(rivals, [&](Rival& rival) { return rival.median() > hopeless * first; });
    for (int round = 1; round < (first > long_milliseconds ? 3 : 5); ++round) run_all();
    return best()->index;
  }

 private:
  static constexpr std::int64_t bytes = std::int64_t{128} << 20;  // more than any L2 cache

  template <typename Work>
  float milliseconds(Work&& work) {
    cuda::fill_bytes(evict_->data(), 1, evict_->bytes(), stream_);
    cuda_check(cudaEventRecord(begin_, native(stream_)), "cudaEventRecord");
    work();
    cuda_check(cudaEventRecord(end_, native(stream_)), "cudaEventRecord");
    cuda_check(cudaEventSynchronize(end_), "cudaEventSynchronize");
    float time = 0;
    cuda_check(cudaEventElapsedTime(&time, begin_, end_), "cudaEventElapsedTime");
    return time;
  }

  Stream stream_;
  Tensor evict_;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

// Whether rows of the weight, of its input and of its output start at 16 bytes each.
bool rows_of_are_packed(const LinearWeight& w, DType out_dtype) {
  const auto is_whole = [](std::int64_t elements, DType dtype) {
    return elements * static_cast<std::int64_t>(size_of(dtype)) % pack_bytes == 0;
  };
  return is_whole(w.k, w.dtype()) && is_whole(w.n, out_dtype);
}

}  // namespace

ProductPlan plan_of(const Product& product, Device device) {
  const ProductKey key = bucket_of(product.key);
  {
    const std::lock_guard lock(plans_mutex);
    const auto found = plans.find(key);
    if (found != plans.end()) return found->second.how;
  }
  const ProductPlan plan{find_algorithms(product, 1, device).results[0].algo};
  remember_plan(key, plan, false);
  return plan;
}

void remember_plan(const ProductKey& key, const ProductPlan& plan, bool tuned) {
  const std::lock_guard lock(plans_mutex);
  plans[bucket_of(key)] = {plan, tuned};
}

bool has_tuned_plan(const ProductKey& key) {
  const std::lock_guard lock(plans_mutex);
  const auto found = plans.find(bucket_of(key));
  return found != plans.end() && found->second.tuned;
}

int tune_linear(const LinearWeight& w, DType out_dtype, bool bias, bool accumulate,
                const std::vector<std::int64_t>& row_counts, Stream stream) {
  const bool fused_bias = bias && fuses_bias(out_dtype, w.dtype(), w.scaling());
  std::vector<ProductKey> wanted;
  for (const std::int64_t rows : row_counts) {
    const std::int64_t bucket = row_bucket(rows);
    const ProductKey key{w.scaling() == Fp8Scaling::blocks ? whole_groups(bucket) : bucket,
                         w.n,
                         w.k,
                         w.dtype(),
                         out_dtype,
                         fused_bias,
                         accumulate,
                         rows_of_are_packed(w, out_dtype),
                         w.scaling()};
    const bool is_again = !wanted.empty() && wanted.back() == key;
    if (!is_again && !has_tuned_plan(key)) wanted.push_back(key);
  }
  if (wanted.empty()) return 0;
  std::int64_t most = 0;
  for (const ProductKey& key : wanted) most = std::max(most, key.m);
  const Tensor x(w.dtype(), stream.device, {most, w.k});
  const Tensor out(out_dtype, stream.device, {most, w.n});
  const Tensor vector(out_dtype, stream.device, {w.n});
  const Tensor scales(DType::f32, stream.device,
                      {w.scaling() == Fp8Scaling::blocks ? scale_blocks(w.k) * most : most});
  for (const Tensor* tensor : {&out, &vector, &scales}) {
    cuda::fill_bytes((*tensor)->data(), 0x3c, (*tensor)->bytes(), stream);
  }
  // What x is made of. Numbers have to be like real ones: equal ones cost less power, so the clock
  // is higher, and from some 700 rows on other algorithms are the fastest then.
  const Tensor plain(w.dtype() == DType::fp8_e4m3 ? DType::bf16 : w.dtype(), stream.device,
                     {most, w.k});
  cuda::make_up(plain, {.key = 1, .center = 0, .unit = 0x1p-14F}, {.first = 0, .row_step = w.k},
                stream);
  Stopwatch stopwatch(stream);
  for (const ProductKey& key : wanted) {
    Product product{};
    product.key = key;
    product.out = out->data();
    product.x = x->data();
    product.w = w.data->data();
    product.bias = vector->data();
    product.x_scales = static_cast<const float*>(scales->data());
    product.w_scales = static_cast<const float*>(w.scales->data());
    product.out_stride = w.n;
    product.x_stride = w.k;
    product.w_stride = w.k;
    LinearInput input = x->slice(0, 0, key.m);
    if (w.scaling() == Fp8Scaling::rows) {
      input.scales = scales->slice(0, 0, key.m);
    } else if (w.scaling() == Fp8Scaling::blocks) {
      input.scales =
          scales->slice(0, 0, scale_blocks(w.k) * key.m).reshape({scale_blocks(w.k), key.m});
    }
    const TensorView plain_rows = plain->slice(0, 0, key.m);
    const TensorView out_rows = out->slice(0, 0, key.m);
    std::vector<ProductPlan> rivals;
    const Candidates candidates = find_algorithms(product, Candidates::most, stream.device);
    for (int i = 0; i < candidates.count; ++i) rivals.push_back({candidates.results[i].algo});
    rivals.push_back({{}, true});
    const int best = stopwatch.fastest(static_cast<int>(rivals.size()), [&](int rival) {
      if (input.is_quantized()) {
        cuda::quantize(input, plain_rows, stream);
      } else {
        cuda::activation(input, plain_rows, Activation::silu, stream);
      }
      const bool works = run_product(product, rivals[static_cast<std::size_t>(rival)], stream);
      cuda::activation(out_rows, out_rows, Activation::relu, stream);
      return works;
    });
    if (best >= 0) remember_plan(key, rivals[static_cast<std::size_t>(best)], true);
  }
  return static_cast<int>(wanted.size());
}

std::string linear_plan_name(Device device) {
  std::string name = signature(device);
  for (char& c : name) {
    const bool is_plain =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!is_plain) c = '-';
  }
  name.erase(
      std::unique(name.begin(), name.end(), [](char a, char b) { return a == '-' && b == '-'; }),
      name.end());
  return name;
}

void read_linear_plans(const std::string& path, Device device) {
  for (const std::string& line : read_plan_lines(path, signature(device))) {
    std::istringstream fields(line);
    ProductKey key;
    int dtype = 0;
    int out_dtype = 0;
    int scaling = 0;
    ProductPlan plan;
    fields >> key.m >> key.n >> key.k >> dtype >> out_dtype >> key.bias >> key.accumulate >>
        key.packed >> scaling >> plan.streamed;
    for (auto& word : plan.algorithm.data) fields >> word;
    if (!fields) continue;
    key.dtype = static_cast<DType>(dtype);
    key.out_dtype = static_cast<DType>(out_dtype);
    key.scaling = static_cast<Fp8Scaling>(scaling);
    remember_plan(key, plan, true);
  }
}

void write_linear_plans(const std::string& path, Device device) {
  std::vector<std::string> lines;
  {
    const std::lock_guard lock(plans_mutex);
    for (const auto& [key, plan] : plans) {
      if (!plan.tuned) continue;
      std::ostringstream line;
      line << key.m << ' ' << key.n << ' ' << key.k << ' ' << static_cast<int>(key.dtype) << ' '
           << static_cast<int>(key.out_dtype) << ' ' << key.bias << ' ' << key.accumulate << ' '
           << key.packed << ' ' << static_cast<int>(key.scaling) << ' ' << plan.how.streamed;
      for (const auto word : plan.how.algorithm.data) line << ' ' << word;
      lines.push_back(line.str());
    }
  }
  write_plan_lines(path, signature(device), lines);
}

}  // namespace millrace::cuda
