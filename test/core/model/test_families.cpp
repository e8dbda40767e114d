#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <set>

#include "core/model/model_folder.hpp"
#include "core/model/registry.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

ModelDescription describe(const json& config) {
  return describe_config(Config("config.json", config));
}

json llama() {
  return {{"model_type", "llama"},       {"hidden_size", 64},       {"num_attention_heads", 8},
          {"num_key_value_heads", 2},    {"intermediate_size", 96}, {"num_hidden_layers", 2},
          {"vocab_size", 100},           {"rope_theta", 500000.0},  {"torch_dtype", "bfloat16"},
          {"eos_token_id", {7, 9}},      {"rms_norm_eps", 1e-5},    {"bos_token_id", 1},
          {"tie_word_embeddings", false}};
}

json with(json config, const json& changes) {
  config.update(changes);
  return config;
}

std::set<std::string> names_of(const ModelDescription& model) {
  std::set<std::string> names;
  for (const TensorSpec& tensor : model.tensors) names.insert(tensor.name);
  return names;
}

TEST(Families, LlamaReadsTransformersFourAndFiveAlike) {
  const json scaling{{"rope_type", "linear"}, {"factor", 2.0}};
  json old_words = with(llama(), {{"rope_scaling", scaling}});
  json new_words = with(llama(), {{"dtype", "bfloat16"},
                                  {"rope_parameters", with(scaling, {{"rope_theta", 500000.0}})}});
  new_words.erase("rope_theta");
  new_words.erase("torch_dtype");
  for (const json& words : {old_words, new_words}) {
    const ModelSpec spec = describe(words).spec;
    EXPECT_EQ(spec.dtype, DType::bf16);
    EXPECT_EQ(spec.rotary.theta, 500000.0);
    EXPECT_EQ(spec.rotary.scaling, RopeScaling::linear);
    EXPECT_EQ(spec.rotary.factor, 2.0);
    EXPECT_EQ(spec.layers.size(), 2U);
    EXPECT_EQ(spec.layers[0].attention.head_dim, 8);
    EXPECT_EQ(spec.layers[0].attention.kv_heads, 2);
    EXPECT_FLOAT_EQ(spec.layers[0].attention.scale, 1.0F / std::sqrt(8.0F));
    EXPECT_THAT(spec.eos_token_ids, ElementsAre(7, 9));
    EXPECT_EQ(spec.bos_token_id, 1);
  }
}

TEST(Families, LlamaFlagsAddBiasesAndDropTheHead) {
  const ModelDescription plain = describe(llama());
  EXPECT_TRUE(names_of(plain).contains("lm_head.weight"));
  EXPECT_FALSE(names_of(plain).contains("layers.0.self_attn.q_proj.bias"));
  const ModelDescription biased = describe(
      with(llama(), {{"attention_bias", true}, {"mlp_bias", true}, {"tie_word_embeddings", true}}));
  EXPECT_FALSE(names_of(biased).contains("lm_head.weight"));
  for (const char* name : {"layers.1.self_attn.q_proj.bias", "layers.1.self_attn.o_proj.bias",
                           "layers.1.mlp.gate_proj.bias", "layers.1.mlp.down_proj.bias"}) {
    EXPECT_TRUE(names_of(biased).contains(name)) << name;
  }
}

TEST(Families, MistralsWindowDefaultsTo4096AndNullIsNone) {
  const json mistral = with(llama(), {{"model_type", "mistral"}});
  EXPECT_EQ(describe(mistral).spec.layers[1].attention.window, 4096);
  EXPECT_EQ(describe(with(mistral, {{"sliding_window", 7}})).spec.layers[1].attention.window, 7);
  EXPECT_EQ(describe(with(mistral, {{"sliding_window", nullptr}})).spec.layers[1].attention.window,
            0);
}

TEST(Families, QwenLayersSlideOnlyWhenAskedTo) {
  const json qwen =
      with(llama(), {{"model_type", "qwen2"}, {"sliding_window", 5}, {"max_window_layers", 1}});
  EXPECT_EQ(describe(qwen).spec.layers[1].attention.window, 0);
  const ModelSpec spec = describe(with(qwen, {{"use_sliding_window", true}})).spec;
  EXPECT_EQ(spec.layers[0].attention.window, 0);
  EXPECT_EQ(spec.layers[1].attention.window, 5);
  EXPECT_TRUE(spec.layers[0].attention.qkv_bias);
  EXPECT_FALSE(spec.layers[0].attention.o_bias);
  const ModelSpec by_kind =
      describe(with(qwen, {{"use_sliding_window", true},
                           {"layer_types", {"sliding_attention", "full_attention"}}}))
          .spec;
  EXPECT_EQ(by_kind.layers[0].attention.window, 5);
  EXPECT_EQ(by_kind.layers[1].attention.window, 0);
}

TEST(Families, Qwen3NormalisesHeadsOf128UnlessTold) {
  const ModelSpec spec = describe(with(llama(), {{"model_type", "qwen3"}})).spec;
  EXPECT_TRUE(spec.layers[0].attention.qk_norm);
  EXPECT_EQ(spec.layers[0].attention.head_dim, 128);
}

TEST(Families, Gpt2StoresOneFusedTransposedProjection) {
  const ModelDescription model = describe(
      {{"model_type", "gpt2"}, {"n_embd", 24}, {"n_head", 3}, {"n_layer", 1}, {"vocab_size", 50}});
  EXPECT_TRUE(model.spec.tied_embeddings);
  EXPECT_EQ(model.spec.layers[0].mlp.intermediate_size, 96);
  EXPECT_EQ(model.spec.layers[0].mlp.activation, Activation::gelu_tanh);
  EXPECT_FALSE(model.spec.layers[0].mlp.gated);
  for (const TensorSpec& tensor : model.tensors) {
    if (tensor.role != WeightRole::v) continue;
    EXPECT_EQ(tensor.name, "h.0.attn.c_attn.weight");
    EXPECT_TRUE(tensor.transposed);
    EXPECT_EQ(tensor.row_offset, 48);
    EXPECT_EQ(tensor.fused_rows, 72);
  }
}

TEST(Families, OptCountsPositionsFromTwoAndMayNormaliseAfter) {
  const json opt{{"model_type", "opt"},
                 {"hidden_size", 24},
                 {"num_attention_heads", 3},
                 {"ffn_dim", 30},
                 {"num_hidden_layers", 1},
                 {"vocab_size", 50},
                 {"max_position_embeddings", 100},
                 {"word_embed_proj_dim", 16},
                 {"do_layer_norm_before", false}};
  const ModelDescription model = describe(opt);
  EXPECT_EQ(model.spec.position_offset, 2);
  EXPECT_FALSE(model.spec.layers[0].norm_before);
  EXPECT_FALSE(model.spec.final_norm);
  EXPECT_TRUE(model.spec.has_projections());
  EXPECT_TRUE(names_of(model).contains("decoder.project_out.weight"));
  EXPECT_FALSE(names_of(model).contains("decoder.final_layer_norm.weight"));
  EXPECT_TRUE(describe(with(opt, {{"do_layer_norm_before", true}})).spec.final_norm);
}

TEST(Families, AConfigThatMakesNoModelIsTheUsersError) {
  const auto given = [](const json& changes) { return [=] { describe(with(llama(), changes)); }; };
  const auto says = [](const char* field, const char* value) {
    return ThrowsMessage<UserError>(
        AllOf(HasSubstr("config.json"), HasSubstr(field), HasSubstr(value)));
  };
  EXPECT_THAT(given({{"model_type", "mamba"}}), says("model_type", "mamba"));
  EXPECT_THAT(given({{"hidden_size", nullptr}}), says("hidden_size", "missing"));
  EXPECT_THAT(given({{"hidden_size", 0}}), says("hidden_size", "is 0"));
  EXPECT_THAT(given({{"vocab_size", 1e300}}), says("vocab_size", "1e+300"));
  EXPECT_THAT(given({{"num_hidden_layers", -3}}), says("num_hidden_layers", "-3"));
  EXPECT_THAT(given({{"num_attention_heads", "8"}}), says("num_attention_heads", "a number"));
  EXPECT_THAT(given({{"num_key_value_heads", 3}}), says("num_key_value_heads", "divide"));
  EXPECT_THAT(given({{"hidden_act", "mish"}}), says("hidden_act", "mish"));
  EXPECT_THAT(given({{"torch_dtype", "float8"}}), says("torch_dtype", "float8"));
  EXPECT_THAT(given({{"rope_scaling", {{"type", "longrope"}}}}), says("rope_scaling", "longrope"));
  EXPECT_THAT(given({{"rope_scaling", {{"type", "linear"}}}}), says("factor", "missing"));
  EXPECT_THAT(given({{"rope_scaling", {{"type", "linear"}, {"factor", -1}}}}),
              says("factor", "-1"));
  EXPECT_THAT(given({{"eos_token_id", "x"}}), says("eos_token_id", "token id"));
  EXPECT_THAT(given({{"head_dim", 7}}), says("rotary", "7"));
  EXPECT_THAT(given({{"quantization_config", {{"quant_method", "awq"}}}}),
              says("quantization_config", "awq"));
}

TEST(Families, EveryFixtureIsDescribedAsItsTensorsSay) {
  for (const char* name : {"gpt2", "llama-dynamic", "llama-yarn", "mistral-window", "opt-post",
                           "opt-pre", "qwen2", "qwen3", "llama-gguf"}) {
    SCOPED_TRACE(name);
    const ModelDescription model =
        describe_model(find_model(MILLRACE_TEST_DATA "/models/" + std::string(name)));
    EXPECT_THAT(model.spec.eos_token_ids, ElementsAre(2));
    EXPECT_EQ(model.spec.vocab_size, 387);
  }
}

}  // namespace
}  // namespace millrace
