// What is read of a host, from a made-up /sys and from this one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "core/cluster/rank_facts.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
namespace fs = std::filesystem;

struct Root {
  fs::path path = fs::path(testing::TempDir()) / "root";
  Root() { fs::remove_all(path); }
  ~Root() { fs::remove_all(path); }
  void write(const std::string& name, const std::string& text) const {
    fs::create_directories((path / name).parent_path());
    std::ofstream(path / name) << text;
  }
  void port(const std::string& device, const std::string& state) const {
    const std::string folder = "sys/class/infiniband/" + device + "/ports/1/";
    write(folder + "state", state);
    write(folder + "rate", "400 Gb/sec (4X NDR)\n");
    write(folder + "link_layer", "InfiniBand\n");
  }
};

TEST(NetworkFacts, ActivePortsAndThoseThatAreDown) {
  const Root root;
  root.port("mlx5_1", "1: DOWN\n");
  root.port("mlx5_0", "4: ACTIVE\n");
  root.write("sys/module/nvidia_peermem/version", "580\n");
  RankFacts facts;
  read_network_facts(facts, root.path);
  EXPECT_THAT(facts.active_ports, ElementsAre("mlx5_0 InfiniBand 400 Gb/sec (4X NDR)"));
  EXPECT_THAT(facts.inactive_ports, ElementsAre("mlx5_1 InfiniBand 400 Gb/sec (4X NDR)"));
  EXPECT_TRUE(facts.has_peer_memory);
}

TEST(NetworkFacts, AHostWithoutAnyHasNone) {
  const Root root;
  RankFacts facts;
  read_network_facts(facts, root.path);
  EXPECT_THAT(facts.active_ports, IsEmpty());
  EXPECT_THAT(facts.inactive_ports, IsEmpty());
  EXPECT_FALSE(facts.has_peer_memory);
}

TEST(ModelFacts, ChangeWithAnyByteOfASmallFileAndWithTheSizeOfALargeOne) {
  const Root root;
  root.write("config.json", "{\"a\": 1}");
  root.write("model.safetensors", std::string(300'000, 'x'));
  root.write("README.md", "not read");
  const ModelFiles files{root.path, {}};
  const auto before = model_facts(files);
  EXPECT_EQ(before.size(), 2U);
  root.write("README.md", "changed");
  EXPECT_EQ(model_facts(files), before);
  root.write("config.json", "{\"a\": 2}");
  EXPECT_NE(model_facts(files).at("config.json"), before.at("config.json"));
  root.write("model.safetensors", std::string(299'999, 'x') + "y");
  EXPECT_NE(model_facts(files).at("model.safetensors"), before.at("model.safetensors"));
  EXPECT_THAT(before.at("model.safetensors"), ::testing::StartsWith("300,000 bytes, checksum "));
}

TEST(ModelFacts, AnEmptyFileIsAFileToo) {
  const Root root;
  root.write("config.json", "");
  EXPECT_THAT(model_facts({root.path, {}}).at("config.json"), ::testing::StartsWith("0 bytes"));
}

TEST(CollectedFacts, SurviveTheJourneyToRankZero) {
  const Comm alone;
  RankFacts mine = collect_facts(Device::cpu());
  EXPECT_FALSE(mine.host.empty());
  EXPECT_FALSE(mine.cores.empty());
  EXPECT_GT(mine.free_memory_bytes, 0);
  mine.model = {{"a", "b"}};
  mine.device = Device::cuda(3);
  const std::vector<RankFacts> all = gather_facts(alone, mine);
  // A communicator of one rank gathers its own.
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all[0].host, mine.host);
  EXPECT_EQ(all[0].build, mine.build);
  EXPECT_EQ(all[0].model, mine.model);
  EXPECT_EQ(all[0].cores, mine.cores);
  EXPECT_EQ(all[0].device, mine.device);
  EXPECT_EQ(all[0].shm_free_bytes, mine.shm_free_bytes);
}

TEST(RangesText, JoinsNeighbours) {
  EXPECT_EQ(ranges_text({}), "");
  EXPECT_EQ(ranges_text({3}), "3");
  EXPECT_EQ(ranges_text({0, 1, 2, 8, 10, 11}), "0-2,8,10-11");
}

}  // namespace
}  // namespace millrace
