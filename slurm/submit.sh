#!/usr/bin/env bash
# Submits a job with this site's settings.
#
#     submit.sh batch [OPTION OF SBATCH...] -- [FLAG OF MILLRACE...]
#     submit.sh array SHARDS [OPTION OF SBATCH...] -- [FLAG OF MILLRACE...]      with a job that merges the results
#     submit.sh doctor [OPTION OF SBATCH...] -- [FLAG OF MILLRACE-DOCTOR...]
set -euo pipefail
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
  sed -n '/^#     /s/^#     //p' "${BASH_SOURCE[0]}" >&2
  exit 2
}

kind=${1:-}
shift || usage
shards=
case $kind in
  batch | doctor) ;;
  array)
    shards=${1:-}
    [[ $shards =~ ^[1-9][0-9]*$ ]] || usage
    shift ;;
  *) usage ;;
esac
options=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  options+=("$1")
  shift
done
shift || usage

# shellcheck source=slurm/job.sh
. "$folder/job.sh"
if [ -n "${MILLRACE_SITE:-}" ]; then
  MILLRACE_SITE=$(realpath -- "$MILLRACE_SITE")
  export MILLRACE_SITE
fi
submit() { sbatch --parsable "$@"; }

if [ "$kind" != array ]; then
  job=$(submit "${sbatch_options[@]}" "${options[@]}" "$folder/$kind.sbatch" "$@")
  echo "job $job"
  exit
fi
take_output "$@"
if [ -e "$output" ]; then give_up "'$output' is already there"; fi
job=$(submit --array="0-$((shards - 1))" "${sbatch_options[@]}" "${options[@]}" "$folder/array.sbatch" "$shards" "$@")
merge=$(submit --dependency="afterok:$job" --kill-on-invalid-dep=yes "${merge_options[@]}" \
  "$folder/merge.sbatch" "$shards" --output "$output")
echo "array $job of $shards tasks; job $merge merges their results into $output"
