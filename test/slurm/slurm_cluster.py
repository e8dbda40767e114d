"""Slurm on a Cluster: munge, slurmctld on the head and a slurmd with four pretended GPUs on each node."""

import glob
import os
import re
import shutil
import subprocess
import time

from cluster import BASE, Cluster, program_of, wait_until

TOOLS = ["munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "squeue", "mpirun"]

# PMIxCollFence=ring (in mpi.conf): with the default fence of Slurm 22.05 and PMIx 4.2, MPI_Init now and then crashes.
# cred_expire bounds how long a requeued job waits. proctrack, task and switch plugins are those that need no cgroups.
_SLURM_CONF = f"""
ClusterName=lab
SlurmctldHost=head(10.77.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={BASE}/run/munge.sock,cred_expire=10
CredType=cred/munge
StateSaveLocation={BASE}/state
SlurmdSpoolDir={BASE}/spool.%n
TmpFS={BASE}/tmp.%n
SlurmctldPidFile={BASE}/run/slurmctld.pid
SlurmdPidFile={BASE}/run/slurmd.%n.pid
SlurmctldLogFile={BASE}/log/slurmctld.log
SlurmdLogFile={BASE}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=5,sched_min_interval=100000,batch_sched_delay=0
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=10
KillWait=5
MinJobAge=3600
JobRequeue=1
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
PlugStackConfig={BASE}/etc/plugstack.conf
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=n[0-@LAST@] NodeAddr=10.77.0.[10-1@LAST@] CPUs=8 RealMemory=2000 Gres=gpu:4 State=UNKNOWN
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=lab Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=40
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF
"""


class SlurmCluster(Cluster):
    def __init__(self, nodes=4):
        super().__init__(nodes)
        for folder in ("etc", "run", "log", "state", "dev"):
            os.makedirs(f"{BASE}/{folder}")
        for gpu in range(4):
            os.mknod(f"{BASE}/dev/nvidia{gpu}", 0o20666, os.makedev(1, 3))
        last = str(nodes - 1)
        self._write("slurm.conf", _SLURM_CONF.replace("@LAST@", last))
        self._write("gres.conf",
                    f"AutoDetect=off\nNodeName=n[0-{last}] Name=gpu File={BASE}/dev/nvidia[0-3]\n")
        self._write("mpi.conf", "PMIxCollFence=ring\n")
        self._write("cgroup.conf", "CgroupPlugin=cgroup/v1\n")
        self._write("plugstack.conf", "")
        os.environ["SLURM_CONF"] = f"{BASE}/etc/slurm.conf"
        self._start_munge()
        self.start("head", "slurmctld", "-D", "-c", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for node in self.nodes:
            self.start_slurmd(node)
        wait_until(lambda: all(self.node_state(node) == "IDLE" for node in self.nodes), 60, "all nodes idle")

    @staticmethod
    def _write(name, text):
        with open(f"{BASE}/etc/{name}", "w") as file:
            file.write(text)

    def _start_munge(self):
        with open(os.open(f"{BASE}/etc/munge.key", os.O_WRONLY | os.O_CREAT, 0o600), "wb") as key:
            key.write(os.urandom(128))
        self.start("head", "munged", "--foreground", "--force", f"--key-file={BASE}/etc/munge.key",
                   f"--socket={BASE}/run/munge.sock", f"--pid-file={BASE}/run/munged.pid",
                   f"--seed-file={BASE}/run/munged.seed", f"--log-file={BASE}/log/munged.log",
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: os.path.exists(f"{BASE}/run/munge.sock"), 20, "munged's socket")

    def start_slurmd(self, node):
        for folder in (f"{BASE}/spool.{node}", f"{BASE}/tmp.{node}"):
            shutil.rmtree(folder, ignore_errors=True)
            os.makedirs(folder)
        self.start(node, "slurmd", "-D", "-N", node, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill_slurmd(self, node):
        with open(f"{BASE}/run/slurmd.{node}.pid") as file:
            os.kill(int(file.read()), 9)

    def revive(self, node):
        """Brings a killed node back, as after a reboot."""
        self.boot(node)
        self.start_slurmd(node)
        wait_until(lambda: self.node_state(node).startswith("IDLE"), 60, f"{node} idle again")

    def restore(self):
        """Gives the next test a sound cluster after one that failed."""
        self.slurm("scancel", "--user=root")
        for node in self.nodes:
            self.slow_link(node, None)
            self.kill(node)
        for node in self.nodes:
            self.revive(node)

    def ranks(self, node):
        """The ranks of millrace that run on a node."""
        return [pid for pid in self.pids(node) if program_of(pid) == "millrace"]

    def slurm(self, *command):
        """Output of a Slurm command, run on the head; a failing one is an error that shows what it said."""
        done = self.run("head", "timeout", "60", *command, capture_output=True)
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stderr}")
        return done.stdout

    def node_state(self, node):
        return re.search(r"State=(\S+)", self.slurm("scontrol", "--oneliner", "show", "node", node))[1]

    def records(self, job):
        """What Slurm knows of a job: a dict of fields for each task of an array, one for another job."""
        lines = self.slurm("scontrol", "--oneliner", "show", "job", job).splitlines()
        return [dict(field.split("=", 1) for field in line.split() if "=" in field) for line in lines if line]

    def state(self, job):
        return self.records(job)[0]["JobState"]

    def wait_for(self, job, state="COMPLETED", seconds=120):
        """Waits until every record of the job is in the state; a job that has ended in another one fails at once."""
        ended = {"COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL", "TIMEOUT", "OUT_OF_MEMORY", "DEADLINE"}

        def arrived():
            states = {record["JobState"] for record in self.records(job)}
            wrong = states & (ended - {state, "NODE_FAIL"})
            if wrong:
                raise AssertionError(f"job {job} is {' and '.join(wrong)}, not {state}")
            return states == {state}

        wait_until(arrived, seconds, f"job {job} {state}")

    @staticmethod
    def logs(lines=15):
        """The ends of the daemons' logs, for a test that failed."""
        text = ""
        for path in sorted(glob.glob(f"{BASE}/log/*.log")):
            with open(path, errors="replace") as file:
                text += f"--- {os.path.basename(path)}\n{''.join(file.readlines()[-lines:])}"
        return text
