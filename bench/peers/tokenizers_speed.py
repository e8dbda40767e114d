#!/usr/bin/env python3
"""Tokenizing speed on one thread: millrace and Hugging Face's `tokenizers`, same text, same run.

    pip install tokenizers
    python3 bench/peers/tokenizers_speed.py build/cpu-release/bench/text/bench_tokenizer

The text is prose and code in prompts of about 4 KB: this repository's sources and documents, the
documentation that Python's own modules carry, and (if given) files named after the benchmark. The
tokenizers are trained on it: GPT-2, Llama 3, Qwen 2 and SmolLM2 style byte-level ones and a Llama 2
style one. `tokenizers` is run by its batch calls with one thread, with and without offsets; its
faster one counts. Rounds of the two alternate, and the medians of their CPU times are compared: other
work on the machine disturbs those least. Token ids are compared by a checksum first.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import tokenizers  # noqa: E402  (after its environment is set)
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROUNDS = 5
VOCABULARY = 32_000

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def prose_of(source):
    """The doc strings of a Python file: English, mostly."""
    import ast
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]
    return "\n\n".join(text for text in texts if len(text) > 80)


def make_prompts(extra_files):
    texts = []
    for folder in ("apps", "bench", "comm", "core", "kernels", "test"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".cpp", ".hpp", ".py", ".md", ".cu"):
                texts.append(path.read_text(encoding="utf-8"))
    for path in sorted(pathlib.Path(sysconfig.get_path("stdlib")).glob("*.py")):
        texts.append(prose_of(path.read_text(encoding="utf-8", errors="replace")))
    for path in extra_files:
        texts.append(pathlib.Path(path).read_text(encoding="utf-8", errors="replace"))
    prompts = []
    for text in texts:
        text = text.replace("\0", "")
        while text:
            end = text.find("\n", 4000) + 1 or len(text)
            prompts.append(text[:end])
            text = text[end:]
    return prompts


def byte_level(prompts, pre_tokenizer, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(prompts, trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return tokenizer


def words(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def llama2(prompts):
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    tokenizer.train_from_iterator(prompts, trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<unk>", "<s>", "</s>"] + byte_tokens, show_progress=False))
    state = json.loads(tokenizer.to_str())
    state["pre_tokenizer"] = None
    state["added_tokens"] = state["added_tokens"][:3]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(),
                                           decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return tokenizer


def make_tokenizers(prompts):
    byte_level_step = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = pre_tokenizers.Digits(individual_digits=True)
    return {
        "gpt2": byte_level(prompts, byte_level_step),
        "smollm": byte_level(prompts, pre_tokenizers.Sequence([digits, byte_level_step])),
        "llama3": byte_level(prompts, words(LLAMA3), ignore_merges=True),
        "qwen2": byte_level(prompts, words(LLAMA3.replace("{1,3}", ""))),
        "o200k": byte_level(prompts, words(O200K)),
        "llama2": llama2(prompts),
    }


def millrace_round(benchmark, environment, name):
    out = subprocess.run([benchmark, f"--benchmark_filter=encode/{name}$", "--benchmark_format=json",
                          "--benchmark_min_time=0.5"], env=environment, check=True, capture_output=True)
    (row,) = json.loads(out.stdout)["benchmarks"]
    return row["tokens"] / row["tokens_per_second"], int(row["tokens"]), int(row["checksum"])


def peer_round(tokenizer, prompts):
    seconds = []
    for call in (tokenizer.encode_batch, tokenizer.encode_batch_fast):
        begin = time.process_time()
        call(prompts, add_special_tokens=False)
        seconds.append(time.process_time() - begin)
    return min(seconds)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    prompts = make_prompts(sys.argv[2:])
    total = sum(len(prompt.encode("utf-8")) for prompt in prompts)
    print(f"tokenizers {tokenizers.__version__}, {len(prompts)} prompts, {total / 1e6:.2f} MB, one thread each, "
          f"median of {ROUNDS} alternating rounds")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "prompts").write_bytes(b"".join(p.encode("utf-8") + b"\0" for p in prompts))
        environment = dict(os.environ, MILLRACE_BENCH_TOKENIZERS=str(folder),
                           MILLRACE_BENCH_PROMPTS=str(folder / "prompts"))
        print("MB and tokens per second of CPU time")
        print(f"{'tokenizer':10} {'tokens':>9} {'millrace MB/s':>14} {'tokens/s':>12} {'peer MB/s':>10} "
              f"{'tokens/s':>12} {'ratio':>6}")
        for name, tokenizer in make_tokenizers(prompts).items():
            (folder / name).mkdir()
            tokenizer.save(str(folder / name / "tokenizer.json"))
            tokenizer = Tokenizer.from_file(str(folder / name / "tokenizer.json"))
            checksum = count = 0
            for encoding in tokenizer.encode_batch(prompts, add_special_tokens=False):
                for token in encoding.ids:
                    checksum = (checksum * 31 + token) % 1_000_000_007
                count += len(encoding.ids)
            ours, theirs = [], []
            for _ in range(ROUNDS):
                seconds, tokens, sum_of_ids = millrace_round(sys.argv[1], environment, name)
                if (tokens, sum_of_ids) != (count, checksum):
                    sys.exit(f"{name}: the token ids differ")
                ours.append(seconds)
                theirs.append(peer_round(tokenizer, prompts))
            our, their = statistics.median(ours), statistics.median(theirs)
            print(f"{name:10} {count:9} {total / our / 1e6:14.1f} {count / our:12,.0f} {total / their / 1e6:10.1f} "
                  f"{count / their:12,.0f} {their / our:6.1f}")


if __name__ == "__main__":
    main()
