// What a failed CUDA call becomes. Needs no GPU.
#include "kernels/base/cuda_check.hpp"

#include <gmock/gmock.h>

#include "kernels/base/error.hpp"

namespace millrace {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(CudaCheck, AGpuWithoutMemoryIsTheUsersToSolve) {
  EXPECT_THAT([] { cuda::cuda_check(cudaErrorMemoryAllocation, "cudaGraphInstantiate"); },
              ThrowsMessage<UserError>(
                  AllOf(HasSubstr("out of memory on the GPU"), HasSubstr("cudaGraphInstantiate"))));
}

TEST(CudaCheck, AnyOtherFailureIsABugOrABrokenMachine) {
  EXPECT_THAT([] { cuda::cuda_check(cudaErrorInvalidValue, "cudaMemcpyAsync"); },
              ThrowsMessage<cuda::CudaError>(
                  AllOf(HasSubstr("cudaMemcpyAsync"), HasSubstr("cudaErrorInvalidValue"))));
  cuda::cuda_check(cudaSuccess, "cudaMemcpyAsync");
}

}  // namespace
}  // namespace millrace
