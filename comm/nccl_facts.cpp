#include "comm/nccl_facts.hpp"

#include "kernels/base/dispatch.hpp"

namespace millrace {

std::string cpu::nccl_version() { return ""; }

std::string nccl_library() {
  return MILLRACE_DISPATCH(cuda_is_built() ? Device::cuda(0) : Device::cpu(), nccl_version);
}

}  // namespace millrace
