// One way of an all-reduce between GPUs, by size, alone and joined with the residual sum and the
// RMS norm. One rank a GPU. Rows are CSV: way, ranks, bytes, microseconds alone, microseconds with
// the norm; a process measures one way, so that one which fails takes no other's rows along.
// bench/comm/gpu_sums.sh runs them all:
//
//     bench/comm/gpu_sums.sh build/cuda-release 2 > bench/results/gpu_sums.csv
#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <nccl.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "comm/all_reduce_add_norm.hpp"
#include "comm/environment.hpp"
#include "comm/measure_reduce_cuda.hpp"
#include "comm/nccl_facts.hpp"
#include "comm/peer_memory.hpp"
#include "comm/peer_reduce.hpp"
#include "comm/split_sum.hpp"
#include "kernels/base/cuda_check.hpp"
#include "kernels/base/error.hpp"
#include "kernels/base/event.hpp"
#include "kernels/linear.hpp"
#include "kernels/linear_tuning.hpp"

namespace millrace {
namespace {

constexpr std::int64_t hidden = 4096;
constexpr std::size_t row_bytes = hidden * 2;
constexpr std::size_t largest_bytes = 64U << 20U;

void nccl_check(const char* call, ncclResult_t result, ncclComm_t comm) {
  if (result == ncclSuccess) return;
  const char* detail = comm == nullptr ? nullptr : ncclGetLastError(comm);
  throw std::runtime_error(fmt::format("{}: {}{}{}", call, ncclGetErrorString(result),
                                       detail == nullptr ? "" : ": ",
                                       detail == nullptr ? "" : detail));
}

class Bench {
 public:
  explicit Bench(const Comm& world)
      : world_(world), device_(Device::cuda(world.rank())), stream_(device_) {}

  Stream stream() const { return stream_.stream(); }
  Device device() const { return device_; }
  const Comm& world() const { return world_; }

  Tensor zeros(std::int64_t rows, std::int64_t columns) const {
    Tensor tensor(DType::bf16, device_, {rows, columns});
    fill_bytes(tensor->data(), 0, tensor->bytes(), stream());
    return tensor;
  }

  void say(const std::string& line) const {
    if (world_.rank() != 0) return;
    fmt::print("{}\n", line);
    std::fflush(stdout);
  }

  // Every size from one row on. `with_norm` may be empty.
  void rows(const std::string& way, std::size_t most_bytes,
            const std::function<void(std::size_t bytes)>& alone,
            const std::function<void(std::size_t bytes)>& with_norm) const {
    for (std::size_t bytes = row_bytes; bytes <= most_bytes; bytes *= 2) {
      const auto time = [&](const auto& call) {
        if (!call) return std::string();
        return fmt::format("{:.2f}", microseconds(bytes, [&] { call(bytes); }));
      };
      say(fmt::format("{},{},{},{},{}", way, world_.size(), bytes, time(alone), time(with_norm)));
    }
  }

 private:
  double microseconds(std::size_t bytes, const std::function<void()>& call) const {
    const int calls = bytes <= (1U << 20U) ? 50 : bytes <= (8U << 20U) ? 20 : 5;
    return cuda::graph_microseconds(world_, stream(), calls, 5, call);
  }

  const Comm& world_;
  Device device_;
  OwnedStream stream_;
};

// What a sum joined with the norm works on.
struct NormMemory {
  explicit NormMemory(const Bench& bench)
      : x(bench.zeros(largest_rows, hidden)),
        residual(bench.zeros(largest_rows, hidden)),
        out(bench.zeros(largest_rows, hidden)),
        weight(bench.zeros(1, hidden)) {
    norm.weight = weight->reshape({hidden});
  }
  static TensorView part(const Tensor& tensor, std::size_t bytes) {
    return tensor->slice(0, 0, static_cast<std::int64_t>(bytes / row_bytes));
  }

  static constexpr auto largest_rows = static_cast<std::int64_t>(largest_bytes / row_bytes);
  Tensor x, residual, out, weight;
  NormWeights norm;
};

// A communicator that blocks: in NCCL 2.28.3 the others refuse to go on after a window was
// registered. What fails is left to the process's end.
class Nccl {
 public:
  explicit Nccl(const Bench& bench) : stream_(cuda::native(bench.stream())) {
    const Comm& world = bench.world();
    ncclUniqueId id{};
    if (world.rank() == 0) nccl_check("ncclGetUniqueId", ncclGetUniqueId(&id), nullptr);
    const auto raw = std::as_bytes(std::span(&id, 1));
    Bytes bytes(raw.begin(), raw.end());
    world.broadcast_bytes(bytes, 0);
    std::memcpy(&id, bytes.data(), sizeof(id));
    nccl_check("ncclCommInitRank", ncclCommInitRank(&comm_, world.size(), id, world.rank()),
               nullptr);
  }

  // `bytes` that every rank has registered as one window.
  void* symmetric(std::size_t bytes) {
    void* memory = nullptr;
    ncclWindow_t window{};
    nccl_check("ncclMemAlloc", ncclMemAlloc(&memory, bytes), comm_);
    nccl_check("ncclCommWindowRegister",
               ncclCommWindowRegister(comm_, memory, bytes, &window, NCCL_WIN_COLL_SYMMETRIC),
               comm_);
    if (window == nullptr) throw std::runtime_error("ncclCommWindowRegister: gave no window");
    cuda::cuda_check(cudaMemsetAsync(memory, 0, bytes, stream_), "cudaMemsetAsync");
    return memory;
  }

  void all_reduce(void* data, std::size_t bytes) const {
    nccl_check("ncclAllReduce",
               ncclAllReduce(data, data, bytes / 2, ncclBfloat16, ncclSum, comm_, stream_), comm_);
  }

 private:
  cudaStream_t stream_;
  ncclComm_t comm_ = nullptr;
};

void nccl_rows(const Bench& bench, bool is_symmetric) {
  const NormMemory memory(bench);
  Nccl nccl(bench);
  void* const data = is_symmetric ? nccl.symmetric(largest_bytes) : memory.x->data();
  bench.rows(
      is_symmetric ? "nccl_symmetric" : "nccl", largest_bytes,
      [&](std::size_t bytes) { nccl.all_reduce(data, bytes); },
      [&](std::size_t bytes) {
        nccl.all_reduce(data, bytes);
        const auto rows = static_cast<std::int64_t>(bytes / row_bytes);
        const TensorView sum(data, DType::bf16, bench.device(), {rows, hidden});
        add_norm(memory.part(memory.out, bytes), memory.part(memory.residual, bytes), sum,
                 memory.norm, bench.stream());
      });
}

void own_rows(const Bench& bench, const std::string& name, ReduceWay way) {
  std::string obstacle;
  const Comm& world = bench.world();
  const auto peers =
      cuda::PeerMemory::map(world, bench.device(), cuda::peer_reduce_bytes(world.size()), obstacle);
  if (!peers) throw UserError("no peer memory: {}", obstacle);
  const NormMemory memory(bench);
  const auto part = NormMemory::part;
  bench.rows(
      name, way == ReduceWay::words ? 4U << 20U : largest_bytes,
      [&](std::size_t bytes) {
        cuda::peer_all_reduce(way, part(memory.x, bytes), ReduceOp::sum, peers->peers(),
                              bench.stream());
      },
      [&](std::size_t bytes) {
        cuda::peer_all_reduce_add_norm(way, part(memory.out, bytes), part(memory.residual, bytes),
                                       part(memory.x, bytes), memory.norm, peers->peers(),
                                       bench.stream());
      });
}

void norm_rows(const Bench& bench) {
  const NormMemory memory(bench);
  const auto part = NormMemory::part;
  bench.rows("norm_alone", largest_bytes, nullptr, [&](std::size_t bytes) {
    add_norm(part(memory.out, bytes), part(memory.residual, bytes), part(memory.x, bytes),
             memory.norm, bench.stream());
  });
}

// A product of 8B's down projection on two ranks and the sum after it, again and again: as a whole,
// in halves whose sums are carried beside the products, and the product alone. The first column is
// without the sum.
void product_rows(const Bench& bench) {
  constexpr std::int64_t inner = 7168;
  constexpr int calls = 20;
  const std::size_t carried = SumInParts::largest_part_bytes(NormMemory::largest_rows, row_bytes);
  Comm comm = bench.world().duplicate();
  comm.bind(bench.device(), {.sums = true, .carried_sum_bytes = carried});
  bench.say("# chosen: " + comm.describe_sums());
  const NormMemory memory(bench);
  const Tensor input = bench.zeros(NormMemory::largest_rows, inner);
  const LinearWeight weight =
      pack_linear(bench.zeros(hidden, inner), bench.device(), bench.stream());
  Event begin(bench.device(), Event::Kind::timed);
  Event end(bench.device(), Event::Kind::timed);
  const auto time = [&](const std::function<void()>& call) {
    double best = 0;
    for (int round = 0; round < 4; ++round) {  // the first one warms up
      bench.world().barrier();
      begin.record(bench.stream());
      for (int i = 0; i < calls; ++i) call();
      end.record(bench.stream());
      end.wait();
      const double seconds = end.seconds_since(begin);
      if (round == 1 || (round > 1 && seconds < best)) best = seconds;
    }
    const auto slowest =
        bench.world().all_reduce_max(static_cast<std::int64_t>(best * 1e9 / calls));
    return static_cast<double>(slowest) / 1000;
  };
  for (std::size_t bytes = 16U << 20U; bytes <= largest_bytes; bytes *= 2) {
    const Stream stream = bench.stream();
    const auto rows = static_cast<std::int64_t>(bytes / row_bytes);
    tune_linear(weight, DType::bf16, false, false, {rows, rows / 2}, stream);
    const TensorView x = input->slice(0, 0, rows);
    const TensorView sum = memory.x->slice(0, 0, rows);
    const TensorView residual = memory.residual->slice(0, 0, rows);
    const TensorView out = memory.out->slice(0, 0, rows);
    const double product = time([&] { linear(sum, x, weight, {}, false, stream); });
    const double whole = time([&] {
      linear(sum, x, weight, {}, false, stream);
      all_reduce_add_norm(comm, out, residual, sum, memory.norm, stream);
    });
    SumInParts sums(comm, sum, stream);
    const double halves = time([&] {
      for (const auto& part : sums.parts()) {
        sums.wait_for(part, stream);
        linear(part.of(sum), part.of(x), weight, {}, false, stream);
        sums.add(part, part.of(out), part.of(residual), part.of(sum), memory.norm, stream);
      }
    });
    for (const auto& part : sums.parts()) sums.wait_for(part, stream);
    bench.say(fmt::format("product_whole,{},{},{:.2f},{:.2f}", comm.size(), bytes, product, whole));
    bench.say(fmt::format("product_in_{}_parts,{},{},{:.2f},{:.2f}", sums.parts().size(),
                          comm.size(), bytes, product, halves));
  }
  synchronize(bench.stream());
}

void run(const Comm& world, const std::string& way) {
  if (cuda_device_count() < world.size()) {
    throw UserError("{} ranks, {} CUDA devices", world.size(), cuda_device_count());
  }
  setenv("NCCL_NVLS_ENABLE", "0", 1);
  const Bench bench(world);
  if (way == "nccl") {
    cudaDeviceProp properties{};
    cuda::cuda_check(cudaGetDeviceProperties(&properties, bench.device().index),
                     "cudaGetDeviceProperties");
    bench.say(fmt::format("# {} x {}, NCCL {}", world.size(), properties.name, nccl_library()));
    bench.say(fmt::format(
        "# bf16, rows of {}; microseconds of one call when calls follow each other in a graph "
        "(products: on a stream), on the slowest GPU, the best of 5 (3)",
        hidden));
    bench.say("way,ranks,bytes,alone,with_norm");
    return nccl_rows(bench, false);
  }
  if (way == "nccl_symmetric") return nccl_rows(bench, true);
  if (way == "words") return own_rows(bench, way, ReduceWay::words);
  if (way == "one_shot") return own_rows(bench, way, ReduceWay::one_shot);
  if (way == "two_shot") return own_rows(bench, way, ReduceWay::two_shot);
  if (way == "norm") return norm_rows(bench);
  if (way == "product") return product_rows(bench);
  throw UserError("'{}' is none of nccl, nccl_symmetric, words, one_shot, two_shot, norm, product",
                  way);
}

}  // namespace
}  // namespace millrace

int main(int argc, char** argv) {
  const millrace::Environment environment;
  try {
    millrace::run(environment.world(), argc > 1 ? argv[1] : "");
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "bench_gpu_sums: {}\n", error.what());
    std::fflush(stdout);
    std::_Exit(1);  // the other ranks may be waiting: nothing is torn down in order
  }
}
