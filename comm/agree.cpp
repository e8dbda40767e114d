#include "comm/agree.hpp"

#include <fmt/format.h>

#include <filesystem>
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
  bool is_peers = false;
};

// Which ranks' errors count before others'.
enum class Weight : std::int64_t { users, failure, follows, nothing };

Weight weight_of(const Outcome& outcome) {
  if (outcome.is_peers) return Weight::follows;
  return outcome.kind == Kind::user_error ? Weight::users : Weight::failure;
}

Outcome describe(const std::exception_ptr& error) {
  const auto outcome = [](Kind kind, const std::string& message, const std::exception& e) {
    return Outcome{kind, message, dynamic_cast<const PeerError*>(&e) != nullptr};
  };
  try {
    std::rethrow_exception(error);
  } catch (const Stopped& e) {
    return outcome(Kind::stopped, e.what(), e);
  } catch (const UserError& e) {
    return outcome(Kind::user_error, e.what(), e);
  } catch (const TemporaryError& e) {
    return outcome(Kind::temporary, e.what(), e);
  } catch (const std::filesystem::filesystem_error& e) {
    return outcome(Kind::user_error, error_message(e), e);
  } catch (const std::exception& e) {
    return outcome(Kind::failure, error_message(e), e);
  } catch (...) {
    return {Kind::failure, "an exception of unknown type", false};
  }
}

}  // namespace

void agree_on_outcome(const Comm& comm, std::exception_ptr mine) {
  const std::int64_t ranks = comm.size();
  const Outcome outcome = mine ? describe(mine) : Outcome{};
  const auto weight = static_cast<std::int64_t>(mine ? weight_of(outcome) : Weight::nothing);
  const std::int64_t first = comm.all_reduce_min(weight * ranks + comm.rank());
  if (first / ranks == static_cast<std::int64_t>(Weight::nothing)) return;
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
  if (weight == first / ranks) std::rethrow_exception(mine);
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
