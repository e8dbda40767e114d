// A mark in a stream's work that the host can wait for. On the CPU work is done when it returns, so
// a mark is always reached.
#pragma once

#include "kernels/base/stream.hpp"

namespace millrace {

class Event {
 public:
  explicit Event(Device device);
  ~Event();
  Event(Event&& other) noexcept;
  Event& operator=(Event&&) = delete;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  // Marks the stream's work so far; an earlier mark is forgotten.
  void record(Stream stream);

  // Blocks until the mark is reached; at once when none was made.
  void wait() const;

 private:
  Device device_;
  void* handle_ = nullptr;
};

}  // namespace millrace
