#!/usr/bin/env python3
"""Records what transformers answers with SmolLM2-135M-Instruct, into smollm2_reference.json.

    pip install torch transformers gguf
    python3 test/data/make_smollm2_reference.py SmolLM2-135M-Instruct.Q4_1.gguf

The weights are the GGUF file's, dequantized to float32 by transformers, so that an engine that dequantizes the
same file must give the same greedy tokens. Twenty prompts, 64 tokens each; a prompt is kept only if the two best
logits are at least MIN_GAP apart at every step. End-of-text does not stop a continuation (ignore_eos).
"""

import json
import pathlib
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = pathlib.Path(__file__).resolve().parent
STEPS = 64
PROMPTS = 20
MIN_GAP = 1e-3

TEXTS = [
    "The capital of France is", "Once upon a time, in a village by the sea,", "def fibonacci(n):\n    ",
    "Water boils at", "The three laws of motion are", "List five fruits:\n1.", "import numpy as np\n\n",
    "A mill race is", "In 1969,", "To bake bread, you need", "The opposite of hot is", "Q: What is 2 + 2?\nA:",
    "Dear Sir or Madam,\n\n", "The mitochondria is", "SELECT name FROM", "Photosynthesis is the process by which",
    "#include <stdio.h>\n\nint main(", "My favourite season is", "The speed of light is approximately",
    "Il était une fois", "The history of the Roman Empire", "Once the rain stopped,", "A haiku about autumn:\n",
    "The difference between a list and a tuple in Python is", "Gravity is", "Alice and Bob went to",
    "The human heart has", "class Stack:\n    def __init__(self):", "Steps to change a tyre:\n1.", "The moon",
    "Supercomputers are used for", "An MPI program starts with", "She opened the door and",
    "The stock market", "Translate to Spanish: Good morning.\n", "Everything began when", "The Pacific Ocean",
    "for (int i = 0; i < n; ++i) {", "Thank you for", "Dogs are", "Machine learning is a field of",
]


@torch.no_grad()
def greedy(model, ids):
    cache, tokens, logprobs, gap = None, [], [], float("inf")
    inputs = torch.tensor([ids])
    for _ in range(STEPS):
        output = model(inputs, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        logits = output.logits[0, -1, :].float()
        best = torch.topk(logits, 2)
        gap = min(gap, (best.values[0] - best.values[1]).item())
        if gap < MIN_GAP:
            return None
        token = best.indices[0].item()
        tokens.append(token)
        logprobs.append(round(torch.log_softmax(logits, -1)[token].item(), 5))
        inputs = torch.tensor([[token]])
    return tokens, logprobs, gap


def main(path):
    path = pathlib.Path(path)
    options = dict(gguf_file=path.name)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, **options)
    model = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **options).eval()
    prompts = []
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False)
        answer = greedy(model, ids)
        if answer is not None:
            tokens, logprobs, gap = answer
            prompts.append({"text": text, "prompt_token_ids": ids, "token_ids": tokens,
                            "output_text": tokenizer.decode(tokens), "logprobs": logprobs, "smallest_gap": round(gap, 5)})
        if len(prompts) == PROMPTS:
            break
    if len(prompts) < PROMPTS:
        raise SystemExit(f"only {len(prompts)} prompts have gaps of {MIN_GAP}")
    lines = ",\n".join(json.dumps(p, ensure_ascii=False) for p in prompts)
    (HERE / "smollm2_reference.json").write_text('{"steps": %d, "prompts": [\n%s\n]}\n' % (STEPS, lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
