// From an op's front to its backend. MILLRACE_DISPATCH(device, op, args...) calls cpu::op(args...)
// or cuda::op(args...); a backend that was not built fails loudly by name. This is the only place
// in the tree that asks whether CUDA was built.
#pragma once

#include "kernels/base/device.hpp"
#include "kernels/base/error.hpp"

namespace millrace {

[[noreturn]] void throw_backend_not_built(const char* op);

}  // namespace millrace

#ifdef MILLRACE_HAS_CUDA
#define MILLRACE_DISPATCH(target, op, ...) \
  ((target).is_cuda() ? ::millrace::cuda::op(__VA_ARGS__) : ::millrace::cpu::op(__VA_ARGS__))
#else
#define MILLRACE_DISPATCH(target, op, ...)                                            \
  ((target).is_cuda()                                                                 \
       ? (::millrace::throw_backend_not_built(#op), ::millrace::cpu::op(__VA_ARGS__)) \
       : ::millrace::cpu::op(__VA_ARGS__))
#endif
