"""Several hosts without Slurm: mpirun over network namespaces with names and addresses of their own, whose links are cut
and slowed, and whose model folders differ.

    test_hosts.py BUILD [CASE...]

The exit code is 77 where the right to make namespaces is missing.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback

from cluster import BASE, Cluster, isolate, program_of, wait_until

SOURCE = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
WORK = f"{BASE}/work"
MODEL = f"{WORK}/model"
OUTPUT = f"{WORK}/answers.jsonl"
# So that mpirun notices a lost host: otherwise it waits a quarter of an hour for its daemon there.
KEEPALIVE = ["--mca", "oob_tcp_keepalive_time", "5", "--mca", "oob_tcp_keepalive_intvl", "5", "--mca",
             "oob_tcp_keepalive_probes", "2"]


class Job:
    """millrace in two pipeline stages on two hosts; the network of n0 is slow, so that with it a job takes a minute."""

    def __init__(self, cluster, build, *more, lines=1000, hosts="n0:1,n1:1"):
        self.cluster = cluster
        if "--resume" not in more:  # an earlier case's answers would count as this job's
            shutil.rmtree(f"{OUTPUT}.spool", ignore_errors=True)
            for left in (OUTPUT, f"{OUTPUT}.report.h5"):
                if os.path.exists(left):
                    os.remove(left)
        with open(f"{WORK}/prompts.txt", "w") as prompts:
            prompts.writelines(f"Line {i}\n" for i in range(lines))
        self.flags = ["--model", MODEL, "--prompts", f"{WORK}/prompts.txt", "--max-tokens", "24", "--ignore-eos", "--seed",
                      "5", "--max-num-seqs", "16", "--overwrite"]
        self.program = f"{build}/millrace"
        cluster.slow_link("n0", "2mbit")
        with open(f"{WORK}/log", "w") as log:
            self.process = subprocess.Popen(
                cluster.mpirun(*KEEPALIVE, "-H", hosts, "-n", "2", self.program, "-pp", "2", *self.flags, *more, "--output",
                               OUTPUT), stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def log(self):
        with open(f"{WORK}/log", errors="replace") as file:
            return file.read()

    def wait_for_answers(self):
        def some():
            assert self.process.poll() is None, f"ended early\n{self.log()}"
            try:
                return sum(entry.stat().st_size for entry in os.scandir(f"{OUTPUT}.spool")) > 4000
            except FileNotFoundError:
                return False

        wait_until(some, 60, "answers")

    def wait(self, seconds):
        """The exit code of mpirun, and after how many seconds it came."""
        begin = time.monotonic()
        try:
            return self.process.wait(seconds), time.monotonic() - begin
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still there after {seconds} s\n{self.log()}") from None

    def expected(self):
        path = f"{WORK}/expected.jsonl"
        subprocess.run([self.program, *self.flags, "--output", path], check=True, stderr=subprocess.DEVNULL)
        with open(path, "rb") as file:
            return file.read()


def a_short_cut_is_survived(cluster, build):
    job = Job(cluster, build)
    job.wait_for_answers()
    cluster.set_link("n1", "down")
    time.sleep(6)
    cluster.set_link("n1", "up")
    cluster.slow_link("n0", None)
    code, _ = job.wait(120)
    assert code == 0, job.log()
    with open(OUTPUT, "rb") as answers:
        assert answers.read() == job.expected()


def a_cut_ends_the_job_and_names_the_host(cluster, build):
    job = Job(cluster, build)
    job.wait_for_answers()
    cluster.set_link("n1", "down")
    try:
        code, seconds = job.wait(60)
    finally:
        cluster.set_link("n1", "up")
    assert code != 0 and seconds < 30, f"exit code {code} after {seconds:.0f} s\n{job.log()}"
    assert "n1" in job.log().split("info Maximum concurrency")[1], job.log()
    wait_until(lambda: not any(program_of(pid) == "millrace" for pid in cluster.pids("n0") + cluster.pids("n1")), 30,
               "no rank is left on either host")


def a_deep_job_goes_on_on_other_hosts(cluster, build):
    """Hosts share the reading of every byte, whichever they are."""
    job = Job(cluster, build, "--deep", "--grace-period", "2")
    job.wait_for_answers()
    job.process.send_signal(signal.SIGUSR1)
    code, _ = job.wait(60)
    assert code == 75, f"exit code {code}\n{job.log()}"
    job = Job(cluster, build, "--deep", "--resume", hosts="n2:1,n1:1")
    code, _ = job.wait(120)
    assert code == 0 and "answered by 1 earlier run" in job.log(), f"exit code {code}\n{job.log()}"
    with open(OUTPUT, "rb") as answers:
        assert answers.read() == job.expected()


@contextlib.contextmanager
def other_model(cluster, host):
    """The model's folder has other files on one host."""
    cluster.run(host, "mount", "--bind", f"{SOURCE}/test/data/models/llama-f16", MODEL, check=True)
    try:
        yield
    finally:
        cluster.run(host, "umount", MODEL, check=True)


def another_model_on_one_host_is_named(cluster, build):
    with other_model(cluster, "n1"):
        job = Job(cluster, build)
        code, _ = job.wait(60)
    assert code == 2, f"exit code {code}\n{job.log()}"
    assert "n1" in job.log() and "--model" in job.log(), job.log()


def doctor(cluster, build, *flags, keepalive=KEEPALIVE):
    """What the doctor of three hosts says, and its exit code."""
    done = subprocess.run(
        cluster.mpirun(*keepalive, "-H", "n0:1,n1:1,n2:1", "-n", "3", f"{build}/millrace-doctor", *flags),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    return done.returncode, done.stdout


def the_doctor_names_a_slow_host(cluster, build):
    for _ in range(3):  # whatever else keeps this machine's cores from one rank makes its host slow in earnest
        code, said = doctor(cluster, build, "--strict")
        if "host n2: " not in said:
            break
    assert "host n2: " not in said and "quarter of an hour" not in said, said
    cluster.slow_link("n2", "20mbit")
    try:
        code, said = doctor(cluster, build, "--strict")
    finally:
        cluster.slow_link("n2", None)
    assert code == 1 and "from and to host n2: " in said, f"exit code {code}\n{said}"


def the_doctor_names_a_host_with_another_model(cluster, build):
    with other_model(cluster, "n1"):
        code, said = doctor(cluster, build, "--model", MODEL)
    failures = [line for line in said.splitlines() if "model" in line and "n1" in line]
    assert code == 1 and failures, f"exit code {code}\n{said}"


def the_doctor_names_an_mpirun_that_waits_for_lost_hosts(cluster, build):
    code, said = doctor(cluster, build, keepalive=[])
    assert code == 0 and "warning: mpirun waits for up to a quarter of an hour" in said, f"exit code {code}\n{said}"


CASES = [a_short_cut_is_survived, a_deep_job_goes_on_on_other_hosts, a_cut_ends_the_job_and_names_the_host,
         another_model_on_one_host_is_named, the_doctor_names_a_slow_host, the_doctor_names_a_host_with_another_model,
         the_doctor_names_an_mpirun_that_waits_for_lost_hosts]


def main():
    build = os.path.abspath(sys.argv[1])
    names = sys.argv[2:]
    isolate(["mpirun"])
    shutil.copytree(f"{SOURCE}/test/data/models/llama-tied-bias", MODEL)
    cluster = Cluster(3)
    os.chdir(WORK)
    failed = 0
    for case in CASES:
        if names and case.__name__ not in names:
            continue
        begin = time.monotonic()
        try:
            case(cluster, build)
            print(f"passed {case.__name__} in {time.monotonic() - begin:.0f} s", flush=True)
        except Exception:
            traceback.print_exc()
            print(f"FAILED {case.__name__}", flush=True)
            failed += 1
        cluster.slow_link("n0", None)
        cluster.sweep()
    sys.exit(1 if failed else 0)


main()
