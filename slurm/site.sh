# shellcheck shell=bash
# shellcheck disable=SC2034
# This site's settings: the one file to edit. Every script of this folder reads it, on the login node and on the
# first node of each job. MILLRACE_SITE=/path/to/another takes another file instead. The values in comments are
# examples.

# What sbatch is told for jobs that run ranks. What a user gives on the command line wins.
sbatch_options=()
# A node of eight GPUs, one rank for each, twelve cores for each rank:
#sbatch_options=(--partition=gpu --account=project --time=12:00:00 --exclusive --mem=0
#                --gpus-per-node=8 --ntasks-per-node=8 --cpus-per-task=12)
# CPU ranks, one for each socket:
#sbatch_options=(--partition=cpu --account=project --exclusive --mem=0 --ntasks-per-node=2 --cpus-per-task=32)

# What sbatch is told for merging the results of an array: one task, no GPU.
merge_options=()
#merge_options=(--partition=cpu --account=project --time=04:00:00 --mem=8G)

# The folder of the programs; empty: ../../../bin of an installed script, else where PATH finds them.
programs=

# How ranks start: srun (the Slurm and the MPI library must both know PMIx), mpirun, or auto: srun if `srun --mpi=list`
# has PMIx, else mpirun.
launcher=auto
mpi_type=pmix        # of `srun --mpi=`; some sites want pmix_v4 or pmix_v5
bind=cores           # cores: each rank has --cpus-per-task cores of its own; none: leave that to Slurm
srun_options=()
mpirun_options=()
#mpirun_options=(--mca pml ucx)

# A job that stops before its end is queued again as long as that helps: after this many starts in a row that answered
# no prompt it stays stopped.
fruitless_starts=3
# So long a start waits for ranks of the one before, where Slurm lost a node that still runs.
earlier_ranks_seconds=300

# Modules and variables of every rank.
#module purge
#module load gcc/13 cuda/13.0 openmpi/5.0

# NCCL: the InfiniBand adapters for data, and the interface for its bootstrap. `ibdev2netdev`, `ip address` list them.
#export NCCL_IB_HCA=mlx5_0,mlx5_1,mlx5_2,mlx5_3
#export NCCL_SOCKET_IFNAME=ib0

# A default for any flag of millrace; the command line wins.
#export MILLRACE_MODEL=/shared/models/Llama-3.3-70B-Instruct
#export MILLRACE_REQUIRE_TRANSPORT=ib

# A container: what stands between srun or mpirun and the program (see container/).
wrapper=()
#programs=/opt/millrace/bin
#wrapper=(apptainer exec --nv --bind /shared /shared/images/millrace.sif)
# With Pyxis it is options of srun instead:
#srun_options=(--container-image=/shared/images/millrace.sqsh --container-mounts=/shared:/shared)
