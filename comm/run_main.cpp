#include "comm/run_main.hpp"

#include <fmt/format.h>

#include <cstdio>

#include "comm/agree.hpp"
#include "comm/error_message.hpp"
#include "comm/exit_code.hpp"
#include "comm/stop_signals.hpp"

namespace millrace {
namespace {

Failure current_failure() {
  try {
    throw;
  } catch (const std::exception& e) {
    return {dynamic_cast<const UserError*>(&e) != nullptr ? exit_code::users_mistake
                                                          : exit_code::internal_error,
            dynamic_cast<const PeerError*>(&e) != nullptr, error_message(e)};
  } catch (...) {
    return {exit_code::internal_error, false, "an exception of unknown type"};
  }
}

int run_watched(const std::string& program, const Environment& environment,
                const std::function<int(const Environment&, Watchdog&)>& body,
                const WatchdogLimits& limits) {
  Watchdog watchdog(environment.world(), program, limits);
  try {
    return body(environment, watchdog);
  } catch (const Stopped&) {
    return exit_code::stopped;
  } catch (...) {
    return watchdog.fail(current_failure());
  }
}

}  // namespace

int run_main(const std::string& program,
             const std::function<int(const Environment&, Watchdog&)>& body,
             const WatchdogLimits& limits) {
  const StopSignals signals;
  try {
    const Environment environment;
    return run_watched(program, environment, body, limits);
  } catch (const std::exception&) {  // before the watchdog could start
    const Failure failure = current_failure();
    fmt::print(stderr, "{}: {}\n", program, failure.message);
    return failure.exit_code;
  }
}

int run_main(const std::string& program, const std::function<int(const Environment&)>& body,
             const WatchdogLimits& limits) {
  return run_main(
      program, [&](const Environment& environment, Watchdog&) { return body(environment); },
      limits);
}

}  // namespace millrace
