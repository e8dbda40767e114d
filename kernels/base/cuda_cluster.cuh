// A row that a cluster of blocks shares (Hopper): many small blocks hide each other's loads and
// sums, and few rows have more of the device than a block each.
#pragma once

#include <cstdint>

#include "kernels/base/cuda_launch.cuh"
#include "kernels/base/cuda_types.cuh"

namespace millrace::cuda {

constexpr int row_cluster = 4;  // blocks
// Of a block, at most: a lane for each warp of the cluster.
constexpr int row_cluster_threads = warp_size * warp_size / row_cluster;

inline bool has_clusters(Device device) { return compute_capability(device) >= 90; }

// launch_early() of clusters; the grid is a multiple of row_cluster.
template <typename... Parameters, typename... Arguments>
void launch_clusters_early(const char* name, void (*kernel)(Parameters...),
                           const LaunchShape& shape, Stream stream, Arguments&&... arguments) {
  cudaLaunchAttribute attributes[2]{};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim.x = row_cluster;
  attributes[1].val.clusterDim.y = 1;
  attributes[1].val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = native(stream);
  config.attrs = attributes;
  config.numAttrs = 2;
  cuda_check(cudaLaunchKernelEx(&config, kernel, static_cast<Arguments&&>(arguments)...), name);
}

// The largest of numbers that are not negative over a cluster; NaN when one is NaN. Each warp sends
// its own to all blocks, whose barriers count what arrives: no fence, no second barrier.
class ClusterLargest {
 public:
  struct Shared {
    std::uint32_t values[warp_size];  // the bits of one for each warp of the cluster
    std::uint64_t barrier;
  };

  // All threads of the cluster make one and call end().
  __device__ explicit ClusterLargest(Shared& shared)
      : values_(address_of(shared.values)), barrier_(address_of(&shared.barrier)) {
#if __CUDA_ARCH__ >= 900
    if (threadIdx.x == 0) {
      asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier_) : "memory");
      asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
      asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier_),
                   "r"(cluster_warps() * static_cast<int>(sizeof(std::uint32_t)))
                   : "memory");
    }
    __syncwarp();
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
#endif
  }

  // Called by all threads or by none, once.
  __device__ float operator()(float value) {
#if __CUDA_ARCH__ >= 900
    const auto warps = static_cast<int>(blockDim.x) / warp_size;
    const int warp = static_cast<int>(blockIdx.x) % row_cluster * warps +
                     static_cast<int>(threadIdx.x) / warp_size;
    const int lane = static_cast<int>(threadIdx.x) % warp_size;
    const std::uint32_t own = __reduce_max_sync(0xffffffffU, __float_as_uint(value));
    wait_for_others();
    if (lane < row_cluster) {
      asm volatile(
          "{ .reg .b32 to, barrier;\n"
          "mapa.shared::cluster.u32 to, %0, %2;\n"
          "mapa.shared::cluster.u32 barrier, %1, %2;\n"
          "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.u32 [to], %3, [barrier]; }" ::
              "r"(values_ + static_cast<std::uint32_t>(warp * 4)),
          "r"(barrier_), "r"(lane), "r"(own)
          : "memory");
    }
    std::uint32_t all_there = 0;
    while (all_there == 0) {
      asm volatile(
          "{ .reg .pred p;\n"
          "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], 0;\n"
          "selp.u32 %0, 1, 0, p; }"
          : "=r"(all_there)
          : "r"(barrier_)
          : "memory");
    }
    std::uint32_t other = 0;
    if (lane < cluster_warps()) {
      asm volatile("ld.shared.u32 %0, [%1];"
                   : "=r"(other)
                   : "r"(values_ + static_cast<std::uint32_t>(lane * 4))
                   : "memory");
    }
    value = __uint_as_float(__reduce_max_sync(0xffffffffU, other));
#endif
    return value;
  }

  __device__ void end() { wait_for_others(); }

 private:
  static __device__ std::uint32_t address_of(const void* shared) {
    return static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  }
  static __device__ int cluster_warps() {
    return row_cluster * static_cast<int>(blockDim.x) / warp_size;
  }
  // Until they run and their barriers are made.
  __device__ void wait_for_others() {
#if __CUDA_ARCH__ >= 900
    if (!they_run_) asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
    they_run_ = true;
#endif
  }

  std::uint32_t values_;
  std::uint32_t barrier_;
  bool they_run_ = false;
};

}  // namespace millrace::cuda
