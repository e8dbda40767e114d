#!/usr/bin/env python3
"""Does a long prompt file take more memory than a short one?

    python3 bench/throughput/memory.py build/cpu-release/millrace --model test/data/models/gpt2 [--ranks 2] [-- flags]

Runs the program on a file of --short prompts (1,000) and on one of --long prompts (1,000,000), of one token each, and
prints each rank's peak resident memory and the growth. Fails when a rank grows by more than --limit-mib (64).
Method: getrusage of each rank, taken by this script around it, after the rank has ended.
"""

import argparse
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time


def write_prompts(path, lines):
    with open(path, "w", encoding="utf-8") as out:
        for i in range(lines):
            out.write(f'{{"id": "{i}", "prompt": "Number {i} of many.", "max_tokens": 1}}\n')


def run_rank(folder, command):
    """One rank: runs the program and writes down its peak memory in KiB."""
    code = subprocess.run(command, check=False).returncode
    rank = os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMIX_RANK", "0"))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    (pathlib.Path(folder) / rank).write_text(str(peak))
    return code


def run(options, lines, folder):
    prompts = folder / f"{lines}.jsonl"
    peaks = folder / f"peaks-{lines}"
    peaks.mkdir()
    write_prompts(prompts, lines)
    launcher = [] if options.ranks == 1 else [
        "mpirun", "-n", str(options.ranks), "--oversubscribe", "--bind-to", "none"]
    command = launcher + [sys.executable, __file__, "--rank", str(peaks), options.program,
                          "--model", options.model, "--prompts", str(prompts),
                          "--output", str(folder / f"{lines}.{options.format}")] + options.flags
    started = time.monotonic()
    subprocess.run(command, check=True)
    seconds = time.monotonic() - started
    return {int(file.name): int(file.read_text()) / 1024 for file in peaks.iterdir()}, seconds


def main():
    if sys.argv[1:2] == ["--rank"]:
        return run_rank(sys.argv[2], sys.argv[3:])
    arguments = sys.argv[1:]
    flags = []
    if "--" in arguments:
        flags = arguments[arguments.index("--") + 1 :]
        arguments = arguments[: arguments.index("--")]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program")
    parser.add_argument("--model", required=True)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--short", type=int, default=1000)
    parser.add_argument("--long", type=int, default=1_000_000)
    parser.add_argument("--format", default="h5", choices=["h5", "jsonl"])
    parser.add_argument("--limit-mib", type=float, default=64)
    options = parser.parse_args(arguments)
    options.flags = flags

    with tempfile.TemporaryDirectory(prefix="millrace-memory-") as folder:
        short, _ = run(options, options.short, pathlib.Path(folder))
        long, seconds = run(options, options.long, pathlib.Path(folder))
    print(f"rank,peak_mib_{options.short}_prompts,peak_mib_{options.long}_prompts,growth_mib")
    for rank in sorted(long):
        print(f"{rank},{short[rank]:.1f},{long[rank]:.1f},{long[rank] - short[rank]:.1f}")
    print(f"# {options.long / seconds:.0f} prompts/s on {options.ranks} ranks, start included")
    worst = max(long[rank] - short[rank] for rank in long)
    return 0 if worst <= options.limit_mib else f"grew by {worst:.1f} MiB, more than {options.limit_mib:.0f}"


if __name__ == "__main__":
    sys.exit(main())
