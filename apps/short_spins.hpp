// How long OpenMP's threads spin before they sleep, settled before anything else runs.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace millrace {

// Starts the program again with GOMP_SPINCOUNT=10000, some ten microseconds, unless the user chose
// how threads wait. A step of the CPU backend has hundreds of parallel regions, and by default
// libgomp's threads spin for milliseconds at the end of each: where other work has the cores, that
// is longer than the region, and two threads are many times slower than one
// (bench/results/peers_cpu.md). libgomp reads its settings once, when it is loaded, so they cannot
// be changed from inside.
//
// Returns where the setting stands already, or where the program's file is not what was started (a
// loader or a debugger runs it): then threads wait as libgomp pleases.
inline void start_with_short_spins(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr) {
    return;
  }
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error || program.filename() != std::filesystem::path(argv[0]).filename() ||
      ::setenv("GOMP_SPINCOUNT", "10000", 0) != 0) {
    return;
  }
  ::execv(program.c_str(), argv);
}

}  // namespace millrace
