// Norms on CUDA: one block a row. A row that fits stays in registers as 16-byte packs, so that
// memory is read once and written once; any other row is read again from memory.
#include "kernels/base/cuda_map.cuh"
#include "kernels/norm.hpp"
#include "kernels/norm_rows_cuda.cuh"

namespace millrace::cuda {
namespace {

// packs: how many packs of a row one thread holds.
template <typename T, NormKind kind, bool quantize, int packs>
__global__ void __launch_bounds__(max_norm_threads(packs)) norm_in_registers(NormArgs<T> args) {
  constexpr int width = pack_width<T>();
  __shared__ float scratch[warp_size];
  const std::int64_t row = blockIdx.x;
  const int pack_count = args.hidden / width;
  allow_next();
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    const int index = p * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
    if (index < pack_count) bring_near(args.weight + index * width);
  }
  wait_for_previous();
  PackWords<T, width> held[packs];
  load_held(held, args.x.row(row), pack_count);
  add_norm_held<kind, quantize>(held, args, row, scratch);
}

// Any width and alignment. Each thread reads back only what it wrote itself, so out may be x or
// residual.
template <typename T, NormKind kind, bool quantize>
__global__ void norm_from_memory(NormArgs<T> args) {
  allow_next();
  wait_for_previous();
  __shared__ float scratch[warp_size];
  const std::int64_t row = blockIdx.x;
  const T* x = args.x.row(row);
  T* residual = args.residual.data == nullptr ? nullptr : args.residual.row(row);
  const T* summed = residual == nullptr ? x : residual;

  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < args.hidden; i += static_cast<int>(blockDim.x)) {
    if (residual != nullptr) residual[i] = from_float<T>(to_float(residual[i]) + to_float(x[i]));
    sum += to_float(summed[i]);
  }
  const auto squares_around = [&](float mean) {
    float squares = 0;
    for (int i = static_cast<int>(threadIdx.x); i < args.hidden;
         i += static_cast<int>(blockDim.x)) {
      const float difference = to_float(summed[i]) - mean;
      squares += difference * difference;
    }
    return squares;
  };
  const float2 moments = row_moments<kind>(sum, squares_around, args.hidden, args.eps, scratch);

  const auto value = [&](int i) {
    const float y = (to_float(summed[i]) - moments.x) * moments.y *
                    (to_float(args.weight[i]) + args.weight_offset);
    return args.bias == nullptr ? y : y + to_float(args.bias[i]);
  };
  if constexpr (quantize) {
    __syncthreads();  // threads ask for elements of the sum that others wrote
    quantize_row_from(args.quantized, row, args.hidden, value, scratch);
  } else {
    T* out = args.out.row(row);
    for (int i = static_cast<int>(threadIdx.x); i < args.hidden;
         i += static_cast<int>(blockDim.x)) {
      out[i] = from_float<T>(value(i));
    }
  }
}

template <typename T, NormKind kind, bool quantize>
void launch(const NormArgs<T>& args, std::int64_t rows, bool packed, Stream stream) {
  constexpr int width = pack_width<T>();
  const auto grid = static_cast<unsigned>(rows);
  const int pack_count = args.hidden / width;
  if (!packed || args.hidden % width != 0 ||
      pack_count > max_norm_packs * max_norm_threads(max_norm_packs)) {
    return launch_early("norm_from_memory", norm_from_memory<T, kind, quantize>, {grid, 256},
                        stream, args);
  }
  const int packs = norm_packs(pack_count);
  const unsigned threads = norm_threads(pack_count);
  const auto kernel = packs == 1   ? norm_in_registers<T, kind, quantize, 1>
                      : packs == 2 ? norm_in_registers<T, kind, quantize, 2>
                                   : norm_in_registers<T, kind, quantize, max_norm_packs>;
  launch_early("norm_in_registers", kernel, {grid, threads}, stream, args);
}

void normalise(const LinearInput& out, const TensorView* residual, const TensorView& x,
               const NormWeights& weights, Stream stream) {
  if (x.size(0) == 0) return;
  const bool quantize = out.is_quantized();
  const bool packed = (quantize ? takes_packs(out) : rows_are_packed(out.values)) &&
                      rows_are_packed(x) && (residual == nullptr || rows_are_packed(*residual)) &&
                      rows_are_packed(weights.weight) && rows_are_packed(weights.bias);
  with_float_type("norm", x.dtype(), [&](auto element) {
    using T = decltype(element);
    const NormArgs<T> args = norm_args<T>(out, residual, x, weights);
    const auto launch_kind = [&](auto kind) {
      if (quantize) {
        launch<T, kind.value, true>(args, x.size(0), packed, stream);
      } else {
        launch<T, kind.value, false>(args, x.size(0), packed, stream);
      }
    };
    if (weights.kind == NormKind::rms) {
      launch_kind(std::integral_constant<NormKind, NormKind::rms>{});
    } else {
      launch_kind(std::integral_constant<NormKind, NormKind::layer>{});
    }
  });
}

template <typename T>
struct Add {
  Rows<T> residual;
  Rows<const T> x;

  template <int N>
  __device__ void apply(std::int64_t row, int column) const {
    Pack<T, N> pack = load_pack<T, N>(residual.row(row) + column);
    const Pack<T, N> other = load_pack<T, N>(x.row(row) + column);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      pack.values[i] = from_float<T>(to_float(pack.values[i]) + to_float(other.values[i]));
    }
    store_pack(residual.row(row) + column, pack);
  }
};

}  // namespace

void norm(const LinearInput& out, const TensorView& x, const NormWeights& weights, Stream stream) {
  normalise(out, nullptr, x, weights, stream);
}

void add_norm(const LinearInput& out, const TensorView& residual, const TensorView& x,
              const NormWeights& weights, Stream stream) {
  normalise(out, &residual, x, weights, stream);
}

void add(const TensorView& residual, const TensorView& x, Stream stream) {
  with_float_type("add", x.dtype(), [&](auto element) {
    using T = decltype(element);
    const Add<T> functor{rows_of<T>(residual), rows_of<const T>(x)};
    map_rows<pack_width<T>()>("add", functor, x.size(0), x.size(1),
                              rows_are_packed(residual) && rows_are_packed(x), stream);
  });
}

}  // namespace millrace::cuda
