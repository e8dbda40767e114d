// Attention: decode against bandwidth on the bytes of keys and values, prefill against the matmul
// rate on the operations that the causal mask leaves (4 x head_dim for each query, head and visible
// key), and decode with prompts in the same batch.
#include <numeric>
#include <random>

#include "bench/kernels/gpu/gpu_bench.hpp"
#include "kernels/attention.hpp"

namespace millrace::bench {
namespace {

struct Shape {
  std::int64_t heads = 32, kv_heads = 8, head_dim = 128;
};

// Keys and values that every row of the table takes its blocks from.
struct Cache {
  static constexpr std::int64_t block_size = 16;
  Shape shape;
  Tensor keys, values;

  Cache(const GpuBench& bench, const Shape& of_heads, DType dtype, std::int64_t tokens)
      : shape(of_heads),
        keys(
            bench.random(dtype, {tokens / block_size, shape.kv_heads, block_size, shape.head_dim})),
        values(bench.random(dtype,
                            {tokens / block_size, shape.kv_heads, block_size, shape.head_dim})) {}
};

// `sequences` of `queries` new tokens at the end of `keys` each; when `fewest_keys` is not zero, of
// lengths spread evenly from there to `keys`.
struct Work {
  int sequences, queries, keys;
  int fewest_keys = 0;
  int prompts = 0, prompt_tokens = 0;  // behind the sequences, all of it new
};

void bench_batch(const GpuBench& bench, const Cache& cache, const Work& work) {
  const Shape& shape = cache.shape;
  std::mt19937 generator(1);
  std::vector<std::int32_t> lengths;
  std::vector<std::int32_t> starts = {0};
  double all_keys = 0;
  for (int s = 0; s < work.sequences; ++s) {
    const int fewest = work.fewest_keys > 0 ? work.fewest_keys : work.keys;
    lengths.push_back(work.keys - s * (work.keys - fewest) / std::max(work.sequences - 1, 1));
    starts.push_back((s + 1) * work.queries);
    all_keys += lengths.back();
  }
  std::shuffle(lengths.begin(), lengths.end(), generator);
  for (int p = 0; p < work.prompts; ++p) {
    lengths.push_back(work.prompt_tokens);
    starts.push_back(starts.back() + work.prompt_tokens);
  }
  const int sequences = work.sequences + work.prompts;
  const int most_keys = std::max(work.keys, work.prompt_tokens);
  const std::int64_t blocks_each = (most_keys + Cache::block_size - 1) / Cache::block_size;
  std::vector<std::int32_t> table(static_cast<std::size_t>(sequences * blocks_each));
  std::vector<std::int32_t> blocks(static_cast<std::size_t>(cache.keys->size(0)));
  std::iota(blocks.begin(), blocks.end(), 0);
  std::shuffle(blocks.begin(), blocks.end(), generator);
  for (std::size_t i = 0; i < table.size(); ++i) table[i] = blocks[i % blocks.size()];

  const std::int64_t tokens = starts.back();
  const std::int64_t width = shape.heads * shape.head_dim;
  const Tensor q = bench.random(DType::bf16, {tokens, width});
  const Tensor out = bench.random(DType::bf16, {tokens, width});
  const Tensor tables = bench.ints(table);
  const Tensor query_starts = bench.ints(starts);
  const Tensor kv_lengths = bench.ints(lengths);
  const AttentionBatch batch{query_starts,
                             kv_lengths,
                             tables->reshape({sequences, blocks_each}),
                             std::max(work.queries, work.prompt_tokens),
                             most_keys,
                             work.queries == 1 ? work.sequences : 0};
  AttentionParams params;
  params.heads = shape.heads;
  params.kv_heads = shape.kv_heads;
  params.head_dim = shape.head_dim;
  params.scale = 0.088F;
  const double seconds = bench.seconds(
      [&] { paged_attention(out, q, cache.keys, cache.values, batch, params, bench.stream()); });
  const std::string keys = work.fewest_keys > 0 ? fmt::format("{}..{}", work.fewest_keys, work.keys)
                                                : fmt::format("{}", work.keys);
  const DType dtype = cache.keys->dtype();
  const std::string prompts =
      work.prompts > 0 ? fmt::format(" + {} x {}", work.prompts, work.prompt_tokens) : "";
  const std::string what =
      fmt::format("{} x {} of {}{}, {} / {} x {}, {}", work.sequences, work.queries, keys, prompts,
                  shape.heads, shape.kv_heads, shape.head_dim, name(dtype));
  if (work.queries == 1) {
    const double bytes = 2.0 * all_keys * static_cast<double>(shape.kv_heads * shape.head_dim) *
                         static_cast<double>(size_of(dtype));
    bench.report_bytes("decode attention", what, seconds, bytes);
  } else {
    const double pairs = static_cast<double>(work.queries) * (work.keys - work.queries) +
                         static_cast<double>(work.queries) * (work.queries + 1) / 2;
    bench.report_flops("prefill attention", what, seconds,
                       4.0 * static_cast<double>(work.sequences * width) * pairs);
  }
}

constexpr std::int64_t large_cache = std::int64_t{1} << 20;  // tokens, of 8 KV heads x 128
constexpr std::int64_t small_cache = std::int64_t{1} << 18;

}  // namespace

void bench_decode_attention(const GpuBench& bench) {
  for (const DType dtype : {DType::bf16, DType::fp8_e4m3}) {
    const Cache cache(bench, {}, dtype, large_cache);
    for (const Work& work : {Work{1, 1, 1024},
                             {16, 1, 1024},
                             {64, 1, 1024},
                             {256, 1, 1024},
                             {64, 1, 2048},
                             {64, 1, 8192},
                             {1, 1, 32768},
                             {512, 1, 192},
                             {1024, 1, 192},
                             {512, 1, 512},
                             {1024, 1, 512},
                             {512, 1, 1100},
                             {600, 1, 2000, 1000},
                             {750, 1, 2176, 128},
                             {512, 1, 2048},
                             {600, 1, 2000, 1000, 1, 1000},
                             {600, 1, 2000, 1000, 2, 1000},
                             {600, 1, 2000, 1000, 4, 1000},
                             {600, 1, 2000, 1000, 8, 1000},
                             {750, 1, 2176, 128, 2, 128},
                             {750, 1, 2176, 128, 8, 128},
                             {256, 1, 1024, 0, 1, 1000}}) {
      bench_batch(bench, cache, work);
    }
    const Cache narrow(bench, {9, 3, 64}, dtype, small_cache);
    bench_batch(bench, narrow, {256, 1, 1024});
    bench_batch(bench, narrow, {1024, 1, 256});
  }
  bench_batch(bench, Cache(bench, {8, 4, 256}, DType::bf16, small_cache), {64, 1, 2048});
  bench_batch(bench, Cache(bench, {32, 32, 96}, DType::bf16, small_cache), {64, 1, 2048});
}

void bench_prefill_attention(const GpuBench& bench) {
  for (const DType dtype : {DType::bf16, DType::fp8_e4m3}) {
    const Cache cache(bench, {}, dtype, small_cache);
    for (const Work& work :
         {Work{1, 8192, 8192}, {16, 1000, 1000}, {64, 128, 128}, {4, 512, 8192}}) {
      bench_batch(bench, cache, work);
    }
    bench_batch(bench, Cache(bench, {9, 3, 64}, dtype, small_cache), {64, 128, 128});
    for (const Shape& shape : {Shape{32, 8, 64}, {32, 32, 80}, {32, 32, 96}, {8, 4, 256}}) {
      bench_batch(bench, Cache(bench, shape, dtype, small_cache), {1, 8192, 8192});
    }
  }
}

}  // namespace millrace::bench
