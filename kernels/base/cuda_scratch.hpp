// Scratch memory of a stream: what an op writes and reads back within its own kernels. Ops of one
// stream run one after the other, so they share it. It is allocated with the stream (for the
// default stream, at its first use), never inside a step, so that steps can be captured in graphs.
#pragma once

#include <cstddef>

#include "kernels/base/stream.hpp"

namespace millrace::cuda {

constexpr std::size_t scratch_bytes = std::size_t{64} << 20;

void* scratch(Stream stream);

// Integers that are zero whenever no kernel of the stream runs: a kernel that counts with them
// leaves them so. Zeroed once, with the scratch.
constexpr int counter_count = 2048;

int* zeroed_counters(Stream stream);

}  // namespace millrace::cuda
