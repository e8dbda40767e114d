#!/usr/bin/env bash
# Builds everything and runs every test: the release build, parsers and engine under AddressSanitizer and UBSan,
# and, where nvcc is found, the CUDA build. Ends with CTest's summary.
#
#     ./check.sh          under 40 minutes on two cores
#     ./check.sh --long   hours: 200 kills, 100,000 mutated inputs for each parser, all that can happen under Slurm;
#                         keeps what it says in build/check-long.log
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=setup.sh
. ./setup.sh

fuzz=()
case $* in
  '') ;;
  --long)
    export MILLRACE_KILLS=200 MILLRACE_LONG=1
    fuzz=(env MILLRACE_FUZZ_RUNS=100000)
    mkdir -p build
    exec > >(tee build/check-long.log) 2>&1
    say "long run of $(git describe --always --dirty 2>/dev/null || echo 'a tree without git'), $(date -u '+%F %T') UTC" ;;
  *) fail "unknown: $*; it takes --long or nothing" ;;
esac

install_packages "${build_packages[@]}" "${test_packages[@]}"
# The tests of slurm/ start Slurm's daemons themselves, in network namespaces: for root only.
if [ "$(id -u)" -eq 0 ]; then
  install_packages "${slurm_packages[@]}"
else
  say "not root: the tests under Slurm will say that they were skipped"
fi
# Another version formats a little differently; without this one the format test says that it was skipped.
if apt-cache show clang-format-14 >/dev/null 2>&1; then
  install_packages clang-format-14
fi

if fetch_smollm2; then
  export MILLRACE_SMOLLM2="$smollm2"
else
  say "SmolLM2 could not be fetched: the tests of the real model will say that they were skipped"
fi

jobs=$(nproc)

say "release build"
cmake --preset cpu-release
cmake --build --preset cpu-release --parallel "$jobs"

say "parsers on mutated inputs, engine, scheduler and journal under AddressSanitizer and UBSan"
cmake --preset cpu-asan
cmake --build --preset cpu-asan --parallel "$jobs" --target sanitized_tests
"${fuzz[@]}" ctest --preset cpu-asan --label-regex 'fuzz|sanitize' --parallel "$jobs"

if command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ]; then
  say "CUDA build, one architecture"
  PATH="$PATH:/usr/local/cuda/bin" cmake --preset cuda-release -DCMAKE_CUDA_ARCHITECTURES=90a-real
  cmake --build --preset cuda-release --parallel "$jobs" --target millrace millrace-doctor millrace-plan millrace-report gpu_tests
else
  say "no nvcc: the CUDA build is not checked here"
fi

say "every test of the release build"
ctest --preset cpu-release --parallel "$jobs"
