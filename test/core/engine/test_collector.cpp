// The collector fed with tokens as the scheduler would, over a real tokenizer.
#include "core/engine/collector.hpp"

#include <gmock/gmock.h>

#include "core/text/tokenizer.hpp"
#include "test/core/engine/make_sequence.hpp"

namespace millrace {
namespace {

using test::make_sequence;

class ListSink : public ResultSink {
 public:
  void put(FinishedRequest&& request) override { finished.push_back(std::move(request)); }
  std::vector<FinishedRequest> finished;
};

class CollectorTest : public testing::Test {
 protected:
  CollectorTest()
      : tokenizer_(load_tokenizer(std::string(MILLRACE_TEST_DATA) + "/models/gpt2")),
        collector_(&tokenizer_, sink_, 128, [this] { return now_ += 1; }) {}

  std::vector<std::int32_t> encode(const std::string& text) const {
    return tokenizer_.encode(text, false);
  }

  std::unique_ptr<Sequence> admit(const SamplingParams& sampling) {
    auto sequence = make_sequence(sampling, {5, 6}, {}, 40);
    collector_.arrived(sequence->request);
    return sequence;
  }

  void give(Sequence& sequence, std::int32_t token, SequenceUpdate update = {}) {
    sequence.tokens.push_back(token);
    update.sequence = &sequence;
    update.row = 0;
    TokenLogprobs logprobs{.token = token, .logprob = -0.5F, .rank = 1, .top = {}};
    collector_.collect({&update, 1}, {&logprobs, 1});
  }

  // All tokens but the last as they come, the last with `end`; or fewer, when the collector ends
  // it.
  void give_all(Sequence& sequence, const std::vector<std::int32_t>& tokens, SequenceUpdate end) {
    for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
      give(sequence, tokens[i]);
      if (!sink_.finished.empty()) return;
    }
    give(sequence, tokens.back(), end);
  }

  const Completion& completion(std::size_t number = 0) const {
    return sink_.finished.at(0).completions.at(number);
  }

  static SequenceUpdate by_length() { return {.finished = true, .reason = FinishReason::length}; }
  static SequenceUpdate by_eos() {
    return {.finished = true, .reason = FinishReason::stop, .stopped_by_eos = true};
  }
  static SequenceUpdate by_stop_token() { return {.finished = true, .reason = FinishReason::stop}; }

  ListSink sink_;
  Tokenizer tokenizer_;
  double now_ = 0;
  Collector collector_;
};

const std::string text = "the wheel turns the stone";

TEST_F(CollectorTest, TextIsWhatTheTokensSay) {
  const auto sequence = admit({});
  const auto tokens = encode(text);
  give_all(*sequence, tokens, by_length());
  ASSERT_EQ(sink_.finished.size(), 1U);
  EXPECT_EQ(completion().text, text);
  EXPECT_EQ(completion().token_ids, tokens);
  EXPECT_EQ(completion().finish_reason, FinishReason::length);
  EXPECT_EQ(completion().stop_reason, "");
  EXPECT_TRUE(completion().logprobs.empty());
  EXPECT_EQ(sink_.finished[0].key.offset, 40);
  EXPECT_EQ(sink_.finished[0].prompt_token_ids, (std::vector<std::int32_t>{5, 6}));
  EXPECT_EQ(collector_.output_tokens(), static_cast<std::int64_t>(tokens.size()));
  EXPECT_EQ(collector_.prompt_tokens(), 2);
}

TEST_F(CollectorTest, AStopStringEndsTheTextBeforeItAndTheTokensAfterIt) {
  const auto sequence = admit({.stop = {"never", "turns the"}});
  const auto tokens = encode(text);
  std::size_t given = 0;
  while (sink_.finished.empty()) give(*sequence, tokens.at(given++));
  EXPECT_EQ(completion().text, "the wheel ");
  EXPECT_EQ(completion().finish_reason, FinishReason::stop);
  EXPECT_EQ(completion().stop_reason, "turns the");
  EXPECT_EQ(completion().token_ids.size(), given);
  EXPECT_LT(given, tokens.size());
  EXPECT_THAT(tokenizer_.decode(completion().token_ids, true), testing::EndsWith("turns the"));
  EXPECT_EQ(collector_.take_endings(), std::vector<std::int64_t>{sequence->number});
  EXPECT_TRUE(collector_.take_endings().empty());
}

TEST_F(CollectorTest, TheStopStringStaysWhenAskedFor) {
  const auto sequence = admit({.stop = {"turns"}, .include_stop_str_in_output = true});
  give_all(*sequence, encode(text), by_length());
  EXPECT_EQ(completion().text, "the wheel turns");
}

TEST_F(CollectorTest, TheStopStringThatBeginsFirstWins) {
  const auto sequence = admit({.stop = {"stone", "one", "the stone"}});
  give_all(*sequence, encode(text), by_length());
  EXPECT_EQ(completion().text, "the wheel turns ");
  EXPECT_EQ(completion().stop_reason, "the stone");
}

TEST_F(CollectorTest, AStopStringMetByTheLastTokenNeedsNoEnding) {
  const auto sequence = admit({.stop = {"stone"}});
  give_all(*sequence, encode(text), by_length());
  EXPECT_EQ(completion().finish_reason, FinishReason::stop);
  EXPECT_EQ(completion().text, "the wheel turns the ");
  EXPECT_TRUE(collector_.take_endings().empty());
}

TEST_F(CollectorTest, TheFirstMinTokensCannotStop) {
  const auto tokens = encode("the wheel and the wheel again");
  std::int32_t first_wheel = 0;
  while (tokenizer_.decode({tokens.data(), static_cast<std::size_t>(first_wheel)}, true)
             .find("wheel") == std::string::npos) {
    ++first_wheel;
  }
  const auto sequence = admit({.max_tokens = 99, .min_tokens = first_wheel, .stop = {"wheel"}});
  give_all(*sequence, tokens, by_length());
  EXPECT_EQ(completion().text, "the wheel and the ");
}

TEST_F(CollectorTest, AStopTokenIsNotPartOfTheText) {
  const auto tokens = encode(text);
  for (const bool include : {false, true}) {
    sink_.finished.clear();
    const auto sequence = admit({.include_stop_str_in_output = include});
    give_all(*sequence, tokens, by_stop_token());
    const std::size_t shown = include ? tokens.size() : tokens.size() - 1;
    EXPECT_EQ(completion().text, tokenizer_.decode({tokens.data(), shown}, true));
    EXPECT_EQ(completion().token_ids, tokens);
    EXPECT_EQ(completion().stop_reason, std::to_string(tokens.back()));
  }
}

TEST_F(CollectorTest, EosHasNoStopReason) {
  const auto sequence = admit({.stop = {"never"}});
  auto tokens = encode(text);
  tokens.push_back(2);
  give_all(*sequence, tokens, by_eos());
  EXPECT_EQ(completion().text, text);
  EXPECT_EQ(completion().finish_reason, FinishReason::stop);
  EXPECT_EQ(completion().stop_reason, "");
}

TEST_F(CollectorTest, ARequestIsFinishedWithItsLastCompletion) {
  const auto first = admit({.n = 2});
  auto second = std::make_unique<Sequence>(*first);
  second->completion = 1;
  second->number = 41;
  give_all(*second, encode("stone"), by_length());
  EXPECT_TRUE(sink_.finished.empty());
  give_all(*first, encode("wheel"), by_length());
  ASSERT_EQ(sink_.finished.size(), 1U);
  EXPECT_EQ(completion(0).text, "wheel");
  EXPECT_EQ(completion(1).text, "stone");
  EXPECT_EQ(collector_.prompt_tokens(), 2) << "a prompt counts once";
}

TEST_F(CollectorTest, LogprobsFollowTheTokens) {
  const auto sequence = admit({.stop = {"turns"}, .logprobs = 0});
  const auto tokens = encode(text);
  give_all(*sequence, tokens, by_length());
  ASSERT_EQ(completion().logprobs.size(), completion().token_ids.size());
  for (std::size_t i = 0; i < completion().token_ids.size(); ++i) {
    EXPECT_EQ(completion().logprobs[i].token, completion().token_ids[i]);
  }
}

TEST_F(CollectorTest, TimesAreInOrder) {
  const auto sequence = admit({});
  give_all(*sequence, encode(text), by_length());
  const FinishedRequest& finished = sink_.finished[0];
  EXPECT_LT(0, finished.arrived_seconds);
  EXPECT_LT(finished.arrived_seconds, finished.first_token_seconds);
  EXPECT_LT(finished.first_token_seconds, finished.finished_seconds);
}

TEST_F(CollectorTest, ErrorsSayWhatDidNotFit) {
  const auto refused = admit({.n = 2});
  const SequenceUpdate update{.sequence = refused.get(),
                              .kind = SequenceUpdate::Kind::refused,
                              .finished = true,
                              .reason = FinishReason::error};
  collector_.collect({&update, 1}, {});
  collector_.collect({&update, 1}, {});
  ASSERT_EQ(sink_.finished.size(), 1U);
  EXPECT_THAT(sink_.finished[0].error, testing::HasSubstr("128 tokens of the KV cache"));
  EXPECT_TRUE(sink_.finished[0].completions.empty());

  const auto failed = admit({});
  const SequenceUpdate failure{.sequence = failed.get(),
                               .kind = SequenceUpdate::Kind::failed,
                               .finished = true,
                               .reason = FinishReason::error};
  collector_.collect({&failure, 1}, {});
  EXPECT_THAT(sink_.finished[1].error, testing::HasSubstr("position 2"));
  EXPECT_EQ(collector_.requests_failed(), 2);

  Request malformed;
  malformed.error = "top_p is 7";
  collector_.refused(std::move(malformed));
  EXPECT_EQ(sink_.finished[2].error, "top_p is 7");
}

}  // namespace
}  // namespace millrace
