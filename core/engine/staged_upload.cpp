#include "core/engine/staged_upload.hpp"

#include <stdexcept>

namespace millrace {

namespace {

constexpr std::size_t alignment = 16;  // bytes: what a kernel loads at once
constexpr int steps = 2;               // whose copies may be under way

}  // namespace

StagedUpload::StagedUpload(std::size_t bytes, Device device, std::int64_t batches)
    : device_memory_(bytes, device) {
  for (int i = 0; i < steps * batches; ++i)
    areas_.push_back({HostBuffer(bytes, device), Event(device)});
}

void StagedUpload::begin() {
  turn_ = (turn_ + 1) % areas_.size();
  areas_[turn_].copied.wait();
  used_ = 0;
}

void* StagedUpload::append(std::size_t bytes, DType dtype,
                           std::initializer_list<std::int64_t> shape, TensorView& view) {
  const std::size_t offset = used_;
  used_ += (bytes + alignment - 1) / alignment * alignment;
  if (used_ > device_memory_.bytes()) {
    throw std::logic_error("StagedUpload: more than the step was said to hold");
  }
  view = TensorView(static_cast<std::byte*>(device_memory_.data()) + offset, dtype,
                    device_memory_.device(), shape);
  return static_cast<std::byte*>(areas_[turn_].memory.data()) + offset;
}

void StagedUpload::finish(Stream stream) {
  copy_bytes(device_memory_.data(), device_memory_.device(), areas_[turn_].memory.data(),
             Device::cpu(), used_, stream);
  areas_[turn_].copied.record(stream);
}

}  // namespace millrace
