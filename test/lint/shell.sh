#!/usr/bin/env bash
# shell.sh ROOT: shellcheck over every script; 77 (skipped) where shellcheck is missing.
set -u
cd "$1" || exit 2
if ! command -v shellcheck >/dev/null; then
  echo "SKIPPED: shellcheck was not found"
  exit 77
fi
{
  find . -maxdepth 1 -name '*.sh'
  find .ci -type f
  find apps core comm kernels slurm bench test \( -name '*.sh' -o -name '*.sbatch' \) 2>/dev/null
} | xargs shellcheck -x
