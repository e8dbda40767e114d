// Activations on CUDA, 16 bytes a thread.
#include "kernels/activation.hpp"

#include "kernels/base/cuda_map.cuh"
#include "kernels/base/cuda_words.cuh"
#include "kernels/quantize_cuda.cuh"

namespace millrace::cuda {
namespace {

// 1 / (1 + exp(-x)) in five instructions; below 2^-126 it is 0.
__device__ __forceinline__ float sigmoid(float x) {
  float power;
  float inverse;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x * -1.4426950408889634F));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(1.0F + power));
  return inverse;
}

template <Activation kind>
__device__ float activate(float x) {
  if constexpr (kind == Activation::silu) {
    return x * sigmoid(x);
  } else if constexpr (kind == Activation::gelu_tanh) {
    constexpr float sqrt_2_over_pi = 0.7978845608028654F;
    return 0.5F * x * (1.0F + tanhf(sqrt_2_over_pi * (x + 0.044715F * x * x * x)));
  } else if constexpr (kind == Activation::gelu_erf) {
    return 0.5F * x * (1.0F + erff(x * 0.7071067811865476F));
  } else if constexpr (kind == Activation::relu) {
    return fmaxf(x, 0.0F);
  } else {
    return x * sigmoid(1.702F * x);
  }
}

// Each maps a row to a plain `out` (apply), or hands its values to be quantized: what it reads of
// them (load), and then themselves (values).
template <typename T, Activation kind>
struct Activate {
  Rows<T> out;
  Rows<const T> x;

  template <int N>
  __device__ Loaded<T, N> load(std::int64_t row, int column) const {
    return cuda::load<T, N>(x.row(row) + column);
  }
  template <int N>
  static __device__ void values(const Loaded<T, N>& loaded, float (&y)[N]) {
    widen(loaded, y);
#pragma unroll
    for (int i = 0; i < N; ++i) y[i] = activate<kind>(y[i]);
  }
  template <int N>
  __device__ void apply(std::int64_t row, int column) const {
    float y[N];
    values(load<N>(row, column), y);
    store_narrowed(out.row(row) + column, y);
  }
};

template <typename T, Activation kind>
struct GatedActivate {
  Rows<T> out;
  Rows<const T> gate_up;
  std::int64_t n;

  template <int N>
  struct Both {
    Loaded<T, N> gate, up;
  };

  template <int N>
  __device__ Both<N> load(std::int64_t row, int column) const {
    const T* const from = gate_up.row(row) + column;
    return {cuda::load<T, N>(from), cuda::load<T, N>(from + n)};
  }
  template <int N>
  static __device__ void values(const Both<N>& loaded, float (&y)[N]) {
    float up[N];
    widen(loaded.gate, y);
    widen(loaded.up, up);
#pragma unroll
    for (int i = 0; i < N; ++i) y[i] = activate<kind>(y[i]) * up[i];
  }
  template <int N>
  __device__ void apply(std::int64_t row, int column) const {
    float y[N];
    values(load<N>(row, column), y);
    store_narrowed(out.row(row) + column, y);
  }
};

struct ScaleSoftcap {
  Rows<float> x;
  float scale;
  float softcap;

  template <int N>
  __device__ void apply(std::int64_t row, int column) const {
    Pack<float, N> pack = load_pack<float, N>(x.row(row) + column);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float scaled = scale * pack.values[i];
      pack.values[i] = softcap > 0 ? softcap * tanhf(scaled / softcap) : scaled;
    }
    store_pack(x.row(row) + column, pack);
  }
};

template <typename Body>
void with_activation(Activation kind, Body&& body) {
  using Kind = Activation;
  switch (kind) {
    case Kind::silu:
      return body(std::integral_constant<Kind, Kind::silu>{});
    case Kind::gelu_tanh:
      return body(std::integral_constant<Kind, Kind::gelu_tanh>{});
    case Kind::gelu_erf:
      return body(std::integral_constant<Kind, Kind::gelu_erf>{});
    case Kind::relu:
      return body(std::integral_constant<Kind, Kind::relu>{});
    case Kind::quick_gelu:
      return body(std::integral_constant<Kind, Kind::quick_gelu>{});
  }
}

template <typename T>
Rows<T> plain_rows(const LinearInput& out) {
  return out.is_quantized() ? Rows<T>{nullptr, 0} : rows_of<T>(out.values);
}

// `packed`: the rows that the functor reads are aligned.
template <typename T, typename Functor>
void map_rows_into(const char* op, const Functor& functor, const LinearInput& out, bool packed,
                   Stream stream) {
  if (out.is_quantized()) return quantize_map<pack_width<T>()>(op, functor, out, packed, stream);
  map_rows<pack_width<T>()>(op, functor, out.size(0), out.size(1),
                            packed && rows_are_packed(out.values), stream);
}

}  // namespace

void activation(const LinearInput& out, const TensorView& x, Activation kind, Stream stream) {
  with_float_type("activation", x.dtype(), [&](auto element) {
    using T = decltype(element);
    with_activation(kind, [&](auto constant) {
      const Activate<T, decltype(constant)::value> functor{plain_rows<T>(out), rows_of<const T>(x)};
      map_rows_into<T>("activation", functor, out, rows_are_packed(x), stream);
    });
  });
}

void gated_activation(const LinearInput& out, const TensorView& gate_up, Activation kind,
                      Stream stream) {
  with_float_type("gated_activation", gate_up.dtype(), [&](auto element) {
    using T = decltype(element);
    const std::int64_t n = out.size(1);
    const bool packed = rows_are_packed(gate_up) && n % pack_width<T>() == 0;
    with_activation(kind, [&](auto constant) {
      const GatedActivate<T, decltype(constant)::value> functor{plain_rows<T>(out),
                                                                rows_of<const T>(gate_up), n};
      map_rows_into<T>("gated_activation", functor, out, packed, stream);
    });
  });
}

void scale_softcap(const TensorView& x, float scale, float softcap, Stream stream) {
  const ScaleSoftcap functor{rows_of<float>(x), scale, softcap};
  map_rows<pack_width<float>()>("scale_softcap", functor, x.size(0), x.size(1), rows_are_packed(x),
                                stream);
}

}  // namespace millrace::cuda
