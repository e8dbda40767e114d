#include "comm/agree.hpp"

#include <fmt/format.h>

#include <string>

#include "comm/hosts.hpp"

namespace millrace {
namespace {

struct Outcome {
  bool is_user_error = false;
  std::string message;
};

Outcome describe(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const UserError& e) {
    return {true, e.what()};
  } catch (const std::exception& e) {
    return {false, e.what()};
  } catch (...) {
    return {false, "an exception of unknown type"};
  }
}

}  // namespace

void agree_on_outcome(const Comm& comm, std::exception_ptr mine) {
  const int failed_rank = static_cast<int>(comm.all_reduce_min(mine ? comm.rank() : comm.size()));
  if (failed_rank == comm.size()) return;
  Bytes report;
  if (comm.rank() == failed_rank) {
    const Outcome outcome = describe(mine);
    const std::string text =
        fmt::format("{}rank {} on host {}: {}", outcome.is_user_error ? 'u' : 'f', comm.rank(),
                    host_name(), outcome.message);
    const auto bytes = as_bytes(text);
    report.assign(bytes.begin(), bytes.end());
  }
  comm.broadcast_bytes(report, failed_rank);
  if (mine) std::rethrow_exception(mine);
  const std::string_view text = as_text(report);
  const std::string message(text.substr(1));
  if (text.front() == 'u') throw PeerUserError(message);
  throw PeerFailure(message);
}

}  // namespace millrace
