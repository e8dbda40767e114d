#include <fmt/format.h>

#include "bench/kernels/rows.hpp"
#include "kernels/linear.hpp"
#include "oneapi/dnnl/dnnl.h"

namespace millrace::bench {
namespace {

struct Weight {
  const char* name;
  std::int64_t n;
  std::int64_t k;
};

Tensor filled(DType dtype, std::int64_t rows, std::int64_t columns) {
  Tensor tensor(dtype, Device::cpu(), {rows, columns});
  for (std::int64_t i = 0; i < rows * columns; ++i) {
    const float value = static_cast<float>(i * 7919 % 1009) / 1009.0F - 0.5F;
    if (dtype == DType::f32) tensor->as<float>()[i] = value;
    if (dtype == DType::bf16) tensor->as<Bfloat16>()[i] = to_bfloat16(value);
    if (dtype == DType::f16) tensor->as<Half>()[i] = to_half(value);
  }
  return tensor;
}

}  // namespace

void linear_rows(const Ceilings& ceilings) {
  const Weight weights[] = {{"smollm2.qkv", 960, 576},      {"smollm2.o", 576, 576},
                            {"smollm2.gate_up", 3072, 576}, {"smollm2.down", 576, 1536},
                            {"smollm2.head", 49152, 576},   {"1b.gate_up", 16384, 2048},
                            {"1b.down", 2048, 8192}};
  for (const Weight& weight : weights) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      const LinearWeight w = pack_linear(filled(dtype, weight.n, weight.k), Device::cpu(), {});
      for (const std::int64_t m : {1, 4, 16, 64, 512}) {
        if (m == 512 && weight.n > 20000)
          continue;  // only rows whose logits are wanted meet the head
        const Tensor x = filled(DType::f32, m, weight.k);
        const Tensor out(DType::f32, Device::cpu(), {m, weight.n});
        const Timing timing = time_calls([&] { linear(out, x, w, TensorView(), false, {}); });
        const double bytes = static_cast<double>(w.data->bytes() + x->bytes() + out->bytes());
        const double flops = 2.0 * static_cast<double>(m * weight.n * weight.k);
        print_row("linear", fmt::format("{} m={} {}", weight.name, m, name(dtype)), timing, bytes,
                  flops, ceilings);
        if (dtype == DType::f32 && m >= 64) {
          const Tensor row_major = filled(dtype, weight.n, weight.k);
          const Timing library = time_calls([&] {
            dnnl_sgemm('N', 'T', m, weight.n, weight.k, 1, x->as<float>(), weight.k,
                       row_major->as<float>(), weight.k, 0, out->as<float>(), weight.n);
          });
          print_row("onednn_sgemm", fmt::format("{} m={} {}", weight.name, m, name(dtype)), library,
                    bytes, flops, ceilings);
        }
      }
    }
  }
}

}  // namespace millrace::bench
