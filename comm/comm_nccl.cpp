#include "comm/comm_nccl.hpp"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "comm/agree.hpp"
#include "comm/hosts.hpp"
#include "comm/measure_reduce_cuda.hpp"
#include "comm/nccl_communicator.hpp"
#include "comm/nccl_log.hpp"
#include "comm/peer_channel.hpp"
#include "comm/peer_copies.hpp"
#include "comm/peer_memory.hpp"
#include "comm/peer_reduce.hpp"
#include "kernels/base/cuda_check.hpp"
#include "kernels/base/error.hpp"

namespace millrace::cuda {
namespace {

constexpr int arrival_tag = 31'000;
constexpr int gave_up_tag = 31'001;
// With more, sending all to all others is more than what NCCL's ring or two shots send.
constexpr int most_ranks_of_copies = 2;

ncclDataType_t data_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return ncclFloat32;
    case DType::f16:
      return ncclFloat16;
    case DType::bf16:
      return ncclBfloat16;
    case DType::fp8_e4m3:
      return ncclFloat8e4m3;
    case DType::u8:
      return ncclUint8;
    case DType::i32:
      return ncclInt32;
    case DType::i64:
      return ncclInt64;
  }
  return ncclUint8;
}

ncclRedOp_t reduction(ReduceOp op) {
  switch (op) {
    case ReduceOp::min:
      return ncclMin;
    case ReduceOp::max:
      return ncclMax;
    default:
      return ncclSum;
  }
}

std::size_t count_of(const TensorView& x) { return static_cast<std::size_t>(x.numel()); }

// NVLink multicast puts a host's GPUs out of service on some platforms when a job dies while it is
// in use; it is off unless the user asks for it, and where the environment forbids it.
void settle_environment(bool multicast) {
  if (!multicast) setenv("NCCL_NVLS_ENABLE", "0", /*overwrite=*/1);
  NcclLog::instance().open();
}

// Rank 0 hears from every rank before NCCL is entered, so that a rank that is missing has a name:
// inside NCCL all that can be seen is that somebody is.
void wait_for_arrivals(const Comm& comm, double limit_seconds) {
  const std::string host = host_name();
  if (comm.rank() != 0) return comm.send_bytes(as_bytes(host), 0, arrival_tag);
  std::vector<bool> arrived(static_cast<std::size_t>(comm.size()));
  arrived[0] = true;
  int missing = comm.size() - 1;
  const auto begin = std::chrono::steady_clock::now();
  while (missing > 0) {
    if (const std::optional<Message> message = comm.try_receive(Comm::any_rank, arrival_tag)) {
      arrived[static_cast<std::size_t>(message->source)] = true;
      --missing;
      continue;
    }
    const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - begin;
    if (waited.count() > limit_seconds) {
      std::string ranks;
      for (std::size_t rank = 0; rank < arrived.size(); ++rank) {
        if (!arrived[rank]) ranks += (ranks.empty() ? "" : ", ") + std::to_string(rank);
      }
      throw UserError(
          "NCCL: after {} seconds rank {} of the {} ranks of a communicator did not arrive",
          limit_seconds, ranks, comm.size());
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

// A rank that gets no memory, say, must not leave the others in NCCL, which waits for it.
void tell_that_it_gave_up(const Comm& comm) {
  for (int rank = 0; rank < comm.size(); ++rank) {
    if (rank != comm.rank()) comm.send_bytes({}, rank, gave_up_tag);
  }
}

class NcclTransport : public TensorTransport {
 public:
  NcclTransport(const ncclUniqueId& id, const Comm& comm, Device device, double init_seconds)
      : log_begin_(NcclLog::instance().size()),
        nccl_(id, comm.rank(), comm.size(), device, init_seconds,
              [&comm] { return comm.try_receive(Comm::any_rank, gave_up_tag).has_value(); }) {}

  // NCCL chooses ways and takes their memory when data first moves: that happens here and not in
  // the first step, so that it is known what was chosen and what is left. Collective.
  void connect(int rank, int size, Device device, double limit_seconds) {
    const OwnedStream stream(device);
    const Tensor out(DType::f32, device, {1});
    const Tensor in(DType::f32, device, {1});
    fill_bytes(out->data(), 0, out->bytes(), stream.stream());
    all_reduce(out, ReduceOp::sum, stream.stream());
    exchange(out, (rank + 1) % size, in, (rank + size - 1) % size, stream.stream());
    nccl_.wait("first exchange", stream.stream(), limit_seconds);
    nccl_.trust_others();
    routes_ = routes_in_nccl_log(NcclLog::instance().since(log_begin_));
  }

  std::string_view name() const override { return "NCCL"; }
  std::vector<Route> routes() const override { return routes_; }

  // Looks for peer memory, and measures when its kernels are worth it. Collective.
  void choose_ways(const Comm& comm, Device device) {
    chose_ways_ = true;
    peer_memory_ =
        PeerMemory::map(comm, device, peer_reduce_bytes(comm.size()), measured_.obstacle);
    if (!peer_memory_) return;
    const ReduceCalls calls{
        .all_reduce = [this](ReduceWay way, const TensorView& x,
                             Stream stream) { all_reduce_by(way, x, ReduceOp::sum, stream); },
        .all_reduce_add_norm =
            [this](ReduceWay way, const LinearInput& out, const TensorView& residual,
                   const TensorView& x, const NormWeights& weights, Stream stream) {
              if (way == ReduceWay::nccl) {
                all_reduce_by(way, x, ReduceOp::sum, stream);
                cuda::add_norm(out, residual, x, weights, stream);
              } else {
                peer_all_reduce_add_norm(way, out, residual, x, weights, peer_memory_->peers(),
                                         stream);
              }
            }};
    measured_ = measure_reduce(comm, device, calls);
  }

  // Looks for peer memory through which sums of many rows go beside products. Collective.
  void open_copies(const Comm& comm, Device device, std::size_t sum_bytes) {
    if (!peer_memory_ || comm.size() > most_ranks_of_copies) return;
    std::string obstacle;  // then all sums are made at once
    auto memory =
        PeerMemory::map(comm, device, PeerCopies::bytes(comm.size(), sum_bytes), obstacle);
    if (!memory) return;
    copies_.emplace(std::move(memory), device, sum_bytes);
    if (!copies_add_up(*copies_, comm, device)) copies_.reset();
  }

  // Looks for peer memory to pass messages through. Collective.
  void open_channel(const Comm& comm, Device device) {
    std::string obstacle;  // then NCCL carries all messages
    if (auto memory = PeerMemory::map(comm, device, PeerChannel::bytes(), obstacle)) {
      channel_.emplace(std::move(memory));
    }
  }

  std::string describe_sums() const override {
    if (!chose_ways_) return "";
    if (!measured_.obstacle.empty()) return "NCCL alone (" + measured_.obstacle + ")";
    return measured_.plain.describe() + "; with a norm: " + measured_.with_norm.describe() +
           (copies_ ? "; of many rows beside products, by copy engines" : "");
  }

  void all_reduce(const TensorView& x, ReduceOp op, Stream stream) override {
    const bool has_peers = peer_memory_ && peers_can_reduce(x, op);
    all_reduce_by(has_peers ? measured_.plain.way(x.bytes()) : ReduceWay::nccl, x, op, stream);
  }

  bool all_reduce_add_norm(const LinearInput& out, const TensorView& residual, const TensorView& x,
                           const NormWeights& weights, Stream stream) override {
    if (!peer_memory_ || !peers_can_reduce_add_norm(out, residual, x, weights)) return false;
    const ReduceWay way = measured_.with_norm.way(x.bytes());
    if (way == ReduceWay::nccl) return false;
    peer_all_reduce_add_norm(way, out, residual, x, weights, peer_memory_->peers(), stream);
    return true;
  }

  SumCarrier* sum_carrier() override { return copies_ ? &*copies_ : nullptr; }

  void all_reduce_by(ReduceWay way, const TensorView& x, ReduceOp op, Stream stream) {
    if (way != ReduceWay::nccl) {
      return peer_all_reduce(way, x, op, peer_memory_->peers(), stream);
    }
    nccl_.run("all_reduce", [&](ncclComm_t comm) {
      return ncclAllReduce(x.data(), x.data(), count_of(x), data_type(x.dtype()), reduction(op),
                           comm, native(stream));
    });
  }

  void all_gather(const TensorView& out, const TensorView& in, Stream stream) override {
    nccl_.run("all_gather", [&](ncclComm_t comm) {
      return ncclAllGather(in.data(), out.data(), count_of(in), data_type(in.dtype()), comm,
                           native(stream));
    });
  }

  void broadcast(const TensorView& x, int root, Stream stream) override {
    nccl_.run("broadcast", [&](ncclComm_t comm) {
      return ncclBroadcast(x.data(), x.data(), count_of(x), data_type(x.dtype()), root, comm,
                           native(stream));
    });
  }

  bool buffers_messages() const override { return channel_.has_value(); }

  // In the stream's order, so there is nothing to wait for on the host.
  std::unique_ptr<PendingSend> isend(const TensorView& x, int peer, Stream stream) override {
    if (channel_ && channel_->sends_to(peer)) {
      channel_->send(x, stream);
      return nullptr;
    }
    nccl_.run("send", [&](ncclComm_t comm) {
      return ncclSend(x.data(), count_of(x), data_type(x.dtype()), peer, comm, native(stream));
    });
    return nullptr;
  }

  void recv(const TensorView& x, int peer, Stream stream) override {
    if (channel_ && channel_->receives_from(peer)) return channel_->receive(x, stream);
    nccl_.run("recv", [&](ncclComm_t comm) {
      return ncclRecv(x.data(), count_of(x), data_type(x.dtype()), peer, comm, native(stream));
    });
  }

 private:
  // Both in one group: two ranks that send to each other would otherwise each wait for the other.
  void exchange(const TensorView& out, int to, const TensorView& in, int from, Stream stream) {
    nccl_.run("first exchange", [&](ncclComm_t comm) {
      ncclGroupStart();
      const ncclResult_t sent =
          ncclSend(out.data(), count_of(out), data_type(out.dtype()), to, comm, native(stream));
      const ncclResult_t received =
          ncclRecv(in.data(), count_of(in), data_type(in.dtype()), from, comm, native(stream));
      const ncclResult_t ended = ncclGroupEnd();
      if (sent != ncclSuccess && sent != ncclInProgress) return sent;
      if (received != ncclSuccess && received != ncclInProgress) return received;
      return ended;
    });
  }

  std::size_t log_begin_;
  NcclCommunicator nccl_;
  std::vector<Route> routes_;
  std::unique_ptr<PeerMemory> peer_memory_;  // none where GPUs cannot reach each other's memory
  MeasuredReduce measured_;
  bool chose_ways_ = false;
  std::optional<PeerCopies> copies_;
  std::optional<PeerChannel> channel_;
};

// On all ranks, or on none: then every rank throws a UserError, since it is the machines that are
// not as NCCL needs them.
std::unique_ptr<NcclTransport> connect_together(const Comm& comm, const ncclUniqueId& id,
                                                Device device, double limit_seconds) {
  try {
    return agree(comm, [&] {
      try {
        auto made = std::make_unique<NcclTransport>(id, comm, device, limit_seconds);
        made->connect(comm.rank(), comm.size(), device, limit_seconds);
        return made;
      } catch (...) {
        tell_that_it_gave_up(comm);
        throw;
      }
    });
  } catch (const PeerFailure& error) {
    throw PeerUserError("NCCL does not start: {}", error.what());
  } catch (const UserError&) {
    throw;
  } catch (const std::runtime_error& error) {
    throw UserError("NCCL does not start: {}", error.what());
  }
}

}  // namespace

std::unique_ptr<TensorTransport> make_nccl_transport(const Comm& comm, Device device,
                                                     const DeviceTraffic& traffic,
                                                     const NcclLimits& limits) {
  settle_environment(traffic.multicast);
  wait_for_arrivals(comm, limits.arrival_seconds);
  ncclUniqueId id{};
  Bytes bytes;
  agree(comm, [&] {
    if (comm.rank() != 0) return;
    const ncclResult_t result = ncclGetUniqueId(&id);
    if (result != ncclSuccess) {
      throw UserError("NCCL does not start: {}: {}", ncclGetErrorString(result),
                      ncclGetLastError(nullptr));
    }
    const std::span<const std::byte> raw = std::as_bytes(std::span(&id, 1));
    bytes.assign(raw.begin(), raw.end());
  });
  comm.broadcast_bytes(bytes, 0);
  std::memcpy(&id, bytes.data(), sizeof(id));
  auto transport = connect_together(comm, id, device, limits.init_seconds);
  if (traffic.sums) transport->choose_ways(comm, device);
  if (traffic.carried_sum_bytes > 0) {
    transport->open_copies(comm, device, traffic.carried_sum_bytes);
  }
  if (traffic.messages) transport->open_channel(comm, device);
  return transport;
}

std::unique_ptr<TensorTransport> make_device_transport(const Comm& comm, Device device,
                                                       const DeviceTraffic& traffic) {
  return make_nccl_transport(comm, device, traffic, NcclLimits());
}

}  // namespace millrace::cuda
