// What a sampler has drawn, on its way to the host: filled in the stream's order, read when the
// stream has come that far, while the sampler may be drawing the next rows.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "core/batch/sequence.hpp"
#include "core/batch/step.hpp"
#include "kernels/base/host_buffer.hpp"
#include "kernels/base/tensor.hpp"

namespace millrace {

class SampleDownload {
 public:
  enum class Part : std::uint8_t { tokens, maxima, masses, picked, ranks, top };

  SampleDownload(std::int64_t max_rows, Device device);

  // Forgets what was there. `logprobs`: entries per row of top; -1: the rows ask for none. The
  // sequences must live until append_to().
  void begin(std::int32_t logprobs, std::span<const Sequence* const> sequences);

  // Enqueues the copy of a part: tokens i32, maxima f32, masses i64, picked f32, ranks i64 [rows];
  // top i64 [rows * logprobs].
  void fetch(Part part, const TensorView& from, Stream stream);

  // Appends the rows' tokens, and logprobs when a row of the result asks for them. The stream must
  // have come past the copies.
  void append_to(StepResult& result) const;

 private:
  template <typename T>
  const T* part(Part part) const;
  TokenLogprobs logprobs_of(std::size_t row) const;

  HostBuffer memory_;
  std::array<std::size_t, 6> offsets_{};  // bytes, by Part
  std::int32_t logprobs_ = -1;
  std::vector<const Sequence*> sequences_;
};

}  // namespace millrace
