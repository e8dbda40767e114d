#include <algorithm>

#include "comm/peer_reduce.hpp"
#include "comm/peer_ways_cuda.cuh"
#include "kernels/base/cuda_launch.cuh"

namespace millrace::cuda {
namespace {

// x is cut into rows of `row_packs` packs, the last of which may be shorter.
template <ReduceWay way, int ranks, typename Op, typename T>
__global__ void __launch_bounds__(256)
    peer_reduce_rows(T* x, std::int64_t all_packs, int row_packs, Peers peers) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t begin = row * row_packs;
  T* data = x + begin * pack_width<T>();
  HeldRow<T> held;
  held.count = static_cast<int>(all_packs - begin < row_packs ? all_packs - begin : row_packs);
  allow_next();
  wait_for_previous();
  held.load(data);
  sum_over_ranks<way, ranks, Op>(held, row, std::int64_t{row_packs} * pack_bytes, peers);
  held.store(reinterpret_cast<std::byte*>(data));
}

template <typename Op, typename T>
void reduce(ReduceWay way, const TensorView& x, const Peers& peers, Stream stream) {
  constexpr std::int64_t many_bytes = 1 << 20;
  const std::int64_t all_packs = x.numel() / pack_width<T>();
  // Small sums are spread over many blocks, for their latency.
  const unsigned threads = all_packs * pack_bytes <= many_bytes ? 64 : 256;
  const int row_packs = static_cast<int>(threads) * peer_packs;
  const std::int64_t row_bytes = std::int64_t{row_packs} * pack_bytes;
  const std::int64_t step = PeerLayout(peers.size).rows_at_once(way, row_bytes) * row_packs;
  with_way(way, peers.size, [&](auto way_constant, auto ranks) {
    for (std::int64_t begin = 0; begin < all_packs; begin += step) {
      const std::int64_t count = std::min(step, all_packs - begin);
      const auto blocks = static_cast<unsigned>(ceil_div(count, row_packs));
      launch_early("peer_reduce_rows",
                   peer_reduce_rows<decltype(way_constant)::value, decltype(ranks)::value, Op, T>,
                   {blocks, threads}, stream, static_cast<T*>(x.data()) + begin * pack_width<T>(),
                   count, row_packs, peers);
    }
  });
}

bool is_packed(const TensorView& x) {
  return reinterpret_cast<std::uintptr_t>(x.data()) % pack_bytes == 0 &&
         x.bytes() % pack_bytes == 0;
}

}  // namespace

std::size_t peer_reduce_bytes(int ranks) { return PeerLayout(ranks).all(); }

bool peers_can_reduce(const TensorView& x, ReduceOp op) {
  if (!is_packed(x)) return false;
  const DType dtype = x.dtype();
  const bool is_wide = dtype == DType::f32 || dtype == DType::i32 || dtype == DType::i64;
  if (op == ReduceOp::sum) return is_wide || dtype == DType::f16 || dtype == DType::bf16;
  return op == ReduceOp::max && is_wide;
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

}  // namespace millrace::cuda
