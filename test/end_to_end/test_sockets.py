"""No socket is opened but MPI's: system calls of a whole job, with chat templates, beside those of a program that does
nothing but MPI. Needs strace, and a system that lets it trace; else it says that it was skipped."""

import collections
import json
import os
import re
import shutil
import subprocess
import sys
import unittest

from running_job import BINARY, MODELS, MPIEXEC, Workspace

MPI_ALONE = BINARY.parent / "test/end_to_end/mpi_alone"
TRACE = ["strace", "-f", "-qq", "-e", "trace=socket,connect,bind,listen,accept,accept4", "-e", "signal=none"]
TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"


def traces(folder):
    return "".join(path.read_text(errors="replace") for path in sorted(folder.iterdir()))


def run_traced(ranks, folder, program, *arguments):
    """Every rank under strace, with a file of its own for each process in the folder."""
    folder.mkdir()
    launcher = [MPIEXEC, "-n", str(ranks), "--oversubscribe", "--bind-to", "none"] if ranks else []
    return subprocess.run([str(word) for word in [*launcher, *TRACE, "-ff", "-o", folder / "trace", program, *arguments]],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})


def calls(folder):
    """What was called, how often: ("socket", "AF_INET, SOCK_STREAM"), ("connect", "AF_UNIX"), ("listen", "")."""
    found = collections.Counter()
    for line in traces(folder).splitlines():
        call = re.match(r"(socket|connect|bind|listen|accept4?)\((.*)", line)
        if not call:
            continue
        name, rest = call.groups()
        if name == "socket":
            family, kind = (word.strip() for word in rest.split(",")[:2])
            what = f"{family}, {kind.split('|')[0]}"
        else:
            family = re.search(r"sa_family=(\w+)", rest)
            what = family.group(1) if family else ""
        found[name, what] += 1
    return found


class Sockets(unittest.TestCase):
    def setUp(self):
        workspace = Workspace()
        self.folder = workspace.__enter__()
        self.addCleanup(workspace.__exit__, None, None, None)
        (self.folder / "chat.jinja").write_text(TEMPLATE)
        with (self.folder / "prompts.jsonl").open("w") as file:
            for i in range(20):
                file.write(json.dumps({"messages": [{"role": "user", "content": f"hello {i}"}]}) + "\n")
                file.write(json.dumps({"prompt": "a word"}) + "\n")

    def job(self, ranks, folder):
        output = self.folder / f"answers-{ranks}.h5"
        done = run_traced(ranks, folder, BINARY, "--model", MODELS / "llama-tied-bias", "--prompts",
                          self.folder / "prompts.jsonl", "--output", output, "--max-tokens", "4", "--max-model-len", "64",
                          "--chat-template", self.folder / "chat.jinja", *(["-dp", ranks] if ranks else []))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(output.exists())

    def test_a_job_opens_those_of_mpi_alone(self):
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                theirs = self.folder / f"mpi-{ranks}"
                done = run_traced(ranks, theirs, MPI_ALONE)
                self.assertEqual(done.returncode, 0, done.stderr)
                ours = self.folder / f"job-{ranks}"
                self.job(ranks, ours)
                self.assertEqual(calls(ours), calls(theirs))

    def test_a_socket_more_is_seen(self):
        """The comparison above can fail."""
        spy = self.folder / "spy"
        program = "import socket, sys; socket.socket().listen(); sys.exit(0)"
        run_traced(0, spy, sys.executable, "-c", program)
        self.assertEqual(calls(spy), {("socket", "AF_INET, SOCK_STREAM"): 1, ("listen", ""): 1})


if __name__ == "__main__":
    if shutil.which("strace") is None:
        print("SKIPPED: strace was not found")
        sys.exit(77)
    if subprocess.run(["strace", "-f", "-o", os.devnull, "true"], capture_output=True).returncode != 0:
        print("SKIPPED: this system lets no process trace another")
        sys.exit(77)
    unittest.main(verbosity=2)
