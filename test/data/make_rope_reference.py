#!/usr/bin/env python3
"""Makes rope_reference.json: cosines and sines of transformers' LlamaRotaryEmbedding for every kind of
rope scaling, at a few positions.

    pip install torch transformers
    python3 test/data/make_rope_reference.py
"""

import json
import pathlib

import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

MAX_POSITIONS = 2048
POSITIONS = [0, 1, 7, 100, 1000, 2047]
LONG_POSITIONS = POSITIONS + [5999]
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}
CASES = {
    "default": ({"rope_type": "default"}, POSITIONS),
    "theta": ({"rope_type": "default", "rope_theta": 500000.0}, POSITIONS),
    "linear": ({"rope_type": "linear", "factor": 2.5}, POSITIONS),
    "dynamic within": ({"rope_type": "dynamic", "factor": 2.0}, POSITIONS),
    "dynamic beyond": ({"rope_type": "dynamic", "factor": 2.0}, LONG_POSITIONS),
    "llama3": (LLAMA3, LONG_POSITIONS),
    "yarn": (YARN, LONG_POSITIONS),
    "yarn attention_factor": (YARN | {"attention_factor": 1.3}, POSITIONS),
    "yarn mscale": (YARN | {"mscale": 0.7, "mscale_all_dim": 1.0}, POSITIONS),
    "yarn betas": (YARN | {"beta_fast": 16.0, "beta_slow": 2.0, "truncate": False}, POSITIONS),
}


def main() -> None:
    cases = []
    for name, (parameters, positions) in CASES.items():
        parameters = {"rope_theta": 10000.0} | parameters
        config = LlamaConfig(
            hidden_size=48,
            num_attention_heads=2,
            head_dim=24,
            max_position_embeddings=MAX_POSITIONS,
            rope_parameters=dict(parameters),
        )
        cos, sin = LlamaRotaryEmbedding(config)(torch.zeros(1), torch.tensor([positions]))
        half = config.head_dim // 2
        cases.append(
            {
                "name": name,
                "config": {
                    "max_position_embeddings": MAX_POSITIONS,
                    "rope_parameters": parameters,
                },
                "head_dim": config.head_dim,
                "positions": positions,
                "cos": [[round(x, 8) for x in row[:half]] for row in cos[0].tolist()],
                "sin": [[round(x, 8) for x in row[:half]] for row in sin[0].tolist()],
            }
        )
    path = pathlib.Path(__file__).parent / "rope_reference.json"
    path.write_text(json.dumps({"cases": cases}, indent=None, separators=(",", ":")) + "\n")
    print(path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
