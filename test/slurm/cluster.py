"""A cluster on one machine: each host is a network namespace with its own name, address, /dev/shm and link.

Nothing of it can outlive the test. `isolate` starts the test again as the first process of a PID namespace with
private mounts; when that process ends, however it ends, the kernel kills every process of the cluster and drops its
namespaces, links and files with it.
"""

import os
import shutil
import signal
import subprocess
import sys
import time

BASE = "/run/millrace-lab"  # short: a unix socket's path may have 107 characters
SKIPPED = 77  # the exit code that CTest takes for "skipped"

_INSIDE = "MILLRACE_LAB_INSIDE"
_SUBNET = "10.77.0"
_TOOLS = ["ip", "tc", "unshare", "nsenter", "mount"]
# What the first process of a host does before it waits: its name, the cluster's hosts file, its own shared memory
# (Open MPI's vader takes what it finds in a shared one for its own).
_BECOME_HOST = """
hostname "$0" && mount --bind "$1" /etc/hosts && mount -t tmpfs -o size=2g tmpfs /dev/shm && echo ready
exec sleep infinity"""

# ssh's command line: options, the host, and words for the shell there.
_AGENT = """#!/bin/sh
while case $1 in -*) true;; *) false;; esac; do shift; done
host=$1; shift
exec nsenter -t "$(cat BASE/$host.pid)" --net --uts --mount --wd="$PWD" sh -c "$*"
"""


def skip(reason):
    print(f"SKIPPED: {reason}", flush=True)
    sys.exit(SKIPPED)


def isolate(tools=()):
    """Goes on inside fresh PID and mount namespaces; ends with SKIPPED where this machine does not allow that."""
    if os.environ.pop(_INSIDE, None):
        for folder in (BASE, "/run/netns"):
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder], check=True)
        return
    if os.geteuid() != 0:
        skip("a cluster of network namespaces needs root")
    for tool in [*_TOOLS, *tools]:
        if shutil.which(tool) is None:
            skip(f"{tool} was not found")
    for folder in (BASE, "/run/netns"):
        os.makedirs(folder, exist_ok=True)
    enter = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
    allowed = subprocess.run([*enter, "mount", "-t", "tmpfs", "tmpfs", BASE], capture_output=True, text=True)
    if allowed.returncode != 0:
        skip(f"this machine allows no namespaces: {allowed.stderr.strip()}")
    program = [*enter, sys.executable, *sys.argv]
    os.execvpe(program[0], program, {**os.environ, _INSIDE: "1"})


def wait_until(condition, seconds, what):
    """Polls until condition() gives something true, and returns that; fails, naming what, after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.2)


def program_of(pid):
    """The name of the program that a process runs; None when it has ended."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            name, rest = file.read().split("(", 1)[1].rsplit(") ", 1)
        return None if rest.startswith("Z") else name
    except (FileNotFoundError, ProcessLookupError):
        return None


def _kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


class Cluster:
    """A head and nodes n0, n1, ... on one Ethernet bridge."""

    def __init__(self, nodes):
        self.nodes = [f"n{i}" for i in range(nodes)]
        self._holders = {}
        addresses = {"head": f"{_SUBNET}.1"} | {n: f"{_SUBNET}.{10 + i}" for i, n in enumerate(self.nodes)}
        with open(f"{BASE}/hosts", "w") as hosts:
            print("127.0.0.1 localhost", *(f"{a} {n}" for n, a in addresses.items()), sep="\n", file=hosts)
        for host, address in addresses.items():
            self._ip(f"netns add {host}", f"-n {host} link set lo up")
            if host == "head":
                self._ip("-n head link add br0 type bridge", f"-n head addr add {address}/24 dev br0",
                         "-n head link set br0 up")
            else:
                self._ip(f"-n head link add {host} type veth peer name eth0 netns {host}",
                         f"-n head link set {host} master br0 up", f"-n {host} addr add {address}/24 dev eth0",
                         f"-n {host} link set eth0 up")
            self.boot(host)

    @staticmethod
    def _ip(*commands):
        for command in commands:
            subprocess.run(["ip", *command.split()], check=True)

    def boot(self, host):
        """Starts the host's first process, which every other one shares its namespaces with."""
        holder = subprocess.Popen(
            ["ip", "netns", "exec", host, "unshare", "--mount", "--uts", "--propagation", "private", "bash", "-c",
             _BECOME_HOST, host, f"{BASE}/hosts"], stdout=subprocess.PIPE, text=True)
        if holder.stdout.readline() != "ready\n":
            raise RuntimeError(f"host {host} did not start")
        self._holders[host] = holder
        with open(f"{BASE}/{host}.pid", "w") as file:  # for mpirun's agent, below
            print(holder.pid, file=file)

    @staticmethod
    def pids(host):
        """The processes of a host."""
        listed = subprocess.run(["ip", "netns", "pids", host], check=True, capture_output=True, text=True).stdout
        return [int(pid) for pid in listed.split()]

    def kill(self, host):
        """What a power cut does: every process of the host is gone at once."""
        for pid in self.pids(host):
            _kill(pid)
        self._holders.pop(host).wait()

    def sweep(self):
        """Ends what a test left on the hosts."""
        for host, holder in self._holders.items():
            for pid in self.pids(host):
                if pid != holder.pid:
                    _kill(pid)

    def command(self, host, *arguments):
        """The command line that runs these arguments on a host, in the current folder."""
        return ["nsenter", "-t", str(self._holders[host].pid), "--net", "--uts", "--mount", f"--wd={os.getcwd()}",
                *map(str, arguments)]

    def mpirun(self, *arguments):
        """The command line of mpirun on the head. Instead of ssh it runs an agent that enters the host it is given."""
        agent = f"{BASE}/agent"
        if not os.path.exists(agent):
            with open(os.open(agent, os.O_WRONLY | os.O_CREAT, 0o755), "w") as file:
                file.write(_AGENT.replace("BASE", BASE))
        return self.command(
            "head", "env", "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1", "OMP_NUM_THREADS=1", "mpirun",
            "--mca", "plm_rsh_agent", agent, "--map-by", "node", "--bind-to", "none", "--mca", "mpi_yield_when_idle", "1",
            "--oversubscribe", *arguments)

    def run(self, host, *arguments, **options):
        return subprocess.run(self.command(host, *arguments), text=True, **options)

    def start(self, host, *arguments, **options):
        return subprocess.Popen(self.command(host, *arguments), text=True, **options)

    def set_link(self, node, state):
        """Takes a node's link "down" or "up"."""
        self._ip(f"-n {node} link set eth0 {state}")

    def slow_link(self, node, rate):
        """Limits what a node sends to a rate as tc writes it, such as 10mbit; None lifts the limit."""
        subprocess.run(["tc", "-n", node, "qdisc", "del", "dev", "eth0", "root"], stderr=subprocess.DEVNULL)
        if rate is not None:
            subprocess.run(["tc", "-n", node, "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", rate, "burst",
                            "32k", "latency", "400ms"], check=True)
