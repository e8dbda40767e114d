#include "core/model/model_folder.hpp"

#include <gmock/gmock.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "kernels/base/error.hpp"
#include "test/temporary_folder.hpp"

namespace millrace {
namespace {

namespace fs = std::filesystem;

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

class ModelFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    unsetenv("HF_HUB_CACHE");
    setenv("HF_HOME", root_.c_str(), 1);
  }
  void TearDown() override { unsetenv("HF_HOME"); }

  void write(const std::string& path, const std::string& text) const { folder_.write(path, text); }
  std::string at(const char* path) const { return (root_ / path).string(); }

  const TemporaryFolder folder_;
  const fs::path root_ = folder_.path();
};

TEST_F(ModelFolder, AFolderWithAConfigIsAHuggingFaceCheckpoint) {
  write("m/config.json", "{}");
  write("m/other.gguf", "");
  EXPECT_FALSE(find_model(at("m")).is_gguf());
  EXPECT_EQ(find_model(at("m")).folder, root_ / "m");
}

TEST_F(ModelFolder, AFolderWithOneGgufFileIsThatFile) {
  write("m/a.gguf", "");
  EXPECT_EQ(find_model(at("m")).gguf, root_ / "m/a.gguf");
  EXPECT_EQ(find_model(at("m/a.gguf")).folder, root_ / "m");
  write("m/b.gguf", "");
  EXPECT_THAT([&] { find_model(at("m")); }, ThrowsMessage<UserError>(HasSubstr("2 .gguf files")));
}

TEST_F(ModelFolder, ANameIsLookedUpInTheHuggingFaceCache) {
  write("hub/models--org--name/refs/main", "abc123\n");
  write("hub/models--org--name/snapshots/abc123/config.json", "{}");
  EXPECT_EQ(find_model("org/name").folder, root_ / "hub/models--org--name/snapshots/abc123");
  setenv("HF_HUB_CACHE", at("elsewhere").c_str(), 1);
  EXPECT_THAT([] { find_model("org/name"); },
              ThrowsMessage<UserError>(HasSubstr("elsewhere/models--org--name")));
  unsetenv("HF_HUB_CACHE");
}

TEST_F(ModelFolder, WhatIsNotThereIsTheUsersErrorThatSaysWhereItLooked) {
  const auto finding = [](std::string model) { return [=] { find_model(model); }; };
  EXPECT_THAT(finding("org/none"),
              ThrowsMessage<UserError>(
                  AllOf(HasSubstr("org/none"), HasSubstr(at("hub/models--org--none")))));
  EXPECT_THAT(finding(""), ThrowsMessage<UserError>(HasSubstr("empty")));
  EXPECT_THAT(finding("/no/such/place"), ThrowsMessage<UserError>(HasSubstr("/no/such/place")));
  EXPECT_THAT(finding("gone.gguf"), ThrowsMessage<UserError>(HasSubstr("gone.gguf")));
  EXPECT_THAT(finding("../escape"), ThrowsMessage<UserError>(HasSubstr("../escape")));
  write("empty/readme", "");
  EXPECT_THAT(finding(at("empty")), ThrowsMessage<UserError>(HasSubstr("neither a config.json")));
  write("plain.bin", "");
  EXPECT_THAT(finding(at("plain.bin")), ThrowsMessage<UserError>(HasSubstr("plain.bin")));
  write("hub/models--org--torn/refs/main", "gone");
  EXPECT_THAT(finding("org/torn"), ThrowsMessage<UserError>(HasSubstr("snapshots/gone")));
  write("hub/models--org--evil/refs/main", "../../..");
  EXPECT_THAT(finding("org/evil"), ThrowsMessage<UserError>(HasSubstr("names no snapshot")));
}

TEST_F(ModelFolder, WhatCannotBeLookedAtIsNotCalledMissing) {
  fs::create_symlink("loop", root_ / "loop");
  EXPECT_THAT([&] { find_model(at("loop")); },
              ThrowsMessage<UserError>(AllOf(HasSubstr(at("loop")), HasSubstr("symbolic links"))));
}

TEST_F(ModelFolder, TheGenerationConfigsEndsGoBefore) {
  const std::string config =
      R"({"model_type": "gpt2", "n_embd": 8, "n_head": 2, "n_layer": 1, "vocab_size": 10,
          "eos_token_id": 3})";
  write("m/config.json", config);
  EXPECT_THAT(describe_model(find_model(at("m"))).spec.eos_token_ids, ElementsAre(3));
  write("m/generation_config.json", R"({"eos_token_id": [5, 6]})");
  EXPECT_THAT(describe_model(find_model(at("m"))).spec.eos_token_ids, ElementsAre(5, 6));
  write("m/generation_config.json", R"({"temperature": 1})");
  EXPECT_THAT(describe_model(find_model(at("m"))).spec.eos_token_ids, ElementsAre(3));
}

TEST_F(ModelFolder, AConfigThatIsNoJsonObjectNamesTheFile) {
  write("m/config.json", "{\"model_type\": ");
  EXPECT_THAT([&] { describe_model(find_model(at("m"))); },
              ThrowsMessage<UserError>(HasSubstr(at("m/config.json"))));
  write("m/config.json", std::string(100000, '['));
  EXPECT_THAT([&] { describe_model(find_model(at("m"))); },
              ThrowsMessage<UserError>(HasSubstr("nested")));
}

}  // namespace
}  // namespace millrace
