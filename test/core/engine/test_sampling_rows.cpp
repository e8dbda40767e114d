#include "core/engine/sampling_rows.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "test/core/engine/make_sequence.hpp"

namespace millrace {
namespace {

using test::make_sequence;

struct Edit {
  float divide;
  float subtract;
  bool operator==(const Edit&) const = default;
};

std::map<std::int32_t, Edit> edits(const SamplingRows& rows) {
  std::map<std::int32_t, Edit> edits;
  for (std::size_t i = 0; i < rows.edit_rows.size(); ++i) {
    const bool is_new =
        edits.emplace(rows.edit_tokens[i], Edit{rows.divide[i], rows.subtract[i]}).second;
    EXPECT_TRUE(is_new) << "token " << rows.edit_tokens[i] << " is edited twice";
  }
  return edits;
}

TEST(SamplingRows, PlainRequestsNeedNoEdits) {
  SamplingRowsBuilder builder(4, 0, {2});
  SamplingRows rows;
  const auto sequence = make_sequence({}, {5, 6}, {7});
  builder.build(std::vector<Sample>{{sequence.get(), 1}}, rows);
  EXPECT_TRUE(rows.edit_rows.empty());
  EXPECT_EQ(rows.positions, std::vector<std::int32_t>{3});
  EXPECT_FALSE(rows.any_top_k || rows.any_top_p || rows.any_min_p);
  EXPECT_EQ(rows.logprobs, -1);
}

TEST(SamplingRows, ReasonsToEditATokenAreJoined) {
  SamplingRowsBuilder builder(4, 0, {2});
  SamplingRows rows;
  const SamplingParams p{.repetition_penalty = 1.5F,
                         .presence_penalty = 0.5F,
                         .frequency_penalty = 0.25F,
                         .logit_bias = {{7, 1.0F}, {9, 2.0F}},
                         .max_tokens = 9,
                         .min_tokens = 8,
                         .stop_token_ids = {9, 2}};
  const auto sequence = make_sequence(p, {5, 6, 5}, {7, 6, 7});
  builder.build(std::vector<Sample>{{sequence.get(), 3}}, rows);
  const std::map<std::int32_t, Edit> expected = {{2, {1, INFINITY}},
                                                 {5, {1.5F, 0}},
                                                 {6, {1.5F, 0.75F}},
                                                 {7, {1.5F, 0.0F}},
                                                 {9, {1, INFINITY}}};
  EXPECT_EQ(edits(rows), expected);
}

TEST(SamplingRows, HistoriesFollowTheirSequenceNotTheirSlot) {
  SamplingRowsBuilder builder(4, 0, {});
  SamplingRows rows;
  const SamplingParams p{.frequency_penalty = 1};
  const auto first = make_sequence(p, {1}, {2}, 10);
  builder.build(std::vector<Sample>{{first.get(), 1}}, rows);
  first->tokens.push_back(2);
  builder.build(std::vector<Sample>{{first.get(), 2}}, rows);
  EXPECT_EQ(edits(rows), (std::map<std::int32_t, Edit>{{1, {1, 0}}, {2, {1, 2}}}));

  const auto second = make_sequence(p, {3}, {}, 11);  // the same slot
  builder.build(std::vector<Sample>{{second.get(), 0}}, rows);
  EXPECT_EQ(edits(rows), (std::map<std::int32_t, Edit>{{3, {1, 0}}}));

  first->slot = 2;  // back after a preemption
  builder.build(std::vector<Sample>{{first.get(), 2}}, rows);
  EXPECT_EQ(edits(rows), (std::map<std::int32_t, Edit>{{1, {1, 0}}, {2, {1, 2}}}));
}

TEST(SamplingRows, TinyTemperaturesAreGreedy) {
  SamplingRowsBuilder builder(4, 0, {});
  SamplingRows rows;
  const auto sequence = make_sequence({.temperature = 1e-6F, .top_p = 0.5F, .top_k = 4}, {1});
  builder.build(std::vector<Sample>{{sequence.get(), 0}}, rows);
  EXPECT_EQ(rows.temperature[0], 0);
  EXPECT_FALSE(rows.any_top_k || rows.any_top_p) << "a greedy row needs no cuts";
}

}  // namespace
}  // namespace millrace
