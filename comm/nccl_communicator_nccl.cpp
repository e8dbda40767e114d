#include "comm/nccl_communicator.hpp"

#include <fmt/format.h>

#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>

#include "comm/agree.hpp"
#include "comm/nccl_facts.hpp"
#include "kernels/base/cuda_check.hpp"
#include "kernels/base/error.hpp"

namespace millrace::cuda {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto poll_interval = std::chrono::milliseconds(1);
constexpr auto watch_interval = std::chrono::seconds(1);
constexpr double finalize_seconds = 30;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

[[noreturn]] void throw_nccl(const char* operation, ncclResult_t result, const char* detail) {
  const std::string text = detail == nullptr ? "" : detail;
  // NCCL has no code of its own for it.
  if (text.find("out of memory") != std::string::npos ||
      text.find("Failed to CUDA calloc") != std::string::npos ||
      text.find("Failed to CUDA malloc") != std::string::npos) {
    throw UserError("out of memory on the GPU: NCCL {} gets none ({})", operation, text);
  }
  throw std::runtime_error(fmt::format("NCCL {}: {}{}{}", operation, ncclGetErrorString(result),
                                       text.empty() ? "" : ": ", text));
}

// One thread looks after all communicators of the process while there are any.
class Watch {
 public:
  static Watch& instance() {
    static auto* watch = new Watch();  // lives until the process ends, as its thread may
    return *watch;
  }

  void add(NcclCommunicator* communicator) {
    const std::lock_guard lock(mutex_);
    watched_.insert(communicator);
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  }

  void remove(NcclCommunicator* communicator) {
    std::thread finished;
    {
      const std::lock_guard lock(mutex_);
      watched_.erase(communicator);
      if (watched_.empty()) finished = std::move(thread_);
    }
    changed_.notify_all();
    if (finished.joinable()) finished.join();
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    while (!watched_.empty()) {
      for (NcclCommunicator* communicator : watched_) communicator->abort_if_broken();
      changed_.wait_for(lock, watch_interval, [this] { return watched_.empty(); });
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<NcclCommunicator*> watched_;
  std::thread thread_;
};

}  // namespace

NcclCommunicator::NcclCommunicator(const ncclUniqueId& id, int rank, int size, Device device,
                                   double limit_seconds, std::function<bool()> is_hopeless)
    : is_hopeless_(std::move(is_hopeless)), exceptions_at_start_(std::uncaught_exceptions()) {
  use_device(device);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  const ncclResult_t begun = ncclCommInitRankConfig(&handle_, size, id, rank, &config);
  if (begun != ncclSuccess && begun != ncclInProgress)
    throw_nccl("init", begun, ncclGetLastError(handle_));
  const Clock::time_point begin = Clock::now();
  ncclResult_t state = ncclInProgress;
  while (state == ncclInProgress) {
    const ncclResult_t asked = ncclCommGetAsyncError(handle_, &state);
    if (asked != ncclSuccess) state = asked;
    if (state != ncclInProgress) break;
    if (seconds_since(begin) > limit_seconds) {
      ncclCommAbort(handle_);
      throw std::runtime_error(
          fmt::format("NCCL init: not connected after {} seconds (rank {} of {}, {})",
                      limit_seconds, rank, size, to_string(device)));
    }
    abort_if_hopeless("init");
    std::this_thread::sleep_for(poll_interval);
  }
  if (state != ncclSuccess) {
    const std::string detail = ncclGetLastError(handle_);
    ncclCommAbort(handle_);
    throw_nccl("init", state, detail.c_str());
  }
  Watch::instance().add(this);
}

NcclCommunicator::~NcclCommunicator() {
  Watch::instance().remove(this);
  if (failed_) return;  // aborted already
  if (std::uncaught_exceptions() > exceptions_at_start_) {
    ncclCommAbort(handle_);
    return;
  }
  // Finalizing waits for all ranks; one that died must not keep the others.
  const Clock::time_point begin = Clock::now();
  ncclResult_t state = ncclCommFinalize(handle_);
  while (state == ncclInProgress && seconds_since(begin) < finalize_seconds) {
    if (ncclCommGetAsyncError(handle_, &state) != ncclSuccess) break;
    std::this_thread::sleep_for(poll_interval);
  }
  if (state == ncclSuccess) {
    ncclCommDestroy(handle_);
  } else {
    ncclCommAbort(handle_);
  }
}

void NcclCommunicator::settle(const char* operation, ncclResult_t result) {
  while (result == ncclInProgress && !failed_) {
    const ncclResult_t asked = ncclCommGetAsyncError(handle_, &result);
    if (asked != ncclSuccess) result = asked;
    if (result != ncclInProgress) break;
    abort_if_hopeless(operation);
    std::this_thread::yield();
  }
  if (failed_) throw_failed(operation);
  if (result != ncclSuccess) throw_nccl(operation, result, ncclGetLastError(handle_));
}

void NcclCommunicator::wait(const char* operation, Stream stream, double limit_seconds) {
  const Clock::time_point begin = Clock::now();
  cudaError_t state = cudaErrorNotReady;
  while ((state = cudaStreamQuery(native(stream))) == cudaErrorNotReady) {
    if (failed_) throw_failed(operation);
    if (seconds_since(begin) > limit_seconds) {
      throw std::runtime_error(
          fmt::format("NCCL {}: nothing arrived within {} seconds", operation, limit_seconds));
    }
    abort_if_hopeless(operation);
    std::this_thread::sleep_for(poll_interval);
  }
  cuda_check(state, operation);
}

void NcclCommunicator::abort_if_hopeless(const char* operation) {
  if (!is_hopeless_ || !is_hopeless_()) return;
  if (!failed_.exchange(true)) ncclCommAbort(handle_);
  throw PeerFailure(fmt::format("NCCL {}: another rank gave up", operation));
}

void NcclCommunicator::throw_failed(const char* operation) const {
  throw std::runtime_error(fmt::format(
      "NCCL {}: the communicator was aborted after a failure of another rank or of a link",
      operation));
}

bool NcclCommunicator::abort_if_broken() {
  if (failed_) return false;
  ncclResult_t state = ncclSuccess;
  const ncclResult_t asked = ncclCommGetAsyncError(handle_, &state);
  if (asked == ncclSuccess && (state == ncclSuccess || state == ncclInProgress)) return false;
  fmt::print(stderr, "millrace: NCCL: {}: {}\n", ncclGetErrorString(state),
             ncclGetLastError(handle_));
  if (!failed_.exchange(true)) ncclCommAbort(handle_);
  return true;
}

std::string nccl_version() {
  int version = 0;
  ncclGetVersion(&version);
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

}  // namespace millrace::cuda
