#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/model/registry.hpp"
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

}  // namespace
}  // namespace millrace
