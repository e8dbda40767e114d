// Comm: a communicator as a movable value. It owns its transport (a duplicated MPI communicator;
// the NCCL communicator made from it once a GPU is bound), so two Comms never mix their messages. A
// Comm of one rank does nothing and needs no MPI, so callers never ask whether they are
// distributed.
//
// Collectives are called by all ranks of the communicator in the same order. One thread at a time
// uses a Comm; different Comms may be used by different threads at once. Host memory goes through
// memory that the ranks of a host share, or over MPI; CUDA memory, in the stream's order, through
// peers' mapped memory or over NCCL (comm/README.md has the table). A failing transport throws
// std::runtime_error.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "comm/transport.hpp"

namespace millrace {

// One or several sends that may still read their data. Destroying it waits, except while the stack
// unwinds. It ends before its Comm does.
class SendHandle {
 public:
  SendHandle() = default;
  explicit SendHandle(std::unique_ptr<PendingSend> pending);

  bool done();
  void wait();
  // This handle stands for the other's sends too.
  void join(SendHandle other);

 private:
  std::vector<std::unique_ptr<PendingSend>> pending_;
};

class Comm {
 public:
  static constexpr int any_rank = -1;

  // The caller alone: rank 0 of 1.
  Comm() = default;
  explicit Comm(std::unique_ptr<HostTransport> host);
  // A Comm that was moved from is the caller alone.
  Comm(Comm&& other) noexcept { swap(other); }
  Comm& operator=(Comm&& other) noexcept {
    Comm taken(std::move(other));
    swap(taken);
    return *this;
  }

  int rank() const { return rank_; }
  int size() const { return size_; }

  // Other communicators; collective over this one (subgroup: over its members). None is bound to a
  // device: most carry host objects only, and each NCCL communicator takes memory of every GPU.
  Comm duplicate() const;
  Comm split(int color, int key) const;             // color < 0: the caller gets a Comm of its own
  Comm split_by_host() const;                       // ranks that share memory, in rank order
  Comm subgroup(std::span<const int> ranks) const;  // of this communicator's ranks, in that order

  // What carries tensors in the memory of the bound device: "shared memory", "MPI", "NCCL"; "none"
  // for one rank.
  std::string_view transport_name() const;
  // The ways that the bound device's transport chose from and to this rank; empty when it does not
  // tell.
  std::vector<Route> routes() const;

  // Which way sums in the bound device's memory take, by size, for the log. "" when there is only
  // one.
  std::string describe_sums() const;

  // Whether the bound device's transport keeps messages for their receiver
  // (TensorTransport::buffers_messages).
  bool buffers_messages() const;

  // Makes the communicator ready for memory of `device`; nothing to do for the CPU. Collective.
  void bind(Device device, const DeviceTraffic& traffic = {});

  // Tensors. All views are contiguous; a view of no elements is a no-op.
  //
  // x[i] = sum (max, min) over ranks of x[i]; f32, i32, i64. On the host f32 is summed in the order
  // of ranks, ((r0 + r1) + r2) + ..., so that the bits do not depend on sizes or timing.
  void all_reduce_sum(const TensorView& x, Stream stream) const;
  void all_reduce_max(const TensorView& x, Stream stream) const;
  void all_reduce_min(const TensorView& x, Stream stream) const;
  // For all_reduce_add_norm() (comm/all_reduce_add_norm.hpp), which is the one to call:
  // TensorTransport::all_reduce_add_norm, false when it was not done.
  bool try_all_reduce_add_norm(const LinearInput& out, const TensorView& residual,
                               const TensorView& x, const NormWeights& weights,
                               Stream stream) const;
  // For SumInParts (comm/split_sum.hpp): nullptr where sums in the memory of x's device are made at
  // once.
  SumCarrier* sum_carrier(const TensorView& x) const;
  // out is `in` of rank 0, 1, ...: out.numel() == size() * in.numel(), same dtype. `in` may be this
  // rank's part of `out`.
  void all_gather(const TensorView& out, const TensorView& in, Stream stream) const;
  void broadcast(const TensorView& x, int root, Stream stream) const;
  // Both sides know shape and dtype; messages between two ranks arrive in the order they were sent.
  // isend returns at once unless the receiver is tens of messages behind.
  void send(const TensorView& x, int peer, Stream stream) const;
  SendHandle isend(const TensorView& x, int peer, Stream stream) const;
  void recv(const TensorView& x, int peer, Stream stream) const;

  // Host objects.
  void barrier() const;
  void broadcast_bytes(Bytes& bytes, int root) const;
  // In rank order; empty on ranks other than root.
  std::vector<Bytes> gather_bytes(std::span<const std::byte> bytes, int root) const;
  std::vector<Bytes> all_gather_bytes(std::span<const std::byte> bytes) const;
  std::int64_t all_reduce_sum(std::int64_t value) const;
  std::int64_t all_reduce_max(std::int64_t value) const;
  std::int64_t all_reduce_min(std::int64_t value) const;

  // Messages of any length; 0 <= tag < 32,000. Receiving waits without burning a core.
  void send_bytes(std::span<const std::byte> bytes, int peer, int tag) const;
  SendHandle isend_bytes(Bytes bytes, int peer, int tag) const;
  Bytes receive_bytes(int peer, int tag) const;
  Message receive_message(int peer_or_any, int tag) const;
  std::optional<Message> try_receive(int peer_or_any, int tag) const;  // nullopt: none has arrived

 private:
  void swap(Comm& other) noexcept;
  TensorTransport& transport(const TensorView& view, std::string_view op) const;
  void reduce(const TensorView& x, ReduceOp op, Stream stream) const;
  std::int64_t reduce(std::int64_t value, ReduceOp op) const;
  void check_peer(std::string_view op, int peer) const;

  std::unique_ptr<HostTransport> host_;
  std::unique_ptr<TensorTransport> device_transport_;  // destroyed before the host's
  Device device_;
  int rank_ = 0;
  int size_ = 1;
};

// The seam for device memory: the transport of `device` among the ranks of `comm`, made over it.
namespace cpu {
std::unique_ptr<TensorTransport> make_device_transport(const Comm& comm, Device device,
                                                       const DeviceTraffic& traffic);  // nullptr
}
namespace cuda {
std::unique_ptr<TensorTransport> make_device_transport(const Comm& comm, Device device,
                                                       const DeviceTraffic& traffic);  // NCCL
}

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}
inline std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace millrace
