// A sequence of ops recorded once and replayed as a whole, so that a step of hundreds of small
// kernels costs the host one call (CUDA graphs). The ops' tensors keep their addresses and sizes;
// what they hold may change from replay to replay.
#pragma once

#include <utility>

#include "kernels/base/stream.hpp"

namespace millrace {

class Graph {
 public:
  // True where ops can be recorded: on CUDA.
  static bool is_supported(Device device) { return device.is_cuda(); }

  // Records what `enqueue` puts on the stream, without running it. It must neither allocate nor
  // wait. A graph that holds collectives must be destroyed before its communicator.
  template <typename Enqueue>
  static Graph record(Stream stream, Enqueue&& enqueue) {
    begin(stream);
    try {
      std::forward<Enqueue>(enqueue)();
    } catch (...) {
      drop(stream);
      throw;
    }
    return {stream.device, end(stream)};
  }

  ~Graph();
  Graph(Graph&& other) noexcept;
  Graph& operator=(Graph&&) = delete;
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void launch(Stream stream) const;

 private:
  Graph(Device device, void* handle) : device_(device), handle_(handle) {}
  static void begin(Stream stream);
  static void* end(Stream stream);
  // Ends a recording that failed, and may be beyond ending in good order.
  static void drop(Stream stream) noexcept;

  Device device_;
  void* handle_ = nullptr;
};

}  // namespace millrace
