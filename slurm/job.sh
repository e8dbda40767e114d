# shellcheck shell=bash
# What the batch scripts share: the site's settings, starting ranks, passing signals on, going back into the queue.
# Sourced with $folder set to the folder of this file.

note() { printf '%s slurm: %s\n' "$(date +%T)" "$*"; }
give_up() { note "$*" >&2; exit 2; }

# The site's settings. The variable is not for the ranks: millrace takes MILLRACE_* for flags.
# shellcheck source=slurm/site.sh
. "${MILLRACE_SITE:-$folder/site.sh}"
export -n MILLRACE_SITE
if [ -z "$programs" ] && [ -x "$folder/../../../bin/millrace" ]; then
  programs=$(cd "$folder/../../../bin" && pwd)
fi

# take_output FLAG...: sets `output` to what --output names and `flags` to the other flags, without --resume.
take_output() {
  output=${MILLRACE_OUTPUT:-}
  flags=()
  while [ $# -gt 0 ]; do
    case $1 in
      --output) output=${2:-}; shift ;;
      --output=*) output=${1#*=} ;;
      --resume) ;;
      *) flags+=("$1") ;;
    esac
    shift
  done
  [ -n "$output" ] || give_up "no --output FILE among the flags: the script has to know where the journal is"
}

# shard_output I N: the result file of share I of N of the job that writes $output.
shard_output() {
  local name=${output##*/}
  printf '%s.shards/%s-of-%s.%s' "$output" "$1" "$2" "${name##*.}"
}

# program NAME: its path, or its name where PATH has it.
program() { printf '%s' "${programs:+$programs/}$1"; }

# ranks_per_node: what sbatch was asked for, as --ntasks-per-node or as --ntasks over all nodes; 1 when it was not.
ranks_per_node() {
  local tasks=${SLURM_NTASKS:-$SLURM_JOB_NUM_NODES}
  if [ -n "${SLURM_NTASKS_PER_NODE:-}" ]; then
    printf '%s' "$SLURM_NTASKS_PER_NODE"
  elif [ $((tasks % SLURM_JOB_NUM_NODES)) -ne 0 ]; then
    give_up "--ntasks $tasks does not divide by $SLURM_JOB_NUM_NODES nodes: say --ntasks-per-node"
  else
    printf '%s' $((tasks / SLURM_JOB_NUM_NODES))
  fi
}

# use_launcher: sets `launch` to the command that starts the job's ranks, one for each task that was asked of sbatch.
use_launcher() {
  local nodes=$SLURM_JOB_NUM_NODES cores=${SLURM_CPUS_PER_TASK:-1} gpus=${SLURM_GPUS_ON_NODE:-0} per_node
  per_node=$(ranks_per_node)
  if [ "$gpus" -gt "$per_node" ]; then
    note "$((gpus - per_node)) of the $gpus GPUs of a node stay idle: one rank takes one GPU, and --ntasks-per-node is" \
      "$per_node"
  fi
  if [ "$launcher" = auto ]; then
    launcher=mpirun
    if [[ $(srun --mpi=list 2>&1) == *pmix* ]]; then launcher=srun; fi
  fi
  case $launcher in
    srun)
      # Ranks of a node are neighbours, and each sees all GPUs of its node: NVLink needs that. A rank that has ended
      # takes no other with it: its neighbours may still be closing their journals.
      launch=(srun --mpi="$mpi_type" --export=ALL --nodes="$nodes" --ntasks="$((nodes * per_node))"
        --ntasks-per-node="$per_node" --cpus-per-task="$cores" --distribution=block:block --kill-on-bad-exit=0)
      if [ "$bind" = cores ]; then launch+=(--cpu-bind=cores); fi
      launch+=("${srun_options[@]}") ;;
    mpirun)
      # Without the keepalives mpirun waits a quarter of an hour for a host that the network has lost.
      launch=(mpirun -n "$((nodes * per_node))" --mca oob_tcp_keepalive_time 5 --mca oob_tcp_keepalive_intvl 5
        --mca oob_tcp_keepalive_probes 2)
      if [ "$bind" = cores ]; then
        launch+=(--map-by "ppr:$per_node:node:PE=$cores" --bind-to core)
      else
        launch+=(--map-by "ppr:$per_node:node" --bind-to none)
      fi
      launch+=("${mpirun_options[@]}") ;;
    *) give_up "launcher is '$launcher' in the site's settings: auto, srun or mpirun" ;;
  esac
  launch+=("${wrapper[@]}")
}

# catch_signals: from here on USR1 (Slurm's, ahead of the time limit) and TERM (preemption, scancel) do not end the script
# but reach the ranks as USR1, which srun and mpirun pass on to each of them.
catch_signals() {
  signalled=
  child=
  trap 'signalled=1; [ -z "$child" ] || kill -USR1 "$child" 2>/dev/null || :' USR1 TERM
}

# run_ranks COMMAND...: runs it and returns its exit code; 75 without a start when a signal came before.
run_ranks() {
  local status
  [ -z "$signalled" ] || return 75
  note "start ${SLURM_RESTART_COUNT:-0} on $SLURM_JOB_NODELIST: $*"
  "$@" &
  child=$!
  [ -z "$signalled" ] || kill -USR1 "$child" 2>/dev/null || :  # it came while the child was being made
  while :; do
    signalled=
    status=0
    wait "$child" || status=$?
    [ -n "$signalled" ] || break  # else a signal ended the wait, not the child
    note "passed a signal on to the ranks"
  done
  return "$status"
}

# answered_bytes: how much the journal of $output holds. Where the programs are in a container that is an option of srun
# it takes a step of its own; a job whose time runs out must not wait for that.
answered_bytes() {
  local start=()
  if [ ${#srun_options[@]} -gt 0 ]; then
    start=(srun --overlap --mpi=none --nodes=1 --ntasks=1 --export=ALL "${srun_options[@]}")
  fi
  if ! timeout 60 "${start[@]}" "${wrapper[@]}" "$(program millrace-report)" --answer-bytes "$output"; then
    note "millrace-report does not say how much is answered: this start counts as one that answered nothing" >&2
    printf 0
  fi
}

# field NAME: what Slurm says of this job.
field() { scontrol show job "$job" | sed -n "s/.*\\b$1=\\([^ ]*\\).*/\\1/p"; }

# begin_job: notes in OUTPUT.starts how much was answered before the job's first start. Each later line is the same at
# the end of a start, or "busy" for one that found another at work.
begin_job() {
  catch_signals
  job=$SLURM_JOB_ID
  if [ -n "${SLURM_ARRAY_JOB_ID:-}" ]; then job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID; fi
  starts=$output.starts
  grep -q "^$job " -- "$starts" 2>/dev/null || note_start "$(answered_bytes)"
  wait_for_earlier_ranks
  # When the job's time is over: millrace stops itself ahead of it. Slurm before 23.02 does not say so by itself.
  local end
  if [ -z "${SLURM_JOB_END_TIME:-}" ] && end=$(field EndTime) && [ "$end" != Unknown ]; then
    SLURM_JOB_END_TIME=$(date --date="$end" +%s)
    export SLURM_JOB_END_TIME
  fi
}

# wait_for_earlier_ranks: where a node's slurmd died, and not the node, the ranks of the start before may live on; they
# hold locks on the journal's files. Goes back into the queue when that takes too long: as often as starts may be in vain,
# since it may as well be another job that was submitted with the same output, whose answers are none of this one's.
wait_for_earlier_ranks() {
  local file status
  for file in "$output".spool/lock "$output".spool/*.spool; do
    [ -e "$file" ] || continue
    status=0
    flock --shared --timeout "$earlier_ranks_seconds" --conflict-exit-code 9 "$file" true || status=$?
    if [ "$status" -eq 9 ]; then
      note "ranks of an earlier start, or another job, still write to $output.spool: $(head -n 1 "$output.spool/lock" 2>/dev/null)"
      end_job 75 busy
    fi
  done
}

note_start() { printf '%s %s\n' "$job" "$1" >>"$starts"; }

# fruitless: how many starts in a row, up to the last, answered nothing themselves.
fruitless() {
  awk -v job="$job" '
    $1 != job { next }
    $2 == "busy" { n++; next }
    { if (seen && $2 + 0 <= last) n++; else n = 0; seen = 1; last = $2 + 0 }
    END { print n + 0 }' "$starts"
}

# end_job STATUS [busy]: ends the script with the ranks' exit code. A job that can go on later is queued again: 75 is
# millrace's word for it, 205 is mpirun's for a lost host, the others tell of a launcher or ranks that got a signal.
end_job() {
  local status=$1 state in_vain answered
  case $status in
    0) rm -f -- "$starts"; exit 0 ;;
    75 | 137 | 138 | 143 | 205) ;;
    *) note "exit code $status: starting again would not help"; exit "$status" ;;
  esac
  answered=$(answered_bytes)
  note_start "${2:-$answered}"
  state=$(field JobState)
  in_vain=$(fruitless)
  if [ "$state" != RUNNING ]; then
    # COMPLETING: somebody cancelled it, or Slurm ends it and queues it again itself (preemption, a lost node).
    note "exit code $status in state $state: Slurm has ended the job; its journal is kept"
  elif [ "$in_vain" -ge "$fruitless_starts" ]; then
    note "exit code $status, and $in_vain starts in a row answered no prompt: not queued again"
  else
    note "exit code $status, queued again; the journal holds $answered bytes of answers"
    scontrol requeue "$job" || note "Slurm did not take it; submit it again to go on from its journal"
  fi
  exit "$status"
}
