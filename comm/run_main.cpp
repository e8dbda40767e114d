#include "comm/run_main.hpp"

#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <string>

#include "comm/agree.hpp"
#include "comm/hosts.hpp"

namespace millrace {
namespace {

struct Failure {
  int exit_code = 1;
  bool is_peers = false;  // another rank's, which reports it
  std::string message;
};

Failure current_failure() {
  try {
    throw;
  } catch (const std::exception& e) {
    return {dynamic_cast<const UserError*>(&e) != nullptr ? 2 : 1,
            dynamic_cast<const PeerError*>(&e) != nullptr, e.what()};
  } catch (...) {
    return {1, false, "an exception of unknown type"};
  }
}

void print(const std::string& message) {
  std::fflush(stdout);
  fmt::print(stderr, "millrace: {}\n", message);
  std::fflush(stderr);
}

}  // namespace

int run_main(const std::function<int(const Environment&)>& body) {
  Environment environment;
  try {
    return body(environment);
  } catch (...) {
    const Failure failure = current_failure();
    print(failure.message);
    if (environment.world().size() > 1) Environment::abort_job(failure.exit_code);
    return failure.exit_code;
  }
}

}  // namespace millrace
