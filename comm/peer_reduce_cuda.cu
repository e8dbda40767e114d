// A block works on one row: it writes this rank's part of the row to the others, waits for theirs,
// adds. Blocks wait only for the blocks of the same row on other GPUs, which are started in the
// same order, so they need not all be resident at once; and with hundreds of rows under way the
// links are busy while single blocks wait.
#include <algorithm>
#include <type_traits>

#include "comm/peer_reduce.hpp"
#include "comm/peer_wait_cuda.cuh"
#include "kernels/norm_rows_cuda.cuh"

namespace millrace::cuda {
namespace {

constexpr int packs = 2;  // of a row, in one thread
constexpr std::size_t half_bytes = 32U << 20U;
constexpr std::size_t words_bytes = 512U << 10U;  // of one rank's data, in one call
constexpr std::int64_t max_rows = 4096;           // in one call

// The memory of a rank: the counters, then two halves, each of the rows' flags, the area of words,
// the area of rows. Other ranks have a part of an area each.
struct Counters {
  std::uint32_t call;
  std::uint32_t readers;
};

struct Layout {
  int others;

  __host__ __device__ explicit Layout(int ranks) : others(ranks - 1) {}
  // Of each other rank, and one more of a row's owner.
  __host__ __device__ std::size_t flags_bytes() const {
    return max_rows * static_cast<std::size_t>(others + 1) * sizeof(std::uint32_t);
  }
  __host__ __device__ std::size_t words_part() const { return 2 * words_bytes; }
  __host__ __device__ std::size_t words_begin() const { return flags_bytes(); }
  __host__ __device__ std::size_t rows_begin() const {
    return words_begin() + words_part() * static_cast<std::size_t>(others);
  }
  __host__ __device__ std::size_t rows_part() const {
    return half_bytes / static_cast<std::size_t>(others) / 256 * 256;
  }
  // Two-shot: the sums lie in the second half of the area of rows.
  __host__ __device__ std::size_t owned_part() const { return rows_part() / 2 / 256 * 256; }
  __host__ __device__ std::size_t sums_begin() const { return rows_begin() + half_bytes / 2; }
  __host__ __device__ std::size_t half() const { return rows_begin() + half_bytes; }
  __host__ __device__ std::size_t all() const { return 256 + 2 * half(); }
};

// One call's view of the memory.
struct Call {
  std::size_t half;  // where this call's half begins
  std::uint32_t number;
};

// Every block learns the call's number; the last one to do so moves the count on. A number is never
// 0, which is what untouched memory holds, and its last bit says which half.
__device__ Call begin_call(const Peers& peers, const Layout& layout) {
  __shared__ std::uint32_t shared_number;
  if (threadIdx.x == 0) {
    auto* counters = reinterpret_cast<Counters*>(peers.bases[peers.rank]);
    const std::uint32_t last = *static_cast<volatile std::uint32_t*>(&counters->call);
    const std::uint32_t number = last + 1 == 0 ? 2 : last + 1;
    __threadfence();
    if (atomicInc(&counters->readers, gridDim.x - 1) == gridDim.x - 1) {
      *static_cast<volatile std::uint32_t*>(&counters->call) = number;
    }
    shared_number = number;
  }
  __syncthreads();
  const std::uint32_t number = shared_number;
  return {256 + (number & 1U) * layout.half(), number};
}

// Where rank `from`'s part of an area lies in rank `to`'s memory.
__device__ __forceinline__ int part_of(int from, int to) { return from < to ? from : from - 1; }

__device__ __forceinline__ void store_words(std::byte* to, uint4 data, std::uint32_t flag) {
  const auto word = [&](std::uint32_t value) {
    return static_cast<unsigned long long>(flag) << 32U | value;
  };
  asm volatile("st.relaxed.sys.global.v2.u64 [%0], {%1, %2};" ::"l"(to), "l"(word(data.x)),
               "l"(word(data.y))
               : "memory");
  asm volatile("st.relaxed.sys.global.v2.u64 [%0], {%1, %2};" ::"l"(to + 16), "l"(word(data.z)),
               "l"(word(data.w))
               : "memory");
}

struct Words {
  unsigned long long at[4];

  __device__ __forceinline__ bool carry(std::uint32_t flag) const {
    return (at[0] >> 32U) == flag && (at[1] >> 32U) == flag && (at[2] >> 32U) == flag &&
           (at[3] >> 32U) == flag;
  }
  __device__ __forceinline__ uint4 data() const {
    return {static_cast<unsigned>(at[0]), static_cast<unsigned>(at[1]),
            static_cast<unsigned>(at[2]), static_cast<unsigned>(at[3])};
  }
};

__device__ __forceinline__ Words load_words(const std::byte* from) {
  Words words;
  asm volatile("ld.relaxed.sys.global.v2.u64 {%0, %1}, [%2];"
               : "=l"(words.at[0]), "=l"(words.at[1])
               : "l"(from)
               : "memory");
  asm volatile("ld.relaxed.sys.global.v2.u64 {%0, %1}, [%2];"
               : "=l"(words.at[2]), "=l"(words.at[3])
               : "l"(from + 16)
               : "memory");
  return words;
}

struct Sum {
  template <typename T>
  static __device__ __forceinline__ T of(T a, T b) {
    return a + b;
  }
};
struct Max {
  template <typename T>
  static __device__ __forceinline__ T of(T a, T b) {
    return a > b ? a : b;
  }
  static __device__ __forceinline__ float of(float a, float b) { return fmaxf(a, b); }
};

template <typename T>
constexpr bool is_half = std::is_same_v<T, __half> || std::is_same_v<T, __nv_bfloat16>;

// Adds packs of one rank after the other: half precision in f32, rounded once at the end.
template <typename T, typename Op>
class Accumulator {
 public:
  using Wide = std::conditional_t<is_half<T>, float, T>;
  static constexpr int width = pack_width<T>();

  __device__ __forceinline__ void add(const uint4& bits, bool is_first) {
    const auto pack = *reinterpret_cast<const Pack<T, width>*>(&bits);
#pragma unroll
    for (int i = 0; i < width; ++i) {
      const auto value = static_cast<Wide>(pack.values[i]);
      values_[i] = is_first ? value : Op::of(values_[i], value);
    }
  }
  __device__ __forceinline__ Pack<T, width> result() const {
    Pack<T, width> pack;
#pragma unroll
    for (int i = 0; i < width; ++i) pack.values[i] = T(values_[i]);
    return pack;
  }

 private:
  Wide values_[width];
};

template <typename T>
__device__ __forceinline__ uint4 bits_of(const Pack<T, pack_width<T>()>& pack) {
  return *reinterpret_cast<const uint4*>(&pack);
}

// The flags of a row: of the other ranks' parts, then of its sum.
__device__ __forceinline__ std::uint32_t* flags_of(std::byte* base, const Call& call,
                                                   const Layout& layout, std::int64_t row) {
  return reinterpret_cast<std::uint32_t*>(base + call.half) + row * (layout.others + 1);
}

// The block's packs of the sum of row `row` over ranks; `held` comes in with this rank's. Thread t
// holds packs t and t + blockDim.x of `pack_count`.
template <ReduceWay way, int ranks, typename Op, typename T>
__device__ __forceinline__ void sum_over_ranks(Pack<T, pack_width<T>()> (&held)[packs],
                                               int pack_count, std::int64_t row,
                                               std::int64_t row_bytes, const Peers& peers,
                                               const Layout& layout, const Call& call) {
  std::byte* own = peers.bases[peers.rank];
  const auto thread = static_cast<int>(threadIdx.x);
  const auto offset_of = [&](int p) {
    return static_cast<std::size_t>(p * static_cast<int>(blockDim.x) + thread) * pack_bytes;
  };
  const auto has = [&](int p) { return p * static_cast<int>(blockDim.x) + thread < pack_count; };

  if constexpr (way == ReduceWay::words) {
    const std::size_t begin =
        call.half + layout.words_begin() + static_cast<std::size_t>(2 * row * row_bytes);
    for (int r = 1; r < peers.size; ++r) {
      const int to = (peers.rank + r) % peers.size;  // not all to the same one at once
      std::byte* there = peers.bases[to] + begin +
                         static_cast<std::size_t>(part_of(peers.rank, to)) * layout.words_part();
#pragma unroll
      for (int p = 0; p < packs; ++p) {
        if (has(p)) store_words(there + 2 * offset_of(p), bits_of<T>(held[p]), call.number);
      }
    }
#pragma unroll
    for (int p = 0; p < packs; ++p) {
      if (!has(p)) continue;
      const auto place = [&](int r) {
        return own + begin +
               static_cast<std::size_t>(part_of(r, peers.rank)) * layout.words_part() +
               2 * offset_of(p);
      };
      Words words[ranks];
#pragma unroll
      for (int r = 0; r < ranks; ++r) {
        if (r < peers.size && r != peers.rank) words[r] = load_words(place(r));
      }
      Accumulator<T, Op> sum;
#pragma unroll
      for (int r = 0; r < ranks; ++r) {
        if (r >= peers.size) break;
        if (r == peers.rank) {
          sum.add(bits_of<T>(held[p]), r == 0);
          continue;
        }
        Patience patience;
        while (!words[r].carry(call.number)) {
          patience.look(peers.alarm, r);
          words[r] = load_words(place(r));
        }
        sum.add(words[r].data(), r == 0);
      }
      held[p] = sum.result();
    }
    return;
  }

  // Adds what lies in the own memory, the parts of the other ranks `stride` apart, to `held`.
  const auto add_parts = [&](const std::byte* begin, std::size_t stride) {
#pragma unroll
    for (int p = 0; p < packs; ++p) {
      if (!has(p)) continue;
      uint4 theirs[ranks];
#pragma unroll
      for (int r = 0; r < ranks; ++r) {
        if (r >= peers.size || r == peers.rank) continue;
        theirs[r] = __ldcg(reinterpret_cast<const uint4*>(
            begin + static_cast<std::size_t>(part_of(r, peers.rank)) * stride + offset_of(p)));
      }
      Accumulator<T, Op> sum;
#pragma unroll
      for (int r = 0; r < ranks; ++r) {
        if (r >= peers.size) break;
        sum.add(r == peers.rank ? bits_of<T>(held[p]) : theirs[r], r == 0);
      }
      held[p] = sum.result();
    }
  };
  const auto write = [&](std::byte* to) {
#pragma unroll
    for (int p = 0; p < packs; ++p) {
      if (has(p)) *reinterpret_cast<uint4*>(to + offset_of(p)) = bits_of<T>(held[p]);
    }
  };

  std::uint32_t* own_flags = flags_of(own, call, layout, row);
  if constexpr (way == ReduceWay::one_shot) {
    const std::size_t begin =
        call.half + layout.rows_begin() + static_cast<std::size_t>(row * row_bytes);
    for (int r = 1; r < peers.size; ++r) {
      const int to = (peers.rank + r) % peers.size;
      write(peers.bases[to] + begin +
            static_cast<std::size_t>(part_of(peers.rank, to)) * layout.rows_part());
    }
    __syncthreads();
    if (thread < peers.size && thread != peers.rank) {
      store_release(flags_of(peers.bases[thread], call, layout, row) + part_of(peers.rank, thread),
                    call.number);
      wait_for(own_flags + part_of(thread, peers.rank), call.number, peers.alarm, thread);
    }
    __syncthreads();
    add_parts(own + begin, layout.rows_part());
  } else {
    // Two-shot. Ranks own rows in turn, so neighbouring blocks use different links.
    const int owner = static_cast<int>(row % peers.size);
    const std::size_t begin =
        call.half + layout.rows_begin() + static_cast<std::size_t>(row / peers.size * row_bytes);
    const std::size_t sum_at =
        call.half + layout.sums_begin() + static_cast<std::size_t>(row * row_bytes);
    if (peers.rank != owner) {
      const int part = part_of(peers.rank, owner);
      write(peers.bases[owner] + begin + static_cast<std::size_t>(part) * layout.owned_part());
      __syncthreads();
      if (thread == 0) {
        store_release(flags_of(peers.bases[owner], call, layout, row) + part, call.number);
        wait_for(own_flags + layout.others, call.number, peers.alarm, owner);
      }
      __syncthreads();
#pragma unroll
      for (int p = 0; p < packs; ++p) {
        if (!has(p)) continue;
        const uint4 bits = __ldcg(reinterpret_cast<const uint4*>(own + sum_at + offset_of(p)));
        held[p] = *reinterpret_cast<const Pack<T, pack_width<T>()>*>(&bits);
      }
      return;
    }
    if (thread < peers.size && thread != peers.rank) {
      wait_for(own_flags + part_of(thread, peers.rank), call.number, peers.alarm, thread);
    }
    __syncthreads();
    add_parts(own + begin, layout.owned_part());
    for (int r = 1; r < peers.size; ++r) write(peers.bases[(peers.rank + r) % peers.size] + sum_at);
    __syncthreads();
    if (thread < peers.size && thread != peers.rank) {
      store_release(flags_of(peers.bases[thread], call, layout, row) + layout.others, call.number);
    }
  }
}

// x is cut into rows of `row_packs` packs, the last of which may be shorter.
template <ReduceWay way, int ranks, typename Op, typename T>
__global__ void __launch_bounds__(256)
    peer_reduce_rows(T* x, std::int64_t all_packs, int row_packs, Peers peers) {
  constexpr int width = pack_width<T>();
  const std::int64_t row = blockIdx.x;
  const std::int64_t begin = row * row_packs;
  const auto pack_count =
      static_cast<int>(all_packs - begin < row_packs ? all_packs - begin : row_packs);
  T* data = x + begin * width;
  Pack<T, width> held[packs];
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    const int index = p * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
    if (index < pack_count) held[p] = load_pack<T, width>(data + index * width);
  }
  const Layout layout(peers.size);
  const Call call = begin_call(peers, layout);
  sum_over_ranks<way, ranks, Op>(held, pack_count, row, std::int64_t{row_packs} * pack_bytes, peers,
                                 layout, call);
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    const int index = p * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
    if (index < pack_count) store_pack(data + index * width, held[p]);
  }
}

template <ReduceWay way, int ranks, typename T>
__global__ void __launch_bounds__(max_norm_threads(packs))
    peer_reduce_norm_rows(NormArgs<T> args, bool is_rms, Peers peers) {
  constexpr int width = pack_width<T>();
  __shared__ float scratch[warp_size];
  const std::int64_t row = blockIdx.x;
  const int pack_count = args.hidden / width;
  const T* x = args.x.row(row);
  Pack<T, width> held[packs];
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    const int index = p * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
    if (index < pack_count) held[p] = load_pack<T, width>(x + index * width);
  }
  const Layout layout(peers.size);
  const Call call = begin_call(peers, layout);
  sum_over_ranks<way, ranks, Sum>(held, pack_count, row, std::int64_t{pack_count} * pack_bytes,
                                  peers, layout, call);
  if (is_rms) {
    add_norm_held<NormKind::rms, false>(held, args, row, scratch);
  } else {
    add_norm_held<NormKind::layer, false>(held, args, row, scratch);
  }
}

// Rows of one call.
std::int64_t rows_at_once(ReduceWay way, int size, std::int64_t row_bytes) {
  const Layout layout(size);
  const auto fit = [&](std::size_t bytes) { return static_cast<std::int64_t>(bytes) / row_bytes; };
  std::int64_t rows = 0;
  if (way == ReduceWay::words) {
    rows = fit(words_bytes);
  } else if (way == ReduceWay::one_shot) {
    rows = fit(layout.rows_part());
  } else {
    rows = std::min(fit(layout.owned_part()) * size, fit(half_bytes / 2));
  }
  return std::min(rows, max_rows);
}

// Calls body with the way and the number of ranks that the kernel is unrolled for as constants.
template <typename Body>
void with_way(ReduceWay way, int size, Body&& body) {
  using Two = std::integral_constant<int, 2>;
  using Many = std::integral_constant<int, max_peers>;
  if (way == ReduceWay::words) {
    const std::integral_constant<ReduceWay, ReduceWay::words> words;
    if (size == 2) return body(words, Two());
    return body(words, Many());
  }
  if (way == ReduceWay::one_shot) {
    const std::integral_constant<ReduceWay, ReduceWay::one_shot> one_shot;
    if (size == 2) return body(one_shot, Two());
    return body(one_shot, Many());
  }
  return body(std::integral_constant<ReduceWay, ReduceWay::two_shot>(), Many());
}

template <typename Op, typename T>
void reduce(ReduceWay way, const TensorView& x, const Peers& peers, Stream stream) {
  constexpr std::int64_t many_bytes = 1 << 20;
  const std::int64_t all_packs = x.numel() / pack_width<T>();
  // Small sums are spread over many blocks, for their latency.
  const unsigned threads = all_packs * pack_bytes <= many_bytes ? 64 : 256;
  const int row_packs = static_cast<int>(threads) * packs;
  const std::int64_t step =
      rows_at_once(way, peers.size, std::int64_t{row_packs} * pack_bytes) * row_packs;
  with_way(way, peers.size, [&](auto way_constant, auto ranks) {
    for (std::int64_t begin = 0; begin < all_packs; begin += step) {
      const std::int64_t count = std::min(step, all_packs - begin);
      peer_reduce_rows<decltype(way_constant)::value, decltype(ranks)::value, Op>
          <<<static_cast<unsigned>(ceil_div(count, row_packs)), threads, 0, native(stream)>>>(
              static_cast<T*>(x.data()) + begin * pack_width<T>(), count, row_packs, peers);
      check_launch("peer_reduce_rows");
    }
  });
}

bool is_packed(const TensorView& x) {
  return reinterpret_cast<std::uintptr_t>(x.data()) % pack_bytes == 0 &&
         x.bytes() % pack_bytes == 0;
}

}  // namespace

std::size_t peer_reduce_bytes(int ranks) { return Layout(ranks).all(); }

bool peers_can_reduce(const TensorView& x, ReduceOp op) {
  if (!is_packed(x)) return false;
  const DType dtype = x.dtype();
  const bool is_wide = dtype == DType::f32 || dtype == DType::i32 || dtype == DType::i64;
  if (op == ReduceOp::sum) return is_wide || dtype == DType::f16 || dtype == DType::bf16;
  return op == ReduceOp::max && is_wide;
}

bool peers_can_reduce_add_norm(const TensorView& out, const TensorView& residual,
                               const TensorView& x, const NormWeights& weights) {
  const std::int64_t row_bytes = x.size(1) * static_cast<std::int64_t>(size_of(x.dtype()));
  const bool is_float =
      x.dtype() == DType::f32 || x.dtype() == DType::f16 || x.dtype() == DType::bf16;
  return is_float && is_packed(x) && row_bytes % pack_bytes == 0 &&
         row_bytes <= std::int64_t{packs} * max_norm_threads(packs) * pack_bytes &&
         rows_are_packed(out) && rows_are_packed(residual) && rows_are_packed(weights.weight) &&
         rows_are_packed(weights.bias);
}

void peer_all_reduce(ReduceWay way, const TensorView& x, ReduceOp op, const Peers& peers,
                     Stream stream) {
  const bool is_sum = op == ReduceOp::sum;
  switch (x.dtype()) {
    case DType::i32:
      return is_sum ? reduce<Sum, std::int32_t>(way, x, peers, stream)
                    : reduce<Max, std::int32_t>(way, x, peers, stream);
    case DType::i64:
      return is_sum ? reduce<Sum, long long>(way, x, peers, stream)
                    : reduce<Max, long long>(way, x, peers, stream);
    case DType::f32:
      return is_sum ? reduce<Sum, float>(way, x, peers, stream)
                    : reduce<Max, float>(way, x, peers, stream);
    default:
      with_float_type("all_reduce", x.dtype(),
                      [&](auto element) { reduce<Sum, decltype(element)>(way, x, peers, stream); });
  }
}

void peer_all_reduce_add_norm(ReduceWay way, const TensorView& out, const TensorView& residual,
                              const TensorView& x, const NormWeights& weights, const Peers& peers,
                              Stream stream) {
  with_float_type("all_reduce_add_norm", x.dtype(), [&](auto element) {
    using T = decltype(element);
    const int pack_count = static_cast<int>(x.size(1)) / pack_width<T>();
    const auto threads =
        static_cast<unsigned>(ceil_div(ceil_div(pack_count, packs), warp_size) * warp_size);
    const std::int64_t step = rows_at_once(way, peers.size, std::int64_t{pack_count} * pack_bytes);
    with_way(way, peers.size, [&](auto way_constant, auto ranks) {
      for (std::int64_t begin = 0; begin < x.size(0); begin += step) {
        const std::int64_t rows = std::min(step, x.size(0) - begin);
        const TensorView these = residual.slice(0, begin, rows);
        const NormArgs<T> args =
            norm_args<T>(out.slice(0, begin, rows), &these, x.slice(0, begin, rows), weights);
        peer_reduce_norm_rows<decltype(way_constant)::value, decltype(ranks)::value>
            <<<static_cast<unsigned>(rows), threads, 0, native(stream)>>>(
                args, weights.kind == NormKind::rms, peers);
        check_launch("peer_reduce_norm_rows");
      }
    });
  });
}

}  // namespace millrace::cuda
