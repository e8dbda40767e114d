// All-reduce between GPUs by size: NCCL, NCCL's symmetric-memory windows, and our own ways, alone
// and joined with the residual sum and the RMS norm. One rank a GPU; rank 0 prints the method as
// comment lines, then CSV rows in microseconds, and last what the job would choose:
//
//     mpirun -n 2 bench_gpu_sums > bench/results/gpu_sums.csv
#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <nccl.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "comm/environment.hpp"
#include "comm/hosts.hpp"
#include "comm/measure_reduce_cuda.hpp"
#include "comm/nccl_facts.hpp"
#include "comm/peer_memory.hpp"
#include "comm/peer_reduce.hpp"
#include "kernels/base/cuda_check.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

constexpr std::int64_t hidden = 4096;
constexpr std::size_t row_bytes = hidden * 2;
constexpr std::size_t largest_bytes = 64U << 20U;

ncclUniqueId shared_id(const Comm& world) {
  ncclUniqueId id{};
  if (world.rank() == 0) ncclGetUniqueId(&id);
  const auto raw = std::as_bytes(std::span(&id, 1));
  Bytes bytes(raw.begin(), raw.end());
  world.broadcast_bytes(bytes, 0);
  std::memcpy(&id, bytes.data(), sizeof(id));
  return id;
}

void check(ncclResult_t result) {
  if (result != ncclSuccess) throw std::runtime_error(ncclGetErrorString(result));
}

class Bench {
 public:
  explicit Bench(const Comm& world)
      : world_(world),
        device_(Device::cuda(world.rank())),
        stream_(device_),
        memory_(cuda::PeerMemory::map(world, device_, cuda::peer_reduce_bytes(world.size()),
                                      obstacle_)),
        x_(zeros(largest_bytes)),
        residual_(zeros(largest_bytes)),
        out_(zeros(largest_bytes)),
        weight_(zeros(row_bytes)) {
    norm_.weight = weight_;
    cuda::use_device(device_);
    check(ncclCommInitRank(&nccl_, world.size(), shared_id(world), world.rank()));
    check(ncclMemAlloc(&symmetric_, largest_bytes));
    check(ncclCommWindowRegister(nccl_, symmetric_, largest_bytes, &window_,
                                 NCCL_WIN_COLL_SYMMETRIC));
    fill_bytes(symmetric_, 0, largest_bytes, stream_.stream());
    synchronize(stream_.stream());
  }
  ~Bench() {
    ncclCommWindowDeregister(nccl_, window_);
    ncclMemFree(symmetric_);
    ncclCommDestroy(nccl_);
  }

  void row(std::size_t bytes) {
    const auto rows = static_cast<std::int64_t>(bytes / row_bytes);
    const auto part = [&](const Tensor& tensor) {
      return tensor->slice(0, 0, rows * hidden).reshape({rows, hidden});
    };
    const TensorView x = part(x_);
    std::string line = fmt::format("{},{}", world_.size(), bytes);
    const auto column = [&](bool has, const std::function<void()>& call) {
      line += has ? fmt::format(",{:.2f}", time(bytes, call)) : ",";
    };
    const auto is_small = bytes <= (4U << 20U);
    const bool is_many = world_.size() > 2;
    column(true, [&] { all_reduce(x.data(), bytes); });
    column(true, [&] { all_reduce(symmetric_, bytes); });
    const auto own = [&](ReduceWay way) {
      cuda::peer_all_reduce(way, x, ReduceOp::sum, memory_->peers(), stream_.stream());
    };
    column(is_small, [&] { own(ReduceWay::words); });
    column(true, [&] { own(ReduceWay::one_shot); });
    column(is_many, [&] { own(ReduceWay::two_shot); });
    column(true, [&] { add_norm(part(out_), part(residual_), x, norm_, stream_.stream()); });
    column(true, [&] {
      all_reduce(x.data(), bytes);
      add_norm(part(out_), part(residual_), x, norm_, stream_.stream());
    });
    const auto joined = [&](ReduceWay way) {
      cuda::peer_all_reduce_add_norm(way, part(out_), part(residual_), x, norm_, memory_->peers(),
                                     stream_.stream());
    };
    column(is_small, [&] { joined(ReduceWay::words); });
    column(true, [&] { joined(ReduceWay::one_shot); });
    column(is_many, [&] { joined(ReduceWay::two_shot); });
    if (world_.rank() == 0) {
      fmt::print("{}\n", line);
      std::fflush(stdout);
    }
  }

  void run() {
    if (!memory_) throw UserError("no peer memory: {}", obstacle_);
    cudaDeviceProp properties{};
    cuda::cuda_check(cudaGetDeviceProperties(&properties, device_.index),
                     "cudaGetDeviceProperties");
    if (world_.rank() == 0) {
      fmt::print("# {} x {}, host {}, NCCL {}\n", world_.size(), properties.name, host_name(),
                 nccl_library());
      fmt::print(
          "# bf16, rows of {}; microseconds of one call when calls follow each other in a "
          "graph, on the slowest GPU, the best of 5 replays\n",
          hidden);
      fmt::print(
          "ranks,bytes,nccl,nccl_symmetric,words,one_shot,two_shot,add_norm,nccl_then_norm,"
          "words_norm,one_shot_norm,two_shot_norm\n");
    }
    for (std::size_t bytes = row_bytes; bytes <= largest_bytes; bytes *= 2) row(bytes);
  }

 private:
  Tensor zeros(std::size_t bytes) {
    Tensor tensor(DType::bf16, device_, {static_cast<std::int64_t>(bytes / 2)});
    fill_bytes(tensor->data(), 0, bytes, stream_.stream());
    return tensor;
  }
  void all_reduce(void* data, std::size_t bytes) {
    check(ncclAllReduce(data, data, bytes / 2, ncclBfloat16, ncclSum, nccl_,
                        cuda::native(stream_.stream())));
  }
  double time(std::size_t bytes, const std::function<void()>& call) {
    const int calls = bytes <= (1U << 20U) ? 50 : bytes <= (8U << 20U) ? 20 : 5;
    return cuda::graph_microseconds(world_, stream_.stream(), calls, 5, call);
  }

  const Comm& world_;
  Device device_;
  OwnedStream stream_;
  ncclComm_t nccl_ = nullptr;  // a blocking one: in NCCL 2.28.3 the others refuse to go on after
                               // a window was registered
  std::string obstacle_;
  std::unique_ptr<cuda::PeerMemory> memory_;
  Tensor x_, residual_, out_, weight_;
  NormWeights norm_;
  void* symmetric_ = nullptr;
  ncclWindow_t window_{};
};

void run(const Comm& world) {
  if (cuda_device_count() < world.size()) {
    throw UserError("{} ranks, {} CUDA devices", world.size(), cuda_device_count());
  }
  setenv("NCCL_NVLS_ENABLE", "0", 1);
  Bench(world).run();
  Comm bound = world.duplicate();
  bound.bind(Device::cuda(world.rank()), {.sums = true});
  if (world.rank() == 0) fmt::print("# chosen: {}\n", bound.describe_sums());
}

}  // namespace
}  // namespace millrace

int main() {
  const millrace::Environment environment;
  millrace::run(environment.world());
  return 0;
}
