#!/usr/bin/env python3
"""vLLM on a prompt file through its offline API (CPU backend), greedy.

    python3 bench/peers/run_vllm.py MODEL_FOLDER PROMPTS.jsonl MAX_TOKENS DTYPE

Prints one JSON line: seconds (engine already started, one warm-up prompt done), prompt and output tokens.
End-of-text does not stop a sequence, so that every engine does the same work.
"""

import json
import os
import sys
import time

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "4")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import vllm  # noqa: E402: it reads the environment when it is imported


def main(model, prompts_path, max_tokens, dtype):
    prompts = [json.loads(line)["prompt"] for line in open(prompts_path)]
    started = time.perf_counter()
    engine = vllm.LLM(model=model, dtype=dtype, max_model_len=2048, max_num_seqs=256, max_num_batched_tokens=4096,
                      enable_prefix_caching=False)
    sampling = vllm.SamplingParams(temperature=0, max_tokens=int(max_tokens), ignore_eos=True, detokenize=True)
    engine.generate(["warm up"], sampling, use_tqdm=False)
    start = time.perf_counter()
    outputs = engine.generate(prompts, sampling, use_tqdm=False)
    seconds = time.perf_counter() - start
    print(json.dumps({"engine": "vLLM", "version": vllm.__version__, "seconds": seconds, "start_up_seconds": start - started,
                      "prompt_tokens": sum(len(o.prompt_token_ids) for o in outputs),
                      "output_tokens": sum(len(o.outputs[0].token_ids) for o in outputs)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
