#!/usr/bin/env bash
# install.sh BUILD CONSUMER: installs the build into a temporary prefix, and builds and runs a project that
# finds it there.
set -euo pipefail
build="$1"
consumer="$2"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$build" --prefix "$work/prefix" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
for program in millrace millrace-doctor millrace-plan millrace-report; do
  "$work/prefix/bin/$program" --version
done
for script in submit.sh site.sh job.sh batch.sbatch array.sbatch merge.sbatch doctor.sbatch; do
  bash -n "$work/prefix/share/millrace/slurm/$script"
done
cmake -S "$consumer" -B "$work/build" -G Ninja -DCMAKE_PREFIX_PATH="$work/prefix" \
  -DCMAKE_BUILD_TYPE=Release
cmake --build "$work/build"
"$work/build/consumer"
