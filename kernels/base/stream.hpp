// A queue of work on a device. Ops enqueue on a Stream and may return before they ran; on the CPU
// an op has run when it returns. The handle is a cudaStream_t on CUDA (nullptr: the default stream)
// and unused on the CPU. A Stream is a reference: OwnedStream makes and destroys the queue.
#pragma once

#include "kernels/base/device.hpp"

namespace millrace {

struct Stream {
  Device device;
  void* handle = nullptr;
};

class OwnedStream {
 public:
  explicit OwnedStream(Device device);
  ~OwnedStream();
  OwnedStream(const OwnedStream&) = delete;
  OwnedStream& operator=(const OwnedStream&) = delete;

  Stream stream() const { return stream_; }

 private:
  Stream stream_;
};

// Blocks until everything enqueued on the stream has run. Throws what the device reports.
void synchronize(Stream stream);

}  // namespace millrace
