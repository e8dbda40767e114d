#include "comm/watchdog_judge.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "comm/exit_code.hpp"

namespace millrace {
namespace {

using Kind = WatchdogJudge::Decision::Kind;

}  // namespace

WatchdogJudge::WatchdogJudge(std::vector<std::string> hosts, const WatchdogLimits& limits)
    : limits_(limits) {
  for (std::string& host : hosts) ranks_.emplace_back().host = std::move(host);
}

void WatchdogJudge::settle(double stall_seconds, double grace_seconds) {
  limits_.stall_seconds = stall_seconds;
  grace_seconds_ = grace_seconds;
}

void WatchdogJudge::take(int number, const Report& report) {
  Rank& rank = ranks_[static_cast<std::size_t>(number)];
  rank.silent_seconds = 0;
  rank.step = report.step;
  rank.exchanges = report.exchanges;
  switch (report.kind) {
    case ReportKind::alive:
      rank.waiting_in = report.text;
      break;
    case ReportKind::stop:
      stop(fmt::format("{} on rank {}", report.text, number));
      break;
    case ReportKind::interrupt:
      interrupted_ = number;
      break;
    case ReportKind::failed:
      rank.failure = Failure{report.exit_code, report.is_peers, report.text};
      break;
    case ReportKind::leaving:
      rank.has_left = true;
      break;
  }
}

void WatchdogJudge::stop(const std::string& reason) {
  if (stop_reason_.empty()) stop_reason_ = reason;
}

WatchdogJudge::Decision WatchdogJudge::decide(double elapsed) {
  for (Rank& rank : ranks_) rank.silent_seconds += elapsed;
  if (auto verdict = judge_failures(elapsed)) return *std::move(verdict);
  if (auto verdict = judge_stop(elapsed)) return *std::move(verdict);
  if (auto verdict = judge_silence()) return *std::move(verdict);
  if (auto verdict = judge_stall(elapsed)) return *std::move(verdict);
  const bool all_left =
      std::all_of(ranks_.begin(), ranks_.end(), [](const Rank& r) { return r.has_left; });
  return {.kind = all_left ? Kind::done : Kind::go_on};
}

std::string WatchdogJudge::name_of(int rank) const {
  return fmt::format("rank {} on host {}", rank, at(rank).host);
}

std::string WatchdogJudge::whereabouts(const Rank& rank) {
  std::string text = rank.step < 0 ? "outside the steps" : fmt::format("in step {}", rank.step);
  if (!rank.waiting_in.empty()) text += fmt::format(", waiting in {}", rank.waiting_in);
  return text;
}

// The rank that the others wait for: it waits for nobody, and has done the least.
int WatchdogJudge::last_to_get_on() const {
  const auto behind =
      std::min_element(ranks_.begin(), ranks_.end(), [](const Rank& a, const Rank& b) {
        return std::tuple(a.has_left, !a.waiting_in.empty(), a.step) <
               std::tuple(b.has_left, !b.waiting_in.empty(), b.step);
      });
  return static_cast<int>(behind - ranks_.begin());
}

WatchdogJudge::Verdict WatchdogJudge::judge_failures(double elapsed) {
  std::size_t failed = 0;
  int first = -1;  // the lowest rank with an error of its own, else with any
  for (int rank = 0; rank < static_cast<int>(ranks_.size()); ++rank) {
    const auto& failure = at(rank).failure;
    if (!failure) continue;
    ++failed;
    if (first < 0 || (at(first).failure->is_peers && !failure->is_peers)) first = rank;
  }
  if (failed == 0) return std::nullopt;
  const Failure& cause = *at(first).failure;
  const bool all_failed = failed == ranks_.size();
  const bool all_alike =
      all_failed && std::all_of(ranks_.begin(), ranks_.end(), [&](const Rank& rank) {
        return rank.failure->message == cause.message;
      });
  // Rank 0 reads what the user gave to the whole job, and holds its journal: its complaint about
  // that is not a matter of ranks and hosts. Nor is what every rank says alike, or what names the
  // rank already.
  const bool is_the_jobs =
      all_alike || cause.is_peers || (first == 0 && cause.exit_code != exit_code::internal_error);
  std::string line = cause.message;
  if (!is_the_jobs) {
    const std::int64_t step = at(first).step;
    line = fmt::format("{}{}: {}", name_of(first), step < 0 ? "" : fmt::format(" in step {}", step),
                       cause.message);
  }
  if (all_failed) return Decision{Kind::leave, line, cause.exit_code};
  since_failure_ += elapsed;
  if (since_failure_ <= limits_.consent_seconds) return Decision{};
  return Decision{Kind::abort, line, cause.exit_code};
}

WatchdogJudge::Verdict WatchdogJudge::judge_stop(double elapsed) {
  if (interrupted_ >= 0) {
    return Decision{Kind::abort,
                    fmt::format("stopped at once by a second SIGINT on rank {}", interrupted_),
                    exit_code::stopped};
  }
  if (stop_reason_.empty()) return std::nullopt;
  if (!grace_seconds_) {
    return Decision{Kind::abort, fmt::format("stopped by {}", stop_reason_), exit_code::stopped};
  }
  if (!std::exchange(is_stopping_, true)) return Decision{Kind::stop, stop_reason_};
  since_stop_ += elapsed;
  if (since_stop_ <= *grace_seconds_ + closing_seconds) return std::nullopt;
  const int behind = last_to_get_on();
  return Decision{Kind::abort,
                  fmt::format("stopped by {}, but after {:.0f} s {} is still {}: the job ends",
                              stop_reason_, since_stop_, name_of(behind), whereabouts(at(behind))),
                  exit_code::stopped};
}

WatchdogJudge::Verdict WatchdogJudge::judge_silence() const {
  for (int r = 1; r < static_cast<int>(ranks_.size()); ++r) {
    const Rank& rank = at(r);
    if (rank.has_left || rank.silent_seconds <= limits_.silence_seconds) continue;
    return Decision{Kind::abort,
                    fmt::format("{} has been silent for {:.0f} s, last seen {}: the job ends",
                                name_of(r), rank.silent_seconds, whereabouts(rank)),
                    exit_code::stopped};
  }
  return std::nullopt;
}

// No rank gets on any more although they are in the steps.
WatchdogJudge::Verdict WatchdogJudge::judge_stall(double elapsed) {
  std::int64_t marks = 0;
  bool in_steps = false;
  for (const Rank& rank : ranks_) {
    marks += rank.step + rank.exchanges;
    in_steps = in_steps || (rank.step >= 0 && !rank.has_left);
  }
  since_mark_ = marks != marks_ || !in_steps ? 0 : since_mark_ + elapsed;
  marks_ = marks;
  if (since_mark_ <= limits_.stall_seconds) return std::nullopt;
  const int behind = last_to_get_on();
  return Decision{Kind::abort,
                  fmt::format("{} hangs {}: no rank has got on for {:.0f} s, the job ends",
                              name_of(behind), whereabouts(at(behind)), since_mark_),
                  exit_code::stopped};
}

}  // namespace millrace
