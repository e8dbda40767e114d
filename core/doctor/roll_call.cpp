#include "core/doctor/roll_call.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>

#include "comm/backoff.hpp"
#include "comm/environment.hpp"
#include "comm/exit_code.hpp"
#include "comm/hosts.hpp"

namespace millrace {
namespace {

constexpr int through_tag = 30'002;
constexpr unsigned abort_seconds = 10;  // for the abort itself, over a broken network
constexpr int most_named = 8;

}  // namespace

RollCall::RollCall(const Comm& world, std::string check, double limit_seconds)
    : comm_(world.duplicate()),
      check_(std::move(check)),
      limit_seconds_(limit_seconds),
      exceptions_at_start_(std::uncaught_exceptions()),
      through_(static_cast<std::size_t>(world.size())) {
  for (const Bytes& host : comm_.gather_bytes(as_bytes(host_name()), 0)) {
    hosts_.emplace_back(as_text(host));
  }
  if (comm_.rank() == 0) listener_ = std::thread([this] { listen(); });
}

RollCall::~RollCall() {
  const bool unwinding = std::uncaught_exceptions() > exceptions_at_start_;
  if (comm_.rank() == 0) {
    (unwinding ? abandoned_ : is_through_) = true;
    listener_.join();
  } else if (!unwinding) {
    comm_.send_bytes({}, 0, through_tag);
  }
}

void RollCall::listen() {
  const auto begin = std::chrono::steady_clock::now();
  Backoff backoff(std::chrono::milliseconds(10));
  while (!abandoned_) {
    through_[0] = is_through_;
    while (const auto message = comm_.try_receive(Comm::any_rank, through_tag)) {
      through_[static_cast<std::size_t>(message->source)] = true;
    }
    if (std::ranges::find(through_, false) == through_.end()) return;
    const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - begin;
    if (waited.count() > limit_seconds_) give_up();
    backoff.pause();
  }
}

void RollCall::give_up() const {
  std::string names;
  int missing = 0;
  for (std::size_t rank = 0; rank < through_.size(); ++rank) {
    if (through_[rank] || ++missing > most_named) continue;
    names += fmt::format("{}rank {} on host {}", names.empty() ? "" : ", ", rank, hosts_[rank]);
  }
  if (missing > most_named) names += fmt::format(" and {} more", missing - most_named);
  std::fflush(stdout);
  fmt::print(stderr, "millrace-doctor: '{}' did not end within {} s on {}\n", check_,
             limit_seconds_, names);
  std::fflush(stderr);
  alarm(abort_seconds);
  Environment::abort_job(exit_code::internal_error);
}

}  // namespace millrace
