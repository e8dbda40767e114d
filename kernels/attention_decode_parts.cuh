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

namespace millrace::cuda::decode {

// Vectors that a lane keeps of a part: its maxima and sums of exponents, then its sums of the upper
// rows (g), then those of the lower (g + 8).
template <int head_dim>
constexpr int part_vectors = 1 + head_dim / 8;

template <int head_dim>
constexpr int part_bytes = part_vectors<head_dim>* warp_size* static_cast<int>(sizeof(float4));

constexpr int parts_together = 16;

struct Parts {
  float4* vectors;  // [shares][part_vectors][lanes]
  int* ready;       // [shares], zero between launches
};

template <int head_dim>
struct Accumulator {
  float sums[head_dim / 8][4] = {};
  RunningSoftmax softmax;
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

// Adds the shares' parts. rows: how many of the 16 rows are queries; scale: exponent_scale().
template <int head_dim>
__device__ void add_parts(Accumulator<head_dim>& own, const Parts& parts, const PartsOf& shares,
                          int rows, float scale, const Staging& staging) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  wait_for_parts(parts, shares);
  if (lane / 4 >= rows) return;  // no row of this lane is a query

  // Only what lanes with a query have left is copied; each lane reads what it copied itself.
  const int used = rows > 8 ? part_vectors<head_dim> : 1 + head_dim / 16;
  const int lanes = min(4 * rows, warp_size);
  const int at_once = staging.bytes / (used * lanes * static_cast<int>(sizeof(float4)));
  const auto* const vectors = reinterpret_cast<const float4*>(staging.memory) + lane;
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

    float largest[2] = {own.softmax.maximum[0], own.softmax.maximum[1]};
    for (int part = 0; part < count; ++part) {
      const float4 moments = vectors[part * used * lanes];
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
      const float4* part_of_lane = vectors + part * used * lanes;
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
          const float4 four = part_of_lane[(1 + (lower * head_dim / 8 + t) / 2) * lanes];
          own.sums[t][2 * lower] += four.x * factor[lower];
          own.sums[t][2 * lower + 1] += four.y * factor[lower];
          own.sums[t + 1][2 * lower] += four.z * factor[lower];
          own.sums[t + 1][2 * lower + 1] += four.w * factor[lower];
        }
      }
    }
  }
}

// What the share at `share` adds to its own of a pair in shares [first, last].
template <int head_dim>
__device__ void add_later_parts(Accumulator<head_dim>& own, const Parts& parts, int first,
                                int share, int last, int rows, float scale,
                                const Staging& staging) {
  if ((share - first) % parts_together != 0) return;
  // The first round is of the next shares, the second, of a pair's first share, of those that added
  // theirs.
  PartsOf shares{share + 1, min(share + parts_together - 1, last), 1};
  for (int round = 0; round < 2; ++round) {
    if (shares.count() > 0) add_parts(own, parts, shares, rows, scale, staging);
    if (share > first) return;
    shares = {first + parts_together, last, parts_together};
  }
}

}  // namespace millrace::cuda::decode
