// Which matrices a config's quantization_config makes fp8, and the schemes that are refused.
#include "core/model/quantization.hpp"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "core/model/registry.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

ModelDescription describe(const json& quantization, const char* type = "llama") {
  json config{{"model_type", type},           {"hidden_size", 64}, {"num_attention_heads", 4},
              {"num_hidden_layers", 12},      {"vocab_size", 100}, {"intermediate_size", 128},
              {"max_position_embeddings", 32}};
  if (type == std::string("gpt2")) {
    config = {
        {"model_type", type}, {"n_embd", 64}, {"n_head", 4}, {"n_layer", 1}, {"vocab_size", 100}};
  }
  if (!quantization.is_null()) config["quantization_config"] = quantization;
  return describe_config(Config("config.json", config));
}

const TensorSpec& tensor(const ModelDescription& model, const std::string& name) {
  const auto at = std::find_if(model.tensors.begin(), model.tensors.end(),
                               [&](const TensorSpec& t) { return t.name == name; });
  EXPECT_NE(at, model.tensors.end()) << name;
  return *at;
}

json compressed(const char* weights, const char* inputs, bool dynamic) {
  return {{"quant_method", "compressed-tensors"},
          {"format", "float-quantized"},
          {"config_groups",
           {{"group_0",
             {{"targets", {"Linear"}},
              {"weights",
               {{"num_bits", 8}, {"type", "float"}, {"symmetric", true}, {"strategy", weights}}},
              {"input_activations",
               {{"num_bits", 8},
                {"type", "float"},
                {"symmetric", true},
                {"dynamic", dynamic},
                {"strategy", inputs}}}}}}},
          {"ignore", {"lm_head"}}};
}

TEST(Quantization, CompressedTensorsByChannelOrTensorHaveScalesBesideTheWeight) {
  const ModelDescription dynamic = describe(compressed("channel", "token", true));
  const TensorSpec& up = tensor(dynamic, "layers.1.mlp.up_proj.weight");
  EXPECT_EQ(up.fp8, Fp8Source::channels);
  EXPECT_EQ(up.scale_name, "layers.1.mlp.up_proj.weight_scale");
  EXPECT_EQ(up.input_scale_name, "");
  EXPECT_EQ(tensor(dynamic, "lm_head.weight").fp8, Fp8Source::none);
  EXPECT_EQ(tensor(dynamic, "embed_tokens.weight").fp8, Fp8Source::none);
  EXPECT_EQ(tensor(dynamic, "layers.1.input_layernorm.weight").fp8, Fp8Source::none);
  EXPECT_EQ(dynamic.spec.weight_scaling, Fp8Scaling::rows);
  EXPECT_EQ(dynamic.spec.granule, 1);
  const ModelDescription fixed = describe(compressed("tensor", "tensor", false));
  EXPECT_EQ(tensor(fixed, "layers.0.self_attn.k_proj.weight").input_scale_name,
            "layers.0.self_attn.k_proj.input_scale");
}

// They say how keys and values fit into a cache of fp8; the weights are what they are.
TEST(Quantization, ScalesOfTheCacheChangeNothing) {
  json config = compressed("tensor", "tensor", false);
  config["kv_cache_scheme"] = {
      {"num_bits", 8}, {"type", "float"}, {"symmetric", true}, {"strategy", "tensor"}};
  EXPECT_EQ(tensor(describe(config), "layers.0.self_attn.k_proj.weight").fp8, Fp8Source::channels);
}

TEST(Quantization, BlocksAreCutAtWholeBlocks) {
  const ModelDescription deepseek = describe({{"quant_method", "fp8"},
                                              {"activation_scheme", "dynamic"},
                                              {"weight_block_size", {128, 128}}});
  EXPECT_EQ(deepseek.spec.granule, 128);
  EXPECT_EQ(deepseek.spec.weight_scaling, Fp8Scaling::blocks);
  EXPECT_EQ(tensor(deepseek, "layers.0.self_attn.o_proj.weight").scale_name,
            "layers.0.self_attn.o_proj.weight_scale_inv");
  json blocks = compressed("block", "group", true);
  json& group = blocks["config_groups"]["group_0"];
  group["weights"]["block_structure"] = {128, 128};
  group["input_activations"]["group_size"] = 128;
  const ModelDescription model = describe(blocks);
  EXPECT_EQ(tensor(model, "layers.0.mlp.gate_proj.weight").fp8, Fp8Source::blocks);
  EXPECT_EQ(tensor(model, "layers.0.mlp.gate_proj.weight").scale_name,
            "layers.0.mlp.gate_proj.weight_scale");
}

TEST(Quantization, IgnoredModulesAreNamedWholeOrByALastPartOrByAnExpression) {
  json config = compressed("channel", "token", true);
  config["ignore"] = {"lm_head", "model.layers.1.mlp.down_proj", "re:.*layers\\.2\\..*_proj",
                      "k_proj", "layers.3"};
  const ModelDescription model = describe(config);
  const auto is_fp8 = [&](const char* name) {
    return tensor(model, name).fp8 == Fp8Source::channels;
  };
  EXPECT_FALSE(is_fp8("layers.1.mlp.down_proj.weight"));
  EXPECT_TRUE(is_fp8("layers.11.mlp.down_proj.weight"));
  EXPECT_FALSE(is_fp8("layers.2.mlp.up_proj.weight"));
  EXPECT_FALSE(is_fp8("layers.5.self_attn.k_proj.weight"));
  EXPECT_TRUE(is_fp8("layers.5.self_attn.q_proj.weight"));
  EXPECT_FALSE(is_fp8("layers.3.self_attn.q_proj.weight"));
}

TEST(Quantization, AtLoadTheLayersMatricesBecomeFp8AndAnFp8CheckpointStaysAsItIs) {
  ModelDescription plain = describe(nullptr);
  quantize_at_load(plain);
  EXPECT_EQ(tensor(plain, "layers.0.self_attn.q_proj.weight").fp8, Fp8Source::at_load);
  EXPECT_EQ(tensor(plain, "lm_head.weight").fp8, Fp8Source::none);
  EXPECT_EQ(plain.spec.weight_scaling, Fp8Scaling::rows);
  ModelDescription stored = describe(compressed("channel", "token", true));
  quantize_at_load(stored);
  EXPECT_EQ(tensor(stored, "layers.0.self_attn.q_proj.weight").fp8, Fp8Source::channels);
}

TEST(Quantization, ASchemeThatIsNotSupportedIsNamed) {
  const auto given = [](const json& quantization, const char* type = "llama") {
    return [=] { describe(quantization, type); };
  };
  const auto says = [](const char* field, const char* value) {
    return ThrowsMessage<UserError>(
        AllOf(HasSubstr("config.json"), HasSubstr(field), HasSubstr(value)));
  };
  const auto changed = [](const char* side, const json& changes) {
    json config = compressed("channel", "token", true);
    config["config_groups"]["group_0"][side].update(changes);
    return config;
  };
  EXPECT_THAT(given({{"quant_method", "gptq"}}), says("quantization_config", "gptq"));
  json packed = compressed("channel", "token", true);
  packed["format"] = "pack-quantized";
  EXPECT_THAT(given(packed), says("format", "pack-quantized"));
  EXPECT_THAT(given(changed("weights", {{"num_bits", 4}})), says("num_bits", "is 4"));
  EXPECT_THAT(given(changed("weights", {{"type", "int"}})), says("type", "int"));
  EXPECT_THAT(given(changed("weights", {{"strategy", "group"}})), says("strategy", "group"));
  EXPECT_THAT(given(changed("input_activations", {{"dynamic", false}})), says("strategy", "token"));
  json weights_only = compressed("channel", "token", true);
  weights_only["config_groups"]["group_0"]["input_activations"] = nullptr;
  EXPECT_THAT(given(weights_only), says("input_activations", "weights alone"));
  EXPECT_THAT(given({{"quant_method", "fp8"}, {"weight_block_size", {64, 128}}}),
              says("weight_block_size", "64"));
  EXPECT_THAT(given({{"quant_method", "fp8"}, {"fmt", "e5m2"}}), says("fmt", "e5m2"));
  json bad = compressed("channel", "token", true);
  bad["ignore"] = {"re:("};
  EXPECT_THAT(given(bad), says("ignore", "regular expression"));
  EXPECT_THAT(given({{"quant_method", "fp8"}}, "gpt2"), says("quant_method", "family"));
}

}  // namespace
}  // namespace millrace
