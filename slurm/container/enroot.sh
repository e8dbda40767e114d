#!/usr/bin/env bash
# Makes millrace.sqsh, an image for Enroot and Pyxis with millrace in /opt/millrace. From the top of the source tree, on a
# machine with Internet and enroot:
#
#     slurm/container/enroot.sh [OUTPUT]
#
# In the site's settings: programs=/opt/millrace/bin and
# srun_options=(--container-image=/path/to/millrace.sqsh --container-mounts=/shared:/shared)
set -euo pipefail
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
output=${1:-millrace.sqsh}
name=millrace-build-$$
work=$(mktemp -d)
trap 'rm -rf "$work"; enroot remove --force "$name" >/dev/null 2>&1 || :' EXIT

enroot import --output "$work/cuda.sqsh" docker://nvidia/cuda:13.0.2-devel-ubuntu24.04
enroot create --name "$name" "$work/cuda.sqsh"
enroot start --root --rw --mount "$source:/usr/src/millrace" "$name" \
  bash /usr/src/millrace/slurm/container/build.sh /usr/src/millrace
enroot export --output "$output" "$name"
