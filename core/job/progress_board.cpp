#include "core/job/progress_board.hpp"

#include <unistd.h>

#include <chrono>
#include <cstring>
#include <exception>

namespace millrace {
namespace {

constexpr int tag = 1;
constexpr auto kBeat = std::chrono::milliseconds(20);
constexpr double kSendSeconds = 0.5;

struct Wire {
  ProgressCounters counters;
  bool last = false;
};

}  // namespace

ProgressBoard::ProgressBoard(const Comm& leaders, std::int64_t prompt_bytes, double log_seconds,
                             const JobClock& clock, std::function<ProgressCounters()> counters)
    : comm_(leaders.duplicate()),
      prompt_bytes_(prompt_bytes),
      log_seconds_(log_seconds),
      clock_(clock),
      counters_(std::move(counters)),
      latest_(static_cast<std::size_t>(comm_.size())),
      thread_([this] { run(); }) {}

ProgressBoard::~ProgressBoard() {
  finishing_ = true;
  if (std::uncaught_exceptions() > 0) {
    abandoned_ = true;  // the other replicas may never say that they are done
  }
  thread_.join();
}

void ProgressBoard::run() {
  const bool shows = comm_.rank() == 0;
  ProgressDisplay progress(stderr, prompt_bytes_, log_seconds_);
  double sent_seconds = 0;
  while (!abandoned_) {
    const bool last = finishing_;
    if (last || clock_.seconds() - sent_seconds >= kSendSeconds) {
      sent_seconds = clock_.seconds();
      send(last);
    }
    if (!shows) {
      if (last) {
        return;
      }
    } else {
      receive();
      ProgressCounters sum;
      for (const ProgressCounters& replica : latest_) {
        sum += replica;
      }
      const bool all_done = done_ + 1 == comm_.size() && last;
      if (log_seconds_ > 0) {
        if (all_done) {
          progress.finish(sum, clock_.seconds());
        } else {
          progress.update(sum, clock_.seconds());
        }
      }
      if (all_done) {
        return;
      }
    }
    std::this_thread::sleep_for(kBeat);
  }
}

void ProgressBoard::send(bool last) {
  const Wire wire{counters_(), last};
  if (comm_.rank() == 0) {
    latest_[0] = wire.counters;
  } else {
    comm_.send_bytes(std::as_bytes(std::span(&wire, 1)), 0, tag);
  }
}

void ProgressBoard::receive() {
  while (const auto message =
             comm_.size() > 1 ? comm_.try_receive(Comm::any_rank, tag) : std::nullopt) {
    Wire wire;
    std::memcpy(&wire, message->bytes.data(), sizeof(wire));
    latest_[static_cast<std::size_t>(message->source)] = wire.counters;
    done_ += wire.last ? 1 : 0;
  }
}

}  // namespace millrace
