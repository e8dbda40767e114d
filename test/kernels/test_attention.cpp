// Attention against numbers worked out by hand, the fast version against the plain one, and the
// promise that a row's bits depend neither on its batch nor on how its prompt was cut into chunks.
#include <omp.h>

#include <algorithm>
#include <numeric>

#include "kernels/attention.hpp"
#include "test/kernels/on_every_isa.hpp"
#include "test/kernels/random_tensor.hpp"

namespace millrace {
namespace {

// A cache of shuffled blocks, so that neighbours in a sequence are not neighbours in memory.
struct Cache {
  Tensor k;
  Tensor v;
  Tensor tables;  // [sequences, blocks per sequence]

  Cache(DType dtype, std::int64_t sequences, std::int64_t blocks, std::int64_t kv_heads,
        std::int64_t block_size, std::int64_t head_dim)
      : k(random_tensor(dtype, {sequences * blocks, kv_heads, block_size, head_dim}, 11)),
        v(random_tensor(dtype, {sequences * blocks, kv_heads, block_size, head_dim}, 12)),
        tables(DType::i32, Device::cpu(), {sequences, blocks}) {
    auto* order = tables->as<std::int32_t>();
    std::iota(order, order + sequences * blocks, 0);
    std::shuffle(order, order + sequences * blocks, std::mt19937(13));
  }
};

struct Batch {
  Tensor starts;
  Tensor lengths;
  AttentionBatch view;

  Batch(const std::vector<std::int32_t>& query_lengths, const std::vector<std::int32_t>& kv_lengths,
        const TensorView& tables)
      : lengths(ints(kv_lengths)) {
    std::vector<std::int32_t> sums{0};
    for (const std::int32_t length : query_lengths) sums.push_back(sums.back() + length);
    starts = ints(sums);
    view = {starts,
            lengths,
            tables,
            *std::max_element(query_lengths.begin(), query_lengths.end()),
            *std::max_element(kv_lengths.begin(), kv_lengths.end()),
            0};
  }
};

TEST(Attention, TwoKeysByHand) {
  // One head of size 2. Scores of the second query: (1, 0) . (0, 0) = 0 and (1, 0) . (ln 3, 5) = ln
  // 3, so the weights are 1/4 and 3/4. The first query sees the first key only.
  const Tensor q = floats({2, 2}, {9, 9, 1, 0});
  const Tensor k = floats({1, 1, 2, 2}, {0, 0, std::log(3.0F), 5});
  const Tensor v = floats({1, 1, 2, 2}, {4, 8, 0, 16});
  const Tensor table = tensor_of<std::int32_t>(DType::i32, {1, 1}, {0});
  const Batch batch({2}, {2}, table);
  const Tensor out = poisoned(DType::f32, {2, 2});
  const AttentionParams params{1, 1, 2, 1.0F, 0, 0};
  paged_attention(out, q, k, v,
                  Batch({2}, {2}, tensor_of<std::int32_t>(DType::i32, {1, 1}, {0})).view, params,
                  cpu_stream);
  const std::vector<float> expected{4, 8, 1, 14};
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(to_vector(out)[i], expected[i], 2e-6F);
}

TEST(Attention, AWindowOfOneSeesOnlyItself) {
  const Cache cache(DType::f32, 1, 3, 1, 4, 8);
  const Batch batch({10}, {10}, cache.tables);
  const Tensor q = random_tensor(DType::f32, {10, 8}, 1);
  const Tensor out = poisoned(DType::f32, {10, 8});
  paged_attention(out, q, cache.k, cache.v, batch.view, {1, 1, 8, 1.0F, 1, 0}, cpu_stream);
  for (std::int64_t i = 0; i < 10; ++i) {
    const float* value =
        cache.v->as<float>() + cache.tables->as<std::int32_t>()[i / 4] * 32 + i % 4 * 8;
    EXPECT_EQ(std::memcmp(out->as<float>() + i * 8, value, 8 * sizeof(float)), 0) << i;
  }
}

class FastAttention : public IsaTest<DType> {};

TEST_P(FastAttention, AgreesWithThePlainVersion) {
  struct Shape {
    std::int64_t heads, kv_heads, head_dim, block_size;
    int window;
    float softcap;
  };
  const Shape shapes[] = {{9, 3, 64, 16, 0, 0},  {2, 2, 80, 16, 0, 0},   {8, 1, 32, 32, 0, 0},
                          {2, 2, 20, 5, 0, 0},   {4, 2, 64, 16, 37, 0},  {2, 1, 64, 16, 100, 30},
                          {100, 1, 8, 16, 0, 0}, {1, 1, 256, 16, 65, 5}, {1, 1, 1, 1, 0, 0}};
  const std::vector<std::int32_t> query_lengths{1, 1, 0, 1, 1, 7, 130, 70, 1};
  const std::vector<std::int32_t> kv_lengths{1, 200, 0, 64, 0, 7, 131, 199, 65};
  for (const Shape& shape : shapes) {
    const std::int64_t blocks = (200 + shape.block_size - 1) / shape.block_size;
    const Cache cache(what(), 9, blocks, shape.kv_heads, shape.block_size, shape.head_dim);
    const Batch batch(query_lengths, kv_lengths, cache.tables);
    const Tensor qkv = random_tensor(DType::f32, {212, (shape.heads + 5) * shape.head_dim}, 14);
    const TensorView q = qkv->slice(1, 0, shape.heads * shape.head_dim);
    const AttentionParams params{
        shape.heads,    shape.kv_heads,
        shape.head_dim, 1.0F / std::sqrt(static_cast<float>(shape.head_dim)),
        shape.window,   shape.softcap};
    const Tensor fast = poisoned(DType::f32, {212, shape.heads * shape.head_dim});
    const Tensor plain = poisoned(DType::f32, {212, shape.heads * shape.head_dim});
    cpu::paged_attention(fast, q, cache.k, cache.v, batch.view, params, cpu_stream);
    cpu::paged_attention_plain(plain, q, cache.k, cache.v, batch.view, params, cpu_stream);
    EXPECT_LE(largest_difference(fast, plain), 5e-6F)
        << shape.heads << " heads over " << shape.kv_heads << " of " << shape.head_dim;
  }
}

// The keys a query does not see are poisoned: in the last block, and in blocks of other sequences.
TEST_P(FastAttention, WhatLiesBeyondASequenceIsNeverRead) {
  const Cache cache(what(), 2, 3, 1, 16, 64);
  const std::int32_t* table = cache.tables->as<std::int32_t>();
  for (const TensorView& part : {cache.k.view(), cache.v.view()}) {
    const std::size_t row = 64 * size_of(part.dtype());
    char* data = static_cast<char*>(part.data());
    for (int i = 3; i < 6; ++i)
      std::memset(data + static_cast<std::size_t>(table[i]) * 16 * row, 0xff, 16 * row);
    std::memset(data + (static_cast<std::size_t>(table[2]) * 16 + 5) * row, 0xff, 11 * row);
  }
  const Batch batch({37}, {37}, cache.tables->slice(0, 0, 1));
  const Tensor q = random_tensor(DType::f32, {37, 64}, 15);
  const Tensor out = poisoned(DType::f32, {37, 64});
  paged_attention(out, q, cache.k, cache.v, batch.view, {1, 1, 64, 0.125F, 0, 0}, cpu_stream);
  for (const float value : to_vector(out)) ASSERT_TRUE(std::isfinite(value));
}

TEST_P(FastAttention, ARowsBitsDependNeitherOnTheChunksNorOnTheBatchNorOnThreads) {
  constexpr std::int64_t length = 300, heads = 6, kv_heads = 2, head_dim = 64;
  for (const int window : {0, 90}) {
    const AttentionParams params{heads, kv_heads, head_dim, 0.125F, window, 0};
    const Cache cache(what(), 2, 20, kv_heads, 16, head_dim);
    const TensorView table = cache.tables->slice(0, 0, 1);
    const Tensor q = random_tensor(DType::f32, {length, heads * head_dim}, 16);
    const Tensor whole = poisoned(DType::f32, {length, heads * head_dim});
    paged_attention(whole, q, cache.k, cache.v, Batch({300}, {300}, table).view, params,
                    cpu_stream);
    for (const std::int32_t chunk : {1, 7, 64, 100}) {
      omp_set_num_threads(chunk < 64 ? 1 : 3);
      const Tensor cut = poisoned(DType::f32, {length, heads * head_dim});
      for (std::int32_t first = 0; first < length; first += chunk) {
        const std::int32_t count = std::min<std::int32_t>(chunk, length - first);
        paged_attention(cut->slice(0, first, count), q->slice(0, first, count), cache.k, cache.v,
                        Batch({count}, {first + count}, table).view, params, cpu_stream);
      }
      EXPECT_TRUE(same_bits(cut, whole)) << "chunks of " << chunk << ", window " << window;
    }
    // The last 40 rows again, now behind a decode step and before a prompt of another sequence.
    const Tensor tables(DType::i32, Device::cpu(), {3, 20});
    copy(tables->slice(0, 0, 1), cache.tables->slice(0, 1, 1), cpu_stream);
    copy(tables->slice(0, 1, 2), cache.tables, cpu_stream);
    const Tensor mixed_q = random_tensor(DType::f32, {50, heads * head_dim}, 17);
    copy(mixed_q->slice(0, 1, 40), q->slice(0, length - 40, 40), cpu_stream);
    const Tensor mixed = poisoned(DType::f32, {50, heads * head_dim});
    paged_attention(mixed, mixed_q, cache.k, cache.v, Batch({1, 40, 9}, {33, 300, 9}, tables).view,
                    params, cpu_stream);
    EXPECT_TRUE(same_bits(mixed->slice(0, 1, 40), whole->slice(0, length - 40, 40)));
  }
}

INSTANTIATE_TEST_SUITE_P(EveryInstructionSetAndDType, FastAttention,
                         testing::ValuesIn(on_every_isa({DType::f32, DType::bf16, DType::f16,
                                                         DType::fp8_e4m3})),
                         isa_case_name);

TEST(Attention, AShapeErrorNamesTheTensor) {
  const Cache cache(DType::f32, 1, 2, 2, 16, 8);
  const Tensor q(DType::f32, Device::cpu(), {5, 32});
  const Tensor out(DType::f32, Device::cpu(), {5, 32});
  const Batch batch({5}, {33}, cache.tables);
  const AttentionParams params{4, 2, 8, 1.0F, 0, 0};
  const auto run = [&](const TensorView& to, const AttentionBatch& b, const AttentionParams& p) {
    return shape_error([&] { paged_attention(to, q, cache.k, cache.v, b, p, cpu_stream); });
  };
  EXPECT_EQ(run(out, batch.view, {4, 3, 8, 1.0F, 0, 0}),
            "paged_attention: 4 heads over 3 KV heads, expected a multiple");
  EXPECT_EQ(run(out->slice(0, 0, 4), batch.view, params),
            "paged_attention: out is float32 [4, 32] on cpu, expected float32 [5, 32]");
  EXPECT_EQ(run(out, batch.view, params),
            "paged_attention: block_tables is int32 [1, 2] on cpu, too narrow for kv length 33");
}

}  // namespace
}  // namespace millrace
