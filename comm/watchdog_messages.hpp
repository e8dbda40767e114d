// What the watchdog's threads tell each other.
#pragma once

#include <cstdint>
#include <string>

#include "comm/comm.hpp"

namespace millrace {

// From a rank to rank 0.
enum class ReportKind : std::uint8_t {
  alive,
  stop,       // the rank was asked to stop by a signal
  interrupt,  // ... and once more, at once
  failed,
  leaving,
};

// On the wire the text follows the fixed part.
struct ReportHead {
  ReportKind kind = ReportKind::alive;
  bool is_peers = false;  // failed
  int exit_code = 0;      // failed
  std::int64_t step = -1;
  std::int64_t exchanges = 0;
};
struct Report : ReportHead {
  // alive: the exchange it waits in, if any; stop: the signal; failed: the message
  std::string text;
};

// From rank 0 to all others.
enum class VerdictKind : std::uint8_t { alive, stop, leave };

struct VerdictHead {
  VerdictKind kind = VerdictKind::alive;
  double grace_seconds = 0;  // stop
};
struct Verdict : VerdictHead {
  std::string text;  // stop: the reason
};

Bytes pack(const Report& report);
Bytes pack(const Verdict& verdict);
Report unpack_report(const Bytes& bytes);
Verdict unpack_verdict(const Bytes& bytes);

}  // namespace millrace
