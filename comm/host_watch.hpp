// The ranks of one host watch each other's processes: the kernel says at once when one ends, long
// before its silence would be noticed, and a page that they share tells what it did last.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "comm/comm.hpp"
#include "comm/progress.hpp"

namespace millrace {

class HostWatch {
 public:
  // Collective over `world`. Where processes of a host cannot see each other (containers of their
  // own), each rank watches only itself.
  explicit HostWatch(const Comm& world);
  ~HostWatch();
  HostWatch(const HostWatch&) = delete;
  HostWatch& operator=(const HostWatch&) = delete;

  // This rank's, for watch_this_thread().
  Progress& progress();
  // Some rank of this host has said why the job ends.
  std::atomic<bool>& cause_is_said();
  // Some rank of this host is ending the job: what dies now, dies of that.
  std::atomic<bool>& job_is_ending();
  // From now on the end of this process is no death.
  void leave();

  // Sleeps for so long, or until a process of this host ends or wake() is called.
  void wait(std::chrono::milliseconds at_most);
  void wake();  // any thread

  struct Death {
    int rank = 0;            // of the world
    std::int64_t step = -1;  // its last
  };
  // A rank of this host whose process is gone although it never left.
  std::optional<Death> death();
  // No rank of this host that lives and watches is lower.
  bool speaks_for_host() const;

 private:
  struct Place;  // of a rank in the page
  class Page;
  std::unique_ptr<Page> page_;
  std::vector<int> ranks_;      // of the world, on this host
  std::size_t mine_ = 0;        // among them
  std::vector<int> processes_;  // descriptors; -1: this process, or one that has ended
  int wake_ = -1;
};

}  // namespace millrace
