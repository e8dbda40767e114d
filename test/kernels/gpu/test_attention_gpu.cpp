// Attention on the GPU against the CPU's oracle: every kernel, head size, cache type and kind of
// batch. Blocks of the cache lie in random order, and what no key fills is NaN.
#include <algorithm>
#include <numeric>

#include "kernels/attention.hpp"
#include "kernels/base/graph.hpp"
#include "test/kernels/gpu/gpu_test.hpp"

namespace millrace {
namespace {

struct Sequence {
  int queries;
  int keys;
};

struct AttentionCase {
  const char* what;
  std::vector<Sequence> sequences;
  AttentionParams params;
  DType dtype = DType::bf16;
  DType cache = DType::bf16;
  int block_size = 16;
  int decode_sequences = 0;
  int extra_tokens = 0;  // rows of q behind the last sequence
};

int blocks_of(const AttentionCase& c, const Sequence& sequence) {
  return (sequence.keys + c.block_size - 1) / c.block_size;
}

// A batch on the CPU, with f32 queries that are exact in the case's dtype.
struct Batch {
  Tensor q, k_cache, v_cache, query_starts, kv_lengths, block_tables;
  std::int64_t tokens = 0;
  int max_queries = 0, max_keys = 0;

  explicit Batch(const AttentionCase& c) {
    const auto sequences = static_cast<std::int64_t>(c.sequences.size());
    query_starts = Tensor(DType::i32, Device::cpu(), {sequences + 1});
    kv_lengths = Tensor(DType::i32, Device::cpu(), {sequences});
    std::int64_t max_blocks = 1;
    std::int64_t blocks = 3;
    query_starts->as<std::int32_t>()[0] = 0;
    for (std::size_t s = 0; s < c.sequences.size(); ++s) {
      tokens += c.sequences[s].queries;
      query_starts->as<std::int32_t>()[s + 1] = static_cast<std::int32_t>(tokens);
      kv_lengths->as<std::int32_t>()[s] = c.sequences[s].keys;
      max_blocks = std::max<std::int64_t>(max_blocks, blocks_of(c, c.sequences[s]));
      max_queries = std::max(max_queries, c.sequences[s].queries);
      max_keys = std::max(max_keys, c.sequences[s].keys);
      blocks += blocks_of(c, c.sequences[s]);
    }
    tokens += c.extra_tokens;
    q = random_tensor(c.dtype, {tokens, c.params.heads * c.params.head_dim}, 1);

    // Garbage where a table is not used: no kernel may look there.
    block_tables = Tensor(DType::i32, Device::cpu(), {sequences, max_blocks});
    std::fill_n(block_tables->as<std::int32_t>(), block_tables->numel(), 1 << 30);
    std::vector<std::int32_t> order(static_cast<std::size_t>(blocks));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(2));
    k_cache =
        random_tensor(c.cache, {blocks, c.params.kv_heads, c.block_size, c.params.head_dim}, 3);
    v_cache =
        random_tensor(c.cache, {blocks, c.params.kv_heads, c.block_size, c.params.head_dim}, 4);
    std::vector<int> keys_of_block(order.size(), 0);
    std::size_t next = 0;
    for (std::size_t s = 0; s < c.sequences.size(); ++s) {
      for (int b = 0; b < blocks_of(c, c.sequences[s]); ++b) {
        const std::int32_t block = order[next++];
        block_tables->as<std::int32_t>()[static_cast<std::int64_t>(s) * max_blocks + b] = block;
        keys_of_block[static_cast<std::size_t>(block)] =
            std::min(c.block_size, c.sequences[s].keys - b * c.block_size);
      }
    }
    const std::size_t row_bytes = static_cast<std::size_t>(c.params.head_dim) * size_of(c.cache);
    for (std::int64_t b = 0; b < blocks; ++b) {
      for (std::int64_t h = 0; h < c.params.kv_heads; ++h) {
        for (int i = keys_of_block[static_cast<std::size_t>(b)]; i < c.block_size; ++i) {
          const auto row = static_cast<std::size_t>((b * c.params.kv_heads + h) * c.block_size + i);
          std::memset(static_cast<char*>(k_cache->data()) + row * row_bytes, 0xff, row_bytes);
          std::memset(static_cast<char*>(v_cache->data()) + row * row_bytes, 0xff, row_bytes);
        }
      }
    }
  }
};

class AttentionOnGpu : public OnGpu {
 protected:
  // A batch's copy on the GPU, and its output.
  struct OnDevice {
    Tensor q, k_cache, v_cache, query_starts, kv_lengths, block_tables, out;

    OnDevice(const AttentionCase& c, const Batch& batch)
        : q(to_gpu(batch.q, stream())),
          k_cache(to_gpu(batch.k_cache, stream())),
          v_cache(to_gpu(batch.v_cache, stream())),
          query_starts(to_gpu(batch.query_starts, stream())),
          kv_lengths(to_gpu(batch.kv_lengths, stream())),
          block_tables(to_gpu(batch.block_tables, stream())),
          out(poisoned_on_gpu(c.dtype, {batch.tokens, c.params.heads * c.params.head_dim},
                              stream())) {}

    void run(const AttentionCase& c, const Batch& batch) const {
      paged_attention(out, q, k_cache, v_cache,
                      {query_starts, kv_lengths, block_tables, batch.max_queries, batch.max_keys,
                       c.decode_sequences},
                      c.params, stream());
    }
  };

  static void expect_agreement(const AttentionCase& c) {
    const Batch batch(c);
    const OnDevice on_gpu(c, batch);
    on_gpu.run(c, batch);
    expect_oracle(c, batch, on_gpu.out);
  }

  static void expect_oracle(const AttentionCase& c, const Batch& batch, const Tensor& out) {
    const std::int64_t width = c.params.heads * c.params.head_dim;
    const Tensor expected = poisoned(DType::f32, {batch.tokens, width});
    cpu::paged_attention_plain(expected, widened_tensor(batch.q), batch.k_cache, batch.v_cache,
                               {batch.query_starts, batch.kv_lengths, batch.block_tables,
                                batch.max_queries, batch.max_keys, c.decode_sequences},
                               c.params, cpu_stream);

    // Rows behind the last sequence are zeros; the plain oracle leaves them alone.
    const std::int64_t behind = batch.tokens - c.extra_tokens;
    std::fill_n(expected->as<float>() + behind * width, c.extra_tokens * width, 0.0F);

    // Probabilities are rounded to the dtype before they meet the values: a few roundings in all.
    const float units = c.dtype == DType::f32 ? 256 : 6;
    EXPECT_TRUE(near_oracle(out, expected, units, 0.3F, stream()))
        << c.what << ": " << name(c.dtype) << " queries, " << name(c.cache) << " cache, head_dim "
        << c.params.head_dim << ", " << c.params.heads << " heads on " << c.params.kv_heads
        << ", window " << c.params.window << ", block " << c.block_size;
  }

  static AttentionParams params(std::int64_t heads, std::int64_t kv_heads, std::int64_t head_dim) {
    AttentionParams p;
    p.heads = heads;
    p.kv_heads = kv_heads;
    p.head_dim = head_dim;
    p.scale = 1 / std::sqrt(static_cast<float>(head_dim));
    return p;
  }
};

constexpr std::pair<DType, DType> type_pairs[] = {
    {DType::f32, DType::f32},  {DType::bf16, DType::bf16},     {DType::f16, DType::f16},
    {DType::f32, DType::bf16}, {DType::bf16, DType::fp8_e4m3}, {DType::f16, DType::fp8_e4m3}};

TEST_F(AttentionOnGpu, DecodesEveryTypeAndHeadSize) {
  for (const auto& [dtype, cache] : type_pairs) {
    for (const std::int64_t head_dim : {64, 80, 96, 128, 256, 40}) {
      expect_agreement({"decode",
                        {{1, 1}, {1, 300}, {1, 16}, {1, 17}, {1, 95}},
                        params(6, 2, head_dim),
                        dtype,
                        cache,
                        16,
                        5});
    }
  }
}

TEST_F(AttentionOnGpu, PrefillsEveryTypeAndHeadSize) {
  for (const auto& [dtype, cache] : type_pairs) {
    for (const std::int64_t head_dim : {64, 80, 96, 128, 256, 40}) {
      expect_agreement({"prefill",
                        {{37, 37}, {3, 3}, {1, 1}, {200, 200}},
                        params(6, 2, head_dim),
                        dtype,
                        cache});
    }
  }
}

// Fewer queries than a tile has rows, and a tile's end within a group.
TEST_F(AttentionOnGpu, ASinglePromptOfAnyLength) {
  for (const DType cache : {DType::bf16, DType::fp8_e4m3}) {
    for (const int length : {1, 2, 7, 63, 64, 65, 127, 128, 129, 255, 257}) {
      for (const std::int64_t heads : {1, 3}) {
        expect_agreement(
            {"one prompt", {{length, length}}, params(heads, 1, 128), DType::bf16, cache});
      }
    }
  }
}

TEST_F(AttentionOnGpu, LaterChunksSeeTheEarlierOnes) {
  for (const auto& [dtype, cache] : type_pairs) {
    for (const std::int64_t head_dim : {64, 80, 96, 128, 256}) {
      expect_agreement({"chunked prefill",
                        {{5, 140}, {64, 513}, {130, 400}, {128, 256}, {1, 129}},
                        params(8, 2, head_dim),
                        dtype,
                        cache});
    }
  }
}

TEST_F(AttentionOnGpu, GroupsOfAnySizeShareTheirKeys) {
  for (const auto& [heads, kv_heads] : {std::pair{4, 4},
                                        {3, 1},
                                        {9, 3},
                                        {8, 1},
                                        {7, 1},
                                        {11, 1},
                                        {24, 2},
                                        {32, 2},
                                        {20, 1},
                                        {40, 2}}) {
    for (const DType cache : {DType::bf16, DType::fp8_e4m3}) {
      expect_agreement({"groups",
                        {{1, 77}, {1, 200}, {50, 50}, {9, 150}},
                        params(heads, kv_heads, 64),
                        DType::bf16,
                        cache,
                        16,
                        2});
      expect_agreement({"groups",
                        {{1, 77}, {1, 200}, {50, 50}, {9, 150}},
                        params(heads, kv_heads, 128),
                        DType::bf16,
                        cache,
                        16,
                        2});
    }
  }
}

TEST_F(AttentionOnGpu, AWindowHidesOlderKeys) {
  for (const auto& [dtype, cache] : type_pairs) {
    for (const int window : {1, 20, 64, 150, 1000}) {
      AttentionCase c{"window",
                      {{1, 300}, {1, 20}, {1, 5}, {70, 70}, {200, 400}},
                      params(4, 2, 128),
                      dtype,
                      cache,
                      16,
                      3};
      c.params.window = window;
      expect_agreement(c);
    }
  }
}

TEST_F(AttentionOnGpu, ScoresAreCapped) {
  for (const auto& [dtype, cache] : type_pairs) {
    for (const std::int64_t head_dim : {64, 128, 256}) {
      AttentionCase c{"softcap", {{1, 100}, {40, 90}}, params(4, 2, head_dim), dtype, cache, 16, 1};
      c.params.softcap = 2;
      c.params.scale = 0.5F;
      expect_agreement(c);
    }
  }
}

// The base of exponents rises now and then, or with nearly every tile, and parts have different
// ones.
TEST_F(AttentionOnGpu, ScoresOfAnySizeAreWeighed) {
  for (const auto& [dtype, cache] : {type_pairs[1], type_pairs[2], type_pairs[4], type_pairs[5]}) {
    for (const float scale : {0.01F, 0.3F, 3.0F}) {
      AttentionCase c{
          "scores", {{1, 3000}, {1, 100}, {40, 90}}, params(4, 2, 128), dtype, cache, 16, 2};
      c.params.scale = scale;
      expect_agreement(c);
    }
  }
}

TEST_F(AttentionOnGpu, UnusedPlacesAndRowsBehindTheLastSequenceAreZeros) {
  for (const auto& [dtype, cache] : type_pairs) {
    for (const auto& [head_dim, block_size] : {std::pair{64, 16}, {96, 16}, {96, 8}, {128, 8}}) {
      expect_agreement(
          {"all padded", {{1, 0}, {1, 0}}, params(4, 2, head_dim), dtype, cache, block_size, 2});
      expect_agreement({"padded decode",
                        {{1, 30}, {1, 0}, {1, 0}, {1, 77}, {1, 0}},
                        params(4, 2, head_dim),
                        dtype,
                        cache,
                        block_size,
                        5});
      expect_agreement({"padded mixture",
                        {{1, 30}, {1, 0}, {20, 50}, {3, 0}},
                        params(4, 2, head_dim),
                        dtype,
                        cache,
                        block_size,
                        2,
                        150});
      expect_agreement({"rows behind a decode batch",
                        {{1, 30}, {1, 44}},
                        params(4, 2, head_dim),
                        dtype,
                        cache,
                        block_size,
                        2,
                        6});
    }
  }
}

TEST_F(AttentionOnGpu, BlocksOfAnySize) {
  for (const int block_size : {1, 5, 8, 32, 48, 64, 128, 256}) {
    for (const std::int64_t head_dim : {64, 128, 256}) {
      for (const DType cache : {DType::bf16, DType::fp8_e4m3}) {
        expect_agreement({"block size",
                          {{1, 300}, {1, 3}, {150, 290}, {9, 9}},
                          params(4, 2, head_dim),
                          DType::bf16,
                          cache,
                          block_size,
                          2});
      }
    }
  }
}

// More work than one share a warp: sequences are cut, and their parts combined.
TEST_F(AttentionOnGpu, LongAndManySequencesAreCutEvenly) {
  std::vector<Sequence> many;
  for (int s = 0; s < 150; ++s) many.push_back({1, 1 + s * 37 % 700});
  std::vector<Sequence> uneven = {{1, 20000}, {1, 1}, {1, 9000}, {1, 16}};
  for (const DType cache : {DType::bf16, DType::fp8_e4m3}) {
    for (const std::int64_t head_dim : {64, 128, 256}) {
      expect_agreement({"many", many, params(8, 2, head_dim), DType::bf16, cache, 16, 150});
      expect_agreement({"uneven", uneven, params(8, 2, head_dim), DType::bf16, cache, 16, 4});
    }
  }
}

// A pair's parts are of one column of heads, of two, or of a second unit; windows begin within a
// tile.
TEST_F(AttentionOnGpu, PartsOfLargeGroupsAndWindowsAddUp) {
  for (const auto& [dtype, cache] : {type_pairs[1], type_pairs[4], type_pairs[5]}) {
    for (const int heads : {5, 11, 20}) {
      for (const std::int64_t head_dim : {80, 128, 256}) {
        AttentionCase c{"parts",
                        {{1, 2503}, {1, 77}, {1, 0}, {1, 900}},
                        params(heads, 1, head_dim),
                        dtype,
                        cache,
                        32,
                        4};
        expect_agreement(c);
        c.params.window = 701;
        expect_agreement(c);
      }
    }
  }
}

// Several pairs a warp, and more sequences than a block has threads.
TEST_F(AttentionOnGpu, MorePairsThanWarps) {
  std::vector<Sequence> many;
  for (int s = 0; s < 3500; ++s) many.push_back({1, s % 11 == 3 ? 0 : 1 + s * 17 % 60});
  for (const DType cache : {DType::bf16, DType::fp8_e4m3}) {
    expect_agreement({"many short", many, params(6, 2, 64), DType::bf16, cache, 16, 3500});
    expect_agreement({"many short", many, params(4, 1, 128), DType::bf16, cache, 16, 3500});
  }
}

TEST_F(AttentionOnGpu, AGraphServesOtherLengths) {
  for (const DType cache : {DType::bf16, DType::fp8_e4m3}) {
    AttentionCase c{"graph", {}, params(8, 2, 128), DType::bf16, cache};
    for (int s = 0; s < 40; ++s) c.sequences.push_back({1, 1 + s * 97 % 1500});
    c.decode_sequences = 40;
    Batch batch(c);
    const OnDevice on_gpu(c, batch);
    on_gpu.run(c, batch);  // loads what a capture must not
    const Graph graph = Graph::record(stream(), [&] {
      for (int launch = 0; launch < 3; ++launch) on_gpu.run(c, batch);
    });
    for (int replay = 0; replay < 4; ++replay) {
      auto* lengths = batch.kv_lengths->as<std::int32_t>();
      for (int s = 0; s < 40; ++s) {
        lengths[s] =
            std::max(0, c.sequences[static_cast<std::size_t>(s)].keys - replay * replay * 90);
      }
      copy(on_gpu.kv_lengths, batch.kv_lengths, stream());
      fill_bytes(on_gpu.out->data(), 0xff, on_gpu.out->bytes(), stream());
      graph.launch(stream());
      expect_oracle(c, batch, on_gpu.out);
    }
  }
}

// No kernel waits for the host, prompts start while sequences are decoded, and each launch leaves
// its flags and counters as it found them.
TEST_F(AttentionOnGpu, LaunchesInARowDoNotDisturbEachOther) {
  std::vector<AttentionCase> cases;
  for (const int sequences : {1, 3, 64, 300}) {
    AttentionCase c{"in a row", {}, params(8, 2, 128), DType::bf16, DType::fp8_e4m3};
    for (int s = 0; s < sequences; ++s) c.sequences.push_back({1, 1 + (s + 1) * 831 % 1900});
    c.decode_sequences = sequences;
    cases.push_back(c);
    c.sequences.push_back({300, 700});
    c.sequences.push_back({129, 129});
    cases.push_back(c);
  }
  std::vector<Batch> batches;
  for (const AttentionCase& c : cases) batches.emplace_back(c);
  std::vector<OnDevice> on_gpu;
  for (std::size_t i = 0; i < cases.size(); ++i) on_gpu.emplace_back(cases[i], batches[i]);
  for (int round = 0; round < 20; ++round) {
    for (std::size_t i = 0; i < cases.size(); ++i) on_gpu[i].run(cases[i], batches[i]);
  }
  for (std::size_t i = 0; i < cases.size(); ++i) {
    expect_oracle(cases[i], batches[i], on_gpu[i].out);
  }
}

TEST_F(AttentionOnGpu, ManyPromptsOfDifferentLengths) {
  std::vector<Sequence> many;
  for (int s = 0; s < 40; ++s) many.push_back({1, 50 + s});
  for (int s = 0; s < 90; ++s) many.push_back({1 + s * 29 % 90, 100 + s * 13 % 200});
  for (const std::int64_t head_dim : {64, 80, 128}) {
    for (const DType cache : {DType::bf16, DType::fp8_e4m3}) {
      expect_agreement(
          {"many prompts", many, params(4, 1, head_dim), DType::bf16, cache, 16, 40, 3});
    }
  }
}

}  // namespace
}  // namespace millrace
