// fp8 rows and weights that own their memory, for the kernels' tests.
#pragma once

#include "kernels/linear.hpp"
#include "kernels/quantize.hpp"
#include "test/kernels/random_tensor.hpp"

namespace millrace {

// In names of cases.
inline std::string_view name(Fp8Scaling scaling) {
  return scaling == Fp8Scaling::rows ? "rows" : "blocks";
}

struct QuantizedTensor {
  Tensor memory;  // [rows, columns], whole groups of rows for blocks
  Tensor scales;
  std::int64_t rows;

  TensorView values() const { return memory->slice(0, 0, rows); }
  LinearInput view(float fixed_scale = 0) const { return {values(), scales, fixed_scale}; }
};

// Every byte 0xff: NaN, in fp8 too.
inline QuantizedTensor poisoned_quantized(std::int64_t rows, std::int64_t columns,
                                          Fp8Scaling scaling, Device device) {
  const std::int64_t all_rows = scaling == Fp8Scaling::rows ? rows : whole_groups(rows);
  QuantizedTensor tensor{Tensor(DType::fp8_e4m3, device, {all_rows, columns}),
                         scaling == Fp8Scaling::rows
                             ? Tensor(DType::f32, device, {rows})
                             : Tensor(DType::f32, device, {scale_blocks(columns), all_rows}),
                         rows};
  fill_bytes(tensor.memory->data(), 0xff, tensor.memory->bytes(), {device});
  fill_bytes(tensor.scales->data(), 0xff, tensor.scales->bytes(), {device});
  synchronize({device});  // ops on other streams do not wait for the default stream
  return tensor;
}

// Normal rows, quantized on the CPU.
inline QuantizedTensor random_quantized(std::int64_t rows, std::int64_t columns, Fp8Scaling scaling,
                                        unsigned seed) {
  QuantizedTensor tensor = poisoned_quantized(rows, columns, scaling, Device::cpu());
  quantize(tensor.view(), random_tensor(DType::f32, {rows, columns}, seed), cpu_stream);
  return tensor;
}

// A weight as checkpoints have it: fp8 elements, and scales that give values of order one. On the
// host, to be packed for any device.
struct Fp8Weight {
  Tensor values;
  Tensor scales;

  LinearWeight packed(Device device, Stream stream, float input_scale = 0) const {
    return pack_linear_fp8(values, scales, input_scale, device, stream);
  }
};

inline Fp8Weight random_fp8_weight(std::int64_t n, std::int64_t k, Fp8Scaling scaling,
                                   unsigned seed) {
  Fp8Weight weight{random_tensor(DType::fp8_e4m3, {n, k}, seed, 16),
                   scaling == Fp8Scaling::rows
                       ? Tensor(DType::f32, Device::cpu(), {n})
                       : Tensor(DType::f32, Device::cpu(), {scale_blocks(n), scale_blocks(k)})};
  std::mt19937 generator(seed + 1);
  std::uniform_real_distribution<float> uniform(0.03F, 0.09F);
  for (std::int64_t i = 0; i < weight.scales->numel(); ++i) {
    weight.scales->as<float>()[i] = uniform(generator);
  }
  return weight;
}

}  // namespace millrace
