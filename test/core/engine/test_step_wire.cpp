#include "core/engine/step_wire.hpp"

#include <gtest/gtest.h>

#include <stdexcept>

namespace millrace {
namespace {

StepInput full_input() {
  auto request = std::make_shared<Request>();
  request->key.offset = 1LL << 40;
  request->id = "stays with the leader";
  request->prompt_tokens = {5, 6, 7};
  request->sampling = {.temperature = 0.25F,
                       .top_p = 0.5F,
                       .min_p = 0.125F,
                       .top_k = 3,
                       .repetition_penalty = 1.5F,
                       .presence_penalty = -1,
                       .frequency_penalty = 2,
                       .logit_bias = {{4, -1.5F}, {9, 2}},
                       .seed = 1ULL << 63,
                       .max_tokens = 9,
                       .min_tokens = 2,
                       .stop_token_ids = {8, 1},
                       .ignore_eos = true,
                       .logprobs = 4,
                       .n = 2};
  auto plain = std::make_shared<Request>();
  plain->prompt_tokens = {1};
  return {.step = 77, .admissions = {request, plain}, .endings = {3, 1LL << 33}, .drain = true};
}

TEST(StepWire, InputsArriveAsTheyWereSent) {
  const StepInput sent = full_input();
  const StepInput got = decode_step_input(encode(sent));
  EXPECT_EQ(got.step, sent.step);
  EXPECT_EQ(got.endings, sent.endings);
  EXPECT_TRUE(got.drain);
  ASSERT_EQ(got.admissions.size(), 2U);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(got.admissions[i]->key, sent.admissions[i]->key);
    EXPECT_EQ(got.admissions[i]->prompt_tokens, sent.admissions[i]->prompt_tokens);
    EXPECT_EQ(got.admissions[i]->sampling, sent.admissions[i]->sampling);
  }
  EXPECT_EQ(got.admissions[0]->id, "");
}

TEST(StepWire, ResultsArriveAsTheyWereSent) {
  const StepResult sent{.step = 5,
                        .tokens = {1, -1, 3},
                        .logprobs = {{1, -0.5F, 2, {{7, -0.25F}, {1, -0.5F}}}, {}, {3, -1, 1, {}}}};
  const StepResult got = decode_step_result(encode(sent, true));
  EXPECT_EQ(got.step, 5);
  EXPECT_EQ(got.tokens, sent.tokens);
  ASSERT_EQ(got.logprobs.size(), 3U);
  EXPECT_EQ(got.logprobs[0].top, sent.logprobs[0].top);
  EXPECT_EQ(got.logprobs[0].rank, 2);
  EXPECT_EQ(got.logprobs[2].logprob, -1);
  EXPECT_TRUE(decode_step_result(encode(sent, false)).logprobs.empty());
}

TEST(StepWire, BytesThatEndEarlyAreRefused) {
  const std::vector<std::byte> bytes = encode(full_input());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THROW(decode_step_input(std::span(bytes).first(size)), std::runtime_error) << size;
  }
}

TEST(StepWire, AnotherLayoutIsRefused) {
  std::vector<std::byte> bytes = encode(full_input());
  bytes[0] ^= std::byte{2};
  EXPECT_THROW(decode_step_input(bytes), std::runtime_error);
  EXPECT_THROW(decode_step_result(encode(full_input())), std::runtime_error);
}

}  // namespace
}  // namespace millrace
