// What a recording that fails leaves behind.
#include "kernels/activation.hpp"
#include "kernels/base/error.hpp"
#include "kernels/base/graph.hpp"
#include "test/kernels/gpu/gpu_test.hpp"

namespace millrace {
namespace {

using GraphOnGpu = OnGpu;

TEST_F(GraphOnGpu, ARecordingThatFailsSaysWhyAndLeavesTheStreamUsable) {
  const auto relu_of_minus_one = [] {
    const Tensor x = to_gpu(floats({1, 1}, {-1}), stream());
    activation(x, x, Activation::relu, stream());
    return to_vector(to_host(x, stream())).front();
  };
  const Tensor x = to_gpu(floats({1, 1}, {-1}), stream());
  EXPECT_THROW(Graph::record(stream(),
                             [&] {
                               activation(x, x, Activation::relu, stream());
                               throw UserError("out of memory");
                             }),
               UserError);
  EXPECT_EQ(relu_of_minus_one(), 0);
  // Waiting breaks the recording itself, so that it cannot be ended either.
  try {
    Graph::record(stream(), [] { synchronize(stream()); });
    ADD_FAILURE() << "recorded a wait";
  } catch (const std::runtime_error& error) {
    EXPECT_NE(std::string(error.what()).find("cudaStreamSynchronize"), std::string::npos)
        << error.what();
  }
  EXPECT_EQ(relu_of_minus_one(), 0);
}

}  // namespace
}  // namespace millrace
