// Attention: decode against bandwidth on the bytes of keys and values, prefill against the matmul
// rate on the operations that the causal mask leaves (4 x head_dim for each query, head and visible
// key).
#include <numeric>
#include <random>

#include "bench/kernels/gpu/gpu_bench.hpp"
#include "kernels/attention.hpp"

namespace millrace::bench {
namespace {

struct Shape {
  std::int64_t heads = 32, kv_heads = 8, head_dim = 128;
};

// `sequences` of `queries` new tokens at the end of `keys` each.
void bench_batch(const GpuBench& bench, const Shape& shape, int sequences, int queries, int keys,
                 DType cache) {
  const std::int64_t block_size = 16;
  const std::int64_t blocks_each = (keys + block_size - 1) / block_size;
  const std::int64_t blocks = sequences * blocks_each;
  const std::int64_t tokens = static_cast<std::int64_t>(sequences) * queries;
  const std::int64_t width = shape.heads * shape.head_dim;
  const Tensor q = bench.random(DType::bf16, {tokens, width});
  const Tensor out = bench.random(DType::bf16, {tokens, width});
  const Tensor k_cache = bench.random(cache, {blocks, shape.kv_heads, block_size, shape.head_dim});
  const Tensor v_cache = bench.random(cache, {blocks, shape.kv_heads, block_size, shape.head_dim});
  std::vector<std::int32_t> table(static_cast<std::size_t>(blocks));
  std::iota(table.begin(), table.end(), 0);
  std::shuffle(table.begin(), table.end(), std::mt19937(1));
  std::vector<std::int32_t> starts;
  for (int s = 0; s <= sequences; ++s) starts.push_back(s * queries);
  const Tensor tables = bench.ints(table);
  const Tensor query_starts = bench.ints(starts);
  const Tensor lengths =
      bench.ints(std::vector<std::int32_t>(static_cast<std::size_t>(sequences), keys));
  const AttentionBatch batch{query_starts, lengths, tables->reshape({sequences, blocks_each}),
                             queries,      keys,    queries == 1 ? sequences : 0};
  AttentionParams params;
  params.heads = shape.heads;
  params.kv_heads = shape.kv_heads;
  params.head_dim = shape.head_dim;
  params.scale = 0.088F;
  const double seconds = bench.seconds(
      [&] { paged_attention(out, q, k_cache, v_cache, batch, params, bench.stream()); });
  const std::string what = fmt::format("{} x {} of {}, {} / {} x {}, {}", sequences, queries, keys,
                                       shape.heads, shape.kv_heads, shape.head_dim, name(cache));
  if (queries == 1) {
    const double bytes = 2.0 * static_cast<double>(sequences) * keys *
                         static_cast<double>(shape.kv_heads * shape.head_dim) *
                         static_cast<double>(size_of(cache));
    bench.report_bytes("decode attention", what, seconds, bytes);
  } else {
    const double pairs = static_cast<double>(queries) * (keys - queries) +
                         static_cast<double>(queries) * (queries + 1) / 2;
    bench.report_flops("prefill attention", what, seconds,
                       4.0 * static_cast<double>(sequences * width) * pairs);
  }
}

}  // namespace

void bench_attention(const GpuBench& bench) {
  for (const DType cache : {DType::bf16, DType::fp8_e4m3}) {
    for (const auto& [sequences, keys] : {std::pair{1, 1024},
                                          {16, 1024},
                                          {64, 1024},
                                          {256, 1024},
                                          {64, 2048},
                                          {64, 8192},
                                          {1, 32768}}) {
      bench_batch(bench, {}, sequences, 1, keys, cache);
    }
  }
  bench_batch(bench, {9, 3, 64}, 256, 1, 1024, DType::bf16);
  bench_batch(bench, {8, 4, 256}, 64, 1, 2048, DType::bf16);
  bench_batch(bench, {32, 32, 96}, 64, 1, 2048, DType::bf16);
  for (const DType cache : {DType::bf16, DType::fp8_e4m3}) {
    bench_batch(bench, {}, 1, 8192, 8192, cache);
    bench_batch(bench, {}, 16, 1000, 1000, cache);
    bench_batch(bench, {}, 4, 512, 8192, cache);
  }
  bench_batch(bench, {32, 8, 64}, 1, 8192, 8192, DType::bf16);
  bench_batch(bench, {32, 32, 96}, 1, 8192, 8192, DType::bf16);
  bench_batch(bench, {8, 4, 256}, 1, 8192, 8192, DType::bf16);
}

}  // namespace millrace::bench
