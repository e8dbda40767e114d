#include "core/model/rope_table.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/model/rope_config.hpp"

namespace millrace {
namespace {

TEST(RopeTable, EqualsTransformersForEveryKindOfScaling) {
  const auto reference =
      nlohmann::json::parse(std::ifstream(MILLRACE_TEST_DATA "/rope_reference.json"));
  ASSERT_EQ(reference["cases"].size(), 10U);
  for (const auto& entry : reference["cases"]) {
    SCOPED_TRACE(entry["name"].get<std::string>());
    const Config config("config.json", entry["config"]);
    const auto positions = entry["positions"].get<std::vector<std::int64_t>>();
    const int head_dim = entry["head_dim"];
    const RotarySpec rotary =
        read_rotary(config, head_dim, entry["config"]["max_position_embeddings"]);
    const std::vector<float> table = rope_table(rotary, positions.back() + 1);
    const std::size_t half = static_cast<std::size_t>(head_dim) / 2;
    for (std::size_t p = 0; p < positions.size(); ++p) {
      const float* row = table.data() + static_cast<std::size_t>(positions[p]) * 2 * half;
      // An f32 frequency that differs in its last bit turns by 1e-7 of the angle.
      const double tolerance = 1e-6 + 2e-7 * static_cast<double>(positions[p]);
      for (std::size_t i = 0; i < half; ++i) {
        EXPECT_NEAR(row[i], entry["cos"][p][i].get<double>(), tolerance) << positions[p];
        EXPECT_NEAR(row[half + i], entry["sin"][p][i].get<double>(), tolerance) << positions[p];
      }
    }
  }
}

TEST(RopeTable, FrequencyFactorsDivide) {
  RotarySpec rotary;
  rotary.rotary_dim = 4;
  rotary.frequency_factors = {2.0F, 8.0F};
  const std::vector<float> table = rope_table(rotary, 3);
  EXPECT_FLOAT_EQ(table[2 * 4 + 0], std::cos(2.0F * 1.0F / 2.0F));
  EXPECT_FLOAT_EQ(table[2 * 4 + 3], std::sin(2.0F * 0.01F / 8.0F));
}

TEST(RopeTable, DynamicRowsDoNotDependOnTheLengthWithinTheTrainedOne) {
  RotarySpec rotary;
  rotary.rotary_dim = 8;
  rotary.scaling = RopeScaling::dynamic;
  rotary.factor = 4.0;
  rotary.original_max_positions = 64;
  const std::vector<float> shorter = rope_table(rotary, 10);
  const std::vector<float> longer = rope_table(rotary, 64);
  EXPECT_TRUE(std::equal(shorter.begin(), shorter.end(), longer.begin()));
}

}  // namespace
}  // namespace millrace
