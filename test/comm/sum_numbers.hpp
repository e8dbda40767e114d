// Numbers to add, their sums as the host makes them, and what a norm after the sum writes.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "kernels/base/tensor.hpp"
#include "kernels/linear_input.hpp"
#include "test/comm/gpu_ranks.hpp"

namespace millrace {

inline std::vector<float> noise(std::size_t count, int rank) {
  std::mt19937 random(static_cast<unsigned>(1000 * rank) + static_cast<unsigned>(count));
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

// Sums in rank order, in f32.
inline std::vector<float> sums(const std::vector<std::vector<float>>& of_ranks) {
  std::vector<float> sum = of_ranks.front();
  for (std::size_t rank = 1; rank < of_ranks.size(); ++rank) {
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += of_ranks[rank][i];
  }
  return sum;
}

inline std::vector<Bfloat16> rounded(const std::vector<float>& values) {
  std::vector<Bfloat16> result;
  for (const float value : values) result.push_back(to_bfloat16(value));
  return result;
}

inline std::vector<Bfloat16> random_row(std::int64_t count, int seed) {
  return rounded(noise(static_cast<std::size_t>(count), seed));
}

inline std::vector<std::uint16_t> bits(const std::vector<Bfloat16>& values) {
  std::vector<std::uint16_t> result;
  for (const Bfloat16 value : values) result.push_back(value.bits);
  return result;
}

// Memory for the norm of [tokens, hidden] bf16 rows, plain or quantized; `bytes` is all of it.
struct NormOut {
  NormOut(Fp8Scaling scaling, std::int64_t tokens, std::int64_t hidden, Device device,
          Stream stream)
      : memory(DType::u8, device, {tokens * hidden * 2 + 4 * tokens * (hidden + 128)}) {
    bytes = memory;
    fill_bytes(memory->data(), 0, memory->bytes(), stream);
    const TensorView plain(memory->data(), DType::bf16, device, {tokens, hidden});
    const TensorView fp8(memory->data(), DType::fp8_e4m3, device, {tokens, hidden});
    void* const behind = static_cast<std::byte*>(memory->data()) + tokens * hidden;
    if (scaling == Fp8Scaling::none) {
      rows = plain;
    } else if (scaling == Fp8Scaling::rows) {
      rows = {fp8, TensorView(behind, DType::f32, device, {tokens})};
    } else {
      rows = {fp8,
              TensorView(behind, DType::f32, device, {scale_blocks(hidden), whole_groups(tokens)})};
    }
  }

  Tensor memory;
  TensorView bytes;
  LinearInput rows;
};

}  // namespace millrace
