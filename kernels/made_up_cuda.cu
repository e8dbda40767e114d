#include "kernels/base/cuda_map.cuh"
#include "kernels/made_up.hpp"

namespace millrace::cuda {
namespace {

template <typename T>
struct MakeUp {
  Rows<T> out;
  MadeUpNumbers numbers;
  MadeUpPlaces places;

  template <int N>
  __device__ void apply(std::int64_t row, int column) const {
    Pack<T, N> pack;
    std::int64_t last = -1;
    std::uint64_t word = 0;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const std::int64_t place =
          places.first + row * places.row_step + (column + i) * places.column_step;
      if (place / 4 != last) {
        last = place / 4;
        word = mix(numbers.key + static_cast<std::uint64_t>(last));
      }
      const auto bits = static_cast<std::uint16_t>(word >> (place % 4 * 16));
      // The host rounds the product and the sum.
      const float scaled = __fmul_rn(numbers.unit, static_cast<std::int16_t>(bits));
      pack.values[i] = from_float<T>(__fadd_rn(numbers.center, scaled));
    }
    store_pack(out.row(row) + column, pack);
  }
};

}  // namespace

void make_up(const TensorView& out, const MadeUpNumbers& numbers, const MadeUpPlaces& places,
             Stream stream) {
  const auto make = [&](auto element) {
    using T = decltype(element);
    const MakeUp<T> functor{rows_of<T>(out), numbers, places};
    map_rows<pack_width<T>()>("make_up", functor, out.size(0), out.size(1), rows_are_packed(out),
                              stream);
  };
  if (out.dtype() == DType::fp8_e4m3) return make(Fp8{});
  with_float_type("make_up", out.dtype(), make);
}

}  // namespace millrace::cuda
