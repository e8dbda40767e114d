// Flags win over generation_config.json, which wins over built-in defaults.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "core/config/sampling_defaults.hpp"
#include "kernels/base/error.hpp"
#include "test/temporary_folder.hpp"

namespace millrace {
namespace {

class SamplingDefaults : public ::testing::Test {
 protected:
  SamplingParams with(const std::string& text, const SamplingConfig& flags = {}) const {
    return sampling_defaults(flags, folder_.write("generation_config.json", text));
  }
  std::string error(const std::string& text) const {
    try {
      with(text);
    } catch (const UserError& error) {
      return error.what();
    }
    return "no error";
  }

  const TemporaryFolder folder_;
};

TEST_F(SamplingDefaults, GenerationConfigFillsWhatNoFlagSets) {
  SamplingConfig flags;
  flags.top_p = 0.5F;
  const SamplingParams params =
      with(R"({"temperature": 0.6, "top_p": 0.9, "top_k": 20, "eos_token_id": [1, 2]})", flags);
  EXPECT_FLOAT_EQ(params.temperature, 0.6F);
  EXPECT_FLOAT_EQ(params.top_p, 0.5F);
  EXPECT_EQ(params.top_k, 20);
  EXPECT_EQ(params.max_tokens, default_max_tokens);
}

TEST_F(SamplingDefaults, MaxNewTokensIsTheDefaultLength) {
  EXPECT_EQ(with(R"({"max_new_tokens": 33})").max_tokens, 33);
  SamplingConfig flags;
  flags.max_tokens = 5;
  EXPECT_EQ(with(R"({"max_new_tokens": 33})", flags).max_tokens, 5);
}

TEST_F(SamplingDefaults, NoneIgnoresTheFile) {
  SamplingConfig flags;
  flags.generation_config = GenerationConfigUse::none;
  EXPECT_FLOAT_EQ(with(R"({"temperature": 0.6})", flags).temperature, 1.0F);
}

TEST_F(SamplingDefaults, AMissingFileIsNoMistake) {
  EXPECT_FLOAT_EQ(sampling_defaults({}, "/nonexistent/generation_config.json").temperature, 1.0F);
  EXPECT_FLOAT_EQ(sampling_defaults({}, {}).temperature, 1.0F);
}

TEST_F(SamplingDefaults, BadFilesNameTheFieldAndTheValue) {
  EXPECT_THAT(error(R"({"temperature": "hot"})"),
              ::testing::EndsWith(R"(.json: temperature is "hot", not a number)"));
  EXPECT_THAT(error(R"({"top_p": 7})"), ::testing::HasSubstr("top_p"));
  EXPECT_THAT(error(R"({"top_k": 1e30})"),
              ::testing::EndsWith("top_k is 1e+30, not a whole number within a billion"));
  EXPECT_THAT(error(R"({"max_new_tokens": 2.5})"), ::testing::HasSubstr("max_new_tokens is 2.5"));
  EXPECT_THAT(error(R"({"temperature": 1e300})"), ::testing::HasSubstr("temperature is inf"));
  EXPECT_THAT(error("[1"), ::testing::EndsWith("is not a JSON object"));
}

TEST_F(SamplingDefaults, FlagsThatNoPromptCouldUseAreRejected) {
  SamplingConfig flags;
  flags.top_p = 0.0F;
  try {
    sampling_defaults(flags, {});
    FAIL();
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(), "sampling flags: top_p is 0, but must be in (0, 1]");
  }
}

}  // namespace
}  // namespace millrace
