// Prefill attention on Hopper with an fp8 cache: see attention_prefill_sm90.cuh.
#include "kernels/attention_prefill_sm90_launch.cuh"

namespace millrace::cuda::prefill {

void launch_fp8(const AttentionArgs& args, DType dtype, const Plan& plan, const Maps& maps,
                Stream stream) {
  with_head_dim(args.head_dim, [&](auto size) {
    if (dtype == DType::bf16) {
      launch<__nv_bfloat16, Fp8, decltype(size)::value>(args, plan, maps, stream);
    } else {
      launch<__half, Fp8, decltype(size)::value>(args, plan, maps, stream);
    }
  });
}

}  // namespace millrace::cuda::prefill
