// All ranks agree that a phase succeeded before any of them goes on, so that a failure on one rank
// never leaves the others waiting in a collective.
#pragma once

#include <exception>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "comm/comm.hpp"
#include "comm/temporary_error.hpp"
#include "kernels/base/error.hpp"

namespace millrace {

// The mark of an error that happened on another rank, which reports it.
class PeerError {
 public:
  virtual ~PeerError() = default;
};

// "rank 3 on host n1: <its message>", when that rank threw a UserError.
class PeerUserError : public UserError, public PeerError {
 public:
  using UserError::UserError;
};

// The same, when it threw a TemporaryError.
class PeerTemporaryError : public TemporaryError, public PeerError {
 public:
  using TemporaryError::TemporaryError;
};

// The same, when it threw anything else.
class PeerFailure : public std::runtime_error, public PeerError {
 public:
  using std::runtime_error::runtime_error;
};

// The second half of agree(): returns when `mine` is null on every rank. Else every rank throws:
// those whose error counts most their own, all others that of the lowest such rank, as
// PeerUserError, PeerTemporaryError or PeerFailure, or Stopped when it was that. What the user can
// mend counts most (a GPU without memory makes calls fail on other ranks too), then all other
// errors, then a PeerError. Collective.
void agree_on_outcome(const Comm& comm, std::exception_ptr mine);

// Runs `phase` and returns its result, or throws on all ranks of `comm` when it threw on any.
// The phase may use communicators only as long as a rank that fails does not leave others waiting.
// Collective.
template <typename Phase>
auto agree(const Comm& comm, Phase&& phase) -> std::invoke_result_t<Phase> {
  using Result = std::invoke_result_t<Phase>;
  std::exception_ptr error;
  if constexpr (std::is_void_v<Result>) {
    try {
      std::forward<Phase>(phase)();
    } catch (...) {
      error = std::current_exception();
    }
    agree_on_outcome(comm, error);
  } else {
    std::optional<Result> result;
    try {
      result.emplace(std::forward<Phase>(phase)());
    } catch (...) {
      error = std::current_exception();
    }
    agree_on_outcome(comm, error);
    return std::move(*result);
  }
}

}  // namespace millrace
