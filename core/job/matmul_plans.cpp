#include "core/job/matmul_plans.hpp"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <vector>

#include "comm/agree.hpp"
#include "comm/gpu_links.hpp"
#include "core/job/log.hpp"
#include "kernels/base/stream.hpp"
#include "kernels/linear_tuning.hpp"

namespace millrace {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// A job waits hardly longer than this for measurements; the next one goes on with them.
constexpr std::chrono::duration<double> longest_measurement(4.0);
constexpr std::int64_t most_logits_rows = 1024;  // the executor takes no more at a time

struct MatmulProduct {
  const LinearWeight* weight;
  DType out_dtype;
  bool bias;
  std::int64_t most_rows;
};

// Every product of the model; layers repeat each other.
std::vector<MatmulProduct> products_of(const RankWeights& weights, const PlanOptions& options) {
  std::vector<MatmulProduct> products;
  const auto add = [&](const LinearWeight& weight, const TensorView& bias) {
    const std::int64_t tokens = options.max_num_batched_tokens;
    if (!weight.empty()) products.push_back({&weight, options.dtype, !bias.empty(), tokens});
  };
  for (const LayerWeights& layer : weights.layers) {
    add(layer.qkv, layer.qkv_bias);
    add(layer.o, layer.o_bias);
    add(layer.up, layer.up_bias);
    add(layer.down, layer.down_bias);
  }
  if (!weights.lm_head().empty()) {
    products.push_back({&weights.lm_head(), DType::f32, false,
                        std::min<std::int64_t>(options.max_num_seqs, most_logits_rows)});
  }
  return products;
}

// Small row counts first, and what steps with prompts usually have before the largest: they recur
// most.
int measure(const std::vector<MatmulProduct>& products, Stream stream) {
  const auto begin = Clock::now();
  int measured = 0;
  std::int64_t from = 0;
  for (const std::int64_t to : {64, 256, 1024, 2048, 1 << 30}) {
    for (const MatmulProduct& product : products) {
      std::vector<std::int64_t> rows = row_buckets(product.most_rows);
      std::erase_if(rows, [&](std::int64_t m) { return m <= from || m > to; });
      if (Clock::now() - begin > longest_measurement) return measured;
      measured +=
          tune_linear(*product.weight, product.out_dtype, product.bias, false, rows, stream);
    }
    from = to;
  }
  return measured;
}

// A file for each release of the driver, which the kernels' library does not tell: it knows the
// newest CUDA that the driver runs.
std::string plan_file_of(Device device) {
  const std::string driver = gpu_driver_version();
  return linear_plan_name(device) + (driver.empty() ? "" : "-" + driver);
}

}  // namespace

std::string cache_folder() {
  const auto variable = [](const char* name) -> std::string {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  if (const std::string folder = variable("MILLRACE_CACHE"); !folder.empty()) return folder;
  if (const std::string cache = variable("XDG_CACHE_HOME"); !cache.empty()) {
    return (fs::path(cache) / "millrace").string();
  }
  if (const std::string home = variable("HOME"); !home.empty()) {
    return (fs::path(home) / ".cache" / "millrace").string();
  }
  return "";
}

void prepare_matmul_plans(const Comm& node, const RankWeights& weights, const PlanOptions& options,
                          Device device) {
  if (device.is_cpu()) return;
  const auto begin = Clock::now();
  const std::string folder = cache_folder();
  const std::string file = folder.empty() ? "" : (fs::path(folder) / plan_file_of(device)).string();
  int measured = 0;
  agree(node, [&] {
    if (!file.empty()) read_linear_plans(file, device);
    const OwnedStream stream(device);
    measured = measure(products_of(weights, options), stream.stream());
  });
  // In turn, each with what the ones before have written: ranks may hold other shapes.
  const bool writes = !file.empty() && node.all_reduce_max(std::int64_t{measured}) > 0;
  for (int rank = 0; writes && rank < node.size(); ++rank) {
    if (rank == node.rank() && measured > 0) {
      try {
        fs::create_directories(folder);
        read_linear_plans(file, device);
        write_linear_plans(file, device);
      } catch (const std::exception& error) {
        log_warning("matmul plans are not kept: {}", error.what());
      }
    }
    node.barrier();
  }
  const std::chrono::duration<double> seconds = Clock::now() - begin;
  log_info("matmul plans: {} measured, {:.2f} s, {}", measured, seconds.count(),
           file.empty() ? "not kept" : file);
}

}  // namespace millrace
