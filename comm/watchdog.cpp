#include "comm/watchdog.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <optional>
#include <thread>
#include <tuple>

#include "comm/environment.hpp"
#include "comm/hosts.hpp"

namespace millrace {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int report_tag = 1;   // from a rank to rank 0
constexpr int verdict_tag = 2;  // from rank 0
constexpr auto poll_interval = std::chrono::milliseconds(50);
constexpr unsigned abort_seconds = 10;

enum class ReportKind : std::uint8_t { alive, failed, leaving };
enum class Verdict : std::uint8_t { alive, leave };

// What a rank tells rank 0; on the wire the text follows the fixed part.
struct ReportHead {
  ReportKind kind = ReportKind::alive;
  bool is_peers = false;  // failed
  int exit_code = 0;      // failed
  std::int64_t step = -1;
  std::int64_t exchanges = 0;
};
struct Report : ReportHead {
  std::string text;  // failed: the message; alive: the exchange it waits in, if any
};

Bytes pack(const Report& report) {
  const ReportHead& head = report;
  Bytes bytes(sizeof(head) + report.text.size());
  std::memcpy(bytes.data(), &head, sizeof(head));
  std::memcpy(bytes.data() + sizeof(head), report.text.data(), report.text.size());
  return bytes;
}

Report unpack(const Bytes& bytes) {
  Report report;
  std::memcpy(static_cast<ReportHead*>(&report), bytes.data(), sizeof(ReportHead));
  report.text = as_text(std::span(bytes).subspan(sizeof(ReportHead)));
  return report;
}

// One line, and then the end, for which a broken network must not make anybody wait.
[[noreturn]] void abort_with(const std::string& program, const std::string& line, int exit_code) {
  std::fflush(stdout);
  fmt::print(stderr, "{}: {}\n", program, line);
  std::fflush(stderr);
  alarm(abort_seconds);
  Environment::abort_job(exit_code);
}

}  // namespace

class Watchdog::Thread {
 public:
  Thread(const Comm& world, std::string program, const WatchdogLimits& limits)
      : comm_(world.duplicate()), program_(std::move(program)), limits_(limits) {
    for (const Bytes& name : comm_.all_gather_bytes(as_bytes(host_name()))) {
      ranks_.emplace_back().host = as_text(name);
    }
    sends_.resize(ranks_.size());
    outer_ = watch_this_thread(&progress_);
    thread_ = std::thread([this] { run(); });
  }

  // Tells the thread and waits for its end.
  void end(std::optional<Failure> failure) {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
      failure_ = std::move(failure);
    }
    wake_.notify_one();
    thread_.join();
    watch_this_thread(outer_);
  }
  bool ended() const { return !thread_.joinable(); }

 private:
  // What rank 0 knows of a rank, itself included.
  struct Rank {
    std::string host;
    double silent_seconds = 0;
    std::int64_t step = -1;
    std::int64_t exchanges = 0;
    std::string waiting_in;
    bool has_left = false;
    std::optional<Failure> failure;
  };

  bool is_chief() const { return comm_.rank() == 0; }
  std::string name_of(int rank) const {
    return fmt::format("rank {} on host {}", rank, ranks_[static_cast<std::size_t>(rank)].host);
  }

  void run() {
    auto last = Clock::now();
    double since_beat = limits_.beat_seconds;  // the first beat goes at once
    while (!done_) {
      {
        std::unique_lock lock(mutex_);
        wake_.wait_for(lock, poll_interval, [this] { return ending_ && !end_seen_; });
        end_seen_ = ending_;
      }
      const auto now = Clock::now();
      // A judge that did not run itself saw nobody's silence.
      const double elapsed =
          std::min<double>(std::chrono::duration<double>(now - last).count(), 0.5);
      last = now;
      since_beat += elapsed;
      const bool beat = since_beat >= limits_.beat_seconds;
      if (beat) since_beat = 0;
      if (is_chief()) {
        judge(elapsed, beat);
      } else {
        serve(elapsed, beat);
      }
    }
  }

  // A rank other than 0: reports, and listens for rank 0.
  void serve(double elapsed, bool beat) {
    if (end_seen_ && !end_reported_) {
      sends_[0].wait();
      sends_[0] = send_report();
      end_reported_ = true;
      if (!failure_) {
        done_ = true;
        return;
      }
    } else if (beat && sends_[0].done()) {
      sends_[0] = send_report();
    }
    silence_of_chief_ += elapsed;
    while (const auto message = comm_.try_receive(0, verdict_tag)) {
      silence_of_chief_ = 0;
      if (static_cast<Verdict>(message->bytes.at(0)) == Verdict::leave) done_ = true;
    }
    // One after another, so that one rank speaks for all.
    const double patience = limits_.silence_seconds + 0.2 * std::min(comm_.rank(), 50);
    if (silence_of_chief_ > patience) {
      abort_with(program_,
                 fmt::format("{} has been silent for {:.0f} s: the job ends", name_of(0),
                             silence_of_chief_),
                 1);
    }
  }

  SendHandle send_report() const {
    Report report;
    report.step = progress_.step.load(std::memory_order_relaxed);
    report.exchanges = progress_.exchanges.load(std::memory_order_relaxed);
    if (end_seen_ && failure_) {
      report.kind = ReportKind::failed;
      report.exit_code = failure_->exit_code;
      report.is_peers = failure_->is_peers;
      report.text = failure_->message;
    } else if (end_seen_) {
      report.kind = ReportKind::leaving;
    } else if (const char* exchange = progress_.waiting_in.load(std::memory_order_relaxed)) {
      report.text = exchange;
    }
    return comm_.isend_bytes(pack(report), 0, report_tag);
  }

  // Rank 0.
  void judge(double elapsed, bool beat) {
    take_own_report();
    for (Rank& rank : ranks_) rank.silent_seconds += elapsed;
    while (const auto message = comm_.try_receive(Comm::any_rank, report_tag)) {
      take_report(message->source, unpack(message->bytes));
    }
    if (beat) tell_all(Verdict::alive);
    judge_failures(elapsed);
    if (done_) return;
    judge_silence();
    judge_stall(elapsed);
    done_ = std::all_of(ranks_.begin(), ranks_.end(), [](const Rank& r) { return r.has_left; });
  }

  void take_own_report() {
    Rank& me = ranks_[0];
    me.silent_seconds = 0;
    me.step = progress_.step.load(std::memory_order_relaxed);
    me.exchanges = progress_.exchanges.load(std::memory_order_relaxed);
    const char* exchange = progress_.waiting_in.load(std::memory_order_relaxed);
    me.waiting_in = exchange == nullptr ? "" : exchange;
    if (!end_seen_) return;
    me.failure = failure_;
    me.has_left = !failure_;
  }

  void take_report(int source, const Report& report) {
    Rank& rank = ranks_[static_cast<std::size_t>(source)];
    rank.silent_seconds = 0;
    rank.step = report.step;
    rank.exchanges = report.exchanges;
    if (report.kind == ReportKind::alive) rank.waiting_in = report.text;
    if (report.kind == ReportKind::leaving) rank.has_left = true;
    if (report.kind == ReportKind::failed) {
      rank.failure = Failure{report.exit_code, report.is_peers, report.text};
    }
  }

  void tell_all(Verdict verdict) {
    for (int rank = 1; rank < comm_.size(); ++rank) {
      const auto at = static_cast<std::size_t>(rank);
      if (ranks_[at].has_left) continue;
      if (verdict == Verdict::alive && !sends_[at].done()) continue;
      sends_[at].join(comm_.isend_bytes({static_cast<std::byte>(verdict)}, rank, verdict_tag));
    }
  }

  void judge_failures(double elapsed) {
    int failed = 0;
    int first = -1;  // the lowest rank with an error of its own, else with any
    for (int rank = 0; rank < comm_.size(); ++rank) {
      const auto& failure = ranks_[static_cast<std::size_t>(rank)].failure;
      if (!failure) continue;
      ++failed;
      if (first < 0 || (failure_of(first).is_peers && !failure->is_peers)) first = rank;
    }
    if (failed == 0) return;
    const Failure& cause = failure_of(first);
    const bool all_failed = failed == comm_.size();
    const bool all_alike =
        all_failed && std::all_of(ranks_.begin(), ranks_.end(), [&](const Rank& rank) {
          return rank.failure->message == cause.message;
        });
    // Rank 0 reads what the user gave to the whole job: its complaint about that is not a matter of
    // ranks and hosts. Nor is what every rank says alike, or what names the rank already.
    const bool is_the_jobs = all_alike || cause.is_peers || (first == 0 && cause.exit_code == 2);
    const std::string line =
        is_the_jobs ? cause.message : fmt::format("{}: {}", name_of(first), cause.message);
    if (all_failed) {
      std::fflush(stdout);
      fmt::print(stderr, "{}: {}\n", program_, line);
      std::fflush(stderr);
      tell_all(Verdict::leave);
      done_ = true;
      return;
    }
    since_failure_ += elapsed;
    if (since_failure_ > limits_.grace_seconds) abort_with(program_, line, cause.exit_code);
  }
  const Failure& failure_of(int rank) const {
    return *ranks_[static_cast<std::size_t>(rank)].failure;
  }

  void judge_silence() const {
    for (int r = 1; r < comm_.size(); ++r) {
      const Rank& rank = ranks_[static_cast<std::size_t>(r)];
      if (rank.has_left || rank.silent_seconds <= limits_.silence_seconds) continue;
      abort_with(program_,
                 fmt::format("{} has been silent for {:.0f} s, last seen {}: the job ends",
                             name_of(r), rank.silent_seconds, whereabouts(rank)),
                 1);
    }
  }

  static std::string whereabouts(const Rank& rank) {
    std::string text = rank.step < 0 ? "outside the steps" : fmt::format("in step {}", rank.step);
    if (!rank.waiting_in.empty()) text += fmt::format(", waiting in {}", rank.waiting_in);
    return text;
  }

  // No rank gets on any more although they are in the steps.
  void judge_stall(double elapsed) {
    std::int64_t marks = 0;
    bool in_steps = false;
    for (const Rank& rank : ranks_) {
      marks += rank.step + rank.exchanges;
      in_steps = in_steps || (rank.step >= 0 && !rank.has_left);
    }
    since_mark_ = marks != marks_ || !in_steps ? 0 : since_mark_ + elapsed;
    marks_ = marks;
    if (since_mark_ <= limits_.stall_seconds) return;
    const auto behind =
        std::min_element(ranks_.begin(), ranks_.end(), [](const Rank& a, const Rank& b) {
          return std::tuple(a.has_left, !a.waiting_in.empty(), a.step) <
                 std::tuple(b.has_left, !b.waiting_in.empty(), b.step);
        });
    abort_with(program_,
               fmt::format("{} hangs {}: no rank has got on for {:.0f} s, the job ends",
                           name_of(static_cast<int>(behind - ranks_.begin())), whereabouts(*behind),
                           since_mark_),
               1);
  }

  Comm comm_;
  const std::string program_;
  const WatchdogLimits limits_;
  Progress progress_;
  Progress* outer_ = nullptr;  // where the main thread's marks went before

  // Shared with the main thread; the thread reads failure_ once it has seen ending_.
  std::mutex mutex_;
  std::condition_variable wake_;
  bool ending_ = false;
  std::optional<Failure> failure_;

  // The thread's own.
  bool end_seen_ = false;
  bool end_reported_ = false;
  bool done_ = false;
  double silence_of_chief_ = 0;
  std::vector<Rank> ranks_;  // those of ranks other than 0 know only the hosts
  std::vector<SendHandle> sends_;
  double since_failure_ = 0;
  std::int64_t marks_ = 0;
  double since_mark_ = 0;

  std::thread thread_;
};

Watchdog::Watchdog(const Comm& world, std::string program, const WatchdogLimits& limits)
    : program_(std::move(program)) {
  if (world.size() > 1) thread_ = std::make_unique<Thread>(world, program_, limits);
}

Watchdog::~Watchdog() {
  if (thread_ && !thread_->ended()) thread_->end(std::nullopt);
}

int Watchdog::fail(const Failure& failure) {
  if (thread_) {
    thread_->end(failure);
    return failure.exit_code;
  }
  std::fflush(stdout);
  fmt::print(stderr, "{}: {}\n", program_, failure.message);
  std::fflush(stderr);
  return failure.exit_code;
}

}  // namespace millrace
