#include "comm/host_watch.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "comm/shared_segment.hpp"

namespace millrace {

// Zero bytes are a valid one but for the progress, which its owner sets up.
struct alignas(64) HostWatch::Place {
  Progress progress;
  std::atomic<bool> has_left;
};

class HostWatch::Page {
 public:
  // Behind the bytes that the segment keeps for itself.
  static std::size_t bytes(std::size_t ranks) { return 128 + ranks * sizeof(Place); }

  Page(std::optional<SharedSegment> shared, std::size_t ranks) : shared_(std::move(shared)) {
    if (!shared_) own_.resize(bytes(ranks) / sizeof(Cell) + 1);
  }
  std::atomic<bool>& flag(std::size_t index) {
    return *reinterpret_cast<std::atomic<bool>*>(at(64 + index));
  }
  Place& place(std::size_t index) {
    return *reinterpret_cast<Place*>(at(128 + index * sizeof(Place)));
  }

 private:
  struct alignas(64) Cell {
    std::byte bytes[64];
  };
  std::byte* at(std::size_t offset) {
    return (shared_ ? shared_->data() : reinterpret_cast<std::byte*>(own_.data())) + offset;
  }
  std::optional<SharedSegment> shared_;
  std::vector<Cell> own_;
};

namespace {

int open_process(int process) {
#ifdef SYS_pidfd_open
  return static_cast<int>(syscall(SYS_pidfd_open, process, 0));
#else
  return -1;
#endif
}

int int_of(const Bytes& bytes) {
  int value = 0;
  std::memcpy(&value, bytes.data(), sizeof(value));
  return value;
}

}  // namespace

HostWatch::HostWatch(const Comm& world) : wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  const Comm node = world.split_by_host();
  const int rank = world.rank();
  for (const Bytes& bytes : node.all_gather_bytes(std::as_bytes(std::span(&rank, 1)))) {
    ranks_.push_back(int_of(bytes));
  }
  mine_ = static_cast<std::size_t>(node.rank());
  auto shared = node.size() == 1 ? std::nullopt : share_segment(node, Page::bytes(ranks_.size()));
  const bool is_shared = shared.has_value();
  page_ = std::make_unique<Page>(std::move(shared), ranks_.size());
  new (&page_->place(mine_).progress) Progress;
  const int process = getpid();
  for (const Bytes& bytes : node.all_gather_bytes(std::as_bytes(std::span(&process, 1)))) {
    const int of = int_of(bytes);
    processes_.push_back(is_shared && of != process ? open_process(of) : -1);
  }
}

HostWatch::~HostWatch() {
  for (const int process : processes_) {
    if (process >= 0) close(process);
  }
  close(wake_);
}

Progress& HostWatch::progress() { return page_->place(mine_).progress; }
std::atomic<bool>& HostWatch::cause_is_said() { return page_->flag(0); }
std::atomic<bool>& HostWatch::job_is_ending() { return page_->flag(1); }
void HostWatch::leave() { page_->place(mine_).has_left = true; }

void HostWatch::wait(std::chrono::milliseconds at_most) {
  std::vector<pollfd> waits = {{wake_, POLLIN, 0}};
  for (const int process : processes_) waits.push_back({process, POLLIN, 0});
  if (poll(waits.data(), waits.size(), static_cast<int>(at_most.count())) <= 0) return;
  std::uint64_t ignored = 0;
  if (waits[0].revents != 0) {
    [[maybe_unused]] const ssize_t count = read(wake_, &ignored, sizeof(ignored));
  }
}

void HostWatch::wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t count = write(wake_, &one, sizeof(one));
}

std::optional<HostWatch::Death> HostWatch::death() {
  for (std::size_t i = 0; i < processes_.size(); ++i) {
    pollfd ended{processes_[i], POLLIN, 0};
    if (ended.fd < 0 || poll(&ended, 1, 0) <= 0) continue;
    close(std::exchange(processes_[i], -1));
    Place& place = page_->place(i);
    if (!place.has_left) return Death{ranks_[i], place.progress.step.load()};
  }
  return std::nullopt;
}

bool HostWatch::speaks_for_host() const {
  for (std::size_t i = 0; i < mine_; ++i) {
    if (processes_[i] >= 0 && !page_->place(i).has_left) return false;
  }
  return true;
}

}  // namespace millrace
