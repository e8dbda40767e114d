#include "comm/run_main.hpp"

#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <thread>

#include "comm/agree.hpp"
#include "comm/error_message.hpp"
#include "comm/exit_code.hpp"
#include "comm/stop_signals.hpp"
#include "comm/temporary_error.hpp"

namespace millrace {
namespace {

int exit_code_of(const std::exception& error) {
  if (dynamic_cast<const UserError*>(&error) != nullptr) return exit_code::users_mistake;
  // A path that may not be looked at.
  if (dynamic_cast<const std::filesystem::filesystem_error*>(&error) != nullptr) {
    return exit_code::users_mistake;
  }
  if (dynamic_cast<const TemporaryError*>(&error) != nullptr) return exit_code::stopped;
  return exit_code::internal_error;
}

Failure current_failure() {
  try {
    throw;
  } catch (const std::exception& e) {
    return {exit_code_of(e), dynamic_cast<const PeerError*>(&e) != nullptr, error_message(e)};
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

// All ranks have done their work, and nobody watches them any more. MPI_Finalize, which waits for
// every rank, would wait for ever for one that is lost just now: a daemon or a host that died.
constexpr auto finalize_seconds = std::chrono::seconds(20);

void leave_within(std::chrono::seconds limit, int code) {
  try {
    std::thread([limit, code] {
      std::this_thread::sleep_for(limit);
      std::fflush(stdout);
      std::_Exit(code);
    }).detach();
  } catch (const std::system_error&) {
    // The host gives no thread any more; the work is done all the same.
  }
}

}  // namespace

int run_main(const std::string& program,
             const std::function<int(const Environment&, Watchdog&)>& body,
             const WatchdogLimits& limits) {
  const StopSignals signals;
  try {
    const Environment environment;
    const int code = run_watched(program, environment, body, limits);
    leave_within(finalize_seconds, code);
    return code;
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
