"""What a user meets under Slurm, one function each, with the scripts as they are shipped."""

import contextlib
import os
import signal

from cluster import BASE, wait_until

WORK = f"{BASE}/work"  # the shared file system of the cluster


class Site:
    """The installed scripts and programs, prompts, and what an undisturbed run answers."""

    def __init__(self, cluster, scripts, programs, model):
        self.cluster = cluster
        self.scripts = scripts
        self.programs = programs
        self.model = model
        self._count = 0
        self.set(launcher="auto")

    def set(self, programs="", launcher="auto", patience=300):
        """Writes the site's settings: as shipped, but for what this lab needs."""
        with open(f"{self.scripts}/site.sh") as shipped, open(f"{WORK}/site.sh", "w") as site:
            site.write(shipped.read())
            print(f"programs={programs}", f"launcher={launcher}",
                  "bind=none",  # virtual nodes share their cores, and would bind to the same ones
                  "sbatch_options=(--nodes=1 --ntasks-per-node=2)", "fruitless_starts=2",
                  f"earlier_ranks_seconds={patience}",
                  "export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1", sep="\n", file=site)

    def flags(self, prompts, output, *more):
        return ["--model", self.model, "--prompts", prompts, "--output", output, "--max-tokens", "24", "--ignore-eos",
                "--seed", "5", "--logprobs", "1", "--max-num-seqs", "16", "--tensor-parallel-size", "2", *more]

    def prompts(self, lines):
        path = f"{WORK}/prompts-{lines}.txt"
        if not os.path.exists(path):
            with open(path, "w") as file:
                for i in range(lines):
                    print(f"Line {i}: {'and so on ' * (i % 7)}", file=file)
        return path

    def expected(self, lines):
        """The answers of one undisturbed run on the head, without Slurm."""
        path = f"{WORK}/expected-{lines}.jsonl"
        if not os.path.exists(path):
            done = self.cluster.run(
                "head", "env", "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1", "OMP_NUM_THREADS=1", "timeout",
                "300", "mpirun", "--oversubscribe", "--bind-to", "none", "-n", "2", f"{self.programs}/millrace",
                *self.flags(self.prompts(lines), path), capture_output=True)
            assert done.returncode == 0, done.stderr
        with open(path, "rb") as file:
            return file.read()

    @contextlib.contextmanager
    def slow_network(self, rate="2mbit"):
        """Jobs that exchange anything over the network take long while this lasts, however fast the machine is."""
        for node in self.cluster.nodes:
            self.cluster.slow_link(node, rate)
        try:
            yield
        finally:
            for node in self.cluster.nodes:
                self.cluster.slow_link(node, None)

    def output(self):
        self._count += 1
        return f"{WORK}/answers-{self._count}.jsonl"

    def submit(self, *arguments):
        """Runs submit.sh as a user of the head; the numbers of the jobs in what it says."""
        said = self.cluster.slurm(f"{self.scripts}/submit.sh", *arguments)
        return [int(word) for word in said.replace(";", " ").split() if word.isdigit()], said

    def log(self, job, task=None):
        """What a job of batch.sbatch or one task of array.sbatch wrote."""
        name = f"millrace-{job}" + ("" if task is None else f"_{task}")
        with open(f"{WORK}/{name}.log", errors="replace") as file:
            return file.read()

    def check(self, output, lines):
        with open(output, "rb") as file:
            assert file.read() == self.expected(lines), f"{output} differs from an undisturbed run"
        assert not os.path.exists(f"{output}.spool"), f"{output}.spool is still there"
        assert not os.path.exists(f"{output}.starts"), f"{output}.starts is still there"


def journal_bytes(output):
    """How much the journal of an output holds; 0 when there is none."""
    try:
        return sum(entry.stat().st_size for entry in os.scandir(f"{output}.spool"))
    except FileNotFoundError:
        return 0


def wait_for_answers(output, beyond=0):
    """Waits until some more prompts are answered."""
    wait_until(lambda: journal_bytes(output) > beyond + 4000, 120, f"answers in {output}.spool")


def restarts(cluster, job):
    return int(cluster.records(job)[0]["Restarts"])


LINES = 600


def two_nodes_stopped_and_killed(site):
    """Pipeline stages on two nodes; USR1 and then a node's power cut: the job comes back each time, and completes."""
    cluster, output = site.cluster, site.output()
    with site.slow_network():
        (job,), _ = site.submit("batch", "--nodes=2", "--", *site.flags(site.prompts(LINES), output, "-pp", "2"))
        wait_for_answers(output)
        cluster.slurm("scancel", "--signal=USR1", "--batch", job)
        wait_until(lambda: restarts(cluster, job) == 1, 60, "the job queued again after USR1")
        wait_until(lambda: cluster.state(job) == "RUNNING", 60, "its second start")
        wait_for_answers(output, journal_bytes(output))
        victim = cluster.records(job)[0]["BatchHost"]
        cluster.kill(victim)
        cluster.slurm("scontrol", "update", f"nodename={victim}", "state=down", "reason=power")
        wait_until(lambda: restarts(cluster, job) == 2, 60, "the job queued again after its node died")
    cluster.wait_for(job)
    log = site.log(job)
    assert "exit code 75, queued again" in log, log
    site.check(output, LINES)
    cluster.revive(victim)


def array_merged(site):
    """Four tasks and the job that merges them give the bytes of one run."""
    output = site.output()
    (array, _, merge), said = site.submit("array", "4", "--", *site.flags(site.prompts(LINES), output))
    assert output in said, said
    site.cluster.wait_for(array)
    site.cluster.wait_for(merge)
    site.check(output, LINES)


def cancelled_stays_cancelled(site):
    """scancel ends a job for good and leaves its journal, from which the same command goes on."""
    cluster, output = site.cluster, site.output()
    command = ["batch", "--nodes=2", "--ntasks-per-node=1", "--", *site.flags(site.prompts(LINES), output)]
    with site.slow_network():
        (job,), _ = site.submit(*command)
        wait_for_answers(output)
        cluster.slurm("scancel", job)
        cluster.wait_for(job, "CANCELLED", 60)
        wait_until(lambda: "COMPLETING" not in cluster.slurm("squeue", "--noheader", "--format=%T"), 60, "its end")
    kept = journal_bytes(output)
    assert kept > 0 and not os.path.exists(output)
    assert restarts(cluster, job) == 0
    (job,), _ = site.submit(*command)
    cluster.wait_for(job)
    site.check(output, LINES)


def no_endless_requeue(site):
    """A job whose starts answer nothing is queued again only so often."""
    cluster, output = site.cluster, site.output()
    broken = f"{WORK}/broken"
    os.makedirs(broken)
    with open(os.open(f"{broken}/millrace", os.O_WRONLY | os.O_CREAT, 0o755), "w") as program:
        program.write("#!/bin/sh\nexit 75\n")
    os.symlink(f"{site.programs}/millrace-report", f"{broken}/millrace-report")
    site.set(programs=broken)
    try:
        (job,), _ = site.submit("batch", "--", *site.flags(site.prompts(LINES), output))
        cluster.wait_for(job, "FAILED", 90)
    finally:
        site.set()
    assert restarts(cluster, job) == 1
    assert "2 starts in a row answered no prompt: not queued again" in site.log(job), site.log(job)


def submitted_twice(site):
    """The same job once more, by mistake: its starts name the first, and end for good; the first goes on undisturbed."""
    cluster, output = site.cluster, site.output()
    command = ["batch", "--nodes=2", "--ntasks-per-node=1", "--", *site.flags(site.prompts(LINES), output)]
    site.set(patience=2)
    try:
        with site.slow_network("500kbit"):
            (first,), _ = site.submit(*command)
            wait_for_answers(output)
            (second,), _ = site.submit(*command)
            cluster.wait_for(second, "FAILED", 90)
            assert cluster.state(first) == "RUNNING"
    finally:
        site.set()
    log = site.log(second)
    assert f"still write to {output}.spool: process " in log and f"Slurm job {first}" in log, log
    assert "2 starts in a row answered no prompt: not queued again" in log, log
    assert restarts(cluster, second) == 1
    cluster.wait_for(first)
    site.check(output, LINES)


def users_mistake_is_final(site):
    """A flag that is wrong ends the job at its first start, with the mistake in its log."""
    output = site.output()
    (job,), _ = site.submit("batch", "--", *site.flags("/no/such/file", output))
    site.cluster.wait_for(job, "FAILED", 60)
    log = site.log(job)
    assert "/no/such/file" in log and "exit code 2: starting again would not help" in log, log
    assert restarts(site.cluster, job) == 0


def time_limit_until_done(site):
    """One minute a start, USR1 ahead of it: the job comes back by itself until it is done."""
    cluster, output = site.cluster, site.output()
    with site.slow_network("4mbit"):
        (job,), _ = site.submit("batch", "--nodes=2", "--ntasks-per-node=1", "--time=1", "--signal=B:USR1@15", "--",
                                *site.flags(site.prompts(LINES), output, "--grace-period", "5"))
        wait_until(lambda: restarts(cluster, job) == 2, 300, "two starts used up")
    cluster.wait_for(job, seconds=300)
    log = site.log(job)
    assert "exit code 75, queued again" in log and "TIME LIMIT" not in log, log
    site.check(output, LINES)


def preempted(site):
    """A job of a better partition takes the nodes: the ranks stop within the grace time, and later go on."""
    cluster, output = site.cluster, site.output()
    with site.slow_network():
        (job,), _ = site.submit("batch", "--nodes=4", "--ntasks-per-node=1", "--exclusive", "--",
                                *site.flags(site.prompts(LINES), output, "-dp", "2", "--grace-period", "5"))
        wait_for_answers(output)
        other = cluster.slurm("sbatch", "--parsable", "--partition=urgent", "--nodes=4", "--exclusive",
                              "--output=/dev/null", "--wrap=sleep 5").strip()
        cluster.wait_for(other, seconds=90)
    cluster.wait_for(job, seconds=180)
    log = site.log(job)
    assert "stopped by SIGTERM" in log and "exit code 75, queued again" in log, log
    site.check(output, LINES)


def killed_rank(site):
    """SIGKILL of one rank, as by the kernel when memory runs out, ends the start but not the job."""
    cluster, output = site.cluster, site.output()
    with site.slow_network():
        (job,), _ = site.submit("batch", "--nodes=2", "--", *site.flags(site.prompts(LINES), output, "-pp", "2"))
        wait_for_answers(output)
        os.kill(next(pid for node in cluster.nodes for pid in cluster.ranks(node)), signal.SIGKILL)
        wait_until(lambda: restarts(cluster, job) == 1, 60, "the job queued again")
    cluster.wait_for(job, seconds=180)
    site.check(output, LINES)


def silent_node(site):
    """A node dies and nobody says so: Slurm finds out by itself, and the job comes back on other nodes."""
    cluster, output = site.cluster, site.output()
    with site.slow_network("1mbit"):
        (job,), _ = site.submit("batch", "--nodes=2", "--", *site.flags(site.prompts(LINES), output, "-pp", "2"))
        wait_for_answers(output)
        victim = next(node for node in cluster.nodes if cluster.ranks(node) and
                      node != cluster.records(job)[0]["BatchHost"])
        cluster.kill(victim)
        wait_until(lambda: restarts(cluster, job) >= 1, 120, "the job queued again")
    cluster.wait_for(job, seconds=240)
    site.check(output, LINES)
    cluster.revive(victim)


def killed_slurmd(site):
    """A node's slurmd dies while the job's ranks there live on: the job comes back without them."""
    cluster, output = site.cluster, site.output()
    with site.slow_network("500kbit"):
        (job,), _ = site.submit("batch", "--nodes=2", "--ntasks-per-node=1", "--",
                                *site.flags(site.prompts(LINES), output))
        wait_for_answers(output)
        victim = next(node for node in cluster.nodes if cluster.ranks(node) and
                      node != cluster.records(job)[0]["BatchHost"])
        cluster.kill_slurmd(victim)
        wait_until(lambda: restarts(cluster, job) >= 1, 180, "the job queued again")
        wait_until(lambda: not cluster.ranks(victim), 60, f"the old ranks gone from {victim}")
    cluster.wait_for(job, seconds=240)
    site.check(output, LINES)
    cluster.kill(victim)
    cluster.revive(victim)


def killed_slurmds(site):
    """All slurmd of a job die and its ranks live on, unknown to Slurm: the job's next start waits for them."""
    cluster, output = site.cluster, site.output()
    with site.slow_network("500kbit"):
        (job,), _ = site.submit("batch", "--nodes=2", "--ntasks-per-node=1", "--",
                                *site.flags(site.prompts(LINES), output))
        wait_for_answers(output)
        victims = [node for node in cluster.nodes if cluster.ranks(node)]
        for victim in victims:
            cluster.kill_slurmd(victim)
        wait_until(lambda: restarts(cluster, job) == 1 and cluster.state(job) == "RUNNING", 180, "a second start")
        assert all(cluster.ranks(victim) for victim in victims), "the first start's ranks ended too early for this test"
    cluster.wait_for(job, seconds=240)
    site.check(output, LINES)
    for victim in victims:
        cluster.kill(victim)
        cluster.revive(victim)


def started_by_mpirun(site):
    """The other launcher: stopped by USR1, then one of its hosts is lost."""
    site.set(launcher="mpirun")
    try:
        two_nodes_stopped_and_killed(site)
    finally:
        site.set()


def array_with_a_lost_node(site):
    """A task of an array loses its node: the merge waits until it has come back and answered its share."""
    cluster, output = site.cluster, site.output()
    with site.slow_network():
        (array, _, merge), _ = site.submit("array", "2", "--nodes=2", "--ntasks-per-node=1", "--",
                                           *site.flags(site.prompts(LINES), output))
        wait_for_answers(f"{output}.shards/1-of-2.jsonl")
        victim = cluster.records(f"{array}_1")[0]["BatchHost"]
        cluster.kill(victim)
        cluster.slurm("scontrol", "update", f"nodename={victim}", "state=down", "reason=power")
        wait_until(lambda: restarts(cluster, f"{array}_1") == 1, 60, "the task queued again")
        assert cluster.state(merge) == "PENDING"
    cluster.wait_for(array, seconds=240)
    cluster.wait_for(merge)
    site.check(output, LINES)
    cluster.revive(victim)


def doctor(site):
    """The doctor of two nodes finds them alike and fit, and names the one whose link is slow."""
    for slow in (False, True):
        if slow:
            site.cluster.slow_link("n1", "20mbit")
        try:
            (job,), _ = site.submit("doctor", "--nodelist=n[0-1]", "--nodes=2", "--", "--model", site.model, "-tp", "2")
            site.cluster.wait_for(job, seconds=90)
        finally:
            site.cluster.slow_link("n1", None)
        with open(f"{WORK}/millrace-doctor-{job}.log") as log:
            said = log.read()
        assert "n0: ranks 0-1" in said and "n1: ranks 2-3" in said and "verdict: healthy" in said, said
        assert slow == ("0.00 GB/s" in said), said


SHORT = [two_nodes_stopped_and_killed, array_merged, cancelled_stays_cancelled, no_endless_requeue, submitted_twice,
         users_mistake_is_final, doctor]
LONG = [time_limit_until_done, preempted, killed_rank, silent_node, killed_slurmd, killed_slurmds,
        started_by_mpirun, array_with_a_lost_node]
