#include "comm/comm_dry_run.hpp"

#include <algorithm>
#include <iterator>
#include <memory>
#include <numeric>
#include <stdexcept>

#include "kernels/base/buffer.hpp"
#include "kernels/base/check.hpp"

namespace millrace {
namespace {

class DryRunTransport final : public HostTransport {
 public:
  // `members` are world ranks in this communicator's rank order.
  DryRunTransport(std::vector<int> members, std::shared_ptr<const DryRun> layout)
      : members_(std::move(members)),
        layout_(std::move(layout)),
        rank_(static_cast<int>(std::find(members_.begin(), members_.end(), layout_->rank) -
                               members_.begin())) {
    if (layout_->traffic != nullptr) ++layout_->traffic->communicators;
  }

  std::string_view name() const override { return "dry run"; }
  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(members_.size()); }

  std::unique_ptr<HostTransport> duplicate() override { return with_members(members_); }
  std::unique_ptr<HostTransport> split(int, int) override {
    throw std::logic_error("a dry run cannot know the other ranks' colors: use subgroup()");
  }
  std::unique_ptr<HostTransport> split_by_host() override {
    const int ranks_per_host = layout_->ranks_per_host;
    std::vector<int> here;
    std::ranges::copy_if(members_, std::back_inserter(here), [&](int member) {
      return member / ranks_per_host == layout_->rank / ranks_per_host;
    });
    return here.size() > 1 ? with_members(std::move(here)) : nullptr;
  }
  std::unique_ptr<HostTransport> subgroup(std::span<const int> ranks) override {
    std::vector<int> part;
    for (const int rank : ranks) part.push_back(members_[static_cast<std::size_t>(rank)]);
    return with_members(std::move(part));
  }

  void all_reduce(const TensorView& x, ReduceOp, Stream) override { count(2, x.bytes()); }
  void all_gather(const TensorView& out, const TensorView& in, Stream stream) override {
    count(size(), in.bytes());
    for (std::size_t rank = 0; rank < members_.size(); ++rank) {
      auto* part = static_cast<std::byte*>(out.data()) + rank * in.bytes();
      if (part == in.data()) continue;
      copy_bytes(part, out.device(), in.data(), in.device(), in.bytes(), stream);
    }
  }
  void broadcast(const TensorView& x, int, Stream) override { count(2, x.bytes()); }
  std::unique_ptr<PendingSend> isend(const TensorView& x, int, Stream) override {
    count(1, x.bytes());
    return nullptr;
  }
  void recv(const TensorView& x, int, Stream) override { count(1, x.bytes()); }

  void barrier() override { count(2, 0); }
  void broadcast_bytes(Bytes& bytes, int) override { count(2, bytes.size()); }
  std::vector<Bytes> gather_bytes(std::span<const std::byte> bytes, int root) override {
    if (rank_ == root) return all_gather_bytes(bytes);
    count(1, bytes.size());
    return {};
  }
  std::vector<Bytes> all_gather_bytes(std::span<const std::byte> bytes) override {
    count(size(), bytes.size());
    return std::vector<Bytes>(members_.size(), Bytes(bytes.begin(), bytes.end()));
  }
  std::int64_t all_reduce_value(std::int64_t value, ReduceOp op) override {
    count(2, sizeof(value));
    return op == ReduceOp::sum ? value * size() : value;
  }
  std::unique_ptr<PendingSend> isend_bytes(Bytes bytes, int peer, int tag) override {
    count(1, bytes.size());
    if (layout_->on_send) layout_->on_send(member(peer), tag, bytes);
    return nullptr;
  }
  Message receive(int source, int tag) override {
    if (!layout_->on_receive) throw std::logic_error("nobody sends bytes in this dry run");
    Message message{source, layout_->on_receive(member(source), tag)};
    count(1, message.bytes.size());
    return message;
  }
  std::optional<Message> try_receive(int, int) override { return std::nullopt; }

 private:
  std::unique_ptr<HostTransport> with_members(std::vector<int> members) const {
    return std::make_unique<DryRunTransport>(std::move(members), layout_);
  }
  int member(int rank) const { return members_[static_cast<std::size_t>(rank)]; }

  // So many messages of so many bytes each.
  void count(std::int64_t messages, std::size_t bytes) const {
    if (layout_->traffic == nullptr) return;
    layout_->traffic->messages += messages;
    layout_->traffic->bytes += messages * static_cast<std::int64_t>(bytes);
  }

  std::vector<int> members_;
  std::shared_ptr<const DryRun> layout_;
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
  return Comm(std::make_unique<DryRunTransport>(std::move(everyone),
                                                std::make_shared<const DryRun>(layout)));
}

}  // namespace millrace
