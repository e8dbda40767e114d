#include <algorithm>

#include "comm/peer_reduce.hpp"
#include "comm/peer_ways_cuda.cuh"
#include "kernels/base/cuda_launch.cuh"
#include "kernels/norm_rows_cuda.cuh"

namespace millrace::cuda {
namespace {

template <ReduceWay way, int ranks, bool quantize, typename T>
__global__ void __launch_bounds__(max_norm_threads(peer_packs))
    peer_reduce_norm_rows(NormArgs<T> args, std::int64_t first_row, bool is_rms, Peers peers) {
  __shared__ float scratch[warp_size];
  const std::int64_t row = first_row + blockIdx.x;
  HeldRow<T> held;
  held.count = args.hidden / pack_width<T>();
  allow_next();
  wait_for_previous();
  held.load(args.x.row(row));
  sum_over_ranks<way, ranks, Sum>(held, blockIdx.x, std::int64_t{held.count} * pack_bytes, peers);
  if (is_rms) {
    add_norm_held<NormKind::rms, quantize>(held.packs, args, row, scratch);
  } else {
    add_norm_held<NormKind::layer, quantize>(held.packs, args, row, scratch);
  }
}

}  // namespace

bool peers_can_reduce_add_norm(const LinearInput& out, const TensorView& residual,
                               const TensorView& x, const NormWeights& weights) {
  const std::int64_t row_bytes = x.size(1) * static_cast<std::int64_t>(size_of(x.dtype()));
  const bool is_float =
      x.dtype() == DType::f32 || x.dtype() == DType::f16 || x.dtype() == DType::bf16;
  const bool out_is_packed = out.is_quantized() ? takes_packs(out) : rows_are_packed(out.values);
  return is_float && rows_are_packed(x) && row_bytes % pack_bytes == 0 &&
         row_bytes <= std::int64_t{peer_packs} * max_norm_threads(peer_packs) * pack_bytes &&
         out_is_packed && rows_are_packed(residual) && rows_are_packed(weights.weight) &&
         rows_are_packed(weights.bias);
}

void peer_all_reduce_add_norm(ReduceWay way, const LinearInput& out, const TensorView& residual,
                              const TensorView& x, const NormWeights& weights, const Peers& peers,
                              Stream stream) {
  with_float_type("all_reduce_add_norm", x.dtype(), [&](auto element) {
    using T = decltype(element);
    const NormArgs<T> args = norm_args<T>(out, &residual, x, weights);
    const int pack_count = static_cast<int>(x.size(1)) / pack_width<T>();
    const auto threads =
        static_cast<unsigned>(ceil_div(ceil_div(pack_count, peer_packs), warp_size) * warp_size);
    const std::int64_t step =
        PeerLayout(peers.size).rows_at_once(way, std::int64_t{pack_count} * pack_bytes);
    const auto launch = [&](auto way_constant, auto ranks, auto quantize) {
      for (std::int64_t begin = 0; begin < x.size(0); begin += step) {
        const std::int64_t rows = std::min(step, x.size(0) - begin);
        launch_early("peer_reduce_norm_rows",
                     peer_reduce_norm_rows<decltype(way_constant)::value, decltype(ranks)::value,
                                           decltype(quantize)::value, T>,
                     {static_cast<unsigned>(rows), threads}, stream, args, begin,
                     weights.kind == NormKind::rms, peers);
      }
    };
    with_way(way, peers.size, [&](auto way_constant, auto ranks) {
      if (out.is_quantized()) {
        launch(way_constant, ranks, std::true_type());
      } else {
        launch(way_constant, ranks, std::false_type());
      }
    });
  });
}

}  // namespace millrace::cuda
