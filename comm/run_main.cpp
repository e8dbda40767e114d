#include "comm/run_main.hpp"

#include <fmt/format.h>

#include <cstdio>

#include "comm/agree.hpp"
#include "comm/exit_code.hpp"
#include "comm/watchdog.hpp"

namespace millrace {
namespace {

Failure current_failure() {
  try {
    throw;
  } catch (const std::exception& e) {
    return {dynamic_cast<const UserError*>(&e) != nullptr ? exit_code::users_mistake
                                                          : exit_code::internal_error,
            dynamic_cast<const PeerError*>(&e) != nullptr, e.what()};
  } catch (...) {
    return {exit_code::internal_error, false, "an exception of unknown type"};
  }
}

int run_watched(const std::string& program, const Environment& environment,
                const std::function<int(const Environment&)>& body) {
  Watchdog watchdog(environment.world(), program);
  try {
    return body(environment);
  } catch (...) {
    return watchdog.fail(current_failure());
  }
}

}  // namespace

int run_main(const std::string& program, const std::function<int(const Environment&)>& body) {
  try {
    const Environment environment;
    return run_watched(program, environment, body);
  } catch (const std::exception& e) {  // before the watchdog could start
    fmt::print(stderr, "{}: {}\n", program, e.what());
    return current_failure().exit_code;
  }
}

}  // namespace millrace
