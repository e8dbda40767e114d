// Owners of what a device hands out besides memory: pinned host memory, events, graphs.
#include <exception>
#include <utility>

#include "kernels/base/backend.hpp"
#include "kernels/base/dispatch.hpp"
#include "kernels/base/event.hpp"
#include "kernels/base/graph.hpp"
#include "kernels/base/host_buffer.hpp"

namespace millrace {

HostBuffer::HostBuffer(std::size_t bytes, Device device) : bytes_(bytes), device_(device) {
  if (bytes == 0) return;
  data_ = MILLRACE_DISPATCH(device, allocate_host, bytes, device);
  if (data_ == nullptr) {
    throw UserError("out of host memory: cannot allocate {:.2f} GiB for copies to {}",
                    static_cast<double>(bytes) / (1U << 30U), to_string(device));
  }
}

HostBuffer::~HostBuffer() {
  if (data_ != nullptr) MILLRACE_DISPATCH(device_, release_host, data_, bytes_, device_);
}

HostBuffer::HostBuffer(HostBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      device_(other.device_) {}

HostBuffer& HostBuffer::operator=(HostBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(device_, other.device_);
  return *this;
}

Event::Event(Device device, Kind kind)
    : device_(device),
      handle_(MILLRACE_DISPATCH(device, create_event, device, kind == Kind::timed)) {}

Event::~Event() {
  if (handle_ != nullptr) MILLRACE_DISPATCH(device_, destroy_event, handle_, device_);
}

Event::Event(Event&& other) noexcept
    : device_(other.device_), handle_(std::exchange(other.handle_, nullptr)) {}

void Event::record(Stream stream) { MILLRACE_DISPATCH(device_, record_event, handle_, stream); }

void Event::wait() const { MILLRACE_DISPATCH(device_, wait_event, handle_, device_); }

double Event::seconds_since(const Event& earlier) const {
  return MILLRACE_DISPATCH(device_, seconds_between, earlier.handle_, handle_);
}

Graph::~Graph() {
  if (handle_ != nullptr) MILLRACE_DISPATCH(device_, destroy_graph, handle_, device_);
}

Graph::Graph(Graph&& other) noexcept
    : device_(other.device_), handle_(std::exchange(other.handle_, nullptr)) {}

void Graph::launch(Stream stream) const {
  MILLRACE_DISPATCH(device_, launch_graph, handle_, stream);
}

void Graph::begin(Stream stream) { MILLRACE_DISPATCH(stream.device, begin_capture, stream); }

void* Graph::end(Stream stream) { return MILLRACE_DISPATCH(stream.device, end_capture, stream); }

void Graph::drop(Stream stream) noexcept {
  try {
    const Graph broken(stream.device, end(stream));
  } catch (const std::exception&) {  // of what the recording failed by, which is on its way
  }
}

}  // namespace millrace
