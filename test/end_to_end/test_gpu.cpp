// What a user of GPUs sees: the sizes at the start, and one line for each mistake.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <regex>

#include "kernels/base/buffer.hpp"
#include "test/end_to_end/program.hpp"

namespace millrace::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class OnGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda_device_count() == 0) GTEST_SKIP() << "skipped: no CUDA device";
  }

  Launch job(int ranks, std::vector<std::string> more) const {
    Launch launch{.ranks = ranks,
                  .arguments = {"--device=cuda", "--model", fixture("llama-tied-bias"), "--prompts",
                                work_.write("p.jsonl", "{\"prompt\": [5, 6, 7]}\n"), "--output",
                                work_ / "o.jsonl", "--overwrite", "--max-tokens=8"}};
    launch.arguments.insert(launch.arguments.end(), more.begin(), more.end());
    return launch;
  }

  Workspace work_;
};

std::int64_t number_after(const std::string& text, const std::string& words) {
  std::smatch match;
  if (!std::regex_search(text, match, std::regex(words + "([0-9,]+)"))) return -1;
  std::string digits = match[1];
  std::erase(digits, ',');
  return std::stoll(digits);
}

TEST_F(OnGpu, TheMeasuredCacheIsWhatThePlanSaidWithinTwoPercentOfTheMemory) {
  const Outcome run_outcome = run(job(1, {}));
  ASSERT_EQ(run_outcome.exit_code, 0) << run_outcome.errors;
  const std::int64_t measured = number_after(run_outcome.errors, "GPU KV cache size: ");
  const std::int64_t memory = device_memory_bytes(Device::cuda(0));
  const Outcome plan = run({.program = "millrace-plan",
                            .arguments = {"--model", fixture("llama-tied-bias"), "--gpu-memory",
                                          std::to_string(memory)}});
  std::smatch match;
  const std::regex row("1 +1 +1 +[0-9.]+ .iB +[0-9.]+ .iB +([0-9,]+) ");
  ASSERT_TRUE(std::regex_search(plan.output, match, row)) << plan.output;
  std::string digits = match[1];
  std::erase(digits, ',');
  const double planned = std::stod(digits);
  EXPECT_NEAR(static_cast<double>(measured) / planned, 1, 0.02 / 0.92);
}

TEST_F(OnGpu, MoreRanksThanGpusAreRefused) {
  const int gpus = cuda_device_count();
  const Outcome outcome = run(job(gpus + 1, {}));
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.complaints(), ElementsAre(HasSubstr("start one rank per GPU")));
}

TEST_F(OnGpu, AGpuThatIsFullIsAnErrorThatSaysSo) {
  const std::int64_t free = free_device_memory_bytes(Device::cuda(0));
  const Buffer taken(static_cast<std::size_t>(free) / 100 * 98, Device::cuda(0));
  for (const std::vector<std::string>& more :
       {std::vector<std::string>{}, {"--kv-cache-memory-bytes=20GiB"}}) {
    const Outcome outcome = run(job(1, more));
    EXPECT_EQ(outcome.exit_code, 2) << outcome.errors;
    EXPECT_THAT(outcome.complaints(),
                ElementsAre(::testing::AnyOf(HasSubstr("out of memory on cuda:0"),
                                             HasSubstr("has room for"))));
  }
}

// Whichever call it is that gets no memory: the library's context, NCCL, a product's workspace, the
// cache. Of two ranks the last one's GPU is full, and the other must not wait for it.
TEST_F(OnGpu, MemoryThatEndsAnywhereInTheStartIsAnErrorThatSaysSo) {
  const int ranks = std::min(2, cuda_device_count());
  const Device gpu = Device::cuda(ranks - 1);
  const std::int64_t free = free_device_memory_bytes(gpu);
  bool has_room = false;
  for (const std::int64_t left_mib : {250, 600, 1200, 1800}) {
    if (has_room) break;
    SCOPED_TRACE(std::to_string(left_mib) + " MiB left");
    const Buffer taken(static_cast<std::size_t>(free - (left_mib << 20)), gpu);
    const Outcome outcome = run(job(ranks, {"-tp", std::to_string(ranks)}));
    std::printf("%lld MiB left: exit code %d after %.1f s: %s\n", static_cast<long long>(left_mib),
                outcome.exit_code, outcome.seconds,
                outcome.complaints().empty() ? "" : outcome.complaints().front().c_str());
    has_room = outcome.exit_code == 0;
    if (has_room) continue;
    EXPECT_EQ(outcome.exit_code, 2) << outcome.errors;
    EXPECT_LT(outcome.seconds, 40);
    EXPECT_THAT(outcome.complaints(), ElementsAre(::testing::AnyOf(HasSubstr("out of memory"),
                                                                   HasSubstr("has room for"))));
  }
}

TEST_F(OnGpu, AnNcclThatCannotStartIsAnErrorThatSaysSo) {
  if (cuda_device_count() < 2) GTEST_SKIP() << "skipped: one GPU needs no NCCL";
  Launch launch = job(2, {"-tp", "2"});
  launch.environment = {"NCCL_SOCKET_IFNAME==no_such_interface"};
  const Outcome outcome = run(launch);
  EXPECT_EQ(outcome.exit_code, 2) << outcome.errors;
  EXPECT_LT(outcome.seconds, 30);
  EXPECT_THAT(outcome.complaints(), ElementsAre(HasSubstr("NCCL does not start")));
}

TEST_F(OnGpu, ACacheThatTheGpuCannotHoldIsRefusedBeforeAnythingIsRead) {
  const Outcome outcome = run(job(1, {"--kv-cache-memory-bytes=900GiB"}));
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.complaints(), ElementsAre(HasSubstr("900.0 GiB of KV cache")));
}

}  // namespace
}  // namespace millrace::test
