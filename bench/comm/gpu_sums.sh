#!/usr/bin/env bash
# Measures every way of an all-reduce between the GPUs of this host, each in processes of its own
# with a time limit: one that fails or hangs leaves a comment line, and the others their rows.
#
#     bench/comm/gpu_sums.sh BUILD RANKS [SECONDS_EACH]
set -u
[ $# -ge 2 ] || { echo "usage: $0 BUILD RANKS [SECONDS_EACH]" >&2; exit 2; }
bench=$1/bench/comm/bench_gpu_sums
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
for way in nccl nccl_symmetric words one_shot two_shot norm product; do
  timeout -k 5 "${3:-60}" mpirun -n "$2" --bind-to none "$bench" "$way" 2>"$errors"
  code=$?
  [ $code -eq 0 ] && continue
  echo "# $way: ended with $code: $(grep -m1 'bench_gpu_sums:' "$errors" || tail -n1 "$errors")"
done
