#include "comm/work_server.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>

#include "comm/backoff.hpp"

namespace millrace {
namespace {

constexpr int request_tag = 1;
constexpr int answer_tag = 2;

enum class Request : std::uint8_t { next, goodbye };

// A range of no bytes at [-1, -1) says that there is no more work.
constexpr ByteRange no_more{-1, -1};

Bytes pack(const ByteRange& range) {
  Bytes bytes(sizeof(range));
  std::memcpy(bytes.data(), &range, sizeof(range));
  return bytes;
}

}  // namespace

class WorkServer {
 public:
  WorkServer(const Comm& comm, std::vector<ByteRange> work)
      : comm_(comm), ranges_(std::move(work), comm.size()), clients_(comm.size() - 1) {
    if (clients_ > 0) thread_ = std::thread([this] { serve(); });
  }
  ~WorkServer() {
    if (std::uncaught_exceptions() > 0) stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  WorkServer(const WorkServer&) = delete;
  WorkServer& operator=(const WorkServer&) = delete;

  std::optional<ByteRange> next() {
    const std::lock_guard lock(mutex_);
    return ranges_.next();
  }

 private:
  void serve() {
    std::vector<SendHandle> answers(static_cast<std::size_t>(comm_.size()));
    while (clients_ > 0 && !stop_) {
      Backoff backoff(std::chrono::milliseconds(2));
      std::optional<Message> message;
      while (!(message = comm_.try_receive(Comm::any_rank, request_tag)) && !stop_) backoff.pause();
      if (!message) return;
      if (static_cast<Request>(message->bytes.at(0)) == Request::goodbye) {
        --clients_;
        continue;
      }
      const std::optional<ByteRange> range = next();
      if (!range) --clients_;
      answers[static_cast<std::size_t>(message->source)] =
          comm_.isend_bytes(pack(range.value_or(no_more)), message->source, answer_tag);
    }
  }

  const Comm& comm_;
  std::mutex mutex_;
  WorkRanges ranges_;
  int clients_;  // that may still ask
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

WorkClient::WorkClient(const Comm& leaders, std::vector<ByteRange> work)
    : comm_(leaders.duplicate()) {
  if (comm_.rank() == 0) server_ = std::make_unique<WorkServer>(comm_, std::move(work));
}

WorkClient::~WorkClient() {
  if (server_ || exhausted_) return;
  comm_.isend_bytes({static_cast<std::byte>(Request::goodbye)}, 0, request_tag);
}

std::optional<ByteRange> WorkClient::next() {
  if (exhausted_) return std::nullopt;
  std::optional<ByteRange> range;
  if (server_) {
    range = server_->next();
  } else {
    comm_.send_bytes(std::array{static_cast<std::byte>(Request::next)}, 0, request_tag);
    const Bytes answer = comm_.receive_bytes(0, answer_tag);
    range.emplace();
    std::memcpy(&*range, answer.data(), sizeof(*range));
    if (*range == no_more) range.reset();
  }
  exhausted_ = !range;
  return range;
}

}  // namespace millrace
