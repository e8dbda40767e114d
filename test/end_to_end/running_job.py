"""A millrace job that a test watches while it runs: its log, its ranks' processes, its journal, its end."""

import ctypes
import json
import os
import pathlib
import signal
import struct
import subprocess
import tempfile
import threading
import time
import uuid

BINARY = pathlib.Path(os.environ["TEST_BINARY_DIR"]) / "millrace"
MPIEXEC = os.environ["TEST_MPIEXEC"]
MODELS = pathlib.Path(os.environ["TEST_DATA"]) / "models"
MARK = "TEST_JOB"  # in the environment of a job's processes


def slow_model(folder):
    """A model with made-up weights (--load-format dummy) whose steps take tens of milliseconds: a prompt of
    it can be caught while it runs."""
    source = MODELS / "llama-tied-bias"
    config = json.loads((source / "config.json").read_text())
    config.update(hidden_size=768, intermediate_size=3072, num_hidden_layers=10, head_dim=64,
                  num_attention_heads=12, num_key_value_heads=12, max_position_embeddings=2048)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    return folder


class Job:
    """mpirun with so many ranks of millrace, 0 for millrace alone; every line of its stderr is kept."""

    def __init__(self, ranks, arguments, environment=()):
        self.mark = uuid.uuid4().hex
        launcher = [MPIEXEC, "-n", str(ranks), "--oversubscribe", "--bind-to", "none"] if ranks > 0 else []
        command = [*launcher, BINARY]
        self.process = subprocess.Popen(
            [str(word) for word in [*command, *arguments]],
            env={**os.environ, "OMP_NUM_THREADS": "1", **dict(environment), MARK: self.mark},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
            start_new_session=True)
        self.lines = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in self._processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stderr.close()

    def _processes(self):
        """Of this job, mpirun aside: pid -> rank."""
        found = {}
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                words = (entry / "environ").read_bytes().split(b"\0")
                program = os.readlink(entry / "exe")
            except OSError:
                continue
            if f"{MARK}={self.mark}".encode() not in words or program != str(BINARY.resolve()):
                continue
            rank = [word for word in words if word.startswith(b"OMPI_COMM_WORLD_RANK=")]
            found[int(entry.name)] = int(rank[0].split(b"=")[1]) if rank else 0
        return found

    def pid(self, rank):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for pid, of in self._processes().items():
                if of == rank:
                    return pid
            time.sleep(0.05)
        raise AssertionError(f"no process of rank {rank}; the job said: {self.log()}")

    def send(self, rank, number):
        os.kill(self.pid(rank), number)

    def freeze_main_thread(self, rank):
        """The main thread of a rank stands still while its other threads go on. False where the system forbids
        that. The thread goes on when the caller's thread ends."""
        libc = ctypes.CDLL(None, use_errno=True)
        libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        seize, interrupt = 0x4206, 0x4207
        pid = self.pid(rank)
        return libc.ptrace(seize, pid, None, None) == 0 and libc.ptrace(interrupt, pid, None, None) == 0

    def log(self):
        return "\n".join(self.lines)

    def wait_for(self, holds, what, seconds=60):
        """Until holds() is true while the job runs."""
        deadline = time.monotonic() + seconds
        while not holds():
            if self.process.poll() is not None:
                raise AssertionError(f"the job ended before {what}: {self.log()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s: {what}: {self.log()}")
            time.sleep(0.01)

    def wait_for_line(self, text, seconds=60):
        self.wait_for(lambda: text in self.log(), f"the line '{text}'", seconds)

    def end(self, seconds=60):
        """Waits for its end; answers the exit code and how long it took."""
        start = time.monotonic()
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds} s: {self.log()}") from None
        self.reader.join()
        return code, time.monotonic() - start

    def complaints(self):
        """What the program says when it fails: one line, if all is well."""
        return [line for line in self.lines if line.startswith("millrace: ")]


def answers(output):
    """How many results the journal holds (core/io/spool.hpp)."""
    count = 0
    for file in pathlib.Path(f"{output}.spool").glob("*.spool"):
        frames = file.read_bytes()[8:]
        while len(frames) >= 16:
            kind, length = struct.unpack_from("<II", frames)
            count += kind == 2 and len(frames) >= 16 + length
            frames = frames[16 + length:]
    return count


class Workspace(tempfile.TemporaryDirectory):
    """A folder that disappears; as a context manager it is a path."""

    def __enter__(self):
        return pathlib.Path(super().__enter__())
