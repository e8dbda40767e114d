#!/usr/bin/env bash
# includes.sh ROOT: fails on an include that points upward (apps -> core -> comm -> kernels), on MPI or CUDA
# calls named in core or apps, and on an include between our folders that is not from the repository's root.
set -u
cd "$1" || exit 2
status=0

# forbid PATTERN MESSAGE FOLDER...: no source file of the folders may have a line like the pattern.
forbid() {
  local pattern="$1" message="$2" found
  shift 2
  found=$(grep -rnE --include='*.?pp' --include='*.cu' --include='*.cuh' "$pattern" "$@" 2>/dev/null) || return 0
  printf '%s:\n%s\n' "$message" "$found"
  status=1
}

include='^[[:space:]]*#[[:space:]]*include[[:space:]]*[<"]'
forbid "$include(apps|core|comm)/" "kernels may include only kernels" kernels
forbid "$include(apps|core)/" "comm may include only comm and kernels" comm
forbid "$include(apps)/" "core may include only core, comm and kernels" core
forbid "$include(mpi|nccl)[./]" "only comm knows MPI and NCCL" apps core kernels
forbid "$include(cuda|cublas|cudnn|nccl)" "core and apps know no CUDA" apps core
forbid '\b(MPI|nccl|cuda)_?[A-Z][A-Za-z_]*[[:space:]]*\(' "core and apps call neither MPI nor CUDA" apps core
forbid "$include\.\.?/" "includes are written from the repository's root" apps core comm kernels
exit "$status"
