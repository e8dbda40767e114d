#include "comm/comm.hpp"

#include "comm/progress.hpp"
#include "kernels/base/buffer.hpp"
#include "kernels/base/check.hpp"
#include "kernels/base/dispatch.hpp"
#include "kernels/norm.hpp"

namespace millrace {

SendHandle::SendHandle(std::unique_ptr<PendingSend> pending) {
  if (pending) pending_.push_back(std::move(pending));
}

bool SendHandle::done() {
  std::erase_if(pending_, [](const auto& send) { return send->done(); });
  return pending_.empty();
}

void SendHandle::wait() {
  if (pending_.empty()) return;
  const WaitingIn mark("send");
  for (const auto& send : pending_) send->wait();
  pending_.clear();
}

void SendHandle::join(SendHandle other) {
  for (auto& send : other.pending_) pending_.push_back(std::move(send));
}

namespace {

void check_tag(std::string_view op, int tag) {
  check(tag >= 0 && tag < 32'000, op, "the tag is not in [0, 32000)");
}

}  // namespace

namespace cpu {
std::unique_ptr<TensorTransport> make_device_transport(const Comm&, Device, const DeviceTraffic&) {
  return nullptr;
}
}  // namespace cpu

Comm::Comm(std::unique_ptr<HostTransport> host) : host_(std::move(host)) {
  if (!host_) return;
  rank_ = host_->rank();
  size_ = host_->size();
}

void Comm::swap(Comm& other) noexcept {
  std::swap(host_, other.host_);
  std::swap(device_transport_, other.device_transport_);
  std::swap(device_, other.device_);
  std::swap(rank_, other.rank_);
  std::swap(size_, other.size_);
}

Comm Comm::duplicate() const { return Comm(host_ ? host_->duplicate() : nullptr); }

Comm Comm::split(int color, int key) const {
  return Comm(host_ ? host_->split(color, key) : nullptr);
}

Comm Comm::split_by_host() const { return Comm(host_ ? host_->split_by_host() : nullptr); }

Comm Comm::subgroup(std::span<const int> ranks) const {
  bool has_me = false;
  for (const int rank : ranks) {
    check(rank >= 0 && rank < size_, "subgroup", "a rank is out of range");
    has_me = has_me || rank == rank_;
  }
  check(has_me, "subgroup", "the caller is not a member");
  return Comm(host_ && ranks.size() > 1 ? host_->subgroup(ranks) : nullptr);
}

void Comm::bind(Device device, const DeviceTraffic& traffic) {
  device_ = device;
  device_transport_.reset();
  if (size_ == 1) return;
  device_transport_ = MILLRACE_DISPATCH(device, make_device_transport, *this, device, traffic);
}

bool Comm::buffers_messages() const {
  return device_transport_ && device_transport_->buffers_messages();
}

std::string Comm::describe_sums() const {
  return device_transport_ ? device_transport_->describe_sums() : "";
}

std::string_view Comm::transport_name() const {
  if (size_ == 1) return "none";
  return device_transport_ ? device_transport_->name() : host_->name();
}

std::vector<Route> Comm::routes() const {
  return device_transport_ ? device_transport_->routes() : std::vector<Route>();
}

TensorTransport& Comm::transport(const TensorView& view, std::string_view op) const {
  check(view.is_contiguous(), op, "the tensor is not contiguous");
  if (view.device().is_cpu()) return *host_;
  if (view.device() != device_ || device_transport_ == nullptr) {
    check(false, op, "the communicator is not bound to " + to_string(view.device()));
  }
  return *device_transport_;
}

void Comm::check_peer(std::string_view op, int peer) const {
  if (peer >= 0 && peer < size_ && peer != rank_) return;
  check(false, op, fmt::format("rank {} of {} has no peer {}", rank_, size_, peer));
}

void Comm::reduce(const TensorView& x, ReduceOp op, Stream stream) const {
  const WaitingIn mark("all_reduce");
  if (size_ == 1 || x.empty()) return;
  transport(x, "all_reduce").all_reduce(x, op, stream);
}

std::int64_t Comm::reduce(std::int64_t value, ReduceOp op) const {
  const WaitingIn mark("all_reduce");
  return size_ > 1 ? host_->all_reduce_value(value, op) : value;
}

void Comm::all_reduce_sum(const TensorView& x, Stream stream) const {
  reduce(x, ReduceOp::sum, stream);
}
void Comm::all_reduce_max(const TensorView& x, Stream stream) const {
  reduce(x, ReduceOp::max, stream);
}
void Comm::all_reduce_min(const TensorView& x, Stream stream) const {
  reduce(x, ReduceOp::min, stream);
}

bool Comm::try_all_reduce_add_norm(const LinearInput& out, const TensorView& residual,
                                   const TensorView& x, const NormWeights& weights,
                                   Stream stream) const {
  if (size_ == 1 || x.empty() || x.device().is_cpu()) return false;
  constexpr auto op = "all_reduce_add_norm";
  const WaitingIn mark(op);
  check_add_norm(op, out, residual, x, weights, stream);
  return transport(x, op).all_reduce_add_norm(out, residual, x, weights, stream);
}

SumCarrier* Comm::sum_carrier(const TensorView& x) const {
  return size_ > 1 ? transport(x, "sum_carrier").sum_carrier() : nullptr;
}

void Comm::all_gather(const TensorView& out, const TensorView& in, Stream stream) const {
  if (out.numel() != in.numel() * size_ || out.dtype() != in.dtype() ||
      out.device() != in.device()) {
    check(false, "all_gather",
          "out " + out.describe() + " does not hold every rank's " + in.describe());
  }
  if (in.empty()) return;
  if (size_ > 1) {
    check(in.is_contiguous(), "all_gather", "the input is not contiguous");
    const WaitingIn mark("all_gather");
    transport(out, "all_gather").all_gather(out, in, stream);
  } else if (out.data() != in.data()) {
    copy(out.reshape({in.numel()}), in.reshape({in.numel()}), stream);
  }
}

void Comm::broadcast(const TensorView& x, int root, Stream stream) const {
  check(root >= 0 && root < size_, "broadcast", "the root is out of range");
  if (size_ == 1 || x.empty()) return;
  const WaitingIn mark("broadcast");
  transport(x, "broadcast").broadcast(x, root, stream);
}

SendHandle Comm::isend(const TensorView& x, int peer, Stream stream) const {
  check_peer("send", peer);
  if (x.empty()) return {};
  return SendHandle(transport(x, "send").isend(x, peer, stream));
}

void Comm::send(const TensorView& x, int peer, Stream stream) const {
  const WaitingIn mark("send");
  isend(x, peer, stream).wait();
}

void Comm::recv(const TensorView& x, int peer, Stream stream) const {
  check_peer("recv", peer);
  const WaitingIn mark("recv");
  if (!x.empty()) transport(x, "recv").recv(x, peer, stream);
}

void Comm::barrier() const {
  const WaitingIn mark("barrier");
  if (size_ > 1) host_->barrier();
}

void Comm::broadcast_bytes(Bytes& bytes, int root) const {
  check(root >= 0 && root < size_, "broadcast_bytes", "the root is out of range");
  const WaitingIn mark("broadcast_bytes");
  if (size_ > 1) host_->broadcast_bytes(bytes, root);
}

std::vector<Bytes> Comm::gather_bytes(std::span<const std::byte> bytes, int root) const {
  check(root >= 0 && root < size_, "gather_bytes", "the root is out of range");
  const WaitingIn mark("gather_bytes");
  if (size_ > 1) return host_->gather_bytes(bytes, root);
  return {Bytes(bytes.begin(), bytes.end())};
}

std::vector<Bytes> Comm::all_gather_bytes(std::span<const std::byte> bytes) const {
  const WaitingIn mark("all_gather_bytes");
  if (size_ > 1) return host_->all_gather_bytes(bytes);
  return {Bytes(bytes.begin(), bytes.end())};
}

std::int64_t Comm::all_reduce_sum(std::int64_t value) const { return reduce(value, ReduceOp::sum); }
std::int64_t Comm::all_reduce_max(std::int64_t value) const { return reduce(value, ReduceOp::max); }
std::int64_t Comm::all_reduce_min(std::int64_t value) const { return reduce(value, ReduceOp::min); }

SendHandle Comm::isend_bytes(Bytes bytes, int peer, int tag) const {
  check_peer("send_bytes", peer);
  check_tag("send_bytes", tag);
  return SendHandle(host_->isend_bytes(std::move(bytes), peer, tag));
}

void Comm::send_bytes(std::span<const std::byte> bytes, int peer, int tag) const {
  const WaitingIn mark("send_bytes");
  isend_bytes(Bytes(bytes.begin(), bytes.end()), peer, tag).wait();
}

Bytes Comm::receive_bytes(int peer, int tag) const {
  check_peer("receive_bytes", peer);
  check_tag("receive_bytes", tag);
  const WaitingIn mark("receive_bytes");
  return host_->receive(peer, tag).bytes;
}

Message Comm::receive_message(int peer_or_any, int tag) const {
  if (peer_or_any != any_rank) check_peer("receive_message", peer_or_any);
  check_tag("receive_message", tag);
  check(size_ > 1, "receive_message", "nobody can send to a communicator of one rank");
  const WaitingIn mark("receive_message");
  return host_->receive(peer_or_any, tag);
}

std::optional<Message> Comm::try_receive(int peer_or_any, int tag) const {
  if (peer_or_any != any_rank) check_peer("try_receive", peer_or_any);
  check_tag("try_receive", tag);
  if (size_ == 1) return std::nullopt;
  return host_->try_receive(peer_or_any, tag);
}

}  // namespace millrace
