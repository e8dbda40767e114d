// Row ops against copy bandwidth: bytes are each input read once and each output written once.
#include "bench/kernels/gpu/gpu_bench.hpp"
#include "kernels/activation.hpp"
#include "kernels/norm.hpp"
#include "kernels/quantize.hpp"
#include "kernels/rope_cache.hpp"

namespace millrace::bench {
namespace {

void bench_norm(const GpuBench& bench, std::int64_t tokens, std::int64_t hidden) {
  const Tensor x = bench.random(DType::bf16, {tokens, hidden});
  const Tensor residual = bench.random(DType::bf16, {tokens, hidden});
  const Tensor out = bench.random(DType::bf16, {tokens, hidden});
  const Tensor weight = bench.random(DType::bf16, {hidden});
  const NormWeights weights{NormKind::rms, weight, TensorView(), 1e-5F, 0};
  const auto matrix = static_cast<double>(x->bytes());
  const std::string shape = fmt::format("{} x {} bf16", tokens, hidden);
  bench.report_bytes("norm", shape, bench.seconds([&] { norm(out, x, weights, bench.stream()); }),
                     2 * matrix);
  bench.report_bytes("add_norm", shape,
                     bench.seconds([&] { add_norm(out, residual, x, weights, bench.stream()); }),
                     4 * matrix);
}

void bench_qkv(const GpuBench& bench, std::int64_t tokens, DType cache) {
  const QkvShape shape{32, 8, 128};
  const Tensor qkv = bench.random(DType::bf16, {tokens, shape.width()});
  const Tensor rope = bench.random(DType::f32, {8192, shape.head_dim});
  const std::int64_t block_size = 16;
  const Tensor k_cache = bench.random(cache, {tokens / block_size, 8, block_size, 128});
  const Tensor v_cache = bench.random(cache, {tokens / block_size, 8, block_size, 128});
  std::vector<std::int32_t> positions(static_cast<std::size_t>(tokens));
  std::vector<std::int32_t> slots(positions.size());
  for (std::size_t t = 0; t < positions.size(); ++t) {
    positions[t] = static_cast<std::int32_t>(t % 8192);
    slots[t] = static_cast<std::int32_t>(t);
  }
  const Tensor gpu_positions = bench.ints(positions);
  const Tensor gpu_slots = bench.ints(slots);
  const double seconds = bench.seconds([&] {
    qkv_to_cache(qkv, shape, rope, gpu_positions, gpu_slots, QkNorm{}, k_cache, v_cache,
                 bench.stream());
  });
  const double elements = static_cast<double>(tokens) * 128;
  const double bytes =
      elements * (2.0 * 32 * 2 + 16.0 * 2 + 16.0 * static_cast<double>(size_of(cache)));
  bench.report_bytes("qkv_to_cache",
                     fmt::format("{} tokens, 32 / 8 x 128, {} cache", tokens, name(cache)), seconds,
                     bytes);
}

// Ops that make the fp8 rows of an 8B layer's products.
void bench_quantized(const GpuBench& bench, std::int64_t tokens) {
  const std::int64_t hidden = 4096;
  const std::int64_t inner = 14336;
  const Tensor gate_up = bench.random(DType::bf16, {tokens, 2 * inner});
  const Tensor x = bench.random(DType::bf16, {tokens, hidden});
  const Tensor residual = bench.random(DType::bf16, {tokens, hidden});
  const Tensor weight = bench.random(DType::bf16, {hidden});
  const Tensor wide(DType::fp8_e4m3, bench.device(), {tokens, inner});
  const Tensor narrow(DType::fp8_e4m3, bench.device(), {tokens, hidden});
  const Tensor scales(DType::f32, bench.device(), {tokens});
  const NormWeights weights{NormKind::rms, weight, TensorView(), 1e-5F, 0};
  const auto report = [&](const char* op, std::int64_t columns, int bytes_of_each, auto&& call) {
    bench.report_bytes(op, fmt::format("{} x {} bf16 to fp8", tokens, columns), bench.seconds(call),
                       static_cast<double>(tokens * columns * bytes_of_each));
  };
  report("add_norm", hidden, 7, [&] {
    add_norm({narrow, scales}, residual, x, weights, bench.stream());
  });
  report("quantize", hidden, 3, [&] { quantize({narrow, scales}, x, bench.stream()); });
  report("gated_activation", inner, 5, [&] {
    gated_activation({wide, scales}, gate_up, Activation::silu, bench.stream());
  });
}

}  // namespace

void bench_rows(const GpuBench& bench) {
  bench_norm(bench, 16384, 4096);
  bench_norm(bench, 8192, 8192);
  bench_norm(bench, 65536, 576);
  bench_norm(bench, 64, 4096);
  for (const std::int64_t tokens : {64, 256, 1280, 8192}) bench_quantized(bench, tokens);
  bench_qkv(bench, 16384, DType::bf16);
  bench_qkv(bench, 16384, DType::fp8_e4m3);
  for (const std::int64_t tokens : {64, 8192}) {
    const std::int64_t n = 14336;
    const Tensor gate_up = bench.random(DType::bf16, {tokens, 2 * n});
    const Tensor out = bench.random(DType::bf16, {tokens, n});
    const double seconds =
        bench.seconds([&] { gated_activation(out, gate_up, Activation::silu, bench.stream()); });
    bench.report_bytes("gated_activation", fmt::format("{} x {} bf16", tokens, n), seconds,
                       3.0 * static_cast<double>(out->bytes()));
  }
}

}  // namespace millrace::bench
