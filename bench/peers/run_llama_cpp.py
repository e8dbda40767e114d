#!/usr/bin/env python3
"""llama.cpp on a prompt file through its batched path: every prompt is a sequence of one context, greedy.

    python3 bench/peers/run_llama_cpp.py MODEL.gguf PROMPTS.jsonl MAX_TOKENS THREADS

Prints one JSON line: seconds (model already loaded), prompt and output tokens. End-of-text does not stop a
sequence, so that every engine does the same work.
"""

import json
import sys
import time

import llama_cpp
import numpy

BATCH = 2048


def tokenize(vocabulary, text):
    data = text.encode()
    tokens = (llama_cpp.llama_token * (len(data) + 8))()
    count = llama_cpp.llama_tokenize(vocabulary, data, len(data), tokens, len(tokens), False, True)
    return list(tokens[:count])


def add(batch, token, position, sequence, wants_logits):
    i = batch.n_tokens
    batch.token[i] = token
    batch.pos[i] = position
    batch.n_seq_id[i] = 1
    batch.seq_id[i][0] = sequence
    batch.logits[i] = wants_logits
    batch.n_tokens += 1


def main(model_path, prompts_path, max_tokens, threads):
    max_tokens, threads = int(max_tokens), int(threads)
    llama_cpp.llama_backend_init()
    silence = llama_cpp.llama_log_callback(lambda level, text, user_data: None)
    llama_cpp.llama_log_set(silence, None)
    model = llama_cpp.llama_model_load_from_file(model_path.encode(), llama_cpp.llama_model_default_params())
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    vocabulary_size = llama_cpp.llama_vocab_n_tokens(vocabulary)
    prompts = [tokenize(vocabulary, json.loads(line)["prompt"]) for line in open(prompts_path)]
    params = llama_cpp.llama_context_default_params()
    # Every sequence has a cache of its own: in one cache for all, each token's attention would go over all 164 prompts.
    params.n_ctx = len(prompts) * (max(map(len, prompts)) + max_tokens + 1)
    params.n_batch = params.n_ubatch = BATCH
    params.n_seq_max = len(prompts)
    params.n_threads = params.n_threads_batch = threads
    params.kv_unified = False
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise SystemExit("llama.cpp made no context")

    def step(batch):
        """Runs a batch; returns the greedy tokens of the rows that asked for logits, in order."""
        status = llama_cpp.llama_decode(context, batch)
        if status != 0:
            raise SystemExit(f"llama_decode failed with {status}")
        rows = sum(batch.logits[i] for i in range(batch.n_tokens))
        logits = numpy.ctypeslib.as_array(llama_cpp.llama_get_logits(context), shape=(rows, vocabulary_size))
        return logits.argmax(axis=1).tolist()

    batch = llama_cpp.llama_batch_init(BATCH, 0, 1)
    start = time.perf_counter()
    last = [None] * len(prompts)
    waiting = []
    batch.n_tokens = 0
    for sequence, prompt in enumerate(prompts):
        if batch.n_tokens + len(prompt) > BATCH:
            for owner, token in zip(waiting, step(batch)):
                last[owner] = token
            waiting, batch.n_tokens = [], 0
        for position, token in enumerate(prompt):
            add(batch, token, position, sequence, position + 1 == len(prompt))
        waiting.append(sequence)
    for owner, token in zip(waiting, step(batch)):
        last[owner] = token
    for generated in range(1, max_tokens):
        batch.n_tokens = 0
        for sequence, prompt in enumerate(prompts):
            add(batch, last[sequence], len(prompt) + generated - 1, sequence, True)
        last = step(batch)
    seconds = time.perf_counter() - start
    print(json.dumps({"engine": "llama.cpp", "version": llama_cpp.__version__, "seconds": seconds,
                      "prompt_tokens": sum(map(len, prompts)), "output_tokens": len(prompts) * max_tokens}))


if __name__ == "__main__":
    main(*sys.argv[1:])
