// Which NCCL library this is.
#pragma once

#include <string>

namespace millrace {

// "2.28.9"; empty when this binary has no CUDA backend.
std::string nccl_library();

namespace cpu {
std::string nccl_version();  // empty
}
namespace cuda {
std::string nccl_version();
}

}  // namespace millrace
