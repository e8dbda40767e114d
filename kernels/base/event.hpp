// A mark in a stream's work that the host can wait for, and that can tell when the device came by.
// On the CPU work is done when it returns, so a mark is always reached.
#pragma once

#include <cstdint>

#include "kernels/base/stream.hpp"

namespace millrace {

class Event {
 public:
  enum class Kind : std::uint8_t { mark, timed };

  explicit Event(Device device, Kind kind = Kind::mark);
  ~Event();
  Event(Event&& other) noexcept;
  Event& operator=(Event&&) = delete;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  // Marks the stream's work so far; an earlier mark is forgotten.
  void record(Stream stream);

  // Blocks until the mark is reached; at once when none was made.
  void wait() const;

  // Seconds from `earlier` to this mark, as the device passed them. Both timed, and reached.
  double seconds_since(const Event& earlier) const;

 private:
  Device device_;
  void* handle_ = nullptr;
};

}  // namespace millrace
