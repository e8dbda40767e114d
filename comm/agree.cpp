#include "comm/agree.hpp"

#include <fmt/format.h>

#include <string>

#include "comm/error_message.hpp"
#include "comm/hosts.hpp"
#include "comm/stop_request.hpp"

namespace millrace {
namespace {

enum class Kind : char { stopped = 's', user_error = 'u', temporary = 't', failure = 'f' };

struct Outcome {
  Kind kind = Kind::failure;
  std::string message;
};

Outcome describe(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const Stopped& e) {
    return {Kind::stopped, e.what()};
  } catch (const UserError& e) {
    return {Kind::user_error, e.what()};
  } catch (const TemporaryError& e) {
    return {Kind::temporary, e.what()};
  } catch (const std::exception& e) {
    return {Kind::failure, error_message(e)};
  } catch (...) {
    return {Kind::failure, "an exception of unknown type"};
  }
}

}  // namespace

void agree_on_outcome(const Comm& comm, std::exception_ptr mine) {
  const std::int64_t ranks = comm.size();
  const Outcome outcome = mine ? describe(mine) : Outcome{};
  const std::int64_t own_class = !mine ? 2 : outcome.kind == Kind::user_error ? 0 : 1;
  const std::int64_t first = comm.all_reduce_min(own_class * ranks + comm.rank());
  if (first >= 2 * ranks) return;
  const int failed_rank = static_cast<int>(first % ranks);
  Bytes report;
  if (comm.rank() == failed_rank) {
    const std::string where = fmt::format("rank {} on host {}: ", comm.rank(), host_name());
    const std::string text =
        fmt::format("{}{}{}", static_cast<char>(outcome.kind),
                    outcome.kind == Kind::stopped ? "" : where, outcome.message);
    const auto bytes = as_bytes(text);
    report.assign(bytes.begin(), bytes.end());
  }
  comm.broadcast_bytes(report, failed_rank);
  if (own_class == first / ranks) std::rethrow_exception(mine);
  const std::string_view text = as_text(report);
  const std::string message(text.substr(1));
  switch (static_cast<Kind>(text.front())) {
    case Kind::stopped:
      throw Stopped(message);
    case Kind::user_error:
      throw PeerUserError(message);
    case Kind::temporary:
      throw PeerTemporaryError("{}", message);
    case Kind::failure:
      break;
  }
  throw PeerFailure(message);
}

}  // namespace millrace
