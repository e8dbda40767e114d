// Decode attention on the device: one query a sequence, so the time is that of reading the keys and
// values once. Every warp streams its share of all pairs' tiles (attention_decode_split.cuh)
// through its own ring of shared memory, without ever waiting for another warp on the way.
#pragma once

#include "kernels/attention_decode_parts.cuh"
#include "kernels/attention_decode_tile.cuh"
#include "kernels/base/cuda_launch.cuh"

namespace millrace::cuda::decode {

constexpr int blocks_per_sm = 2;

// What multiplies: the type of the queries, but halves where the cache is fp8. Widening fp8 to
// halves is one instruction for two elements and exact; halves hold queries as bf16 has them
// (beyond 65,504, where a softmax has but one winner, they saturate) and probabilities better.
template <typename T, typename Kv>
using Operand = std::conditional_t<std::is_same_v<Kv, Fp8>, __half, T>;

// What a warp knows of a tile on its way.
struct TileInFlight {
  int sequence, unit, tile, length;
};

// A warp's shared memory: tiles on their way, queries (those of a pair to come, or, where they find
// no place in registers, the fragments of the pair at hand), what the tiles are, and the barriers
// on which they are waited for.
template <typename T, typename Kv, int head_dim, int columns,
          template <typename, int, int> typename Copies>
struct Ring {
  using Rows = typename Copies<Kv, head_dim, 2>::Rows;  // the same for any number of slots
  static constexpr int tile_bytes = Rows::tile_bytes;
  static constexpr bool queries_in_registers = head_dim / 16 * columns <= 16;
  static constexpr int rows_ahead = queries_in_registers ? 8 : 0;  // none of larger groups
  static constexpr int query_bytes = queries_in_registers
                                         ? rows_ahead * head_dim * static_cast<int>(sizeof(T))
                                         : head_dim / 16 * 16 * warp_size;
  static constexpr int slot_bytes =
      tile_bytes + static_cast<int>(sizeof(TileInFlight) + sizeof(std::uint64_t));
  static constexpr int alignment = Rows::boxed ? 1024 : 16;  // of a swizzled tile
  // Two blocks a multiprocessor, or one where three tiles a warp would not fit: on Hopper, and, for
  // lane copies, on an A100 where that holds two.
  static constexpr int two_blocks = 112 << 10;
  static constexpr int of_hopper = 216 << 10;
  static constexpr int of_a100 = 160 << 10;
  static constexpr bool fits(int tiles, int block_bytes) {
    return (slot_bytes * tiles + query_bytes + alignment) * warps <= block_bytes;
  }
  static constexpr int budget = fits(3, two_blocks)                ? two_blocks
                                : !Rows::boxed && fits(2, of_a100) ? of_a100
                                                                   : of_hopper;
  static constexpr int slots_that_fit = (budget / warps - alignment - query_bytes) / slot_bytes;
  static constexpr int slots = slots_that_fit < 8 ? slots_that_fit : 8;
  static constexpr int queries_at = slots * tile_bytes;
  static constexpr int in_flight_at = queries_at + query_bytes;
  static constexpr int barriers_at = in_flight_at + slots * static_cast<int>(sizeof(TileInFlight));
  static constexpr int bytes =
      (barriers_at + slots * static_cast<int>(sizeof(std::uint64_t)) + alignment - 1) / alignment *
      alignment;
  static constexpr int most_part_bytes = part_bytes<head_dim>;
  static_assert(slots >= 2 && slots * tile_bytes >= most_part_bytes);
  using Feed = Copies<Kv, head_dim, slots>;
};

// Two elements of T as two operands. What is no number stays none.
template <typename T, typename M>
__device__ __forceinline__ std::uint32_t to_operands(std::uint32_t two) {
  if constexpr (std::is_same_v<T, M>) {
    return two;
  } else {
    constexpr float most = 65504.0F;
    const auto clamped = [](float x) { return x > most ? most : x < -most ? -most : x; };
    const float2 values = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&two));
    return pack_two<M>(clamped(values.x), clamped(values.y));
  }
}

// What a unit is of its sequence's row of q and of the output.
struct Heads {
  int first, rows;

  __device__ Heads(const AttentionArgs& args, int unit) {
    const int tiles = row_tiles(args);
    const int first_row = unit % tiles * tile_rows;
    first = unit / tiles * args.group + first_row;
    rows = min(args.group - first_row, tile_rows);
  }
};

// Rows of sequences without keys, which no share has.
template <typename T>
__device__ void clear_unused(const AttentionArgs& args) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const auto warp = static_cast<int>(blockIdx.x * warps + threadIdx.x / warp_size);
  for (int s = warp; s < args.sequences; s += static_cast<int>(gridDim.x) * warps) {
    if (args.kv_lengths[s] > 0) continue;
    T* out = static_cast<T*>(args.out) + s * args.out_stride;
    for (int d = lane; d < args.heads * args.head_dim; d += warp_size) out[d] = from_float<T>(0.0F);
  }
}

// Divides by the sums of exponents, and writes rows [rows, head_dim]. widened: dimensions lie as
// attention_decode_tile.cuh says of fp8.
template <typename T, bool widened, int head_dim, int columns>
__device__ __forceinline__ void store_output(T* out, const Accumulator<head_dim, columns>& own,
                                             int rows) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
#pragma unroll
  for (int t = 0; t < columns; ++t) {
    float factors[2];
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      float sum = own.sum[t][e];
#pragma unroll
      for (int step = 4; step < warp_size; step *= 2) {
        sum += __shfl_xor_sync(0xffffffffU, sum, step);
      }
      factors[e] = 1.0F / sum;
    }
    const int row = 8 * t + lane / 4;
#pragma unroll
    for (int d = 0; d < head_dim / 16; ++d) {
      // From two heads of one dimension a lane to two dimensions of one head.
      const auto turned = [&](int half) {
        return transpose_matrix(pack_two<T>(own.sums[d][t][2 * half] * factors[0],
                                            own.sums[d][t][2 * half + 1] * factors[1]));
      };
      const std::uint32_t first = turned(0);
      const std::uint32_t second = turned(1);
      T* const to = out + row * head_dim + d * 16;
      if constexpr (widened) {
        const uint2 four = {__byte_perm(first, second, 0x5410), __byte_perm(first, second, 0x7632)};
        if (row < rows) *reinterpret_cast<uint2*>(to + lane % 4 * 4) = four;
      } else if (row < rows) {
        *reinterpret_cast<std::uint32_t*>(to + lane % 4 * 2) = first;
        *reinterpret_cast<std::uint32_t*>(to + 8 + lane % 4 * 2) = second;
      }
    }
  }
}

// Queries as the second factor of products, [16, 8] a step: what a lane has of it.
template <int steps, int columns>
using QueryFragments = std::uint32_t[steps][columns][2];

// What a warp of the kernel does. columns: tiles of eight query heads. Copies: how tiles come. It
// is asked to load() into slots in turn, with commit() behind each turn, also one without a tile;
// to wait() for them in the same order; and to clear_values() of a slot that was waited for.
template <typename T, typename Kv, int head_dim, int columns,
          template <typename, int, int> typename Copies, typename Maps>
__device__ __forceinline__ void decode(const AttentionArgs& args, const Parts& parts,
                                       const Maps& maps) {
  using M = Operand<T, Kv>;
  using WarpRing = Ring<T, Kv, head_dim, columns, Copies>;
  using Rows = typename WarpRing::Rows;
  extern __shared__ __align__(1024) unsigned char shared[];
  __shared__ int tiles_before[threads];

  if (!args.prefill_beside) allow_next();
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const TileList list = count_tiles(args, tiles_before);
  const Split split(list);
  const int share = split.own_share();
  if (share < 0) {
    wait_for_previous();
    if (args.prefill_beside) allow_next_in_turn();
    return clear_unused<T>(args);
  }
  const std::int64_t share_begin = split.first_tile(share);
  const int share_tiles = static_cast<int>(split.first_tile(share + 1) - share_begin);

  unsigned char* const ring = shared + static_cast<int>(threadIdx.x) / warp_size * WarpRing::bytes;
  auto* const in_flight = reinterpret_cast<TileInFlight*>(ring + WarpRing::in_flight_at);
  auto* const shared_queries = reinterpret_cast<uint4*>(ring + WarpRing::queries_at) + lane;
  const std::uint32_t ring_address = shared_address(ring);
  typename WarpRing::Feed feed(ring_address, ring_address + WarpRing::barriers_at, maps);

  Cursor load(args, list, share_begin);
  const auto queries_of = [&](int sequence, const Heads& heads) {
    return static_cast<const T*>(args.q) + sequence * args.q_stride +
           static_cast<std::int64_t>(heads.first) * head_dim;
  };

  // The tile, as a number in the share, with which its pair's queries are on their way; -1 for
  // none.
  int ahead = -1;
  auto* const queries_ahead = reinterpret_cast<T*>(ring + WarpRing::queries_at);
  const auto load_queries_ahead = [&](int index) {
    const Heads heads(args, load.unit);
    if (ahead >= 0 || heads.rows > WarpRing::rows_ahead) return;
    ahead = index;
    const T* from = queries_of(load.sequence, heads);
    constexpr int width = pack_width<T>();
    for (int at = lane * width; at < heads.rows * head_dim; at += warp_size * width) {
      copy_async(shared_address(queries_ahead + at), from + at, true);
    }
    feed.commit_others();
  };

  int loaded = 0;
  const auto load_next = [&](int slot, bool with_queries) {
    if (loaded < share_tiles) {
      feed.load(args, slot, load);
      if (lane == 0) in_flight[slot] = {load.sequence, load.unit, load.tile, load.length};
      if (with_queries && loaded > 0 && load.is_first(args)) load_queries_ahead(loaded);
      if (++loaded < share_tiles) load.advance(args);
    }
    feed.commit();
  };
  // Keys of earlier steps may be read while the op before this one still runs.
  int filled = 0;
  while (filled < WarpRing::slots && !load.is_newest()) load_next(filled++, false);
  wait_for_previous();
  if (args.prefill_beside) allow_next_in_turn();

  constexpr int steps = head_dim / 16;
  QueryFragments<WarpRing::queries_in_registers ? steps : 1, columns> queries;
  const auto take_queries = [&](const T* head, int rows) {
    // All loads first: the conversion would wait for each.
    const auto load_pairs = [&](std::uint32_t(&pairs)[columns][2], int step) {
#pragma unroll
      for (int i = 0; i < 2 * columns; ++i) {
        const int row = lane / 4 + i / 2 * column_heads;
        const int dimension = step * 16 + Rows::query_offset(lane % 4, i % 2 == 1);
        const auto* from =
            reinterpret_cast<const std::uint32_t*>(head + row * head_dim + dimension);
        pairs[i / 2][i % 2] = row < rows ? *from : 0U;
      }
    };
    const auto convert = [](std::uint32_t(&pairs)[columns][2]) {
#pragma unroll
      for (int i = 0; i < 2 * columns; ++i) {
        pairs[i / 2][i % 2] = to_operands<T, M>(pairs[i / 2][i % 2]);
      }
    };
    if constexpr (WarpRing::queries_in_registers) {
#pragma unroll
      for (int step = 0; step < steps; ++step) load_pairs(queries[step], step);
#pragma unroll
      for (int step = 0; step < steps; ++step) convert(queries[step]);
    } else {
      static_assert(columns == 2);
#pragma unroll 4
      for (int step = 0; step < steps; ++step) {
        std::uint32_t pairs[columns][2];
        load_pairs(pairs, step);
        convert(pairs);
        shared_queries[step * warp_size] = {pairs[0][0], pairs[0][1], pairs[1][0], pairs[1][1]};
      }
    }
  };

  while (filled < WarpRing::slots) load_next(filled++, true);
  clear_unused<T>(args);

  const float scale = exponent_scale(args);
  const std::uint32_t key_place = Rows::key_place(lane) + ring_address;
  const std::uint32_t value_place = Rows::value_place(lane) + ring_address + Rows::bytes;
  int slot = 0;
  // All of a pair that the share has, then the next pair.
  for (int index = 0; index < share_tiles;) {
    __syncwarp();
    const TileInFlight first = in_flight[slot];
    const Heads heads(args, first.unit);
    if (ahead == index) {
      feed.wait_others();
      __syncwarp();
      take_queries(queries_ahead, heads.rows);
      ahead = -1;
    } else {
      take_queries(queries_of(first.sequence, heads), heads.rows);
    }
    Accumulator<head_dim, columns> own;
    const int pair_end = end_tile(first.length);
    const int end = min(pair_end, first.tile + share_tiles - index);
    for (int tile = first.tile; tile < end; ++tile) {
      feed.wait(slot);
      const auto slot_at = static_cast<std::uint32_t>(slot * WarpRing::tile_bytes);

      float scores[columns][4] = {};
      for_keys<Rows>(key_place + slot_at, [&](int step, const std::uint32_t(&a)[4]) {
        if constexpr (WarpRing::queries_in_registers) {
#pragma unroll
          for (int t = 0; t < columns; ++t) {
            multiply_add<M>(scores[t], a, queries[step][t][0], queries[step][t][1]);
          }
        } else {
          const uint4 four = shared_queries[step * warp_size];  // written by this very lane
          multiply_add<M>(scores[0], a, four.x, four.y);
          multiply_add<M>(scores[1], a, four.z, four.w);
        }
      });
      cap_scores(scores, args);
      if (tile + 1 == pair_end || args.window > 0) {
        const int position = first.length - 1;
        const int first_key = args.first_key(position);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int key = tile * tile_keys + lane / 4 + 8 * half;
          const bool hidden = key < first_key || key > position;
#pragma unroll
          for (int t = 0; t < columns; ++t) {
            if (hidden) scores[t][2 * half] = scores[t][2 * half + 1] = -INFINITY;
          }
        }
        if (position + 1 < (tile + 1) * tile_keys) {
          feed.clear_values(slot, position + 1 - tile * tile_keys);
        }
      }
      own.soften(scores, scale);
      std::uint32_t probabilities[columns][2];
#pragma unroll
      for (int t = 0; t < columns; ++t) {
        probabilities[t][0] = transpose_matrix(pack_two<M>(scores[t][0], scores[t][1]));
        probabilities[t][1] = transpose_matrix(pack_two<M>(scores[t][2], scores[t][3]));
      }
      for_values<Rows>(value_place + slot_at, [&](int step, const std::uint32_t(&a)[4]) {
#pragma unroll
        for (int t = 0; t < columns; ++t) {
          multiply_add<M>(own.sums[step][t], a, probabilities[t][0], probabilities[t][1]);
        }
      });
      __syncwarp();
      load_next(slot, true);
      slot = slot + 1 == WarpRing::slots ? 0 : slot + 1;
    }

    const int pair_begin = begin_tile(args, first.length);
    const std::int64_t pair = share_begin + index - (first.tile - pair_begin);  // its first tile
    index += end - first.tile;
    if (first.tile > pair_begin || end < pair_end) {
      const int first_share = split.share_of_tile(pair);
      const int last_share = split.share_of_tile(pair + (pair_end - pair_begin) - 1);
      // Who adds parts has no tile on its way: its share ends within the pair. Where no block has
      // two shares, the other warps' memory was never used.
      const Staging staging = split.shares <= static_cast<int>(gridDim.x)
                                  ? Staging{shared + WarpRing::bytes, (warps - 1) * WarpRing::bytes}
                                  : Staging{ring, WarpRing::slots * WarpRing::tile_bytes};
      add_later_parts(own, parts, first_share, share, last_share, heads.rows, staging);
      if (share > first_share) {
        leave_part(parts, share, own, heads.rows);
        continue;
      }
    }
    T* out = static_cast<T*>(args.out) + first.sequence * args.out_stride +
             static_cast<std::int64_t>(heads.first) * head_dim;
    store_output<T, Rows::is_fp8>(out, own, heads.rows);
  }
}

}  // namespace millrace::cuda::decode
