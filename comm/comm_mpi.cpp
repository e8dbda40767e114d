#include "comm/comm_mpi.hpp"

#include <mpi.h>

#include <array>
#include <chrono>
#include <exception>

#include "comm/backoff.hpp"
#include "comm/mpi_check.hpp"
#include "comm/mpi_reducer.hpp"
#include "comm/mpi_send.hpp"
#include "comm/mpi_wait.hpp"
#include "comm/send_progress.hpp"
#include "comm/shared_exchange.hpp"
#include "kernels/base/check.hpp"

namespace millrace {
namespace {

// Tensors use tag 0, byte messages tag + 1.
constexpr int tensor_tag = 0;
// Any MPI sends so little at once, without waiting for the receiver.
constexpr std::size_t eager_bytes = 2048;

class MpiTransport final : public HostTransport {
 public:
  // Takes ownership. `host` is the same number on all ranks of a host.
  MpiTransport(MPI_Comm comm, int host, bool may_share_memory)
      : comm_(comm), host_(host), may_share_memory_(may_share_memory), reducer_(comm) {
    check_mpi(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    check_mpi(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
    check_mpi(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
  }
  ~MpiTransport() override {
    int finalized = 0;
    MPI_Finalized(&finalized);
    progress_.reset();
    // Freeing is collective; while one rank unwinds, the others may never come.
    if (finalized == 0 && std::uncaught_exceptions() == 0) MPI_Comm_free(&comm_);
  }
  MpiTransport(const MpiTransport&) = delete;
  MpiTransport& operator=(const MpiTransport&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  // Makes the way through shared memory when all ranks are on one host. Collective.
  void share_memory() {
    if (size_ == 1 || !may_share_memory_) return;
    std::array<int, 2> extremes = {host_, -host_};
    check_mpi(MPI_Allreduce(MPI_IN_PLACE, extremes.data(), 2, MPI_INT, MPI_MAX, comm_),
              "MPI_Allreduce");
    if (extremes[0] == -extremes[1]) shared_ = SharedExchange::make(*this);
  }

  std::string_view name() const override { return shared_ ? "shared memory" : "MPI"; }

  std::unique_ptr<HostTransport> duplicate() override {
    MPI_Comm copy = MPI_COMM_NULL;
    check_mpi(MPI_Comm_dup(comm_, &copy), "MPI_Comm_dup");
    return own(copy);
  }
  std::unique_ptr<HostTransport> split(int color, int key) override {
    MPI_Comm part = MPI_COMM_NULL;
    check_mpi(MPI_Comm_split(comm_, color < 0 ? MPI_UNDEFINED : color, key, &part),
              "MPI_Comm_split");
    return own(part);
  }
  std::unique_ptr<HostTransport> split_by_host() override {
    MPI_Comm part = MPI_COMM_NULL;
    check_mpi(MPI_Comm_split_type(comm_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &part),
              "MPI_Comm_split_type");
    return own(part);
  }
  std::unique_ptr<HostTransport> subgroup(std::span<const int> ranks) override {
    MPI_Group all = MPI_GROUP_NULL;
    MPI_Group members = MPI_GROUP_NULL;
    MPI_Comm part = MPI_COMM_NULL;
    check_mpi(MPI_Comm_group(comm_, &all), "MPI_Comm_group");
    check_mpi(MPI_Group_incl(all, static_cast<int>(ranks.size()), ranks.data(), &members),
              "MPI_Group_incl");
    check_mpi(MPI_Comm_create_group(comm_, members, 0, &part), "MPI_Comm_create_group");
    MPI_Group_free(&members);
    MPI_Group_free(&all);
    return own(part);
  }

  void all_reduce(const TensorView& x, ReduceOp op, Stream) override {
    switch (x.dtype()) {
      case DType::f32:
        return reduce<float>(x, op);
      case DType::i32:
        return reduce<std::int32_t>(x, op);
      case DType::i64:
        return reduce<std::int64_t>(x, op);
      default:
        check(false, "all_reduce", "no host sum of " + x.describe());
    }
  }

  void all_gather(const TensorView& out, const TensorView& in, Stream) override {
    if (shared_) {
      shared_->all_gather(bytes_of(out), bytes_of(in), in.bytes());
      return;
    }
    auto* mine = static_cast<std::byte*>(out.data()) + in.bytes() * static_cast<std::size_t>(rank_);
    const bool in_place = in.data() == mine;
    const int count = mpi_count(in.bytes(), "all_gather");
    check_mpi(MPI_Allgather(in_place ? MPI_IN_PLACE : in.data(), count, MPI_BYTE, out.data(), count,
                            MPI_BYTE, comm_),
              "MPI_Allgather");
  }

  void broadcast(const TensorView& x, int root, Stream) override {
    if (shared_) {
      shared_->broadcast(bytes_of(x), x.bytes(), root);
      return;
    }
    in_mpi_pieces(x.data(), x.bytes(), [&](std::byte* piece, int count) {
      check_mpi(MPI_Bcast(piece, count, MPI_BYTE, root, comm_), "MPI_Bcast");
    });
  }

  std::unique_ptr<PendingSend> isend(const TensorView& x, int peer, Stream) override {
    if (shared_) {
      shared_->send(bytes_of(x), x.bytes(), peer);
      return nullptr;
    }
    return std::make_unique<MpiSend>(x, peer, tensor_tag, comm_, progress_for(x.bytes()));
  }

  void recv(const TensorView& x, int peer, Stream) override {
    if (shared_) {
      shared_->recv(bytes_of(x), x.bytes(), peer);
      return;
    }
    in_mpi_pieces(x.data(), x.bytes(), [&](std::byte* piece, int count) {
      MPI_Request request = MPI_REQUEST_NULL;
      check_mpi(MPI_Irecv(piece, count, MPI_BYTE, peer, tensor_tag, comm_, &request), "MPI_Irecv");
      wait_for(request, std::chrono::microseconds(200));
    });
  }

  // Host objects: ranks may come minutes apart, so all of these wait by sleeping.
  void barrier() override {
    run_to_end("MPI_Ibarrier", [&](MPI_Request* request) { return MPI_Ibarrier(comm_, request); });
  }

  void broadcast_bytes(Bytes& bytes, int root) override {
    auto length = static_cast<std::int64_t>(bytes.size());
    run_to_end("MPI_Ibcast", [&](MPI_Request* request) {
      return MPI_Ibcast(&length, 1, MPI_INT64_T, root, comm_, request);
    });
    bytes.resize(static_cast<std::size_t>(length));
    in_mpi_pieces(bytes.data(), bytes.size(), [&](std::byte* piece, int count) {
      run_to_end("MPI_Ibcast", [&](MPI_Request* request) {
        return MPI_Ibcast(piece, count, MPI_BYTE, root, comm_, request);
      });
    });
  }

  std::vector<Bytes> gather_bytes(std::span<const std::byte> bytes, int root) override {
    const int mine = mpi_count(bytes.size(), "gather_bytes");
    std::vector<int> counts(rank_ == root ? static_cast<std::size_t>(size_) : 0);
    run_to_end("MPI_Igather", [&](MPI_Request* request) {
      return MPI_Igather(&mine, 1, MPI_INT, counts.data(), 1, MPI_INT, root, comm_, request);
    });
    std::vector<int> starts;
    Bytes all(rank_ == root ? total(counts, starts) : 0);
    run_to_end("MPI_Igatherv", [&](MPI_Request* request) {
      return MPI_Igatherv(bytes.data(), mine, MPI_BYTE, all.data(), counts.data(), starts.data(),
                          MPI_BYTE, root, comm_, request);
    });
    if (rank_ != root) return {};
    return cut(all, counts);
  }

  std::vector<Bytes> all_gather_bytes(std::span<const std::byte> bytes) override {
    const std::vector<int> counts = all_counts(bytes.size());
    std::vector<int> starts;
    Bytes all(total(counts, starts));
    run_to_end("MPI_Iallgatherv", [&](MPI_Request* request) {
      return MPI_Iallgatherv(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, all.data(),
                             counts.data(), starts.data(), MPI_BYTE, comm_, request);
    });
    return cut(all, counts);
  }

  std::int64_t all_reduce_value(std::int64_t value, ReduceOp op) override {
    if (shared_) {
      shared_->all_reduce(&value, 1, op);
      return value;
    }
    std::int64_t result = 0;
    run_to_end("MPI_Iallreduce", [&](MPI_Request* request) {
      return MPI_Iallreduce(&value, &result, 1, MPI_INT64_T, mpi_op(op), comm_, request);
    });
    return result;
  }

  std::unique_ptr<PendingSend> isend_bytes(Bytes bytes, int peer, int tag) override {
    SendProgress* const progress = progress_for(bytes.size());
    return std::make_unique<MpiSend>(std::move(bytes), peer, tag + 1, comm_, progress);
  }

  std::optional<Message> try_receive(int source, int tag) override {
    int arrived = 0;
    MPI_Message message = MPI_MESSAGE_NULL;
    MPI_Status status;
    check_mpi(MPI_Improbe(source == Comm::any_rank ? MPI_ANY_SOURCE : source, tag + 1, comm_,
                          &arrived, &message, &status),
              "MPI_Improbe");
    if (arrived == 0) return std::nullopt;
    int count = 0;
    check_mpi(MPI_Get_count(&status, MPI_BYTE, &count), "MPI_Get_count");
    Message result{status.MPI_SOURCE, Bytes(static_cast<std::size_t>(count))};
    MPI_Request request = MPI_REQUEST_NULL;
    check_mpi(MPI_Imrecv(result.bytes.data(), count, MPI_BYTE, &message, &request), "MPI_Imrecv");
    wait_for(request, std::chrono::microseconds(200));
    return result;
  }

  Message receive(int source, int tag) override {
    Backoff backoff(std::chrono::milliseconds(1));
    while (true) {
      if (auto message = try_receive(source, tag)) return std::move(*message);
      backoff.pause();
    }
  }

 private:
  // Of this transport's kind, for a communicator of some of its ranks. Collective over them.
  std::unique_ptr<HostTransport> own(MPI_Comm comm) const {
    if (comm == MPI_COMM_NULL) return nullptr;
    auto transport = std::make_unique<MpiTransport>(comm, host_, may_share_memory_);
    transport->share_memory();
    return transport;
  }

  static std::byte* bytes_of(const TensorView& x) { return static_cast<std::byte*>(x.data()); }

  std::vector<int> all_counts(std::size_t bytes) const {
    const int mine = mpi_count(bytes, "gather_bytes");
    std::vector<int> counts(static_cast<std::size_t>(size_));
    run_to_end("MPI_Iallgather", [&](MPI_Request* request) {
      return MPI_Iallgather(&mine, 1, MPI_INT, counts.data(), 1, MPI_INT, comm_, request);
    });
    return counts;
  }

  static std::size_t total(const std::vector<int>& counts, std::vector<int>& starts) {
    std::size_t sum = 0;
    for (const int count : counts) {
      starts.push_back(static_cast<int>(sum));
      sum += static_cast<std::size_t>(count);
      check(sum <= mpi_piece_bytes, "gather_bytes", "the gathered bytes are more than 1 GiB");
    }
    return sum;
  }

  static std::vector<Bytes> cut(const Bytes& all, const std::vector<int>& counts) {
    std::vector<Bytes> parts;
    auto at = all.begin();
    for (const int count : counts) {
      parts.emplace_back(at, at + count);
      at += count;
    }
    return parts;
  }

  template <typename T>
  void reduce(const TensorView& x, ReduceOp op) {
    const auto count = static_cast<std::size_t>(x.numel());
    if (shared_) return shared_->all_reduce(x.as<T>(), count, op);
    reducer_.reduce(x.as<T>(), count, op);
  }

  // The thread that moves a send of so many bytes along, made for the first one; nullptr for
  // messages that need none.
  SendProgress* progress_for(std::size_t bytes) {
    if (bytes <= eager_bytes) return nullptr;
    if (!progress_) progress_ = std::make_unique<SendProgress>(comm_);
    return progress_.get();
  }

  MPI_Comm comm_;
  int host_;
  bool may_share_memory_;
  int rank_ = 0;
  int size_ = 1;
  std::unique_ptr<SharedExchange> shared_;
  std::unique_ptr<SendProgress> progress_;
  MpiReducer reducer_;
};

// The lowest world rank on this rank's host.
int host_number() {
  MPI_Comm host = MPI_COMM_NULL;
  int number = 0;
  check_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host),
            "MPI_Comm_split_type");
  check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &number), "MPI_Comm_rank");
  check_mpi(MPI_Bcast(&number, 1, MPI_INT, 0, host), "MPI_Bcast");
  check_mpi(MPI_Comm_free(&host), "MPI_Comm_free");
  return number;
}

}  // namespace

Comm mpi_world(bool may_share_memory) {
  MPI_Comm world = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &world), "MPI_Comm_dup");
  auto transport = std::make_unique<MpiTransport>(world, host_number(), may_share_memory);
  transport->share_memory();
  return Comm(std::move(transport));
}

}  // namespace millrace
