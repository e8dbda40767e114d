// The multiplying side of prefill attention on Hopper: one warpgroup's 64 rows of every piece of
// work. The scores of a tile of keys are multiplied while the previous tile's probabilities still
// meet their values, and that goes on from the last tile of a piece to the first of the next.
#pragma once

#include "kernels/attention_prefill_sm90.cuh"

namespace millrace::cuda::prefill {

// Named barriers; 0 belongs to __syncthreads.
constexpr int turn_barrier = 1;     // and 2: a warpgroup's turn to multiply
constexpr int values_barrier = 3;   // a tile's missing values are zero
constexpr int queries_barrier = 4;  // and 5: a warpgroup's queries are f16

// Whether named barriers make the warpgroups multiply in turns, so that one's exponentials run
// under the other's products. At head_dim 64 exponentials weigh most. Measured on an H100 at 8,192
// keys: within 3 % either way at any size.
__host__ __device__ constexpr bool takes_turns(int head_dim) { return head_dim < 80; }

// Zeros the values at and behind `valid` keys of a tile; all consumers together. Only a 16-bit
// cache needs it.
template <typename Layout, int head_dim>
__device__ void clear_values(std::uint32_t values, int valid) {
  constexpr int units = head_dim / 8;
  const int thread = static_cast<int>(threadIdx.x) - warpgroup_size;
  for (int i = valid * units + thread; i < Layout::tile_keys * units; i += consumer_threads) {
    const int unit = i % units;
    const int row = i / units;
    const std::uint32_t at =
        values + static_cast<std::uint32_t>(unit / 8 * Layout::column_bytes +
                                            row * swizzled_row_bytes + ((unit ^ row) % 8) * 16);
    asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(at), "r"(0) : "memory");
  }
  fence_shared_writes();
  meet(values_barrier, consumer_threads);
}

// Makes a warpgroup's queries f16, where they lie: bf16 has no more digits, so what lies between
// 2^-14 and 65504 stays exact; larger numbers saturate.
template <typename Layout>
__device__ void narrow_queries(std::uint32_t queries, int barrier) {
  constexpr int units = group_rows * swizzled_row_bytes / 16;  // of a column
  const int thread = static_cast<int>(threadIdx.x) % warpgroup_size;
#pragma unroll 4
  for (int i = 0; i < Layout::columns * units / warpgroup_size; ++i) {
    const int unit = i * warpgroup_size + thread;
    const std::uint32_t at =
        queries +
        static_cast<std::uint32_t>(unit / units * Layout::query_column_bytes + unit % units * 16);
    std::uint32_t four[4];
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(four[0]), "=r"(four[1]), "=r"(four[2]), "=r"(four[3])
                 : "r"(at));
#pragma unroll
    for (std::uint32_t& two : four) {
      asm("cvt.rn.satfinite.f16x2.f32 %0, %1, %2;"
          : "=r"(two)
          : "f"(__uint_as_float(two & 0xffff0000U)), "f"(__uint_as_float(two << 16)));
    }
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(at), "r"(four[0]), "r"(four[1]),
                 "r"(four[2]), "r"(four[3])
                 : "memory");
  }
  fence_shared_writes();
  meet(barrier, warpgroup_size);
}

// As cap_scores, by the chip's own exponential and reciprocal: tanh(x) = 1 - 2 / (e^2x + 1).
template <int tiles>
__device__ __forceinline__ void cap_scores_fast(float (&scores)[tiles][4],
                                                const AttentionArgs& args) {
  const float factor = 2 * log2_e * args.scale / args.softcap;
#pragma unroll
  for (int t = 0; t < tiles; ++t) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float power = exp2_fast(scores[t][e] * factor);
      scores[t][e] = args.softcap - __fdividef(2 * args.softcap, power + 1);
    }
  }
}

// The two output rows that a lane has a part of, upper and lower (eight below): where they lie, or
// nullptr for a row that is not there.
template <typename T>
struct OutputRows {
  T* row[2];

  __device__ OutputRows(const AttentionArgs& args, const Work& work, int upper, int head_dim) {
#pragma unroll
    for (int lower = 0; lower < 2; ++lower) {
      const int at = upper + 8 * lower;
      const int head = work.kv_head * args.group + at % args.group;
      row[lower] = at >= work.rows ? nullptr
                                   : static_cast<T*>(args.out) +
                                         (work.first_token + at / args.group) * args.out_stride +
                                         head * head_dim;
    }
  }

  // Neighbouring lanes exchange pairs of columns, so that each writes four.
  template <int tiles>
  __device__ void store(const float (&sums)[tiles][4], const float (&row_sums)[2]) const {
    const int c = static_cast<int>(threadIdx.x) % 4;
    const bool odd = c % 2 == 1;
#pragma unroll
    for (int lower = 0; lower < 2; ++lower) {
      const float factor = 1.0F / sum_of_quad(row_sums[lower]);
#pragma unroll
      for (int t = 0; t < tiles; t += 2) {
        const auto pair = [&](int tile) {
          return pack_two<T>(sums[tile][2 * lower] * factor, sums[tile][2 * lower + 1] * factor);
        };
        const std::uint32_t left = pair(t);
        const std::uint32_t right = pair(t + 1);
        const std::uint32_t other = __shfl_xor_sync(0xffffffffU, odd ? left : right, 1);
        // Even lanes have four columns of tile t, odd ones of tile t + 1.
        const uint2 four = odd ? uint2{other, right} : uint2{left, other};
        if (row[lower] != nullptr) {
          *reinterpret_cast<uint2*>(row[lower] + (odd ? t + 1 : t) * 8 + c / 2 * 4) = four;
        }
      }
    }
  }
};

// Warpgroup `index`, 0 or 1, of the consumers. With an fp8 cache the factors of both products are
// f16: fp8 is widened to it in one instruction, and probabilities have three more bits there than
// in bf16.
template <typename T, typename Kv, int head_dim>
__device__ void multiply(const AttentionArgs& args, const Layout<Kv, head_dim>& layout, int index) {
  using Tiles = Layout<Kv, head_dim>;
  using Factor = std::conditional_t<Tiles::is_fp8, __half, T>;
  constexpr int key_steps = Tiles::tile_keys / 16;
  constexpr bool turns = takes_turns(head_dim);
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int warp = static_cast<int>(threadIdx.x) % warpgroup_size / warp_size;
  const int group_row = index * group_rows;
  const int upper = group_row + warp * 16 + lane / 4;  // of the lane's two rows

  float scores[Tiles::tile_keys / 8][4];
  float sums[head_dim / 8][4];
  std::uint32_t probabilities[key_steps][4];
  Turn<work_stages> work_turn;
  Turn<Tiles::stages> keys_turn;
  Turn<Tiles::stages> values_turn;  // one tile behind the keys
  Turn<Tiles::query_stages> queries_turn;

  Work work;
  int key_tile = 0;  // whose probabilities there are
  int positions[2];  // rows behind the last one follow it; they are not stored
  int first_position = 0, last_position = 0;  // of the warpgroup's rows
  RunningSoftmax softmax;

  const auto begin_work = [&](const Work& next) {
    work = next;
    key_tile = 0;
    const auto position = [&](int row) {
      return work.position_of_row(args, min(row, work.rows - 1));
    };
    positions[0] = position(upper);
    positions[1] = position(upper + 8);
    first_position = position(group_row);
    last_position = position(group_row + group_rows - 1);
    softmax = {};
  };
  // Steps add to the addresses in the descriptors, which count 16 bytes.
  const auto start_scores = [&] {
    const std::uint64_t queries =
        matrix_descriptor(layout.queries(queries_turn.stage) +
                          static_cast<std::uint32_t>(group_row * swizzled_row_bytes));
    const std::uint64_t keys = matrix_descriptor(layout.keys(keys_turn.stage));
    fence_products();
#pragma unroll
    for (int step = 0; step < head_dim / 16; ++step) {
      const int within = step % 4 * 32;
      const int column = step / 4;
      multiply_async<Factor>(scores, queries + (column * Tiles::query_column_bytes + within) / 16,
                             keys + (column * Tiles::column_bytes + within) / 16, step > 0);
    }
    commit_products();
  };
  const auto start_sums = [&] {
    const std::uint64_t values =
        matrix_descriptor(layout.values(values_turn.stage), Tiles::column_bytes);
    fence_products();
#pragma unroll
    for (int step = 0; step < key_steps; ++step) {
      multiply_async<Factor>(sums, probabilities[step],
                             values + step * 16 * swizzled_row_bytes / 16,
                             static_cast<int>(step > 0 || key_tile > 0));
    }
    commit_products();
  };
  const auto mask_and_soften = [&] {
    if (args.softcap > 0) cap_scores_fast(scores, args);
    const int begin = work.template begin_of<Tiles::tile_keys>(key_tile);
    if (begin + Tiles::tile_keys - 1 > first_position || begin < args.first_key(last_position)) {
      mask_scores(scores, args, positions, begin);
    }
    return softmax.update(scores, exponent_scale(args));
  };
  const auto take_probabilities = [&] {
#pragma unroll
    for (int step = 0; step < key_steps; ++step) {
      probabilities[step][0] = pack_two<Factor>(scores[2 * step][0], scores[2 * step][1]);
      probabilities[step][1] = pack_two<Factor>(scores[2 * step][2], scores[2 * step][3]);
      probabilities[step][2] = pack_two<Factor>(scores[2 * step + 1][0], scores[2 * step + 1][1]);
      probabilities[step][3] = pack_two<Factor>(scores[2 * step + 1][2], scores[2 * step + 1][3]);
    }
  };
  const auto release = [&](std::uint32_t barrier) {
    if (lane == 0) barrier_arrive(barrier);
  };
  const auto wait_for_queries = [&] {
    barrier_wait(layout.queries_full(queries_turn.stage), queries_turn.parity);
    if constexpr (!std::is_same_v<T, Factor>) {
      narrow_queries<Tiles>(layout.queries(queries_turn.stage) +
                                static_cast<std::uint32_t>(group_row * swizzled_row_bytes),
                            queries_barrier + index);
    }
  };
  const auto wait_for_values = [&] {
    barrier_wait(layout.values_full(values_turn.stage), values_turn.parity);
    const int valid = work.kv_length - work.template begin_of<Tiles::tile_keys>(key_tile);
    if (!Tiles::is_fp8 && key_tile == 0 && valid < Tiles::tile_keys) {
      clear_values<Tiles, head_dim>(layout.values(values_turn.stage), valid);
    }
  };
  // After the scores of tile `key_tile`: its keys, and with the last of them the queries, may go.
  const auto release_keys = [&](bool last) {
    release(layout.keys_empty(keys_turn.stage));
    keys_turn.next();
    if (last) {
      release(layout.queries_empty(queries_turn.stage));
      queries_turn.next();
    }
  };

  const Work first = take_work(layout, work_turn);
  if (first.key_tiles == 0) return;
  begin_work(first);
  if (turns && index == 1) meet_without_waiting(turn_barrier, consumer_threads);  // 0 begins
  wait_for_queries();
  barrier_wait(layout.keys_full(keys_turn.stage), keys_turn.parity);
  if (turns) meet(turn_barrier + index, consumer_threads);
  start_scores();
  if (turns) meet_without_waiting(turn_barrier + 1 - index, consumer_threads);
  wait_products<0>();
  pin(scores);
  release_keys(work.key_tiles == 1);
  mask_and_soften();
  take_probabilities();

  while (true) {
    const bool ends = key_tile + 1 == work.key_tiles;
    Work next;
    if (ends) {
      next = take_work(layout, work_turn);
      if (next.key_tiles == 0) break;
      wait_for_queries();
    }
    barrier_wait(layout.keys_full(keys_turn.stage), keys_turn.parity);
    wait_for_values();
    if (turns) meet(turn_barrier + index, consumer_threads);
    start_scores();
    start_sums();
    if (turns) meet_without_waiting(turn_barrier + 1 - index, consumer_threads);
    wait_products<1>();
    pin(scores);
    if (ends) {
      const OutputRows<T> out(args, work, upper, head_dim);
      const float row_sums[2] = {softmax.sum[0], softmax.sum[1]};
      begin_work(next);
      release_keys(work.key_tiles == 1);
      mask_and_soften();
      wait_products<0>();
      pin(sums);
      release(layout.values_empty(values_turn.stage));
      out.store(sums, row_sums);
    } else {
      ++key_tile;
      release_keys(key_tile + 1 == work.key_tiles);
      const float2 factors = mask_and_soften();
      wait_products<0>();
      pin(sums);
      release(layout.values_empty(values_turn.stage));
      // Most tiles raise no maximum.
      if (__any_sync(0xffffffffU, factors.x != 1 || factors.y != 1)) rescale(sums, factors);
    }
    take_probabilities();
    values_turn.next();
  }

  wait_for_values();
  start_sums();
  const OutputRows<T> out(args, work, upper, head_dim);
  wait_products<0>();
  pin(sums);
  release(layout.values_empty(values_turn.stage));
  out.store(sums, softmax.sum);
  // The turn that warpgroup 1 offered last is taken, so that the barrier ends as it began.
  if (turns && index == 0) meet(turn_barrier, consumer_threads);
}

}  // namespace millrace::cuda::prefill
