// A row's norm while the row sits in a block's registers: what the norms and the all-reduce that is
// joined with one have in common, so that both give the same bits.
#pragma once

#include "kernels/base/cuda_types.cuh"
#include "kernels/base/cuda_words.cuh"
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

// A thread's packs of a row: t, t + blockDim.x, ...
template <typename T, int width, int packs>
__device__ __forceinline__ void load_held(PackWords<T, width> (&held)[packs], const T* row,
                                          int pack_count) {
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    const int index = p * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
    if (index < pack_count) held[p] = load_words<T, width>(row + index * width);
  }
}

// out[row] = norm(residual[row] += held), the sum left out where there is no residual. All threads
// of the block call.
template <NormKind kind, bool quantize, typename T, int width, int packs>
__device__ __forceinline__ void add_norm_held(PackWords<T, width> (&held)[packs],
                                              const NormArgs<T>& args, std::int64_t row,
                                              float* scratch) {
  const int pack_count = args.hidden / width;
  T* residual = args.residual.data == nullptr ? nullptr : args.residual.row(row);
  // What is read is asked for before the first store and the sums, where registers can hold it.
  constexpr bool holds_weight = packs <= 2;
  PackWords<T, width> before[packs];
  PackWords<T, width> weight[packs];
  if (residual != nullptr) load_held(before, residual, pack_count);
  if constexpr (holds_weight) load_held(weight, args.weight, pack_count);
  float sum = 0;
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    const int index = p * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
    if (index >= pack_count) continue;
    float x[width];
    widen(held[p], x);
    if (residual != nullptr) {
      float was[width];
      widen(before[p], was);
#pragma unroll
      for (int i = 0; i < width; ++i) x[i] += was[i];
      held[p] = narrow<T>(x);
      store_words(residual + index * width, held[p]);
      widen(held[p], x);
    }
    if constexpr (kind == NormKind::layer) {
#pragma unroll
      for (int i = 0; i < width; ++i) sum += x[i];
    }
  }

  const auto squares_around = [&](float mean) {
    float squares = 0;
#pragma unroll
    for (int p = 0; p < packs; ++p) {
      const int index = p * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
      if (index >= pack_count) continue;
      float x[width];
      widen(held[p], x);
#pragma unroll
      for (int i = 0; i < width; ++i) squares += (x[i] - mean) * (x[i] - mean);
    }
    return squares;
  };
  const float2 moments = row_moments<kind>(sum, squares_around, args.hidden, args.eps, scratch);

  [[maybe_unused]] float y[packs][width] = {};
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    const int index = p * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
    if (index >= pack_count) continue;
    if constexpr (!holds_weight) weight[p] = load_words<T, width>(args.weight + index * width);
    float x[width];
    float w[width];
    widen(held[p], x);
    widen(weight[p], w);
#pragma unroll
    for (int i = 0; i < width; ++i) {
      y[p][i] = (x[i] - moments.x) * moments.y * (w[i] + args.weight_offset);
    }
    if (args.bias != nullptr) {
      float bias[width];
      widen(load_words<T, width>(args.bias + index * width), bias);
#pragma unroll
      for (int i = 0; i < width; ++i) y[p][i] += bias[i];
    }
    if constexpr (!quantize) store_words(args.out.row(row) + index * width, narrow<T>(y[p]));
  }
  if constexpr (quantize) quantize_row(args.quantized, row, args.hidden, y, scratch);
}

// The same of packs.
template <NormKind kind, bool quantize, typename T, int width, int packs>
__device__ __forceinline__ void add_norm_held(const Pack<T, width> (&held)[packs],
                                              const NormArgs<T>& args, std::int64_t row,
                                              float* scratch) {
  PackWords<T, width> words[packs];
#pragma unroll
  for (int p = 0; p < packs; ++p) words[p] = reinterpret_cast<const PackWords<T, width>&>(held[p]);
  add_norm_held<kind, quantize>(words, args, row, scratch);
}

}  // namespace millrace::cuda
