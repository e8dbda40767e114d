#!/usr/bin/env bash
# build.sh SOURCE [OPTION OF CMAKE...]: builds SOURCE inside a container and installs it into /opt/millrace. Run by both
# recipes, as root, on Ubuntu 24.04 or Debian 12 with the CUDA toolkit and NCCL (nvidia/cuda:*-devel has both).
set -euo pipefail
cd "$1"
shift
# shellcheck source=setup.sh
. ./setup.sh

install_packages "${build_packages[@]}" ibverbs-providers  # without these NCCL and UCX see no InfiniBand
build=$(mktemp -d)
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX=/opt/millrace \
  -DMILLRACE_CUDA=ON -DMILLRACE_BUILD_TESTS=OFF -DMILLRACE_BUILD_BENCH=OFF "$@"
cmake --build "$build" --parallel "$(nproc)"
cmake --install "$build"
rm -rf "$build"
/opt/millrace/bin/millrace-report --version
