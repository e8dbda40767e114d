// What the attention kernels share: their arguments, the tiles of queries that the prefill kernels
// cut, and the softmax.
//
// The query heads of one KV head (a group) are packed into one tile: row r of a sequence's queries
// for a KV head is query r / group, head r % group of the group. So every key and value is read
// once a group. (Decode has one query, whose heads are columns of the products.)
#pragma once

#include "kernels/base/cuda_scratch.hpp"
#include "kernels/base/cuda_tensor_map.cuh"
#include "kernels/base/cuda_types.cuh"

namespace millrace::cuda {

struct AttentionArgs {
  const void* q;
  void* out;
  std::int64_t q_stride, out_stride;
  const void* k_cache;
  const void* v_cache;
  const std::int32_t* query_starts;
  const std::int32_t* kv_lengths;
  const std::int32_t* block_tables;
  std::int64_t table_stride;
  int table_width;  // entries of a sequence
  int tokens, sequences;
  int decode_sequences;  // the prefill kernels begin after them
  int heads, kv_heads, group, head_dim, block_size, blocks;
  float scale;
  int window;
  float softcap;
  bool prefill_beside;  // the prefill kernel starts on multiprocessors that decode no longer needs

  // First key that the query at `position` sees.
  __device__ int first_key(int position) const {
    return window > 0 ? max(0, position - window + 1) : 0;
  }
};

// Of the stream's counters, prefill has the last: decode, which may run beside it, those before.
constexpr int prefill_counter = counter_count - 1;

// Each enqueues one kind of work. They return false, having done nothing, when they have no kernel
// for it. decode_attention() calls decode_attention_sm90(), having checked block size and scale and
// left only the decode sequences.
bool decode_attention(const AttentionArgs& args, DType dtype, DType cache, Stream stream);
bool decode_attention_sm90(const AttentionArgs& args, DType dtype, DType cache, Stream stream);
bool prefill_attention(const AttentionArgs& args, DType dtype, DType cache, Stream stream);
bool prefill_attention_sm90(const AttentionArgs& args, DType dtype, DType cache, Stream stream);

// k_cache or v_cache, [blocks, kv_heads, block_size, head_dim], in boxes of [1, 1, box_rows,
// box_row_bytes].
CUtensorMap map_of_cache(const AttentionArgs& args, const void* cache, DType dtype,
                         int box_row_bytes, int box_rows);

constexpr float log2_e = 1.4426950408889634F;

// What a score (after soft-capping) is multiplied by to be an exponent of 2.
__device__ __forceinline__ float exponent_scale(const AttentionArgs& args) {
  return (args.softcap > 0 ? 1.0F : args.scale) * log2_e;
}

__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ float max_of_quad(float value) {
  value = fmaxf(value, __shfl_xor_sync(0xffffffffU, value, 1));
  return fmaxf(value, __shfl_xor_sync(0xffffffffU, value, 2));
}

__device__ __forceinline__ float sum_of_quad(float value) {
  value += __shfl_xor_sync(0xffffffffU, value, 1);
  return value + __shfl_xor_sync(0xffffffffU, value, 2);
}

// One tile of queries of one sequence, as the prefill kernels cut them.
struct QueryTile {
  int sequence = -1;  // -1: there is no such tile
  int row = 0;        // first packed row
  int first_token = 0;
  int queries = 0;
  int kv_length = 0;
};

// The `index`-th tile of `rows_of_tile` packed rows over all prefill sequences. Rows of q beyond
// the last sequence count as one more, of kv length 0, so that they are zeroed. Every lane of a
// warp calls it.
__device__ inline QueryTile find_query_tile(const AttentionArgs& args, int index,
                                            int rows_of_tile) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  QueryTile tile;
  for (int base = args.decode_sequences; base <= args.sequences; base += warp_size) {
    const int sequence = base + lane;
    int begin = 0;
    int end = 0;
    if (sequence <= args.sequences) {
      begin = args.query_starts[sequence];
      end = sequence < args.sequences ? args.query_starts[sequence + 1] : args.tokens;
    }
    const int tiles = ((end - begin) * args.group + rows_of_tile - 1) / rows_of_tile;
    const int through = warp_sum_through(tiles);
    const unsigned holders = __ballot_sync(0xffffffffU, index < through);
    if (holders != 0) {
      const int holder = __ffs(static_cast<int>(holders)) - 1;
      tile.sequence = base + holder;
      tile.row = (index - __shfl_sync(0xffffffffU, through - tiles, holder)) * rows_of_tile;
      tile.first_token = __shfl_sync(0xffffffffU, begin, holder);
      tile.queries = __shfl_sync(0xffffffffU, end - begin, holder);
      tile.kv_length = tile.sequence < args.sequences ? args.kv_lengths[tile.sequence] : 0;
      return tile;
    }
    index -= __shfl_sync(0xffffffffU, through, warp_size - 1);
  }
  return tile;
}

// How many tiles there can be, as the host knows it.
inline std::int64_t query_tile_bound(const AttentionArgs& args, int rows_of_tile) {
  const std::int64_t tokens = args.tokens - args.decode_sequences;
  return tokens * args.group / rows_of_tile + (args.sequences - args.decode_sequences) + 1;
}

// Products become scores where the model caps them; elsewhere the scale waits for the exponent.
template <int tiles>
__device__ __forceinline__ void cap_scores(float (&scores)[tiles][4], const AttentionArgs& args) {
  if (args.softcap <= 0) return;
#pragma unroll
  for (int t = 0; t < tiles; ++t) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      scores[t][e] = args.softcap * tanhf(scores[t][e] * args.scale / args.softcap);
    }
  }
}

// Masks what the lane's two rows, at these positions, do not see of the keys from `begin` on.
template <int tiles>
__device__ __forceinline__ void mask_scores(float (&scores)[tiles][4], const AttentionArgs& args,
                                            const int (&positions)[2], int begin) {
  const int first_column = begin + static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    const int lowest = args.first_key(positions[row]) - first_column;
    const int highest = positions[row] - first_column;
#pragma unroll
    for (int t = 0; t < tiles; ++t) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const bool hidden = (t * 8 + e < lowest) | (t * 8 + e > highest);
        scores[t][2 * row + e] = hidden ? -INFINITY : scores[t][2 * row + e];
      }
    }
  }
}

// The softmax so far of the two rows that a lane has a part of.
struct RunningSoftmax {
  float maximum[2] = {-INFINITY, -INFINITY};  // of scores
  float sum[2] = {0, 0};                      // of this lane's columns only, until the end

  // Takes in scores (-infinity where masked), which become exp2(scale * (score - maximum)); returns
  // what earlier sums and outputs of each row must be multiplied by.
  template <int tiles>
  __device__ __forceinline__ float2 update(float (&scores)[tiles][4], float scale) {
    float factors[2];
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      float largest = maximum[row];
#pragma unroll
      for (int t = 0; t < tiles; ++t) {
        largest = fmaxf(largest, fmaxf(scores[t][2 * row], scores[t][2 * row + 1]));
      }
      largest = max_of_quad(largest);
      const float base = largest == -INFINITY ? 0.0F : largest * scale;  // no key seen yet
      factors[row] = exp2_fast(maximum[row] * scale - base);
      maximum[row] = largest;
      float added = 0;
#pragma unroll
      for (int t = 0; t < tiles; ++t) {
        scores[t][2 * row] = exp2_fast(scores[t][2 * row] * scale - base);
        scores[t][2 * row + 1] = exp2_fast(scores[t][2 * row + 1] * scale - base);
        added += scores[t][2 * row] + scores[t][2 * row + 1];
      }
      sum[row] = sum[row] * factors[row] + added;
    }
    return {factors[0], factors[1]};
  }
};

template <int tiles>
__device__ __forceinline__ void rescale(float (&sums)[tiles][4], float2 factors) {
#pragma unroll
  for (int t = 0; t < tiles; ++t) {
    sums[t][0] *= factors.x;
    sums[t][1] *= factors.x;
    sums[t][2] *= factors.y;
    sums[t][3] *= factors.y;
  }
}

// Calls body with the head dimension as a constant; false when there is no kernel of that size.
template <typename Body>
bool with_head_dim(int head_dim, Body&& body) {
  switch (head_dim) {
    case 64:
      body(std::integral_constant<int, 64>{});
      return true;
    case 80:
      body(std::integral_constant<int, 80>{});
      return true;
    case 96:
      body(std::integral_constant<int, 96>{});
      return true;
    case 128:
      body(std::integral_constant<int, 128>{});
      return true;
    case 256:
      body(std::integral_constant<int, 256>{});
      return true;
    default:
      return false;
  }
}

// Calls body with the element types of a tensor-core kernel: 16-bit queries, and a cache of the
// same type or fp8. False for any other pair.
template <typename Body>
bool with_tensor_core_types(DType dtype, DType cache, Body&& body) {
  if (dtype == DType::bf16 && cache == DType::bf16) {
    body(__nv_bfloat16{}, __nv_bfloat16{});
  } else if (dtype == DType::bf16 && cache == DType::fp8_e4m3) {
    body(__nv_bfloat16{}, Fp8{});
  } else if (dtype == DType::f16 && cache == DType::f16) {
    body(__half{}, __half{});
  } else if (dtype == DType::f16 && cache == DType::fp8_e4m3) {
    body(__half{}, Fp8{});
  } else {
    return false;
  }
  return true;
}

}  // namespace millrace::cuda
