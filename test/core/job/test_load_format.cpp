#include <gmock/gmock.h>

#include "core/job/rank_model.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

const ModelFiles folder{"/models/llama", {}};
const ModelFiles gguf{"/models", "/models/llama.gguf"};

TEST(LoadFormat, AutoAndDummyTakeEitherKindOfModel) {
  for (const LoadFormat format : {LoadFormat::automatic, LoadFormat::dummy}) {
    EXPECT_NO_THROW(check_load_format(format, folder));
    EXPECT_NO_THROW(check_load_format(format, gguf));
  }
}

TEST(LoadFormat, AKindThatTheModelIsNotIsTheUsersError) {
  EXPECT_NO_THROW(check_load_format(LoadFormat::gguf, gguf));
  EXPECT_NO_THROW(check_load_format(LoadFormat::safetensors, folder));
  EXPECT_THAT([] { check_load_format(LoadFormat::gguf, folder); },
              ThrowsMessage<UserError>(HasSubstr("/models/llama is not a .gguf file")));
  EXPECT_THAT([] { check_load_format(LoadFormat::safetensors, gguf); },
              ThrowsMessage<UserError>(HasSubstr("/models/llama.gguf is a .gguf file")));
}

}  // namespace
}  // namespace millrace
