#include <algorithm>
#include <array>

#include "kernels/base/dtype.hpp"
#include "kernels/base/team.hpp"
#include "kernels/made_up.hpp"

namespace millrace::cpu {
namespace {

std::uint64_t word_of(const MadeUpNumbers& numbers, std::int64_t place) {
  return mix(numbers.key + static_cast<std::uint64_t>(place / 4));
}

float number_in(const MadeUpNumbers& numbers, std::uint64_t word, std::int64_t place) {
  const auto bits = static_cast<std::uint16_t>(word >> (place % 4 * 16));
  return numbers.center + numbers.unit * static_cast<float>(static_cast<std::int16_t>(bits));
}

// Numbers `first`, first + 1, ...: four out of one word.
void make_row(MadeUpNumbers numbers, std::int64_t first, std::int64_t count, float* to) {
  const std::int64_t end = first + count;
  std::int64_t i = first;
  for (; i < end && i % 4 != 0; ++i) *to++ = number_in(numbers, word_of(numbers, i), i);
  for (; i + 4 <= end; i += 4, to += 4) {
    const std::uint64_t word = word_of(numbers, i);
    for (std::int64_t k = 0; k < 4; ++k) to[k] = number_in(numbers, word, k);
  }
  for (; i < end; ++i) *to++ = number_in(numbers, word_of(numbers, i), i);
}

// By stretches that stay in the first-level cache, so that both loops are vectorised.
template <typename T, typename Convert>
void make(const TensorView& out, const MadeUpNumbers& numbers, const MadeUpPlaces& places,
          Convert&& convert) {
  constexpr std::int64_t stretch = 1024;
#pragma omp parallel for if (worth_a_team(out.size(0), out.numel()))
  for (std::int64_t row = 0; row < out.size(0); ++row) {
    std::array<float, stretch> values;
    for (std::int64_t column = 0; column < out.size(1); column += stretch) {
      const std::int64_t count = std::min(stretch, out.size(1) - column);
      const std::int64_t first = places.first + row * places.row_step + column * places.column_step;
      if (places.column_step == 1) {
        make_row(numbers, first, count, values.data());
      } else {
        for (std::int64_t i = 0; i < count; ++i) {
          const std::int64_t place = first + i * places.column_step;
          values[static_cast<std::size_t>(i)] = number_in(numbers, word_of(numbers, place), place);
        }
      }
      T* const to = static_cast<T*>(out.data()) + row * out.stride(0) + column;
      for (std::int64_t i = 0; i < count; ++i) to[i] = convert(values[static_cast<std::size_t>(i)]);
    }
  }
}

}  // namespace

void make_up(const TensorView& out, const MadeUpNumbers& numbers, const MadeUpPlaces& places,
             Stream) {
  switch (out.dtype()) {
    case DType::f16:
      return make<Half>(out, numbers, places, [](float value) { return to_half(value); });
    case DType::bf16:
      return make<Bfloat16>(out, numbers, places, [](float value) { return to_bfloat16(value); });
    case DType::fp8_e4m3:
      return make<Fp8E4m3>(out, numbers, places, [](float value) { return to_fp8_e4m3(value); });
    default:
      return make<float>(out, numbers, places, [](float value) { return value; });
  }
}

}  // namespace millrace::cpu
