// Which device each rank takes, and what is said of GPUs that no machine here has: too few, too
// old, unequal. On several ranks, as one of them may be alone with the mistake.
#include "core/job/device_choice.hpp"

#include <gmock/gmock.h>

#include "comm/agree.hpp"
#include "comm/environment.hpp"
#include "comm/hosts.hpp"
#include "core/job/start_check.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

const Comm& world() {
  static const Environment environment;
  return environment.world();
}

DeviceFacts gpu(const std::string& name, int number) {
  DeviceFacts facts;
  facts.name = name;
  facts.uuid = "GPU-" + std::to_string(number);
  facts.compute_capability = 90;
  return facts;
}

struct PretendedGpus : GpuView {
  bool built = true;
  int number = 0;
  std::string in_the_way;
  bool has_code = true;
  DeviceFacts each = gpu("NVIDIA H100", 0);

  bool cuda_is_built() const override { return built; }
  int count() const override { return number; }
  std::string obstacle() const override { return in_the_way; }
  DeviceFacts facts(Device) const override { return each; }
  bool has_code_for(Device) const override { return has_code; }
};

// What all ranks throw.
template <typename Message>
void expect_refused(DeviceChoice choice, const PretendedGpus& gpus, const Message& message) {
  EXPECT_THAT([&] { agree(world(), [&] { choose_device(choice, world(), gpus); }); },
              ThrowsMessage<UserError>(message));
}

TEST(DeviceChoice, EachRankTakesAGpuOfItsOwn) {
  PretendedGpus gpus;
  gpus.number = world().size() + 1;
  EXPECT_EQ(choose_device(DeviceChoice::automatic, world(), gpus), Device::cuda(world().rank()));
  EXPECT_EQ(choose_device(DeviceChoice::cpu, world(), gpus), Device::cpu());
  gpus.number = 1;  // of which each rank sees another
  gpus.each.uuid = "GPU-" + std::to_string(world().rank());
  EXPECT_EQ(choose_device(DeviceChoice::cuda, world(), gpus), Device::cuda(0));
}

TEST(DeviceChoice, AHostWithoutGpusRunsOnCpusUnlessCudaIsAskedFor) {
  PretendedGpus gpus;
  EXPECT_EQ(choose_device(DeviceChoice::automatic, world(), gpus), Device::cpu());
  expect_refused(DeviceChoice::cuda, gpus, HasSubstr("has no GPU for 'cuda'"));
  gpus.built = false;
  EXPECT_EQ(choose_device(DeviceChoice::automatic, world(), gpus), Device::cpu());
  expect_refused(DeviceChoice::cuda, gpus, HasSubstr("'cuda' is not in this build"));
}

TEST(DeviceChoice, ABuildForGpusThatRunsOnCpusUnaskedSaysSo) {
  PretendedGpus gpus;
  EXPECT_THAT(device_remark(DeviceChoice::automatic, Device::cpu(), gpus),
              AllOf(HasSubstr(host_name()), HasSubstr("runs on CPUs")));
  EXPECT_EQ(device_remark(DeviceChoice::automatic, Device::cuda(0), gpus), "");
  EXPECT_EQ(device_remark(DeviceChoice::cpu, Device::cpu(), gpus), "");
  gpus.built = false;
  EXPECT_EQ(device_remark(DeviceChoice::automatic, Device::cpu(), gpus), "");
}

// A job of hours on CPUs, for a service that was not started, is nobody's wish.
TEST(DeviceChoice, ADriverThatLetsNobodyUseItsGpusIsNamedAndNotPassedOver) {
  PretendedGpus gpus;
  gpus.in_the_way = "system not yet initialized (CUDA 13.0)";
  for (const DeviceChoice choice : {DeviceChoice::cuda, DeviceChoice::automatic}) {
    expect_refused(choice, gpus,
                   AllOf(HasSubstr(host_name()), HasSubstr("system not yet initialized"),
                         HasSubstr("--device cpu does without")));
  }
  EXPECT_EQ(choose_device(DeviceChoice::cpu, world(), gpus), Device::cpu());
}

TEST(DeviceChoice, MoreRanksThanGpusAreRefusedWithBothNumbers) {
  if (world().size() == 1) GTEST_SKIP() << "one rank is never too many for one GPU";
  PretendedGpus gpus;
  gpus.number = world().size() - 1;
  for (const DeviceChoice choice : {DeviceChoice::cuda, DeviceChoice::automatic}) {
    expect_refused(
        choice, gpus,
        AllOf(HasSubstr(host_name()), HasSubstr(fmt::format("has {} CUDA device", gpus.number)),
              HasSubstr(fmt::format("for {} ranks; start one rank per GPU", world().size()))));
  }
}

TEST(DeviceChoice, AGpuThatIsTooOldIsRefusedOnAllRanksThoughOneHasIt) {
  PretendedGpus gpus;
  gpus.number = world().size();
  const int last = world().size() - 1;
  if (world().rank() == last) {
    gpus.has_code = false;
    gpus.each.name = "Tesla T4";
    gpus.each.compute_capability = 75;
  }
  expect_refused(DeviceChoice::cuda, gpus,
                 HasSubstr(fmt::format("cuda:{} of host {}, a Tesla T4, has compute capability "
                                       "7.5; 8.0 is the least",
                                       last, host_name())));
}

TEST(DeviceChoice, AGpuThatOnlyTheBuildLacksSaysHowToBuildForIt) {
  PretendedGpus gpus;
  gpus.number = world().size();
  gpus.has_code = false;
  gpus.each.compute_capability = 89;
  expect_refused(DeviceChoice::cuda, gpus, HasSubstr("-DCMAKE_CUDA_ARCHITECTURES=89"));
}

TEST(StartCheck, MixedGpusAreRefusedOnAllRanks) {
  if (world().size() == 1) GTEST_SKIP() << "one GPU is like itself";
  const bool is_other = world().rank() == world().size() - 1;
  RankFacts mine;
  mine.host = is_other ? "n1" : "n0";
  mine.device = Device::cuda(0);
  mine.gpu = gpu(is_other ? "NVIDIA H200" : "NVIDIA H100 80GB HBM3", world().rank());
  EXPECT_THAT([&] { check_facts(world(), mine); },
              ThrowsMessage<UserError>(AllOf(HasSubstr("the GPUs differ: "),
                                             HasSubstr("NVIDIA H100 80GB HBM3 on n0"),
                                             HasSubstr("NVIDIA H200 on n1"))));
  mine.gpu.name = "NVIDIA H200";
  EXPECT_EQ(check_facts(world(), mine).size(), world().rank() == 0 ? world().size() : 0U);
}

}  // namespace
}  // namespace millrace
