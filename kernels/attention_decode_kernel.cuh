// The kernel of decode attention: one query a sequence, so the time is that of reading the keys and
// values once. Every warp streams its share of all pairs' tiles (attention_decode_split.cuh)
// through its own ring of shared memory, without ever waiting for another warp on the way.
#pragma once

#include "kernels/attention_decode_parts.cuh"
#include "kernels/attention_decode_split.cuh"
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

// A warp's shared memory: tiles on their way, what they are, and queries: those of a pair to come,
// or of wide heads, which find no place in registers, the fragments of the pair at hand.
template <typename T, typename Kv, int head_dim>
struct Ring {
  using Rows16 = KvRows<Operand<T, Kv>, Kv, head_dim>;
  static constexpr int tile_bytes = 2 * tile_keys * Rows16::stride;  // keys, then values
  static constexpr bool queries_in_registers = head_dim <= 128;
  static constexpr int rows_ahead = queries_in_registers ? 8 : 0;  // none of larger groups
  static constexpr int query_bytes = queries_in_registers
                                         ? rows_ahead * head_dim * static_cast<int>(sizeof(T))
                                         : head_dim / 16 * 16 * warp_size;
  static constexpr int slot_bytes = tile_bytes + static_cast<int>(sizeof(TileInFlight));
  // Two blocks a multiprocessor, or one where three tiles a warp would not fit.
  static constexpr int two_blocks = 112 << 10;
  static constexpr int budget =
      (slot_bytes * 3 + query_bytes) * warps <= two_blocks ? two_blocks : 200 << 10;
  static constexpr int slots_that_fit = (budget / warps - query_bytes) / slot_bytes;
  static constexpr int slots = slots_that_fit < 8 ? slots_that_fit : 8;
  static constexpr int bytes = slots * slot_bytes + query_bytes;
  static_assert(slots >= 2 && slots * tile_bytes >= part_bytes<head_dim>);
};

// Two elements of T as two operands.
template <typename T, typename M>
__device__ __forceinline__ std::uint32_t to_operands(std::uint32_t two) {
  if constexpr (std::is_same_v<T, M>) {
    return two;
  } else {
    constexpr float most = 65504.0F;
    const float2 values = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&two));
    return pack_two<M>(fminf(fmaxf(values.x, -most), most), fminf(fmaxf(values.y, -most), most));
  }
}

// What a unit is of its sequence's row of q and of the output.
struct Heads {
  int kv_head, first, rows;

  __device__ Heads(const AttentionArgs& args, int unit) {
    const int tiles = row_tiles(args);
    const int first_row = unit % tiles * tile_rows;
    kv_head = unit / tiles;
    first = kv_head * args.group + first_row;
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

template <typename T, typename Kv, int head_dim>
__global__ void __launch_bounds__(threads, blocks_per_sm)
    decode_kernel(AttentionArgs args, Parts parts) {
  using M = Operand<T, Kv>;
  using Rows16 = KvRows<M, Kv, head_dim>;
  using WarpRing = Ring<T, Kv, head_dim>;
  extern __shared__ __align__(16) unsigned char shared[];
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
  auto* const in_flight =
      reinterpret_cast<TileInFlight*>(ring + WarpRing::slots * WarpRing::tile_bytes);
  auto* const shared_queries =
      reinterpret_cast<uint4*>(ring + WarpRing::slots * WarpRing::slot_bytes) + lane;
  const std::uint32_t ring_address = shared_address(ring);

  Cursor load(args, list, share_begin);
  const auto queries_of = [&](int sequence, const Heads& heads) {
    return static_cast<const T*>(args.q) + sequence * args.q_stride +
           static_cast<std::int64_t>(heads.first) * head_dim;
  };
  const std::uint64_t read_once = evict_first_policy();
  const auto load_tile = [&](int slot) {
    const std::int64_t row =
        load.first_row(args) + Heads(args, load.unit).kv_head * args.block_size;
    const std::int64_t from = row * Rows16::row_bytes + lane * 16;
    const unsigned char* keys = static_cast<const unsigned char*>(args.k_cache) + from;
    const unsigned char* values = static_cast<const unsigned char*>(args.v_cache) + from;
    const int valid_keys = load.length - load.tile * tile_keys;
    const std::uint32_t to = ring_address + static_cast<std::uint32_t>(slot * WarpRing::tile_bytes);
#pragma unroll
    for (int i = 0; i < Rows16::units * tile_keys; i += warp_size) {
      const int unit = i + lane;
      if (Rows16::units * tile_keys % warp_size == 0 || unit < Rows16::units * tile_keys) {
        const int key = unit / Rows16::units;
        const std::uint32_t at =
            to + static_cast<std::uint32_t>(key * Rows16::stride + unit % Rows16::units * 16);
        copy_async_once(at, keys + i * 16, key < valid_keys, read_once);
        copy_async_once(at + tile_keys * Rows16::stride, values + i * 16, key < valid_keys,
                        read_once);
      }
    }
    if (lane == 0) in_flight[slot] = {load.sequence, load.unit, load.tile, load.length};
  };

  // The tile, as a number in the share, with which its pair's queries are on their way; -1 for
  // none.
  int ahead = -1;
  auto* const queries_ahead = reinterpret_cast<T*>(ring + WarpRing::slots * WarpRing::slot_bytes);
  const auto load_queries_ahead = [&](int index) {
    const Heads heads(args, load.unit);
    if (ahead >= 0 || heads.rows > WarpRing::rows_ahead) return;
    ahead = index;
    const T* from = queries_of(load.sequence, heads);
    constexpr int width = pack_width<T>();
    for (int at = lane * width; at < heads.rows * head_dim; at += warp_size * width) {
      copy_async(shared_address(queries_ahead + at), from + at, true);
    }
  };

  // One group of copies for each slot that was free, with or without a tile.
  int loaded = 0;
  const auto load_next = [&](int slot, bool with_queries) {
    if (loaded < share_tiles) {
      load_tile(slot);
      if (with_queries && loaded > 0 && load.is_first(args)) load_queries_ahead(loaded);
      if (++loaded < share_tiles) load.advance(args);
    }
    commit_copies();
  };
  // Keys of earlier steps may be read while the op before this one still runs.
  int filled = 0;
  while (filled < WarpRing::slots && !load.is_newest()) load_next(filled++, false);
  wait_for_previous();
  if (args.prefill_beside) allow_next_in_turn();

  constexpr int steps = head_dim / 16;
  std::uint32_t queries[WarpRing::queries_in_registers ? steps : 1][4];
  const auto take_queries = [&](const T* head, int rows) {
    const T* upper = lane / 4 < rows ? head + lane / 4 * head_dim : nullptr;
    const T* lower = lane / 4 + 8 < rows ? head + (lane / 4 + 8) * head_dim : nullptr;
    if constexpr (WarpRing::queries_in_registers) {
#pragma unroll
      for (int step = 0; step < steps; ++step) {
        load_query_fragment<T, Rows16>(queries[step], upper, lower, step);
      }
#pragma unroll
      for (int step = 0; step < steps; ++step) {
#pragma unroll
        for (int i = 0; i < 4; ++i) queries[step][i] = to_operands<T, M>(queries[step][i]);
      }
    } else {
#pragma unroll 4
      for (int step = 0; step < steps; ++step) {
        std::uint32_t four[4];
        load_query_fragment<T, Rows16>(four, upper, lower, step);
        shared_queries[step * warp_size] = {to_operands<T, M>(four[0]), to_operands<T, M>(four[1]),
                                            to_operands<T, M>(four[2]), to_operands<T, M>(four[3])};
      }
    }
  };

  while (filled < WarpRing::slots) load_next(filled++, true);
  clear_unused<T>(args);

  const float scale = exponent_scale(args);
  int slot = 0;
  // All of a pair that the share has, then the next pair.
  for (int index = 0; index < share_tiles;) {
    __syncwarp();
    const TileInFlight first = in_flight[slot];
    const Heads heads(args, first.unit);
    if (ahead == index) {
      wait_copies<WarpRing::slots - 1>();
      __syncwarp();
      take_queries(queries_ahead, heads.rows);
      ahead = -1;
    } else {
      take_queries(queries_of(first.sequence, heads), heads.rows);
    }
    Accumulator<head_dim> own;
    const int pair_end = end_tile(first.length);
    const int end = min(pair_end, first.tile + share_tiles - index);
    for (int tile = first.tile; tile < end; ++tile) {
      wait_copies<WarpRing::slots - 1>();
      __syncwarp();
      const std::uint32_t key_rows =
          ring_address + static_cast<std::uint32_t>(slot * WarpRing::tile_bytes);
      const std::uint32_t value_rows = key_rows + tile_keys * Rows16::stride;

      float scores[2][4] = {};
#pragma unroll
      for (int step = 0; step < steps; ++step) {
        std::uint32_t b[4];
        Rows16::keys(b, key_rows, step);
        if constexpr (WarpRing::queries_in_registers) {
          multiply_add<M>(scores[0], queries[step], b[0], b[1]);
          multiply_add<M>(scores[1], queries[step], b[2], b[3]);
        } else {
          const uint4 four = shared_queries[step * warp_size];  // written by this very lane
          const std::uint32_t a[4] = {four.x, four.y, four.z, four.w};
          multiply_add<M>(scores[0], a, b[0], b[1]);
          multiply_add<M>(scores[1], a, b[2], b[3]);
        }
      }
      cap_scores(scores, args);
      if (tile + 1 == pair_end || args.window > 0) {
        const int position = first.length - 1;
        mask_scores(scores, args, {position, position}, tile * tile_keys);
      }
      const float2 factors = own.softmax.update(scores, scale);
      if (__any_sync(0xffffffffU, factors.x != 1.0F || factors.y != 1.0F)) {
        rescale(own.sums, factors);
      }
      const std::uint32_t probabilities[4] = {
          pack_two<M>(scores[0][0], scores[0][1]), pack_two<M>(scores[0][2], scores[0][3]),
          pack_two<M>(scores[1][0], scores[1][1]), pack_two<M>(scores[1][2], scores[1][3])};
#pragma unroll
      for (int step = 0; step < steps; ++step) {
        std::uint32_t b[4];
        Rows16::values(b, value_rows, step);
        multiply_add<M>(own.sums[2 * step], probabilities, b[0], b[1]);
        multiply_add<M>(own.sums[2 * step + 1], probabilities, b[2], b[3]);
      }
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
      // A share that others go on from ends here, and so does a block of one share.
      const Staging staging = split.shares <= static_cast<int>(gridDim.x)
                                  ? Staging{shared, warps * WarpRing::bytes}
                                  : Staging{ring, WarpRing::slots * WarpRing::tile_bytes};
      add_later_parts(own, parts, first_share, share, last_share, heads.rows, scale, staging);
      if (share > first_share) {
        leave_part(parts, share, own, heads.rows);
        continue;
      }
    }
    T* out = static_cast<T*>(args.out) + first.sequence * args.out_stride +
             static_cast<std::int64_t>(heads.first) * head_dim;
#pragma unroll
    for (int lower = 0; lower < 2; ++lower) {
      const float sum = sum_of_quad(own.softmax.sum[lower]);
      const int row = lane / 4 + 8 * lower;
      if (row >= heads.rows) continue;
      store_output_row<T, Rows16, head_dim>(out + row * head_dim, own.sums, lower, 1.0F / sum);
    }
  }
}

}  // namespace millrace::cuda::decode
