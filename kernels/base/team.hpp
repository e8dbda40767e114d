// When a loop is worth a team of OpenMP threads.
#pragma once

#include <cstdint>

namespace millrace {

// Whether `parts` pieces of work that take one thread `nanoseconds` together should be shared. On a
// quiet machine a team costs microseconds; where other work has a core, the region lasts until the
// thread that waits for that core gets its turn: milliseconds for microseconds of work. Estimates
// are what bench_kernels measures on one core with AVX-512, right to a factor of two or so. No
// result depends on the answer.
constexpr bool worth_a_team(std::int64_t parts, std::int64_t nanoseconds) {
  return parts > 1 && nanoseconds > 20'000;
}

}  // namespace millrace
