#include "core/weights/gguf.hpp"

#include <gmock/gmock.h>

#include "core/model/model_folder.hpp"
#include "core/weights/gguf_checkpoint.hpp"
#include "core/weights/gguf_tokenizer_data.hpp"
#include "kernels/base/error.hpp"
#include "samples.hpp"

namespace millrace {
namespace {

using test::bytes_of;
using test::GgufBytes;
using test::read_values;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr std::uint32_t f32 = 0;

std::string floats(int count) {
  std::vector<float> values;
  for (int i = 0; i < count; ++i) values.push_back(static_cast<float>(i));
  return bytes_of(values);
}

TEST(Gguf, ReadsMetadataOfEveryKindAndTensorsOutermostFirst) {
  const TemporaryFolder folder;
  const std::string list = bytes_of(std::uint32_t{8}) + bytes_of(std::uint64_t{2}) +
                           GgufBytes::string("x") + GgufBytes::string("yz");
  for (const std::uint32_t version : {2U, 3U}) {
    const auto path = folder.write("a.gguf", GgufBytes(version)
                                                 .text("general.architecture", "llama")
                                                 .number("count", 4000000000U)
                                                 .key("i8", 1, bytes_of(std::int8_t{-3}))
                                                 .key("f32", 6, bytes_of(0.5F))
                                                 .key("f64", 12, bytes_of(0.25))
                                                 .key("yes", 7, "\1")
                                                 .key("list", 9, list)
                                                 .tensor("t", {3, 2}, f32, floats(6))
                                                 .bytes());
    const GgufHeader header = read_gguf_header(path);
    EXPECT_EQ(header.version, version);
    EXPECT_EQ(*header.find_string("general.architecture"), "llama");
    EXPECT_EQ(header.find_integer("count"), 4000000000);
    EXPECT_EQ(header.find_integer("i8"), -3);
    EXPECT_EQ(header.find_number("f32"), 0.5);
    EXPECT_EQ(header.find_number("f64"), 0.25);
    EXPECT_EQ(header.find_number("count"), 4e9);
    EXPECT_EQ(header.find_bool("yes"), true);
    EXPECT_THAT(*header.find_strings("list"), ElementsAre("x", "yz"));
    EXPECT_EQ(header.find_string("absent"), nullptr);
    EXPECT_THAT([&] { header.find_string("count"); },
                ThrowsMessage<UserError>(HasSubstr("'count' is not a string")));
    EXPECT_THAT(header.tensors.at("t").shape, ElementsAre(2, 3));

    const auto checkpoint = open_checkpoint({{}, path});
    EXPECT_THAT(read_values(*checkpoint, "t", {1, 1}, {0, 3}), ElementsAre(3, 4, 5));
    EXPECT_EQ(checkpoint->bytes_read(), 12);
  }
}

TEST(Gguf, ACorruptHeaderIsTheUsersErrorThatSaysWhat) {
  struct Bad {
    std::string bytes;
    const char* message;
  };
  const auto count = [](std::uint64_t tensors, std::uint64_t keys) {
    return "GGUF" + bytes_of(std::uint32_t{3}) + bytes_of(tensors) + bytes_of(keys);
  };
  const std::uint64_t huge = std::uint64_t{1} << 62;
  const Bad bad[] = {
      {"GGU", "not a GGUF file"},
      {"GGML" + std::string(40, 'x'), "not a GGUF file"},
      {"GGUF" + bytes_of(std::uint32_t{1}) + std::string(40, '\0'), "version 1"},
      {"GGUF" + bytes_of(std::uint32_t{0x03000000}) + std::string(40, '\0'), "big-endian"},
      {"GGUF" + bytes_of(std::uint32_t{3}), "truncated"},
      {count(huge, 0), "tensor count"},
      {count(0, huge), "metadata count"},
      {count(0, 1) + bytes_of(huge) + std::string(60, 'k'), "the limit is"},
      {count(0, 1) + bytes_of(std::uint64_t{1000}) + std::string(60, 'k'), "truncated"},
      {GgufBytes().key("k", 99, "........").bytes(), "unknown value type 99"},
      {GgufBytes().key("k", 9, bytes_of(std::uint32_t{9}) + bytes_of(huge)).bytes(),
       "arrays of arrays"},
      {GgufBytes().key("k", 9, bytes_of(std::uint32_t{4}) + bytes_of(huge)).bytes(),
       "array's length"},
      {GgufBytes().key("k", 10, bytes_of(~std::uint64_t{0})).bytes(), "too large"},
      {GgufBytes().number("k", 1).number("k", 2).bytes(), "'k' appears twice"},
      {GgufBytes().number("general.alignment", 48).bytes(), "general.alignment is 48"},
      {GgufBytes().tensor("t", {4}, f32, floats(4)).tensor("t", {4}, f32, floats(4)).bytes(),
       "'t' appears twice"},
      {GgufBytes().tensor("t", {0}, f32, "").bytes(), "impossible size 0"},
      {GgufBytes().tensor("t", {huge, 8}, f32, "").bytes(), "impossible size"},
      {GgufBytes().tensor("t", {huge}, f32, "").bytes(), "elements"},
      {GgufBytes().tensor("t", {1, 1, 1, 1, 1}, f32, floats(1)).bytes(), "5 dimensions"},
      {GgufBytes().tensor("t", {40}, 8, std::string(68, 'q')).bytes(), "blocks of 32"},
      {GgufBytes().tensor("t", {4}, 20, "").bytes(), "stored as IQ4_NL"},
      {GgufBytes().tensor("t", {4}, 77, "").bytes(), "unknown type 77"},
      {GgufBytes().tensor("t", {4000}, f32, floats(4)).bytes(), "truncated: tensor 't'"},
      {GgufBytes().tensor_at("t", {4}, f32, huge * 2 - 32, floats(4)).bytes(), "truncated"},
      {GgufBytes().tensor_at("t", {4}, f32, huge * 2, floats(4)).bytes(), "impossible offset"},
      {GgufBytes().tensor_at("t", {4}, f32, 4, floats(12)).bytes(), "not aligned"},
      {GgufBytes()
           .tensor_at("t", {16}, f32, 0, floats(16))
           .tensor_at("u", {4}, f32, 32, floats(4))
           .bytes(),
       "'t' and 'u' overlap"},
      {GgufBytes().tensor("two\nlines", {0}, f32, "").bytes(), "'two?lines'"},
  };
  const TemporaryFolder folder;
  for (const Bad& file : bad) {
    const auto path = folder.write("a.gguf", file.bytes);
    EXPECT_THAT([&] { read_gguf_header(path); },
                ThrowsMessage<UserError>(AllOf(HasSubstr(path.string()), HasSubstr(file.message))));
  }
}

TEST(Gguf, ModelsThatCannotRunAreTheUsersError) {
  const TemporaryFolder folder;
  const auto describing = [&](const GgufBytes& file) {
    return [&folder, bytes = file.bytes()] {
      describe_model({folder.path(), folder.write("a.gguf", bytes)});
    };
  };
  const auto named = [](const char* architecture) {
    return GgufBytes().text("general.architecture", architecture);
  };
  EXPECT_THAT(describing(GgufBytes()),
              ThrowsMessage<UserError>(HasSubstr("'general.architecture' is missing")));
  EXPECT_THAT(describing(named("mamba")), ThrowsMessage<UserError>(HasSubstr("'mamba'")));
  EXPECT_THAT(describing(named("llama")), ThrowsMessage<UserError>(HasSubstr("token_embd.weight")));
  EXPECT_THAT(describing(named("llama").tensor("token_embd.weight", {8, 4}, f32, floats(32))),
              ThrowsMessage<UserError>(HasSubstr("hidden_size is missing")));
  EXPECT_THAT(describing(named("llama").number("split.count", 3)),
              ThrowsMessage<UserError>(HasSubstr("one of 3 parts")));
  EXPECT_THAT(describing(named("llama").number("llama.expert_count", 8)),
              ThrowsMessage<UserError>(HasSubstr("8 experts")));
}

// A Llama of one layer with one head of 4 and one of everything else.
GgufBytes tiny_llama() {
  return GgufBytes()
      .text("general.architecture", "llama")
      .number("llama.embedding_length", 4)
      .number("llama.feed_forward_length", 4)
      .number("llama.block_count", 1)
      .number("llama.context_length", 64)
      .number("llama.attention.head_count", 1)
      .number("tokenizer.ggml.eos_token_id", 2)
      .number("tokenizer.ggml.eot_token_id", 3)
      .tensor("token_embd.weight", {4, 8}, f32, floats(32));
}

TEST(Gguf, MetadataBecomesTheSameWordsAsAConfig) {
  const TemporaryFolder folder;
  const auto path = folder.write(
      "a.gguf", tiny_llama()
                    .key("llama.rope.freq_base", 6, bytes_of(5e5F))
                    .text("llama.rope.scaling.type", "linear")
                    .key("llama.rope.scaling.factor", 6, bytes_of(4.0F))
                    .tensor("rope_freqs.weight", {2}, f32, bytes_of(std::vector<float>{1, 8}))
                    .bytes());
  const ModelSpec spec = describe_model({folder.path(), path}).spec;
  EXPECT_EQ(spec.vocab_size, 8);
  EXPECT_EQ(spec.max_position_embeddings, 64);
  EXPECT_TRUE(spec.tied_embeddings);
  EXPECT_THAT(spec.eos_token_ids, ElementsAre(2, 3));
  EXPECT_EQ(spec.rotary.theta, 5e5);
  EXPECT_EQ(spec.rotary.scaling, RopeScaling::linear);
  EXPECT_EQ(spec.rotary.factor, 4.0);
  EXPECT_THAT(spec.rotary.frequency_factors, ElementsAre(1, 8));
  EXPECT_EQ(spec.dtype, DType::f32);
}

TEST(Gguf, LlamasQueryAndKeyRowsAreMarkedAsInterleaved) {
  const TemporaryFolder folder;
  const auto path = folder.write("a.gguf", tiny_llama().bytes());
  for (const TensorSpec& tensor : describe_model({folder.path(), path}).tensors) {
    const bool rotates = tensor.role == WeightRole::q || tensor.role == WeightRole::k;
    EXPECT_EQ(tensor.interleaved_head_dim, rotates ? 4 : 0) << tensor.name;
  }
}

TEST(Gguf, TheTokenizersKeysAreHandedOn) {
  const TemporaryFolder folder;
  const std::string tokens = bytes_of(std::uint32_t{8}) + bytes_of(std::uint64_t{2}) +
                             GgufBytes::string("a") + GgufBytes::string("b");
  const std::string types = bytes_of(std::uint32_t{5}) + bytes_of(std::uint64_t{2}) +
                            bytes_of(std::vector<std::int32_t>{1, 3});
  const auto path = folder.write("a.gguf", GgufBytes()
                                               .text("tokenizer.ggml.model", "gpt2")
                                               .text("tokenizer.ggml.pre", "smollm")
                                               .key("tokenizer.ggml.tokens", 9, tokens)
                                               .key("tokenizer.ggml.token_type", 9, types)
                                               .number("tokenizer.ggml.eos_token_id", 1)
                                               .key("tokenizer.ggml.add_bos_token", 7, "\1")
                                               .bytes());
  const GgufTokenizerData data = read_gguf_tokenizer(read_gguf_header(path));
  EXPECT_EQ(data.model, "gpt2");
  EXPECT_EQ(data.pre, "smollm");
  EXPECT_THAT(data.tokens, ElementsAre("a", "b"));
  EXPECT_THAT(data.token_types, ElementsAre(1, 3));
  EXPECT_EQ(data.eos_id, 1);
  EXPECT_EQ(data.bos_id, std::nullopt);
  EXPECT_EQ(data.add_bos, true);
  EXPECT_THAT([&] { read_gguf_tokenizer(GgufHeader{}); },
              ThrowsMessage<UserError>(HasSubstr("tokenizer.ggml.model")));
}

}  // namespace
}  // namespace millrace
