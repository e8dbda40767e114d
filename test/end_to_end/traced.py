"""Programs under strace, with a file of system calls for each of their processes."""

import os
import shutil
import subprocess
import sys

from running_job import MPIEXEC


def skip_without_strace():
    """Ends the test, as skipped, where there is no strace or the system lets no process trace another."""
    if shutil.which("strace") is None:
        print("SKIPPED: strace was not found")
        sys.exit(77)
    if subprocess.run(["strace", "-f", "-o", os.devnull, "true"], capture_output=True).returncode != 0:
        print("SKIPPED: this system lets no process trace another")
        sys.exit(77)


def run_traced(ranks, calls, folder, program, *arguments):
    """Every rank (0: without mpirun) under strace, which notes these system calls in files of the folder."""
    folder.mkdir()
    launcher = [MPIEXEC, "-n", str(ranks), "--oversubscribe", "--bind-to", "none"] if ranks else []
    trace = ["strace", "-f", "-ff", "-qq", "-s", "4096", "-e", f"trace={calls}", "-e", "signal=none", "-o", folder / "trace"]
    return subprocess.run([str(word) for word in [*launcher, *trace, program, *arguments]], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"})


def lines(folder):
    """What all processes called."""
    return [line for path in sorted(folder.iterdir()) for line in path.read_text(errors="replace").splitlines()]
