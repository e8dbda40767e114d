// Putting together what several warps computed of one pair.
//
// A warp whose share begins in the middle of a pair leaves that part (unnormalised sums, maximum,
// sum of exponents) in scratch memory and raises its flag. The warp that began the pair, at its
// share's end, waits for the parts behind its own, adds them and writes the output: where there are
// more pairs than warps they have long been there, so cutting costs next to nothing, and no second
// kernel runs. Of a pair in very many parts, every 16th warp first adds those of the next 15 to its
// own. (The combination is that of arXiv:2205.14135.)
#pragma once

#include "kernels/attention_cuda.cuh"
#include "kernels/attention_decode_split.cuh"
#include "kernels/base/cuda_mma.cuh"

namespace millrace::cuda::decode {

// Vectors that a lane keeps of eight queries' part: bases and sums of exponents of its two, then
// its sums.
template <int head_dim>
constexpr int vectors_of_eight = 1 + head_dim / 16;

template <int head_dim>
constexpr int part_vectors = 2 * vectors_of_eight<head_dim>;

template <int head_dim>
constexpr int part_bytes = part_vectors<head_dim>* warp_size* static_cast<int>(sizeof(float4));

constexpr int parts_together = 16;

struct Parts {
  float4* vectors;  // [shares][part_vectors][lanes]
  int* ready;       // [shares], zero between launches
};

// What a warp has of a pair: query heads are columns, eight a tile, of which a lane has 2c and
// 2c + 1; dimensions are rows, 16 a tile, of which it has g and g + 8.
//
// Exponents (of 2) are taken relative to a base that is raised only when a key exceeds it by more
// than `slack`, which is rare after a pair's first tile: then no lane need know the others' keys.
template <int head_dim, int columns>
struct Accumulator {
  static constexpr float slack = 8;        // so a probability is at most 256, which halves hold
  static constexpr float lowest = -3e38F;  // below any exponent

  float sums[head_dim / 16][columns][4] = {};
  float base[columns][2];
  float sum[columns][2] = {};  // of this lane's keys only, until the end

  __device__ Accumulator() {
#pragma unroll
    for (int t = 0; t < columns; ++t) base[t][0] = base[t][1] = lowest;
  }

  // Exponents relative to new bases, as high as these or higher.
  __device__ __forceinline__ void raise(int t, int e, float to) {
    const float factor = exp2_fast(base[t][e] - to);
    base[t][e] = to;
    sum[t][e] *= factor;
#pragma unroll
    for (int d = 0; d < head_dim / 16; ++d) {
      sums[d][t][e] *= factor;
      sums[d][t][2 + e] *= factor;
    }
  }

  // Takes in scores of 16 keys (-infinity where masked), which become exp2(scale * score - base).
  __device__ __forceinline__ void soften(float (&scores)[columns][4], float scale) {
    float most = -INFINITY;
#pragma unroll
    for (int t = 0; t < columns; ++t) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        most = fmaxf(most, fmaf(scores[t][i], scale, -base[t][i % 2]));
      }
    }
    if (__any_sync(0xffffffffU, most > slack)) {
#pragma unroll
      for (int t = 0; t < columns; ++t) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float largest = fmaxf(scores[t][e], scores[t][2 + e]);
#pragma unroll
          for (int step = 4; step < warp_size; step *= 2) {
            largest = fmaxf(largest, __shfl_xor_sync(0xffffffffU, largest, step));
          }
          raise(t, e, fmaxf(base[t][e], largest * scale));
        }
      }
    }
#pragma unroll
    for (int t = 0; t < columns; ++t) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        scores[t][i] = exp2_fast(fmaf(scores[t][i], scale, -base[t][i % 2]));
        sum[t][i % 2] += scores[t][i];
      }
    }
  }
};

// `rows`: how many of the queries there are.
template <int head_dim, int columns>
__device__ void leave_part(const Parts& parts, int share, const Accumulator<head_dim, columns>& own,
                           int rows) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  float4* to =
      parts.vectors + static_cast<std::int64_t>(share) * part_vectors<head_dim> * warp_size + lane;
#pragma unroll
  for (int t = 0; t < columns; ++t) {
    if (8 * t + 2 * (lane % 4) >= rows) continue;
    float4* from_here = to + t * vectors_of_eight<head_dim> * warp_size;
    from_here[0] = {own.base[t][0], own.sum[t][0], own.base[t][1], own.sum[t][1]};
#pragma unroll
    for (int d = 0; d < head_dim / 16; ++d) {
      from_here[(1 + d) * warp_size] = {own.sums[d][t][0], own.sums[d][t][1], own.sums[d][t][2],
                                        own.sums[d][t][3]};
    }
  }
  __syncwarp();
  if (lane == 0) {
    asm volatile("st.release.gpu.global.s32 [%0], %1;" ::"l"(parts.ready + share), "r"(1)
                 : "memory");
  }
}

// Shares first, first + step, ... up to last.
struct PartsOf {
  int first, last, step;

  __device__ int count() const { return first > last ? 0 : (last - first) / step + 1; }
};

// Waits until the shares have left their parts, and lowers their flags.
__device__ inline void wait_for_parts(const Parts& parts, const PartsOf& shares) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  for (int i = lane; i < shares.count(); i += warp_size) {
    int* const flag = parts.ready + shares.first + i * shares.step;
    int ready = 0;
    while (ready == 0) {
      asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(ready) : "l"(flag) : "memory");
    }
    *flag = 0;
  }
  __syncwarp();
}

// Shared memory that nothing is on its way to.
struct Staging {
  unsigned char* memory;
  int bytes;  // part_bytes at least
};

// Adds the shares' parts. rows: how many queries there are.
template <int head_dim, int columns>
__device__ void add_parts(Accumulator<head_dim, columns>& own, const Parts& parts,
                          const PartsOf& shares, int rows, const Staging& staging) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  wait_for_parts(parts, shares);
  const int used_columns = min((rows + 1) / 2, 4);  // of a tile, by lanes
  if (lane % 4 >= used_columns) return;             // no query of this lane is there

  // Only what lanes with a query have left is copied; each lane reads what it copied itself.
  constexpr int used = columns * vectors_of_eight<head_dim>;
  const int lanes = 8 * used_columns;
  const int at_once = staging.bytes / (used * lanes * static_cast<int>(sizeof(float4)));
  const auto* const vectors =
      reinterpret_cast<const float4*>(staging.memory) + lane / 4 * used_columns + lane % 4;
  for (int done = 0; done < shares.count(); done += at_once) {
    const int count = min(at_once, shares.count() - done);
    std::uint32_t to = shared_address(vectors);
    for (int part = 0; part < count; ++part) {
      const int share = shares.first + (done + part) * shares.step;
      const float4* from = parts.vectors +
                           static_cast<std::int64_t>(share) * part_vectors<head_dim> * warp_size +
                           lane;
#pragma unroll 8
      for (int v = 0; v < used; ++v) {
        copy_async(to, from + v * warp_size, true);
        to += static_cast<std::uint32_t>(lanes) * sizeof(float4);
      }
    }
    commit_copies();
    wait_copies<0>();

#pragma unroll
    for (int t = 0; t < columns; ++t) {
      if (8 * t + 2 * (lane % 4) >= rows) continue;
      const float4* of_tile = vectors + t * vectors_of_eight<head_dim> * lanes;
      float highest[2] = {own.base[t][0], own.base[t][1]};
      for (int part = 0; part < count; ++part) {
        const float4 moments = of_tile[part * used * lanes];
        highest[0] = fmaxf(highest[0], moments.x);
        highest[1] = fmaxf(highest[1], moments.z);
      }
#pragma unroll
      for (int e = 0; e < 2; ++e) own.raise(t, e, highest[e]);
      for (int part = 0; part < count; ++part) {
        const float4* part_of_lane = of_tile + part * used * lanes;
        const float4 moments = part_of_lane[0];
        const float factor[2] = {exp2_fast(moments.x - highest[0]),
                                 exp2_fast(moments.z - highest[1])};
        own.sum[t][0] += moments.y * factor[0];
        own.sum[t][1] += moments.w * factor[1];
#pragma unroll
        for (int d = 0; d < head_dim / 16; ++d) {
          const float4 four = part_of_lane[(1 + d) * lanes];
          own.sums[d][t][0] += four.x * factor[0];
          own.sums[d][t][1] += four.y * factor[1];
          own.sums[d][t][2] += four.z * factor[0];
          own.sums[d][t][3] += four.w * factor[1];
        }
      }
    }
  }
}

// What the share at `share` adds to its own of a pair in shares [first, last].
template <int head_dim, int columns>
__device__ void add_later_parts(Accumulator<head_dim, columns>& own, const Parts& parts, int first,
                                int share, int last, int rows, const Staging& staging) {
  if ((share - first) % parts_together != 0) return;
  // The first round is of the next shares, the second, of a pair's first share, of those that added
  // theirs.
  PartsOf shares{share + 1, min(share + parts_together - 1, last), 1};
  for (int round = 0; round < 2; ++round) {
    if (shares.count() > 0) add_parts(own, parts, shares, rows, staging);
    if (share > first) return;
    shares = {first + parts_together, last, parts_together};
  }
}

}  // namespace millrace::cuda::decode
