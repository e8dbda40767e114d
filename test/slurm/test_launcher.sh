#!/usr/bin/env bash
# test_launcher.sh SLURM_FOLDER: the command that slurm/job.sh starts ranks with, for what sbatch was asked; needs no Slurm.
set -u
folder=$1
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
printf '#!/bin/sh\necho pmix\n' >"$tools/srun"
chmod +x "$tools/srun"
status=0

# expect TEXT SETTING...: the launcher's command, or what is said instead, holds TEXT.
expect() {
  local wanted=$1 said
  shift
  # shellcheck disable=SC2016  # for the inner shell
  said=$(env -i PATH="$tools:$PATH" folder="$folder" "$@" bash -euc \
    '. "$folder/job.sh"; use_launcher; printf "%s\n" "${launch[*]}"' 2>&1)
  if [[ $said != *"$wanted"* ]]; then
    printf 'wanted: %s\nfor:    %s\nsaid:   %s\n' "$wanted" "$*" "$said"
    status=1
  fi
}

expect "--nodes=2 --ntasks=16 --ntasks-per-node=8 --cpus-per-task=12" \
  SLURM_JOB_NUM_NODES=2 SLURM_NTASKS_PER_NODE=8 SLURM_NTASKS=16 SLURM_CPUS_PER_TASK=12
expect "--nodes=2 --ntasks=8 --ntasks-per-node=4 --cpus-per-task=1" SLURM_JOB_NUM_NODES=2 SLURM_NTASKS=8
expect "--nodes=3 --ntasks=3 --ntasks-per-node=1" SLURM_JOB_NUM_NODES=3
expect "--ntasks 5 does not divide by 2 nodes: say --ntasks-per-node" SLURM_JOB_NUM_NODES=2 SLURM_NTASKS=5
expect "3 of the 4 GPUs of a node stay idle" SLURM_JOB_NUM_NODES=1 SLURM_GPUS_ON_NODE=4
exit $status
