// What rank 0's watchdog makes of all ranks' reports: does the job go on, stop, or end with an
// error, and what is the one line that says why. Pure logic: no clock, no message, no thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "comm/watchdog.hpp"
#include "comm/watchdog_messages.hpp"

namespace millrace {

class WatchdogJudge {
 public:
  // `hosts` by rank.
  WatchdogJudge(std::vector<std::string> hosts, const WatchdogLimits& limits);

  // From now on the job looks at its stop request, and `stall_seconds` without progress is a hang.
  void settle(double stall_seconds, double grace_seconds);

  void take(int rank, const Report& report);
  // All ranks are to stop. The first reason counts.
  void stop(const std::string& reason);
  bool has_left(int rank) const { return at(rank).has_left; }

  struct Decision {
    enum class Kind : std::uint8_t {
      go_on,
      stop,   // tell all ranks: `line` is the reason
      leave,  // print the line and let all ranks leave
      abort,  // print the line and end the job with the code
      done,   // all ranks have left
    };
    Kind kind = Kind::go_on;
    std::string line = {};
    int exit_code = 0;
  };
  // `elapsed` seconds after the last decision.
  Decision decide(double elapsed);

 private:
  struct Rank {
    std::string host;
    double silent_seconds = 0;
    std::int64_t step = -1;
    std::int64_t exchanges = 0;
    std::string waiting_in;
    bool has_left = false;
    std::optional<Failure> failure;
  };
  using Verdict = std::optional<Decision>;  // nullopt: nothing to decide here

  const Rank& at(int rank) const { return ranks_[static_cast<std::size_t>(rank)]; }
  std::string name_of(int rank) const;
  static std::string whereabouts(const Rank& rank);
  int last_to_get_on() const;
  Verdict judge_failures(double elapsed);
  Verdict judge_stop(double elapsed);
  Verdict judge_silence() const;
  Verdict judge_stall(double elapsed);

  WatchdogLimits limits_;
  std::optional<double> grace_seconds_;  // once settled
  std::vector<Rank> ranks_;
  std::string stop_reason_;
  int interrupted_ = -1;  // a rank
  bool is_stopping_ = false;
  double since_stop_ = 0;
  double since_failure_ = 0;
  std::int64_t marks_ = 0;
  double since_mark_ = 0;
};

}  // namespace millrace
