#include "comm/watchdog.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <mutex>
#include <thread>
#include <utility>

#include "comm/environment.hpp"
#include "comm/exit_code.hpp"
#include "comm/host_watch.hpp"
#include "comm/hosts.hpp"
#include "comm/last_words.hpp"
#include "comm/stop_signals.hpp"
#include "comm/watchdog_judge.hpp"
#include "comm/watchdog_messages.hpp"

namespace millrace {
namespace {

using Clock = std::chrono::steady_clock;
using Kind = WatchdogJudge::Decision::Kind;

constexpr int report_tag = 1;
constexpr int verdict_tag = 2;
constexpr auto poll_interval = std::chrono::milliseconds(50);
// Whoever sees a process die may be about to be killed by the same hand, and then has nothing to
// say.
constexpr double death_seconds = 0.04;
constexpr double chief_seconds = 2;  // for rank 0 to end the job after a second SIGINT
constexpr unsigned abort_seconds = 10;

// Every rank's host, on rank 0. The others speak of rank 0 and of ranks on their own host alone, so
// that no rank but 0 hears of all.
std::vector<std::string> known_hosts(const Comm& comm) {
  const std::string mine = host_name();
  std::vector<std::string> hosts(static_cast<std::size_t>(comm.size()), mine);
  const std::vector<Bytes> names = comm.gather_bytes(as_bytes(mine), 0);
  for (std::size_t rank = 0; rank < names.size(); ++rank) hosts[rank] = as_text(names[rank]);
  Bytes first(as_bytes(mine).begin(), as_bytes(mine).end());
  comm.broadcast_bytes(first, 0);
  hosts[0] = as_text(first);
  return hosts;
}

}  // namespace

class Watchdog::Thread {
 public:
  Thread(const Comm& world, std::string program, const WatchdogLimits& limits,
         StopRequest& stop_request)
      : comm_(world.duplicate()),
        program_(std::move(program)),
        limits_(limits),
        stop_request_(stop_request),
        hosts_(known_hosts(comm_)),
        host_(world),
        last_words_(fmt::format("{}: {}", program_, name_of(comm_.rank())), host_.progress(),
                    host_.cause_is_said()),
        judge_(hosts_, limits),
        sends_(hosts_.size()) {
    outer_ = watch_this_thread(&host_.progress());
    thread_ = std::thread([this] { run(); });
  }

  void settle(double stall_seconds, const StopTerms& terms) {
    const std::lock_guard lock(mutex_);
    stall_seconds_ = stall_seconds;
    terms_ = terms;
  }

  // Tells the thread and waits for its end.
  void end(std::optional<Failure> failure) {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
      failure_ = std::move(failure);
    }
    host_.wake();
    thread_.join();
    watch_this_thread(outer_);
  }
  bool ended() const { return !thread_.joinable(); }

 private:
  bool is_chief() const { return comm_.rank() == 0; }
  std::string name_of(int rank) const {
    return fmt::format("rank {} on host {}", rank, hosts_[static_cast<std::size_t>(rank)]);
  }

  void run() {
    auto last = Clock::now();
    double since_beat = limits_.beat_seconds;  // the first beat goes at once
    while (!done_) {
      host_.wait(poll_interval);
      look_at_main_thread();
      const auto now = Clock::now();
      // A judge that did not run itself saw nobody's silence.
      const double elapsed =
          std::min<double>(std::chrono::duration<double>(now - last).count(), 0.5);
      last = now;
      since_beat += elapsed;
      const bool beat = since_beat >= limits_.beat_seconds;
      if (beat) since_beat = 0;
      look_for_deaths(elapsed);
      if (is_chief()) {
        judge(elapsed, beat);
      } else {
        serve(elapsed, beat);
      }
    }
    host_.leave();
  }

  void look_at_main_thread() {
    const std::lock_guard lock(mutex_);
    end_seen_ = ending_;
    if (!terms_) return;
    judge_.settle(stall_seconds_, terms_->grace_seconds);
    settled_ = std::exchange(terms_, std::nullopt);
  }

  // A process of this host that ended without a word is seen here long before it is missed.
  void look_for_deaths(double elapsed) {
    if (!death_) {
      death_ = host_.death();
      return;
    }
    since_death_ += elapsed;
    if (since_death_ < death_seconds || !host_.speaks_for_host() || host_.job_is_ending()) return;
    // A rank that crashed has said so itself.
    const bool has_crashed = host_.cause_is_said();
    abort_with(
        fmt::format("{} died{}, killed or out of memory: the job ends", name_of(death_->rank),
                    death_->step < 0 ? "" : fmt::format(" in step {}", death_->step)),
        has_crashed ? exit_code::internal_error : exit_code::stopped);
  }

  // A rank other than 0: reports, and listens for rank 0.
  void serve(double elapsed, bool beat) {
    if (end_seen_ && !end_reported_) {
      sends_[0].wait();
      sends_[0] = send(report_of_end());
      end_reported_ = true;
      if (!failure_) {
        done_ = true;
        return;
      }
    } else if (is_first_step() || (beat && sends_[0].done())) {
      sends_[0].join(send(report(ReportKind::alive)));
    }
    pass_on_signals(elapsed);
    silence_of_chief_ += elapsed;
    while (const auto message = comm_.try_receive(0, verdict_tag)) {
      silence_of_chief_ = 0;
      const Verdict verdict = unpack_verdict(message->bytes);
      if (verdict.kind == VerdictKind::leave) done_ = true;
      if (verdict.kind == VerdictKind::stop)
        stop_request_.make(verdict.text, verdict.grace_seconds);
    }
    // One after another, so that one rank speaks for all.
    const double patience = limits_.silence_seconds + 0.2 * std::min(comm_.rank(), 50);
    if (silence_of_chief_ > patience) {
      abort_with(fmt::format("{} has been silent for {:.0f} s: the job ends", name_of(0),
                             silence_of_chief_),
                 exit_code::stopped);
    }
  }

  // Once: from then on rank 0 knows that the rank is in the steps.
  bool is_first_step() {
    if (first_step_told_) return false;
    first_step_told_ = host_.progress().step.load(std::memory_order_relaxed) >= 0;
    return first_step_told_;
  }

  void pass_on_signals(double elapsed) {
    if (stop_signal() != 0 && !std::exchange(stop_passed_on_, true)) {
      sends_[0].join(send(report(ReportKind::stop)));
    }
    if (interrupts() < 2) return;
    if (!std::exchange(interrupt_passed_on_, true)) {
      sends_[0].join(send(report(ReportKind::interrupt)));
    }
    since_interrupt_ += elapsed;
    if (since_interrupt_ < chief_seconds) return;
    abort_with(fmt::format("stopped at once by a second SIGINT on rank {}", comm_.rank()),
               exit_code::stopped);
  }

  // What this rank has to say, of that kind.
  Report report(ReportKind kind) {
    Progress& progress = host_.progress();
    Report report;
    report.kind = kind;
    report.step = progress.step.load(std::memory_order_relaxed);
    report.exchanges = progress.exchanges.load(std::memory_order_relaxed);
    if (kind == ReportKind::alive) {
      const char* exchange = progress.waiting_in.load(std::memory_order_relaxed);
      if (exchange != nullptr) report.text = exchange;
    } else if (kind == ReportKind::stop) {
      report.text = signal_name(stop_signal());
    } else if (kind == ReportKind::failed) {
      report.exit_code = failure_->exit_code;
      report.is_peers = failure_->is_peers;
      report.text = failure_->message;
    }
    return report;
  }
  Report report_of_end() { return report(failure_ ? ReportKind::failed : ReportKind::leaving); }
  SendHandle send(const Report& report) const {
    return comm_.isend_bytes(pack(report), 0, report_tag);
  }

  // Rank 0.
  void judge(double elapsed, bool beat) {
    judge_.take(0, end_seen_ ? report_of_end() : report(ReportKind::alive));
    if (stop_signal() != 0) judge_.take(0, report(ReportKind::stop));
    if (interrupts() >= 2) judge_.take(0, report(ReportKind::interrupt));
    while (const auto message = comm_.try_receive(Comm::any_rank, report_tag)) {
      judge_.take(message->source, unpack_report(message->bytes));
    }
    if (settled_ && settled_->stop_at && Clock::now() >= *settled_->stop_at) {
      judge_.stop(settled_->stop_at_reason);
    }
    if (beat) tell_all({});
    const WatchdogJudge::Decision decision = judge_.decide(elapsed);
    switch (decision.kind) {
      case Kind::go_on:
        break;
      case Kind::stop:
        tell_all({{VerdictKind::stop, settled_->grace_seconds}, decision.line});
        stop_request_.make(decision.line, settled_->grace_seconds);
        if (settled_->announce) settled_->announce(decision.line);
        break;
      case Kind::leave:
        say(decision.line);
        tell_all({{VerdictKind::leave}, {}});
        done_ = true;
        break;
      case Kind::abort:
        abort_with(decision.line, decision.exit_code);
      case Kind::done:
        done_ = true;
        break;
    }
  }

  void tell_all(const Verdict& verdict) {
    for (int rank = 1; rank < comm_.size(); ++rank) {
      const auto at = static_cast<std::size_t>(rank);
      if (judge_.has_left(rank)) continue;
      if (verdict.kind == VerdictKind::alive && !sends_[at].done()) continue;
      sends_[at].join(comm_.isend_bytes(pack(verdict), rank, verdict_tag));
    }
  }

  void say(const std::string& line) const {
    std::fflush(stdout);
    fmt::print(stderr, "{}: {}\n", program_, line);
    std::fflush(stderr);
  }

  // One line, unless it is said already, and then the end, for which a broken network must not make
  // anybody wait.
  [[noreturn]] void abort_with(const std::string& line, int exit_code) {
    host_.job_is_ending() = true;
    if (!host_.cause_is_said().exchange(true)) say(line);
    alarm(abort_seconds);
    Environment::abort_job(exit_code);
  }

  Comm comm_;
  const std::string program_;
  const WatchdogLimits limits_;
  StopRequest& stop_request_;
  const std::vector<std::string> hosts_;  // by rank, as far as known_hosts() says
  HostWatch host_;
  LastWords last_words_;
  Progress* outer_ = nullptr;  // where the main thread's marks went before

  // Shared with the main thread; the thread reads failure_ once it has seen ending_.
  std::mutex mutex_;
  bool ending_ = false;
  std::optional<Failure> failure_;
  double stall_seconds_ = 0;
  std::optional<StopTerms> terms_;  // until the thread has taken them

  // The thread's own.
  std::optional<StopTerms> settled_;
  bool end_seen_ = false;
  bool end_reported_ = false;
  bool first_step_told_ = false;
  bool stop_passed_on_ = false;
  bool interrupt_passed_on_ = false;
  bool done_ = false;
  double since_interrupt_ = 0;
  double silence_of_chief_ = 0;
  std::optional<HostWatch::Death> death_;
  double since_death_ = 0;
  WatchdogJudge judge_;            // rank 0's
  std::vector<SendHandle> sends_;  // by peer

  std::thread thread_;
};

Watchdog::Watchdog(const Comm& world, std::string program, const WatchdogLimits& limits)
    : thread_(std::make_unique<Thread>(world, std::move(program), limits, stop_request_)) {}

Watchdog::~Watchdog() {
  if (!thread_->ended()) thread_->end(std::nullopt);
}

void Watchdog::settle(double stall_seconds, const StopTerms& terms) {
  thread_->settle(stall_seconds, terms);
}

int Watchdog::fail(const Failure& failure) {
  thread_->end(failure);
  return failure.exit_code;
}

}  // namespace millrace
