// What moves data between the ranks of one communicator. Comm checks arguments and decides which
// transport serves a view; a transport may assume that views are contiguous and fit together, that
// peers are in range and not the caller, and that there are at least two ranks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "comm/reduce_way.hpp"
#include "kernels/base/stream.hpp"
#include "kernels/base/tensor.hpp"

namespace millrace {

using Bytes = std::vector<std::byte>;

struct LinearInput;  // kernels/linear_input.hpp
struct NormWeights;  // kernels/norm.hpp

// What a communicator is to carry in a device's memory besides what it always can: what is asked
// for here takes memory, and sums some tenths of a second of measuring.
struct DeviceTraffic {
  bool sums = false;  // all-reduces by the fastest way
  // The largest sum that may be carried while products run (comm/split_sum.hpp); 0: none.
  std::size_t carried_sum_bytes = 0;
  bool messages = false;   // to the next rank, past a receiver that is not there yet
  bool multicast = false;  // NCCL may let the NVLink switches add (NVLS)
};

// A message as it arrived.
struct Message {
  int source = 0;
  Bytes bytes;
};

// The way that one rank's data takes to another's, as the library that chose it names it:
// "P2P/CUMEM/read", "NET/IB/0/GDRDMA" (comm/link_kind.hpp).
struct Route {
  int from = 0;
  int to = 0;
  std::string way;
};

// A send under way. Destroying it before it is done waits for it, except while the stack unwinds.
class PendingSend {
 public:
  virtual ~PendingSend() = default;
  virtual bool done() = 0;
  virtual void wait() = 0;
};

// Sums joined with the norm, in two calls between which the parts are carried beside what the
// stream does. At most two are under way; they end in the order in which they began.
class SumCarrier {
 public:
  virtual ~SumCarrier() = default;
  // Whether this rank's part [tokens, hidden] can be; the same on all ranks.
  virtual bool can_carry(const TensorView& x, Stream stream) const = 0;
  // Sends this rank's part once the stream has come so far. `x` must stay as it is until the stream
  // has come to the sum's end. Throws std::logic_error for what it cannot carry, and for a third
  // sum under way.
  virtual void begin(const TensorView& x, Stream stream) = 0;
  // The oldest sum under way, of that `x`: residual += sum of x over ranks, out = norm(residual).
  virtual void end_add_norm(const LinearInput& out, const TensorView& residual, const TensorView& x,
                            const NormWeights& weights, Stream stream) = 0;
};

// Moves tensors that live in one kind of memory. The order of calls is the same on all ranks.
class TensorTransport {
 public:
  virtual ~TensorTransport() = default;
  virtual std::string_view name() const = 0;  // for the report: "shared memory", "MPI", "NCCL"
  // The ways from and to this rank, of those ranks that it has talked to; empty when the transport
  // does not tell.
  virtual std::vector<Route> routes() const { return {}; }
  virtual void all_reduce(const TensorView& x, ReduceOp op, Stream stream) = 0;
  // residual += sum of x over ranks, out = norm(residual), in one go; x is left in any state. False
  // when it is not to be had, or not worth it for this size: then nothing was done.
  virtual bool all_reduce_add_norm(const LinearInput&, const TensorView&, const TensorView&,
                                   const NormWeights&, Stream) {
    return false;
  }
  // nullptr: sums are made at once.
  virtual SumCarrier* sum_carrier() { return nullptr; }
  // For the log: which way sums take, by size. "" when there is only one.
  virtual std::string describe_sums() const { return ""; }
  virtual void all_gather(const TensorView& out, const TensorView& in, Stream stream) = 0;
  virtual void broadcast(const TensorView& x, int root, Stream stream) = 0;
  // A message to the next rank, or from the last to the first, waits in the receiver's memory, so
  // that the sender goes on before the receiver has come to it.
  virtual bool buffers_messages() const { return false; }
  // nullptr: the send is already done, or is ordered by the stream.
  virtual std::unique_ptr<PendingSend> isend(const TensorView& x, int peer, Stream stream) = 0;
  virtual void recv(const TensorView& x, int peer, Stream stream) = 0;
};

// The transport every communicator has: tensors in host memory, byte messages, and the making of
// other communicators.
class HostTransport : public TensorTransport {
 public:
  virtual int rank() const = 0;
  virtual int size() const = 0;
  // nullptr stands for a communicator of the caller alone.
  virtual std::unique_ptr<HostTransport> duplicate() = 0;
  virtual std::unique_ptr<HostTransport> split(int color, int key) = 0;
  virtual std::unique_ptr<HostTransport> split_by_host() = 0;
  virtual std::unique_ptr<HostTransport> subgroup(std::span<const int> ranks) = 0;

  virtual void barrier() = 0;
  virtual void broadcast_bytes(Bytes& bytes, int root) = 0;
  virtual std::vector<Bytes> gather_bytes(std::span<const std::byte> bytes, int root) = 0;
  virtual std::vector<Bytes> all_gather_bytes(std::span<const std::byte> bytes) = 0;
  virtual std::int64_t all_reduce_value(std::int64_t value, ReduceOp op) = 0;

  // The message's bytes live in the handle until it is sent.
  virtual std::unique_ptr<PendingSend> isend_bytes(Bytes bytes, int peer, int tag) = 0;
  virtual Message receive(int source, int tag) = 0;
  virtual std::optional<Message> try_receive(int source, int tag) = 0;
};

}  // namespace millrace
