// Putting together what several warps computed of one pair.
//
// A warp whose share begins in the middle of a pair leaves that part (unnormalised sums, maximum,
// sum of exponents) in scratch memory and raises its flag. The warp that began the pair, at its
// share's end, waits for the parts behind its own, adds them and writes the output: where there are
// more pairs than warps they have long been there, so cutting costs next to nothing, and no second
// kernel runs. (The combination is that of arXiv:2205.14135.)
#pragma once

#include "kernels/attention_cuda.cuh"
#include "kernels/attention_decode_split.cuh"

namespace millrace::cuda::decode {

// Vectors that a lane keeps of a part: its maxima and sums of exponents, then its sums of the upper
// rows (g), then those of the lower (g + 8).
template <int head_dim>
constexpr int part_vectors = 1 + head_dim / 8;

template <int head_dim>
constexpr int part_bytes = part_vectors<head_dim>* warp_size* static_cast<int>(sizeof(float4));

struct Parts {
  float4* vectors;  // [shares][part_vectors][lanes]
  int* ready;       // [shares], zero between launches
};

template <int head_dim>
struct Accumulator {
  float sums[head_dim / 8][4];
  RunningSoftmax softmax;

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int t = 0; t < head_dim / 8; ++t) {
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[t][e] = 0;
    }
    softmax = RunningSoftmax();
  }
};

// `rows`: how many of the 16 rows are queries.
template <int head_dim>
__device__ void leave_part(const Parts& parts, int share, const Accumulator<head_dim>& own,
                           int rows) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  float4* to =
      parts.vectors + static_cast<std::int64_t>(share) * part_vectors<head_dim> * warp_size + lane;
  const RunningSoftmax& softmax = own.softmax;
  to[0] = {softmax.maximum[0], softmax.sum[0], softmax.maximum[1], softmax.sum[1]};
#pragma unroll
  for (int lower = 0; lower < 2; ++lower) {
    if (lane / 4 + 8 * lower >= rows) continue;
#pragma unroll
    for (int t = 0; t < head_dim / 8; t += 2) {
      to[(1 + (lower * head_dim / 8 + t) / 2) * warp_size] = {
          own.sums[t][2 * lower], own.sums[t][2 * lower + 1], own.sums[t + 1][2 * lower],
          own.sums[t + 1][2 * lower + 1]};
    }
  }
  __syncwarp();
  if (lane == 0) {
    asm volatile("st.release.gpu.global.s32 [%0], %1;" ::"l"(parts.ready + share), "r"(1)
                 : "memory");
  }
}

// Waits until shares [first, last] have left their parts, and lowers their flags.
__device__ inline void wait_for_parts(const Parts& parts, int first, int last) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  for (int share = first + lane; share <= last; share += warp_size) {
    int ready = 0;
    while (ready == 0) {
      asm volatile("ld.acquire.gpu.global.s32 %0, [%1];"
                   : "=r"(ready)
                   : "l"(parts.ready + share)
                   : "memory");
    }
    parts.ready[share] = 0;
  }
  __syncwarp();
}

// Adds the parts of shares [first, last]. staging: shared memory of this warp that nothing is on
// its way to. scale: exponent_scale().
template <int head_dim, int staging_bytes>
__device__ void add_parts(Accumulator<head_dim>& own, const Parts& parts, int first, int last,
                          int rows, float scale, unsigned char* staging) {
  static_assert(staging_bytes >= part_bytes<head_dim>);
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  wait_for_parts(parts, first, last);
  if (lane / 4 >= rows) return;  // no row of this lane is a query

  const int used = rows > 8 ? part_vectors<head_dim> : 1 + head_dim / 16;
  const int at_once = staging_bytes / static_cast<int>(sizeof(float4)) / warp_size / used;
  const auto* vectors =
      reinterpret_cast<const float4*>(staging) + lane;  // as this lane copied them
  for (; first <= last; first += at_once) {
    const int count = min(at_once, last - first + 1);
    const float4* from = parts.vectors +
                         static_cast<std::int64_t>(first) * part_vectors<head_dim> * warp_size +
                         lane;
    std::uint32_t to = shared_address(vectors);
    for (int part = 0; part < count; ++part) {
      for (int v = 0; v < used; ++v) {
        copy_async(to, from + v * warp_size, true);
        to += warp_size * sizeof(float4);
      }
      from += part_vectors<head_dim> * warp_size;
    }
    commit_copies();
    wait_copies<0>();

    float largest[2] = {own.softmax.maximum[0], own.softmax.maximum[1]};
    for (int part = 0; part < count; ++part) {
      const float4 moments = vectors[part * used * warp_size];
      largest[0] = fmaxf(largest[0], moments.x);
      largest[1] = fmaxf(largest[1], moments.z);
    }
    // Every tile holds a key that the query sees, so no maximum is -infinity.
    float2 factors;
    factors.x = exp2_fast((own.softmax.maximum[0] - largest[0]) * scale);
    factors.y = exp2_fast((own.softmax.maximum[1] - largest[1]) * scale);
    rescale(own.sums, factors);
    own.softmax.maximum[0] = largest[0];
    own.softmax.maximum[1] = largest[1];
    own.softmax.sum[0] *= factors.x;
    own.softmax.sum[1] *= factors.y;
    for (int part = 0; part < count; ++part) {
      const float4* part_of_lane = vectors + part * used * warp_size;
      const float4 moments = part_of_lane[0];
      const float factor[2] = {exp2_fast((moments.x - largest[0]) * scale),
                               exp2_fast((moments.z - largest[1]) * scale)};
      own.softmax.sum[0] += moments.y * factor[0];
      own.softmax.sum[1] += moments.w * factor[1];
#pragma unroll
      for (int lower = 0; lower < 2; ++lower) {
        if (lane / 4 + 8 * lower >= rows) continue;
#pragma unroll
        for (int t = 0; t < head_dim / 8; t += 2) {
          const float4 four = part_of_lane[(1 + (lower * head_dim / 8 + t) / 2) * warp_size];
          own.sums[t][2 * lower] += four.x * factor[lower];
          own.sums[t][2 * lower + 1] += four.y * factor[lower];
          own.sums[t + 1][2 * lower] += four.z * factor[lower];
          own.sums[t + 1][2 * lower + 1] += four.w * factor[lower];
        }
      }
    }
  }
}

}  // namespace millrace::cuda::decode
