// An ncclComm_t with an owner: made without blocking, watched while it lives, aborted when it
// fails.
#pragma once

#include <nccl.h>

#include <atomic>
#include <functional>
#include <string>

#include "kernels/base/device.hpp"
#include "kernels/base/stream.hpp"

namespace millrace::cuda {

class NcclCommunicator {
 public:
  // Collective over the ranks that share `id`. Polls NCCL until it has connected them; throws
  // std::runtime_error with NCCL's own words, or when `limit_seconds` have passed. `is_hopeless` is
  // asked while NCCL waits for other ranks, here and in later calls until trust_others(): when it
  // says so, the communicator is aborted, and the call throws a PeerFailure.
  NcclCommunicator(const ncclUniqueId& id, int rank, int size, Device device, double limit_seconds,
                   std::function<bool()> is_hopeless);
  // Waits for work under way, except while the stack unwinds or after a failure: then it aborts,
  // since the other ranks may never come. Graphs that captured its collectives must be gone before.
  ~NcclCommunicator();
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  // Runs an NCCL call on the communicator, call(ncclComm_t), and settles it: a communicator made
  // without blocking may answer "in progress". Throws std::runtime_error naming the operation.
  template <typename Call>
  void run(const char* operation, Call&& call) {
    if (failed_) throw_failed(operation);
    settle(operation, call(handle_));
  }

  // Waits until what was enqueued on the stream has run. Throws std::runtime_error naming the
  // operation when it did not within `limit_seconds`, or when the communicator failed meanwhile.
  void wait(const char* operation, Stream stream, double limit_seconds);

  // All ranks are connected: from now on the watch and the watchdog look after them.
  void trust_others() { is_hopeless_ = nullptr; }

  // For the watch: asks NCCL whether something went wrong behind the caller's back (a peer died, a
  // link broke), and if so aborts, which ends kernels that wait for ever. True when it did.
  bool abort_if_broken();

 private:
  void settle(const char* operation, ncclResult_t result);
  void abort_if_hopeless(const char* operation);
  [[noreturn]] void throw_failed(const char* operation) const;

  ncclComm_t handle_ = nullptr;
  std::atomic<bool> failed_ = false;
  std::function<bool()> is_hopeless_;
  int exceptions_at_start_ = 0;
};

}  // namespace millrace::cuda
