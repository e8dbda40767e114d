// Roofline and workloads against numbers worked out by hand.
#include <gtest/gtest.h>

#include "bench/throughput/roofline.hpp"
#include "kernels/base/error.hpp"

namespace millrace::bench {
namespace {

// 2 layers: q 4 x 8 = 32 wide, k and v 2 x 8 = 16 each; hidden 24, gated MLP of 40, vocabulary 100.
ModelSpec small_model() {
  ModelSpec spec;
  spec.hidden_size = spec.embedding_size = 24;
  spec.vocab_size = 100;
  LayerSpec layer;
  layer.attention.heads = 4;
  layer.attention.kv_heads = 2;
  layer.attention.head_dim = 8;
  layer.mlp.intermediate_size = 40;
  layer.mlp.gated = true;
  spec.layers = {layer, layer};
  return spec;
}

TEST(ModelCost, CountsTheMatricesOfEveryLayerTheHeadAndTheKeys) {
  const ModelCost cost = cost_of(small_model(), 50'000, DType::bf16, DType::fp8_e4m3);
  // A layer: 24 * (32 + 16 + 16) + 32 * 24 + 3 * 24 * 40 = 5,184 weights, 2 flops each.
  // The last one's output product and MLP, 32 * 24 + 3 * 24 * 40 = 3,648, are for rows that draw.
  EXPECT_EQ(cost.last_flops_per_sample, 2 * 3'648);
  EXPECT_EQ(cost.flops_per_token, 2 * (2 * 5'184 - 3'648));
  EXPECT_EQ(cost.head_flops_per_sample, 2 * 24 * 100);
  EXPECT_EQ(cost.weight_bytes, 50'000 - 2 * 2'400);  // the input embedding is not multiplied with
  EXPECT_EQ(cost.bytes_per_key, 2 * 2 * 16);
  EXPECT_EQ(cost.attention_flops_per_pair, 2 * 4 * 32);
}

TEST(ModelCost, ATiedTableIsReadAsTheHead) {
  ModelSpec spec = small_model();
  spec.tied_embeddings = true;
  EXPECT_EQ(cost_of(spec, 50'000, DType::bf16, DType::bf16).weight_bytes, 50'000);
}

constexpr ModelCost cost{.weight_bytes = 1000,
                         .flops_per_token = 10,
                         .last_flops_per_sample = 2,
                         .head_flops_per_sample = 5,
                         .bytes_per_key = 4,
                         .attention_flops_per_pair = 2};
constexpr Ceilings ceilings{
    .copy_bytes_per_second = 100, .matmul_flops_per_second = 50, .head_flops_per_second = 25};

TEST(Roofline, AStepIsBoundByItsWeightsOrByItsProducts) {
  // 2 tokens: weights 10 s, products 0.64 s, keys 50 * 4 / 100 = 2 s.
  const StepRecord decode{.tokens = 2, .samples = 1, .decode_sequences = 2, .decode_keys = 50};
  EXPECT_DOUBLE_EQ(roofline_seconds(decode, cost, ceilings), 12);
  // 100 tokens: products (1,000 + 2) / 50 + 5 / 25 = 20.24 s, pairs 5,050 * 2 / 25 = 404 s.
  const StepRecord prompt{.tokens = 100, .samples = 1, .prompt_pairs = 5'050};
  EXPECT_DOUBLE_EQ(roofline_seconds(prompt, cost, ceilings), 424.24);
  const StepRecord both[] = {decode, prompt};
  EXPECT_DOUBLE_EQ(roofline_seconds(both, cost, ceilings), 436.24);
}

TEST(Roofline, TheIdealScheduleKeepsTheCacheFull) {
  // 4 requests of 3 + 2 tokens: each computes 3 + 1 tokens, its decode step reads 4 keys.
  const Workload workload = parse_workload("3/2x4");
  // Room for two at a time: 4 decode tokens in 2 steps; the largest output asks for 2 as well.
  const double weights = 2 * 10;
  const double products = (4 * 4 * 10 + 8 * 2) / 50.0 + 8 * 5 / 25.0;
  const double rest = 4 * 4 * 4 / 100.0 + 4 * 6 * 2 / 25.0;
  EXPECT_DOUBLE_EQ(ideal_seconds(workload, {.max_num_seqs = 8, .cache_tokens = 8}, cost, ceilings),
                   std::max(weights, products) + rest);
  // One at a time by --max-num-seqs: twice the steps.
  EXPECT_DOUBLE_EQ(ideal_seconds(workload, {.max_num_seqs = 1, .cache_tokens = 8}, cost, ceilings),
                   2 * weights + rest);
}

TEST(Workload, FixedLengthsAreWhatTheTextSays) {
  const Workload workload = parse_workload("128/2048x3");
  ASSERT_EQ(workload.requests.size(), 3U);
  EXPECT_EQ(workload.requests[2].prompt, 128);
  EXPECT_EQ(workload.requests[2].output, 2048);
  EXPECT_EQ(workload.longest(), 2176);
}

TEST(Workload, LogNormalLengthsHaveTheirMeansAndAreAlwaysTheSame) {
  const Workload workload = parse_workload("lognormal:220/200x20000");
  double prompt = 0, output = 0;
  for (const Lengths& lengths : workload.requests) {
    ASSERT_GE(lengths.prompt, 1);
    ASSERT_LE(lengths.prompt, 2048);
    prompt += lengths.prompt / 20000.0;
    output += lengths.output / 20000.0;
  }
  EXPECT_NEAR(prompt, 217, 5);  // the cap takes about 1 % off
  EXPECT_NEAR(output, 198, 5);
  const Workload again = parse_workload("lognormal:220/200x20000");
  EXPECT_EQ(again.requests[19'999].prompt, workload.requests[19'999].prompt);
  EXPECT_EQ(again.requests[19'999].output, workload.requests[19'999].output);
}

TEST(Workload, RefusesWhatItCannotRead) {
  for (const char* text : {"", "128", "128/128", "128/x4", "0/1x4", "1/1x4x", "lognormal:1x2"}) {
    EXPECT_THROW(parse_workload(text), UserError) << text;
  }
}

TEST(Workload, ReplicasShareItOut) {
  const Workload workload = parse_workload("lognormal:220/200x5");
  EXPECT_EQ(share_of(workload, 0, 2).requests.size(), 3U);
  const Workload second = share_of(workload, 1, 2);
  ASSERT_EQ(second.requests.size(), 2U);
  EXPECT_EQ(second.requests[1].prompt, workload.requests[3].prompt);
}

TEST(MadeUpSource, GivesEveryRequestOnceWithTokensOfTheVocabulary) {
  const Workload workload = parse_workload("7/2x5");
  MadeUpSource source(workload, 11);
  std::vector<Request> requests;
  while (source.take(requests, 2)) {
  }
  ASSERT_EQ(requests.size(), 5U);
  for (const Request& request : requests) {
    EXPECT_EQ(request.prompt_tokens.size(), 7U);
    for (const std::int32_t token : request.prompt_tokens) {
      EXPECT_GE(token, 0);
      EXPECT_LT(token, 11);
    }
    EXPECT_EQ(request.sampling.max_tokens, 2);
  }
}

}  // namespace
}  // namespace millrace::bench
