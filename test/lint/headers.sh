#!/usr/bin/env bash
# headers.sh ROOT COMPILER FLAG...: fails on a header that does not compile alone. Headers named cuda_* and
# nccl_* include the CUDA toolkit's, which a machine without it lacks; only CUDA sources include them.
set -u
cd "$1" || exit 2
shift
export compile="$*"

check() {
  local messages
  # Twice, so that a missing #pragma once fails as well.
  if ! messages=$(printf '#include "%s"\n#include "%s"\n' "$1" "$1" |
    $compile -fsyntax-only -x c++ -I. - 2>&1); then
    printf '%s does not compile alone:\n%s\n' "$1" "$messages" | head -n 12
    return 1
  fi
}
export -f check

# shellcheck disable=SC2016  # expanded by the inner shell
find apps core comm kernels -name '*.hpp' ! -name 'cuda_*' ! -name 'nccl_*' -print0 | sort -z |
  xargs -0 -P "$(nproc)" -I{} bash -c 'check "$1"' _ {}
