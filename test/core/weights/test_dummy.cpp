#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/model/model_folder.hpp"
#include "core/model/registry.hpp"
#include "core/weights/loader.hpp"
#include "samples.hpp"

namespace millrace {
namespace {

using test::read_values;

ModelDescription model() {
  return describe_config(Config("config.json", nlohmann::json{{"model_type", "llama"},
                                                              {"hidden_size", 64},
                                                              {"num_attention_heads", 8},
                                                              {"intermediate_size", 96},
                                                              {"num_hidden_layers", 2},
                                                              {"vocab_size", 1000}}));
}

TEST(DummyWeights, ARectangleIsThatPartOfTheWholeTensor) {
  const auto checkpoint = make_dummy_checkpoint(model(), 1);
  const std::string name = "layers.1.mlp.up_proj.weight";
  const auto whole = read_values(*checkpoint, name, {0, 96}, {0, 64});
  const auto part = read_values(*checkpoint, name, {17, 5}, {3, 10});
  for (std::size_t row = 0; row < 5; ++row) {
    for (std::size_t column = 0; column < 10; ++column) {
      EXPECT_EQ(part[row * 10 + column], whole[(17 + row) * 64 + 3 + column]);
    }
  }
}

TEST(DummyWeights, SeedNameAndIndexDecide) {
  const auto read = [](std::uint64_t seed, const std::string& name) {
    return read_values(*make_dummy_checkpoint(model(), seed), name, {0, 64}, {0, 64});
  };
  const auto values = read(1, "layers.0.self_attn.q_proj.weight");
  EXPECT_EQ(values, read(1, "layers.0.self_attn.q_proj.weight"));
  EXPECT_NE(values, read(2, "layers.0.self_attn.q_proj.weight"));
  EXPECT_NE(values, read(1, "layers.1.self_attn.q_proj.weight"));
}

TEST(DummyWeights, MatricesKeepActivationsOfOrderOneAndNormsAreOne) {
  const auto checkpoint = make_dummy_checkpoint(model(), 1);
  const auto values = read_values(*checkpoint, "embed_tokens.weight", {0, 1000}, {0, 64});
  double sum = 0;
  double squares = 0;
  for (const float value : values) {
    sum += value;
    squares += static_cast<double>(value) * static_cast<double>(value);
  }
  const auto count = static_cast<double>(values.size());
  EXPECT_NEAR(sum / count, 0.0, 0.002);
  EXPECT_NEAR(squares / count * 64, 1.0, 0.02);
  EXPECT_THAT(read_values(*checkpoint, "norm.weight", {0, 64}, {0, 1}), ::testing::Each(1.0F));
}

// In fp8's whole range, with the scale that brings it back.
TEST(DummyWeights, AreMadeUpOfFp8CheckpointsToo) {
  for (const char* name : {"llama-fp8-block", "llama-fp8-channel", "llama-fp8-static"}) {
    SCOPED_TRACE(name);
    const ModelDescription fp8 =
        describe_model(find_model(std::string(MILLRACE_TEST_DATA "/models/") + name));
    const auto checkpoint = make_dummy_checkpoint(fp8, 1);
    const RankWeights weights =
        load_weights(fp8, *checkpoint, partition(fp8.spec, {1, 1, 1}, {0, 0, 0}),
                     {.dtype = DType::f32, .device = {}, .max_positions = 8}, {});
    const LinearWeight& down = weights.layers.at(0).down;
    ASSERT_EQ(down.dtype(), DType::fp8_e4m3);
    const auto* scales = down.scales->as<float>();
    const float scale = std::sqrt(3.0F / static_cast<float>(down.k)) / 448;
    EXPECT_THAT(std::vector<float>(scales, scales + down.scales->numel()), ::testing::Each(scale));
    EXPECT_EQ(down.input_scale, name == std::string("llama-fp8-static") ? 16.0F / 448 : 0);
  }
}

}  // namespace
}  // namespace millrace
