#include "core/batch/sampling_params.hpp"

#include <gmock/gmock.h>

#include <cmath>
#include <functional>

#include "kernels/base/error.hpp"

namespace millrace {
namespace {

std::string complaint(const std::function<void(SamplingParams&)>& change) {
  SamplingParams params;
  change(params);
  try {
    validate(params);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

using testing::HasSubstr;

TEST(SamplingParams, DefaultsAreValid) {
  EXPECT_EQ(complaint([](SamplingParams&) {}), "");
}

TEST(SamplingParams, ComplaintsNameTheFieldAndTheValue) {
  EXPECT_EQ(complaint([](auto& p) { p.temperature = -0.5F; }),
            "temperature is -0.5, but must be finite and at least 0");
  EXPECT_THAT(complaint([](auto& p) { p.temperature = NAN; }), HasSubstr("temperature is nan"));
  EXPECT_THAT(complaint([](auto& p) { p.top_p = 0; }), HasSubstr("top_p is 0"));
  EXPECT_THAT(complaint([](auto& p) { p.top_p = 1.5F; }), HasSubstr("top_p is 1.5"));
  EXPECT_THAT(complaint([](auto& p) { p.min_p = 2; }), HasSubstr("min_p is 2"));
  EXPECT_THAT(complaint([](auto& p) { p.top_k = -2; }), HasSubstr("top_k is -2"));
  EXPECT_THAT(complaint([](auto& p) { p.repetition_penalty = 0; }),
              HasSubstr("repetition_penalty is 0"));
  EXPECT_THAT(complaint([](auto& p) { p.presence_penalty = 3; }),
              HasSubstr("presence_penalty is 3"));
  EXPECT_THAT(complaint([](auto& p) { p.frequency_penalty = -3; }),
              HasSubstr("frequency_penalty is -3"));
  EXPECT_THAT(complaint([](auto& p) {
                p.logit_bias = {{5, 101.0F}};
              }),
              HasSubstr("logit_bias is 101"));
  EXPECT_THAT(complaint([](auto& p) { p.logit_bias = {{-5, 1.0F}}; }), HasSubstr("is -5"));
  EXPECT_THAT(complaint([](auto& p) { p.max_tokens = 0; }), HasSubstr("max_tokens is 0"));
  EXPECT_THAT(complaint([](auto& p) { p.min_tokens = 17; }),
              HasSubstr("min_tokens is 17, but must be between 0 and max_tokens, 16"));
  EXPECT_THAT(complaint([](auto& p) { p.stop = {"a", ""}; }), HasSubstr("empty string"));
  EXPECT_THAT(complaint([](auto& p) { p.stop_token_ids = {-3}; }),
              HasSubstr("stop_token_ids is -3"));
  EXPECT_THAT(complaint([](auto& p) { p.logprobs = 21; }), HasSubstr("logprobs is 21"));
  EXPECT_THAT(complaint([](auto& p) { p.n = 0; }), HasSubstr("n is 0"));
}

}  // namespace
}  // namespace millrace
