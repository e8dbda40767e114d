// From facts to findings: who is named, how bad it is, and that healthy clusters give none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/cluster/findings.hpp"

namespace millrace {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Ranks of CPU hosts n0, n0, n1, n1, ...: all alike and healthy.
std::vector<RankFacts> cpu_ranks(int hosts, int per_host = 2) {
  std::vector<RankFacts> ranks;
  for (int host = 0; host < hosts; ++host) {
    for (int i = 0; i < per_host; ++i) {
      RankFacts& rank = ranks.emplace_back();
      rank.host = "n" + std::to_string(host);
      rank.version = "1.0";
      rank.build = "0123456789abcdef";
      rank.mpi = "Open MPI v4.1.4";
      rank.gpu.name = "cpu";
      rank.cores = {0, 1, 2, 3};
      rank.host_cores = 4;
      rank.shm_bytes = rank.shm_free_bytes = std::int64_t{8} << 30;
      rank.memlock_bytes = -1;
      rank.model = {{"config.json", "10 bytes"}, {"model.safetensors", "99 bytes"}};
    }
  }
  return ranks;
}

std::vector<RankFacts> gpu_ranks(int hosts, int per_host = 2) {
  std::vector<RankFacts> ranks = cpu_ranks(hosts, per_host);
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    RankFacts& rank = ranks[i];
    rank.device = Device::cuda(static_cast<int>(i) % per_host);
    rank.gpu.name = "NVIDIA H100";
    rank.gpu.uuid = "GPU-" + std::to_string(i);
    rank.gpu.compute_capability = 90;
    rank.gpu.memory_bytes = rank.gpu.free_bytes = std::int64_t{80} << 30;
    rank.driver = "580.1";
    rank.nccl = "2.28.3";
    rank.active_ports = {"mlx5_0 InfiniBand 400 Gb/sec (4X NDR)"};
    rank.has_peer_memory = true;
  }
  return ranks;
}

auto warns(const std::string& what) {
  return AllOf(Field(&Finding::severity, Severity::warning), Field(&Finding::what, HasSubstr(what)),
               Field(&Finding::remedy, ::testing::Not(IsEmpty())));
}
auto fails(const std::string& what) {
  return AllOf(Field(&Finding::severity, Severity::failure), Field(&Finding::what, HasSubstr(what)),
               Field(&Finding::remedy, ::testing::Not(IsEmpty())));
}

GridLink link(const std::string& communicator, int from, int to, bool across,
              const std::string& way) {
  return {communicator,
          {from, to, across, link_kind(way), way},
          "n" + std::to_string(from / 2),
          "n" + std::to_string(to / 2)};
}

TEST(CompareRanks, AHealthyClusterHasNoFindings) {
  EXPECT_THAT(compare_ranks(cpu_ranks(4)), IsEmpty());
  EXPECT_THAT(judge_hosts(cpu_ranks(4)), IsEmpty());
  EXPECT_THAT(compare_ranks(gpu_ranks(4)), IsEmpty());
  EXPECT_THAT(judge_hosts(gpu_ranks(4)), IsEmpty());
}

TEST(CompareRanks, AnotherDriverIsNamedByHostTheCommonestFirst) {
  auto ranks = gpu_ranks(3);
  ranks[4].driver = ranks[5].driver = "570.2";
  EXPECT_THAT(compare_ranks(ranks),
              ElementsAre(warns("the NVIDIA drivers differ: 580.1 on n0, n1; 570.2 on n2")));
}

TEST(CompareRanks, AnotherProgramCannotWork) {
  auto ranks = cpu_ranks(2);
  ranks[2].build = ranks[3].build = "ffff456789abcdef";
  EXPECT_THAT(compare_ranks(ranks), ElementsAre(fails("0123456789ab on n0; ffff456789ab on n1")));
  ranks = cpu_ranks(2);
  ranks[0].version = "0.9";
  EXPECT_THAT(compare_ranks(ranks), ElementsAre(fails("1.0 on n0, n1; 0.9 on n0")));
}

TEST(CompareRanks, AnotherModelIsNamedByFileAndHost) {
  auto ranks = cpu_ranks(3);
  ranks[4].model["model.safetensors"] = ranks[5].model["model.safetensors"] = "98 bytes";
  EXPECT_THAT(
      compare_ranks(ranks),
      ElementsAre(
          fails("--model is not the same: model.safetensors: 99 bytes on n0, n1; 98 bytes on n2")));
  ranks = cpu_ranks(2);
  ranks[2].model.erase("config.json");
  ranks[3].model.erase("config.json");
  EXPECT_THAT(compare_ranks(ranks), ElementsAre(fails("config.json: 10 bytes on n0; none on n1")));
}

TEST(CompareRanks, MixedOrMissingOrOldGpusCannotWork) {
  auto ranks = gpu_ranks(2);
  ranks[3].gpu.name = "NVIDIA A100";
  EXPECT_THAT(compare_ranks(ranks), ElementsAre(fails("NVIDIA H100 on n0, n1; NVIDIA A100 on n1")));
  ranks = gpu_ranks(2);
  ranks[3].device = Device::cpu();
  EXPECT_THAT(compare_ranks(ranks), ElementsAre(fails("a GPU on n0, n1; none on n1")));
  ranks = gpu_ranks(1, 1);
  ranks[0].gpu.compute_capability = 75;
  EXPECT_THAT(compare_ranks(ranks), ElementsAre(fails("cuda:0 of host n0 (NVIDIA H100) has compute "
                                                      "capability 7.5")));
}

TEST(CompareRanks, FilesThatOneHostDoesNotSeeCannotWork) {
  auto ranks = cpu_ranks(2);
  for (RankFacts& rank : ranks) rank.prompts = "7 bytes";
  ranks[3].prompts = "unreadable";
  EXPECT_THAT(compare_ranks(ranks), ElementsAre(fails("7 bytes on n0, n1; unreadable on n1")));
}

TEST(Difference, NamesFewHostsAndCountsTheRest) {
  auto ranks = cpu_ranks(20, 1);
  ranks[7].mpi = "Open MPI v5";
  EXPECT_EQ(difference(ranks, [](const RankFacts& rank) { return rank.mpi; }),
            "Open MPI v4.1.4 on n0, n1, n2 and 16 others; Open MPI v5 on n7");
}

TEST(JudgeHosts, ASmallShmMattersWhereRanksShareIt) {
  auto ranks = cpu_ranks(2);
  ranks[2].shm_bytes = ranks[2].shm_free_bytes = 64 << 20;
  EXPECT_THAT(judge_hosts(ranks),
              ElementsAre(warns("/dev/shm has 64.0 MiB free of 64.0 MiB on n1")));
  auto alone = cpu_ranks(2, 1);
  alone[0].shm_free_bytes = 0;
  EXPECT_THAT(judge_hosts(alone), IsEmpty());
}

TEST(JudgeHosts, LockedMemoryMattersWithInfiniBandAlone) {
  auto ranks = gpu_ranks(2);
  ranks[0].memlock_bytes = ranks[1].memlock_bytes = 8 << 20;
  EXPECT_THAT(judge_hosts(ranks), ElementsAre(warns("locked memory is low for InfiniBand on n0")));
  for (RankFacts& rank : ranks) rank.active_ports.clear();
  EXPECT_THAT(judge_hosts(ranks), IsEmpty());
}

TEST(JudgeHosts, APortThatIsDownIsNamed) {
  auto ranks = gpu_ranks(2);
  ranks[2].inactive_ports = ranks[3].inactive_ports = ranks[2].active_ports;
  ranks[2].active_ports.clear();
  ranks[3].active_ports.clear();
  EXPECT_THAT(judge_hosts(ranks),
              ElementsAre(warns("mlx5_0 InfiniBand 400 Gb/sec (4X NDR) is down on n1"),
                          warns("1 active ports on n0; 0 active ports on n1")));
}

TEST(JudgeHosts, AGpuInUseOrSharedIsNamed) {
  auto ranks = gpu_ranks(1);
  ranks[1].gpu.free_bytes = std::int64_t{40} << 30;
  EXPECT_THAT(judge_hosts(ranks),
              ElementsAre(warns("cuda:1 of host n0 has only 40.0 GiB of 80.0 GiB free")));
  ranks = gpu_ranks(1);
  ranks[1].gpu.uuid = ranks[0].gpu.uuid;
  EXPECT_THAT(judge_hosts(ranks), ElementsAre(fails("2 ranks of host n0 share GPU-0")));
}

TEST(JudgeHosts, RanksBoundToTooFewCoresAreNamed) {
  auto ranks = cpu_ranks(1, 4);
  for (RankFacts& rank : ranks) rank.cores = {0, 1};
  EXPECT_THAT(judge_hosts(ranks), ElementsAre(warns("the 4 ranks of host n0 have 2 cores (0-1)")));
}

TEST(JudgeHosts, AnMpirunThatWaitsLongForALostHostIsNamedWhereThereAreSeveral) {
  auto ranks = cpu_ranks(2);
  for (RankFacts& rank : ranks) rank.lost_host_seconds = 15;
  EXPECT_THAT(judge_hosts(ranks), IsEmpty());
  for (RankFacts& rank : ranks) rank.lost_host_seconds = 480;
  EXPECT_THAT(judge_hosts(ranks),
              ElementsAre(warns("mpirun waits for up to a quarter of an hour")));
  auto alone = cpu_ranks(1);
  for (RankFacts& rank : alone) rank.lost_host_seconds = 480;
  EXPECT_THAT(judge_hosts(alone), IsEmpty());
}

TEST(JudgeLinks, FastLinksGiveNothing) {
  EXPECT_THAT(judge_links(gpu_ranks(2), {link("tensor", 0, 1, false, "NVLink P2P/CUMEM"),
                                         link("pipeline", 0, 2, true, "NET/IB/0/GDRDMA")}),
              IsEmpty());
  EXPECT_THAT(judge_links(cpu_ranks(1), {link("tensor", 0, 1, false, "shared memory")}), IsEmpty());
}

TEST(JudgeLinks, SocketsBesideInfiniBandHaveAnotherRemedyThanSocketsWithout) {
  const std::vector<GridLink> links = {link("pipeline", 1, 2, true, "NET/Socket/0"),
                                       link("pipeline", 0, 3, true, "NET/Socket/0")};
  auto ranks = gpu_ranks(2);
  auto findings = judge_links(ranks, links);
  EXPECT_THAT(findings, ElementsAre(warns("TCP sockets between hosts: rank 1 on n0 to rank 2 on n1 "
                                          "by NET/Socket/0 and 1 more links")));
  EXPECT_THAT(findings[0].remedy, HasSubstr("NCCL does not use it"));
  for (RankFacts& rank : ranks) rank.active_ports.clear();
  EXPECT_THAT(judge_links(ranks, links)[0].remedy, HasSubstr("show no InfiniBand device"));
}

TEST(JudgeLinks, ANetworkThroughHostMemoryNamesTheMissingModule) {
  const std::vector<GridLink> links = {link("pipeline", 1, 2, true, "NET/IB/0")};
  auto ranks = gpu_ranks(2);
  ranks[2].has_peer_memory = false;
  const auto findings = judge_links(ranks, links);
  EXPECT_THAT(findings, ElementsAre(warns("no GPUDirect RDMA between hosts")));
  EXPECT_THAT(findings[0].remedy, HasSubstr("modprobe nvidia_peermem"));
  EXPECT_THAT(judge_links(gpu_ranks(2), links)[0].remedy, HasSubstr("NCCL_NET_GDR_LEVEL"));
}

TEST(JudgeLinks, TensorGroupsOverHostsOrThroughHostMemoryAreWarnedOf) {
  EXPECT_THAT(judge_links(gpu_ranks(2), {link("tensor", 1, 2, true, "NET/IB/0/GDRDMA")}),
              ElementsAre(warns("tensor ranks sit on several hosts")));
  EXPECT_THAT(judge_links(gpu_ranks(1), {link("tensor", 0, 1, false, "SHM/direct/direct")}),
              ElementsAre(warns("tensor ranks of one host talk through its memory"),
                          warns("GPUs of one host talk through host memory")));
  EXPECT_THAT(judge_links(gpu_ranks(1), {link("pipeline", 0, 1, false, "NET/Socket/0")}),
              ElementsAre(warns("GPUs of one host talk through host memory")));
}

TEST(JudgeLinks, AWayThatNobodyToldIsSaid) {
  EXPECT_THAT(judge_links(gpu_ranks(1), {link("pipeline", 0, 1, false, "")}),
              ElementsAre(warns("an unknown transport")));
}

HostMesh mesh_of(int hosts) {
  HostMesh mesh;
  for (int a = 0; a < hosts; ++a) {
    mesh.hosts.push_back({"n" + std::to_string(a), {a}});
    mesh.clock_seconds.push_back(0.001 * a);
    for (int b = a + 1; b < hosts; ++b) mesh.links.push_back({a, b, 20, 10});
  }
  return mesh;
}

TEST(JudgeMesh, EqualWaysGiveNothing) { EXPECT_THAT(judge_mesh(mesh_of(5)), IsEmpty()); }

TEST(JudgeMesh, AClockThatIsOffIsNamed) {
  HostMesh mesh = mesh_of(2);
  mesh.clock_seconds[1] = -7.25;
  EXPECT_THAT(judge_mesh(mesh),
              ElementsAre(warns("the clock of host n1 is -7.2 s from that of host "
                                "n0")));
}

TEST(JudgeMesh, OneBadHostIsNamedOnceEvenAmongThree) {
  for (const int hosts : {3, 8}) {
    HostMesh mesh = mesh_of(hosts);
    for (Link& each : mesh.links) {
      if (each.from == 1 || each.to == 1) each.gigabytes_per_second = 0.1;
    }
    EXPECT_THAT(judge_mesh(mesh),
                ElementsAre(warns("MPI from and to host n1: 0.10 GB/s, elsewhere 10.00")));
  }
}

TEST(JudgeMesh, OneBadCableIsNamedByItsTwoHosts) {
  HostMesh mesh = mesh_of(4);
  mesh.links[1].latency_microseconds = 900;
  EXPECT_THAT(
      judge_mesh(mesh),
      ElementsAre(warns("MPI between hosts n0 and n2: messages take 900 us, elsewhere 20")));
}

}  // namespace
}  // namespace millrace
