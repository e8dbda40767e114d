// A row's norm while the row sits in a block's registers: what the norms and the all-reduce that is
// joined with one have in common, so that both give the same bits.
#pragma once

#include "kernels/base/cuda_types.cuh"
#include "kernels/norm.hpp"
#include "kernels/quantize_cuda.cuh"

namespace millrace::cuda {

template <typename T>
struct NormArgs {
  Rows<T> out;              // unless quantized
  QuantizedRows quantized;  // of kernels that quantize
  Rows<T> residual;         // data is nullptr without the sum
  Rows<const T> x;
  const T* weight;
  const T* bias;  // nullptr for none
  int hidden;
  float eps;
  float weight_offset;
};

// `residual` is nullptr for a norm without the sum.
template <typename T>
NormArgs<T> norm_args(const LinearInput& out, const TensorView* residual, const TensorView& x,
                      const NormWeights& weights) {
  return {out.is_quantized() ? Rows<T>{nullptr, 0} : rows_of<T>(out.values),
          out.is_quantized() ? quantized_rows(out) : QuantizedRows{},
          residual == nullptr ? Rows<T>{nullptr, 0} : rows_of<T>(*residual),
          rows_of<const T>(x),
          static_cast<const T*>(weights.weight.data()),
          static_cast<const T*>(weights.bias.data()),
          static_cast<int>(x.size(1)),
          weights.eps,
          weights.weight_offset};
}

// A thread that holds many packs needs many registers, so fewer of them fit a block.
constexpr int max_norm_threads(int packs) { return packs > 2 ? 512 : 1024; }
constexpr int max_norm_packs = 8;

// How many packs of a row one thread holds: two keep enough loads in flight with few registers;
// more only for very long rows.
constexpr int norm_packs(int pack_count) {
  return pack_count <= 64 ? 1 : pack_count <= 2048 ? 2 : max_norm_packs;
}
constexpr unsigned norm_threads(int pack_count) {
  return static_cast<unsigned>(ceil_div(ceil_div(pack_count, norm_packs(pack_count)), warp_size) *
                               warp_size);
}

// Mean (0 for rms) and reciprocal deviation of a row, from its sum and a function that sums squares
// around a mean.
template <NormKind kind, typename SquaresAround>
__device__ float2 row_moments(float sum, SquaresAround&& squares_around, int hidden, float eps,
                              float* scratch) {
  const float count = static_cast<float>(hidden);
  const float mean = kind == NormKind::layer ? block_sum(sum, scratch) / count : 0.0F;
  const float squares = block_sum(squares_around(mean), scratch);
  return {mean, 1.0F / sqrtf(squares / count + eps)};
}

// out[row] = norm(residual[row] += held), the sum left out where there is no residual. Thread t
// holds packs t, t + blockDim.x, ... of the row; all threads of the block call.
template <NormKind kind, bool quantize, typename T, int width, int packs>
__device__ __forceinline__ void add_norm_held(Pack<T, width> (&held)[packs],
                                              const NormArgs<T>& args, std::int64_t row,
                                              float* scratch) {
  const int pack_count = args.hidden / width;
  T* residual = args.residual.data == nullptr ? nullptr : args.residual.row(row);
  float sum = 0;
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    const int index = p * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
    if (index >= pack_count) continue;
    if (residual != nullptr) {
      const Pack<T, width> before = load_pack<T, width>(residual + index * width);
#pragma unroll
      for (int i = 0; i < width; ++i) {
        held[p].values[i] = from_float<T>(to_float(before.values[i]) + to_float(held[p].values[i]));
      }
      store_pack(residual + index * width, held[p]);
    }
    if constexpr (kind == NormKind::layer) {
#pragma unroll
      for (int i = 0; i < width; ++i) sum += to_float(held[p].values[i]);
    }
  }

  const auto squares_around = [&](float mean) {
    float squares = 0;
#pragma unroll
    for (int p = 0; p < packs; ++p) {
      const int index = p * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
      if (index >= pack_count) continue;
#pragma unroll
      for (int i = 0; i < width; ++i) {
        const float difference = to_float(held[p].values[i]) - mean;
        squares += difference * difference;
      }
    }
    return squares;
  };
  const float2 moments = row_moments<kind>(sum, squares_around, args.hidden, args.eps, scratch);

  [[maybe_unused]] float y[packs][width] = {};
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    const int index = p * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
    if (index >= pack_count) continue;
    const Pack<T, width> weight = load_pack<T, width>(args.weight + index * width);
    Pack<T, width> bias;
    if (args.bias != nullptr) bias = load_pack<T, width>(args.bias + index * width);
    Pack<T, width> result;
#pragma unroll
    for (int i = 0; i < width; ++i) {
      y[p][i] = (to_float(held[p].values[i]) - moments.x) * moments.y *
                (to_float(weight.values[i]) + args.weight_offset);
      if (args.bias != nullptr) y[p][i] += to_float(bias.values[i]);
      result.values[i] = from_float<T>(y[p][i]);
    }
    if constexpr (!quantize) store_pack(args.out.row(row) + index * width, result);
  }
  if constexpr (quantize) quantize_row(args.quantized, row, args.hidden, y, scratch);
}

}  // namespace millrace::cuda
