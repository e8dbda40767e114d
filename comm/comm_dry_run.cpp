#include "comm/comm_dry_run.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <stdexcept>

#include "kernels/base/buffer.hpp"
#include "kernels/base/check.hpp"

namespace millrace {
namespace {

class DryRunTransport final : public HostTransport {
 public:
  // `members` are world ranks in this communicator's rank order.
  DryRunTransport(std::vector<int> members, int world_rank, int ranks_per_host)
      : members_(std::move(members)),
        world_rank_(world_rank),
        ranks_per_host_(ranks_per_host),
        rank_(static_cast<int>(std::find(members_.begin(), members_.end(), world_rank) -
                               members_.begin())) {}

  std::string_view name() const override { return "dry run"; }
  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(members_.size()); }

  std::unique_ptr<HostTransport> duplicate() override { return with_members(members_); }
  std::unique_ptr<HostTransport> split(int, int) override {
    throw std::logic_error("a dry run cannot know the other ranks' colors: use subgroup()");
  }
  std::unique_ptr<HostTransport> split_by_host() override {
    std::vector<int> here;
    std::copy_if(members_.begin(), members_.end(), std::back_inserter(here), [this](int member) {
      return member / ranks_per_host_ == world_rank_ / ranks_per_host_;
    });
    return here.size() > 1 ? with_members(std::move(here)) : nullptr;
  }
  std::unique_ptr<HostTransport> subgroup(std::span<const int> ranks) override {
    std::vector<int> part;
    for (const int rank : ranks) part.push_back(members_[static_cast<std::size_t>(rank)]);
    return with_members(std::move(part));
  }

  void all_reduce(const TensorView&, ReduceOp, Stream) override {}
  void all_gather(const TensorView& out, const TensorView& in, Stream stream) override {
    for (std::size_t rank = 0; rank < members_.size(); ++rank) {
      auto* part = static_cast<std::byte*>(out.data()) + rank * in.bytes();
      if (part == in.data()) continue;
      copy_bytes(part, out.device(), in.data(), in.device(), in.bytes(), stream);
    }
  }
  void broadcast(const TensorView&, int, Stream) override {}
  std::unique_ptr<PendingSend> isend(const TensorView&, int, Stream) override { return nullptr; }
  void recv(const TensorView&, int, Stream) override {}

  void barrier() override {}
  void broadcast_bytes(Bytes&, int) override {}
  std::vector<Bytes> gather_bytes(std::span<const std::byte> bytes, int root) override {
    return rank_ == root ? all_gather_bytes(bytes) : std::vector<Bytes>{};
  }
  std::vector<Bytes> all_gather_bytes(std::span<const std::byte> bytes) override {
    return std::vector<Bytes>(members_.size(), Bytes(bytes.begin(), bytes.end()));
  }
  std::int64_t all_reduce_value(std::int64_t value, ReduceOp op) override {
    return op == ReduceOp::sum ? value * size() : value;
  }
  std::unique_ptr<PendingSend> isend_bytes(Bytes, int, int) override { return nullptr; }
  Message receive(int, int) override { throw std::logic_error("nobody sends bytes in a dry run"); }
  std::optional<Message> try_receive(int, int) override { return std::nullopt; }

 private:
  std::unique_ptr<HostTransport> with_members(std::vector<int> members) const {
    return std::make_unique<DryRunTransport>(std::move(members), world_rank_, ranks_per_host_);
  }

  std::vector<int> members_;
  int world_rank_;
  int ranks_per_host_;
  int rank_;
};

}  // namespace

Comm dry_run_world(const DryRun& layout) {
  check(
      layout.size > 0 && layout.rank >= 0 && layout.rank < layout.size && layout.ranks_per_host > 0,
      "dry_run_world",
      fmt::format("rank {} of {}, {} to a host", layout.rank, layout.size, layout.ranks_per_host));
  std::vector<int> everyone(static_cast<std::size_t>(layout.size));
  std::iota(everyone.begin(), everyone.end(), 0);
  return Comm(
      std::make_unique<DryRunTransport>(std::move(everyone), layout.rank, layout.ranks_per_host));
}

}  // namespace millrace
