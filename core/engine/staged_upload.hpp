// Many small host arrays to the device in one copy that the host does not wait for. The arrays of a
// step lie behind each other in a staging area of host memory and at the same offsets in one device
// buffer; the staging areas take turns, so that the next step is written while this one's copy is
// still under way. Equal sizes give equal addresses, so a captured graph finds the next step where
// it found the last.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include "kernels/base/event.hpp"
#include "kernels/base/host_buffer.hpp"
#include "kernels/base/tensor.hpp"

namespace millrace {

class StagedUpload {
 public:
  // `bytes`: the most that one batch of arrays has, with up to 16 more for each array. A step
  // uploads at most so many batches, one after the other.
  StagedUpload(std::size_t bytes, Device device, std::int64_t batches = 1);

  // Starts the next batch of arrays. Waits only while a copy of the step before the last is under
  // way.
  void begin();

  // Appends an array of `count` elements, to be written through the pointer before finish(). The
  // view is where it will be on the device.
  template <typename T>
  T* put(std::int64_t count, DType dtype, std::initializer_list<std::int64_t> shape,
         TensorView& view) {
    return static_cast<T*>(append(static_cast<std::size_t>(count) * sizeof(T), dtype, shape, view));
  }

  // The same, copied from `values`, as [values.size()].
  template <typename T>
  TensorView put(std::span<const T> values, DType dtype) {
    TensorView view;
    const auto count = static_cast<std::int64_t>(values.size());
    T* to = put<T>(count, dtype, {count}, view);
    std::copy(values.begin(), values.end(), to);
    return view;
  }

  // Enqueues the copy.
  void finish(Stream stream);

 private:
  struct Area {
    HostBuffer memory;
    Event copied;
  };
  void* append(std::size_t bytes, DType dtype, std::initializer_list<std::int64_t> shape,
               TensorView& view);

  Buffer device_memory_;
  std::vector<Area> areas_;
  std::size_t turn_ = 0;
  std::size_t used_ = 0;  // bytes
};

}  // namespace millrace
