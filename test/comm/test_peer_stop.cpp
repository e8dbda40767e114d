// A kernel that waits for a rank which never comes ends when the host says so, with an error. It
// takes the process's CUDA context with it, so this is a program of its own.
#include <gtest/gtest.h>

#include <chrono>
#include <stdexcept>
#include <thread>

#include "comm/environment.hpp"
#include "comm/peer_memory.hpp"
#include "comm/peer_reduce.hpp"

namespace millrace {
namespace {

TEST(PeerStop, EndsAKernelThatWaitsForARankThatNeverComes) {
  const Environment environment;
  const Comm& world = environment.world();
  if (cuda_device_count() < world.size()) {
    GTEST_SKIP() << "skipped: " << cuda_device_count() << " CUDA devices for " << world.size()
                 << " ranks";
  }
  const Device device = Device::cuda(world.rank());
  std::string obstacle;
  // Leaked, as a process that fails leaves it.
  auto* memory =
      cuda::PeerMemory::map(world, device, cuda::peer_reduce_bytes(world.size()), obstacle)
          .release();
  ASSERT_NE(memory, nullptr) << obstacle;
  if (world.rank() != 0) return;
  auto* stream = new OwnedStream(device);
  auto* x = new Tensor(DType::f32, device, {1024});
  cuda::peer_all_reduce(ReduceWay::one_shot, *x, ReduceOp::sum, memory->peers(), stream->stream());
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  memory->stop();
  EXPECT_THROW(synchronize(stream->stream()), std::runtime_error);
}

}  // namespace
}  // namespace millrace
