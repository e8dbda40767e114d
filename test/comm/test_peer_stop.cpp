// A kernel that waits for a rank which never comes ends when the host says so, with an error. It
// takes the process's CUDA context with it, so this is a program of its own.
#include <chrono>
#include <stdexcept>
#include <thread>

#include "comm/peer_memory.hpp"
#include "comm/peer_reduce.hpp"
#include "test/comm/gpu_ranks.hpp"

namespace millrace {
namespace {

class PeerStop : public GpuRanks {};

TEST_F(PeerStop, EndsAKernelThatWaitsForARankThatNeverComes) {
  if (ranks() == 1) GTEST_SKIP() << "one rank waits for nobody";
  std::string obstacle;
  // Leaked, as a process that fails leaves it.
  auto* memory =
      cuda::PeerMemory::map(world(), device(), cuda::peer_reduce_bytes(ranks()), obstacle)
          .release();
  ASSERT_NE(memory, nullptr) << obstacle;
  if (rank() != 0) return;
  auto* x = new Tensor(DType::f32, device(), {1024});
  cuda::peer_all_reduce(ReduceWay::one_shot, *x, ReduceOp::sum, memory->peers(), stream());
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  memory->stop();
  EXPECT_THROW(synchronize(stream()), std::runtime_error);
}

}  // namespace
}  // namespace millrace
