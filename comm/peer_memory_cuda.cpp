#include "comm/peer_memory.hpp"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <cstring>
#include <exception>
#include <new>
#include <stdexcept>

#include "kernels/base/cuda_check.hpp"

namespace millrace::cuda {
namespace {

// "" or what went wrong; the error is not left behind for later calls to find.
std::string problem(const char* call, cudaError_t error) {
  if (error == cudaSuccess) return "";
  cudaGetLastError();
  return fmt::format("{}: {}", call, cudaGetErrorString(error));
}

// The first of the ranks' problems, the same on all ranks; "" when no rank has one.
std::string first_problem(const Comm& comm, const std::string& mine) {
  const std::vector<Bytes> all = comm.all_gather_bytes(as_bytes(mine));
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    if (!all[rank].empty()) return fmt::format("rank {}: {}", rank, as_text(all[rank]));
  }
  return "";
}

}  // namespace

PeerMemory::PeerMemory(const Comm& comm, Device device)
    : comm_(comm.duplicate()), device_(device), exceptions_at_start_(std::uncaught_exceptions()) {
  peers_.rank = comm.rank();
  peers_.size = comm.size();
}

std::unique_ptr<PeerMemory> PeerMemory::map(const Comm& comm, Device device, std::size_t bytes,
                                            std::string& obstacle) {
  if (comm.size() > max_peers) {
    obstacle = fmt::format("{} ranks", comm.size());
    return nullptr;
  }
  if (comm.all_reduce_min(comm.split_by_host().size()) < comm.size()) {
    obstacle = "the ranks are on several hosts";
    return nullptr;
  }
  std::unique_ptr<PeerMemory> memory(new PeerMemory(comm, device));
  std::string mine = memory->allocate(bytes);
  cudaIpcMemHandle_t handle{};
  if (mine.empty()) {
    mine = problem("cudaIpcGetMemHandle",
                   cudaIpcGetMemHandle(&handle, memory->peers_.bases[comm.rank()]));
  }
  const std::vector<Bytes> handles = comm.all_gather_bytes(std::as_bytes(std::span(&handle, 1)));
  obstacle = first_problem(comm, mine);
  if (obstacle.empty()) obstacle = first_problem(comm, memory->open(handles));
  if (!obstacle.empty()) return nullptr;
  return memory;
}

std::string PeerMemory::allocate(std::size_t bytes) {
  use_device(device_);
  void* alarm = nullptr;
  if (std::string e = problem("cudaMallocHost", cudaMallocHost(&alarm, sizeof(PeerAlarm)));
      !e.empty()) {
    return e;
  }
  peers_.alarm = new (alarm) PeerAlarm;
  void* data = nullptr;
  if (std::string e = problem("cudaMalloc", cudaMalloc(&data, bytes)); !e.empty()) return e;
  peers_.bases[comm_.rank()] = static_cast<std::byte*>(data);
  if (std::string e = problem("cudaMemset", cudaMemset(data, 0, bytes)); !e.empty()) return e;
  return problem("cudaDeviceSynchronize", cudaDeviceSynchronize());
}

std::string PeerMemory::open(const std::vector<Bytes>& handles) {
  for (int rank = 0; rank < comm_.size(); ++rank) {
    if (rank == comm_.rank()) continue;
    cudaIpcMemHandle_t handle{};
    std::memcpy(&handle, handles[static_cast<std::size_t>(rank)].data(), sizeof(handle));
    void* data = nullptr;
    const cudaError_t error = cudaIpcOpenMemHandle(&data, handle, cudaIpcMemLazyEnablePeerAccess);
    if (std::string e = problem("cudaIpcOpenMemHandle", error); !e.empty()) {
      return fmt::format("memory of rank {}: {}", rank, e);
    }
    peers_.bases[rank] = static_cast<std::byte*>(data);
  }
  return "";
}

PeerMemory::~PeerMemory() {
  if (std::uncaught_exceptions() > exceptions_at_start_) {
    if (peers_.alarm != nullptr) stop();
    return;
  }
  // Nobody may free what another still writes to: all are done, then all let go, then each frees.
  use_device(device_);
  cudaDeviceSynchronize();
  comm_.barrier();
  for (int rank = 0; rank < comm_.size(); ++rank) {
    if (rank != comm_.rank() && peers_.bases[rank] != nullptr) {
      cudaIpcCloseMemHandle(peers_.bases[rank]);
    }
  }
  comm_.barrier();
  cudaFree(peers_.bases[comm_.rank()]);
  cudaFreeHost(peers_.alarm);
}

const Peers& PeerMemory::peers() const {
  if (peers_.alarm->silent_rank != 0) {
    throw std::runtime_error(
        fmt::format("rank {} took no part in an exchange between {} GPUs that rank {} waited for",
                    peers_.alarm->silent_rank - 1, peers_.size, peers_.rank));
  }
  return peers_;
}

}  // namespace millrace::cuda
