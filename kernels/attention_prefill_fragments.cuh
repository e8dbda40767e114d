// How keys, values, queries and outputs of the prefill kernel for every GPU since sm_80 become
// fragments of its products.
#pragma once

#include "kernels/attention_cuda.cuh"
#include "kernels/base/cuda_mma.cuh"

namespace millrace::cuda {

// Keys and values of one KV head as rows in shared memory, read as fragments of 16 keys x 16
// dimensions. Rows are padded to an odd number of 16-byte units, so that eight rows fall into
// different banks. fp8 rows are widened on the way into registers; then the 16 dimensions of a
// fragment are permuted: the pair at 2c holds dimensions 4c, 4c + 1 and the pair at 2c + 8 holds 4c
// + 2, 4c + 3 (keys), and column n of the two value tiles holds dimension 2n and 2n + 1. The
// queries and the output follow (see below).
template <typename T, typename Kv, int head_dim>
struct KvRows {
  static constexpr bool is_fp8 = std::is_same_v<Kv, Fp8>;
  static constexpr int row_bytes = head_dim * static_cast<int>(sizeof(Kv));
  static constexpr int units = row_bytes / 16;
  static constexpr int stride = (units | 1) * 16;

  // b[0], b[1]: keys 0..7; b[2], b[3]: keys 8..15; dimensions 16 step .. 16 step + 15.
  static __device__ __forceinline__ void keys(std::uint32_t (&b)[4], std::uint32_t rows, int step) {
    const int lane = static_cast<int>(threadIdx.x) % warp_size;
    if constexpr (is_fp8) {
      std::uint32_t raw[2];
      load_matrices(raw, rows + static_cast<std::uint32_t>((lane % 16) * stride + step * 16));
      b[0] = half2_to<T>(fp8_to_half2(raw[0]));
      b[1] = half2_to<T>(fp8_to_half2(raw[0] >> 16));
      b[2] = half2_to<T>(fp8_to_half2(raw[1]));
      b[3] = half2_to<T>(fp8_to_half2(raw[1] >> 16));
    } else {
      const int key = lane / 16 * 8 + lane % 8;
      const int unit = 2 * step + lane / 8 % 2;
      load_matrices(b, rows + static_cast<std::uint32_t>(key * stride + unit * 16));
    }
  }

  // b[0], b[1]: first tile of eight dimensions; b[2], b[3]: second; keys 0..15.
  static __device__ __forceinline__ void values(std::uint32_t (&b)[4], std::uint32_t rows,
                                                int step) {
    const int lane = static_cast<int>(threadIdx.x) % warp_size;
    if constexpr (is_fp8) {
      std::uint32_t raw[2];
      load_matrices_transposed(raw,
                               rows + static_cast<std::uint32_t>((lane % 16) * stride + step * 16));
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        // Two dimensions of an even key, then of the odd one: pairs of keys are wanted.
        const std::uint32_t pairs = __byte_perm(raw[half], 0, 0x3120);
        b[half] = half2_to<T>(fp8_to_half2(pairs));
        b[2 + half] = half2_to<T>(fp8_to_half2(pairs >> 16));
      }
    } else {
      const int key = lane % 16;
      const int unit = 2 * step + lane / 16;
      load_matrices_transposed(b, rows + static_cast<std::uint32_t>(key * stride + unit * 16));
    }
  }

  // Offset within 16 dimensions of the pair at 2c (second = false) or 2c + 8 of a query fragment.
  static __device__ __forceinline__ int query_offset(int c, bool second) {
    return is_fp8 ? 4 * c + (second ? 2 : 0) : 2 * c + (second ? 8 : 0);
  }

  // Dimension of column 2c + e of the tile-th 8 columns of the output.
  static __device__ __forceinline__ int output_dimension(int tile, int c, int e) {
    return is_fp8 ? tile / 2 * 16 + 4 * c + 2 * e + tile % 2 : tile * 8 + 2 * c + e;
  }
};

// One fragment of 16 packed rows of queries: 16 dimensions of the lane's upper (g) and lower (g +
// 8) row; nullptr for a row that is not there.
template <typename T, typename Rows16>
__device__ __forceinline__ void load_query_fragment(std::uint32_t (&fragment)[4], const T* upper,
                                                    const T* lower, int step) {
  const int c = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int part = 0; part < 2; ++part) {
    const int dimension = step * 16 + Rows16::query_offset(c, part == 1);
    fragment[2 * part] =
        upper == nullptr ? 0U : *reinterpret_cast<const std::uint32_t*>(upper + dimension);
    fragment[2 * part + 1] =
        lower == nullptr ? 0U : *reinterpret_cast<const std::uint32_t*>(lower + dimension);
  }
}

// One output row's share of this lane, from accumulators of which it is the upper (g) or lower (g +
// 8) row.
template <typename T, typename Rows16, int head_dim>
__device__ __forceinline__ void store_output_row(T* to, const float (&sums)[head_dim / 8][4],
                                                 int lower, float factor) {
  const int c = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int tile = 0; tile < head_dim / 8; tile += 2) {
    const float a0 = sums[tile][2 * lower] * factor;
    const float a1 = sums[tile][2 * lower + 1] * factor;
    const float b0 = sums[tile + 1][2 * lower] * factor;
    const float b1 = sums[tile + 1][2 * lower + 1] * factor;
    if constexpr (Rows16::is_fp8) {
      const uint2 four = {pack_two<T>(a0, b0), pack_two<T>(a1, b1)};
      *reinterpret_cast<uint2*>(to + Rows16::output_dimension(tile, c, 0)) = four;
    } else {
      *reinterpret_cast<std::uint32_t*>(to + Rows16::output_dimension(tile, c, 0)) =
          pack_two<T>(a0, a1);
      *reinterpret_cast<std::uint32_t*>(to + Rows16::output_dimension(tile + 1, c, 0)) =
          pack_two<T>(b0, b1);
    }
  }
}

}  // namespace millrace::cuda
