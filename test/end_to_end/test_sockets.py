"""No socket is opened but MPI's: system calls of a whole job, with chat templates, beside those of a program that does
nothing but MPI. Needs strace, and a system that lets it trace; else it says that it was skipped."""

import collections
import json
import re
import sys
import unittest

from running_job import BINARY, MODELS, Workspace
from traced import lines, run_traced, skip_without_strace

MPI_ALONE = BINARY.parent / "test/end_to_end/mpi_alone"
SOCKET_CALLS = "socket,connect,bind,listen,accept,accept4"
TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"


def calls(folder):
    """What was called, how often: ("socket", "AF_INET, SOCK_STREAM"), ("connect", "AF_UNIX"), ("listen", "")."""
    found = collections.Counter()
    for line in lines(folder):
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
        done = run_traced(ranks, SOCKET_CALLS, folder, BINARY, "--model", MODELS / "llama-tied-bias", "--prompts",
                          self.folder / "prompts.jsonl", "--output", output, "--max-tokens", "4", "--max-model-len", "64",
                          "--chat-template", self.folder / "chat.jinja", *(["-dp", ranks] if ranks else []))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(output.exists())

    def test_a_job_opens_those_of_mpi_alone(self):
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                theirs = self.folder / f"mpi-{ranks}"
                done = run_traced(ranks, SOCKET_CALLS, theirs, MPI_ALONE)
                self.assertEqual(done.returncode, 0, done.stderr)
                ours = self.folder / f"job-{ranks}"
                self.job(ranks, ours)
                self.assertEqual(calls(ours), calls(theirs))

    def test_a_socket_more_is_seen(self):
        """The comparison above can fail."""
        spy = self.folder / "spy"
        program = "import socket, sys; socket.socket().listen(); sys.exit(0)"
        run_traced(0, SOCKET_CALLS, spy, sys.executable, "-c", program)
        self.assertEqual(calls(spy), {("socket", "AF_INET, SOCK_STREAM"): 1, ("listen", ""): 1})


if __name__ == "__main__":
    skip_without_strace()
    unittest.main(verbosity=2)
