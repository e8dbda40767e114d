#!/usr/bin/env python3
"""Makes the tiny checkpoints under models/ and records what transformers computes with them.

    pip install torch transformers tokenizers safetensors gguf
    python3 test/data/make_reference.py            # every fixture
    python3 test/data/make_reference.py gpt2 opt-post

Each folder models/NAME holds a checkpoint as its maker would publish it (config.json, one or more
safetensors files or one GGUF file, tokenizer.json) and reference.json: for each prompt its text and token
ids, the greedy continuation, and at each step the log-probabilities of the chosen token and of the five
best. The reference runs in float32 on the checkpoint's own (perhaps bfloat16) weights.

Sizes are odd on purpose: a vocabulary that no rank count divides, head_dim that is not hidden/heads,
layers that do not divide by the stages, nine query heads in three KV groups. Weights are drawn wide, so that
continuations differ from prompt to prompt, and a prompt is kept only if the two best logits are at least
MIN_GAP apart at every step: then rounding cannot change a token, whatever the grid.

The llama-fp8 fixtures are checkpoints in fp8 as llm-compressor (channel, static) and DeepSeek (block) publish
them; their reference multiplies the dequantized weights with dequantized activations, in float32. Activations
are rounded to 4 bits on their way, and a difference in the last bit of a sum may move one of them by a step, so
fewer steps, wider gaps and the file's own "logprob_tolerance" hold for them.
"""

import json
import pathlib
import shutil
import sys

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MistralConfig,
                          MistralForCausalLM, OPTConfig, OPTForCausalLM, Qwen2Config, Qwen2ForCausalLM,
                          Qwen3Config, Qwen3ForCausalLM, AutoModelForCausalLM)

HERE = pathlib.Path(__file__).resolve().parent
VOCABULARY = 387
STEPS = 24
PROMPTS = 8
MIN_GAP = 2e-3
EOS = 2

TEXT = """The mill stands where the river narrows. A race of water turns the wheel, the wheel turns the stone,
and what was poured in at the top comes out at the bottom as flour. Nobody counts the grains; the miller counts
the sacks. When the river is low the mill runs slowly, and when it floods the gate is closed. def main(): return 0
for i in range(10): print(i). One prompt, two prompts, three prompts; a batch of prompts streams through the model,
layer by layer, rank by rank, and the answers are written in the order in which the questions were asked."""

PROMPT_TEXTS = [
    "The mill", "A race of water turns", "for i in range(10):", "Nobody counts", "one", "Zwölf Boxkämpfer jagen",
    "def main(): return", "the river is low and the gate is", "layer by layer, rank by rank, layer by layer, rank by",
    "日本語のテキスト", "answers", "When the river is low the mill runs slowly, and when it floods the gate is closed. " * 2,
    "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22", "stone and wheel and stone and wheel", "x", "Q: why? A:",
    "\n\n\n", "wheel  turns   the    stone", "prompts; prompts; prompts", "the questions were asked in the order",
    "sacks of flour", "The quick brown fox", "0", "millrace", "and and and and", "poured in at the top", "water",
    "counts the grains", "(a) [b] {c}", "low", "high", "flood",
]


def make_tokenizer():
    """A byte-level BPE of VOCABULARY - 7 tokens: the model's last ids have no token, as in many published models."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY - 7, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  special_tokens=["<|pad|>", "<|start|>", "<|end|>"], show_progress=False)
    tokenizer.train_from_iterator(TEXT.splitlines(), trainer)
    return tokenizer


def widen(model, seed, gain=1.6):
    """Redraws every parameter: matrices wide enough to be chaotic, norms near one, biases near zero."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            is_scale = name.endswith("weight")
            parameter.data = (1.0 + 0.1 * values) if is_scale else 0.1 * values
        elif "embed" in name or "wte" in name or "wpe" in name:
            parameter.data = 0.8 * values
        else:
            fan_in = parameter.shape[0] if "c_" in name else parameter.shape[1]
            parameter.data = values * (gain / fan_in ** 0.5)
    model.tie_weights()


@torch.no_grad()
def greedy(model, prompt, steps):
    """Greedy continuation without a cache: every step is one plain forward pass over the whole sequence."""
    ids = list(prompt)
    tokens, logprobs, top, gap = [], [], [], float("inf")
    for _ in range(steps):
        logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1, :].float()
        best = torch.topk(logits, 5)
        gap = min(gap, (best.values[0] - best.values[1]).item())
        scores = torch.log_softmax(logits, -1)
        token = best.indices[0].item()
        tokens.append(token)
        logprobs.append(round(scores[token].item(), 6))
        top.append([[t.item(), round(scores[t].item(), 6)] for t in best.indices])
        ids.append(token)
    return tokens, logprobs, top, gap


def write_reference(folder, model, tokenizer, steps=STEPS, min_gap=MIN_GAP, tolerance=None):
    model.eval()
    prompts = []
    for text in PROMPT_TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        tokens, logprobs, top, gap = greedy(model, ids, steps)
        if gap >= min_gap:
            prompts.append({"text": text, "prompt_token_ids": ids, "token_ids": tokens, "output_text":
                            tokenizer.decode(tokens), "logprobs": logprobs, "top_logprobs": top, "smallest_gap": round(gap, 6)})
        if len(prompts) == PROMPTS:
            break
    if len(prompts) < PROMPTS:
        raise SystemExit(f"{folder.name}: only {len(prompts)} of {len(PROMPT_TEXTS)} prompts have gaps of {min_gap}")
    distinct = {tuple(p["token_ids"]) for p in prompts}
    if len(distinct) < PROMPTS:
        raise SystemExit(f"{folder.name}: {PROMPTS} prompts have only {len(distinct)} distinct continuations")
    lines = ",\n".join(json.dumps(p, ensure_ascii=False) for p in prompts)
    stated = "" if tolerance is None else ' "logprob_tolerance": %g,' % tolerance
    (folder / "reference.json").write_text('{"steps": %d,%s "prompts": [\n%s\n]}\n' % (steps, stated, lines))


def transformers_4_spelling(folder):
    """Rewrites config.json as transformers 4 wrote it: torch_dtype, rope_theta, rope_scaling."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.46.0"
    rope = config.pop("rope_parameters", None)
    if rope is not None:
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def common(**more):
    return dict(vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=EOS, pad_token_id=0, **more)


def llama(**more):
    sizes = dict(hidden_size=63, intermediate_size=101, num_hidden_layers=5, num_attention_heads=9,
                 num_key_value_heads=3, head_dim=16, max_position_embeddings=256)
    return LlamaForCausalLM(LlamaConfig(**common(**{**sizes, **more})))


def rope(kind, **more):
    return {"rope_type": kind, "rope_theta": 10000.0, **more}


# name -> (model, how it is saved: dtype, shard size, spelling of config.json).
FIXTURES = {
    "llama-tied-bias": lambda: (llama(tie_word_embeddings=True, attention_bias=True, mlp_bias=True), {}),
    "llama-bf16-sharded": lambda: (
        llama(rope_parameters=rope("llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                   original_max_position_embeddings=32)),
        {"dtype": torch.bfloat16, "max_shard_size": "120KB"}),
    "llama-f16": lambda: (llama(num_hidden_layers=3), {"dtype": torch.float16, "spelling": 4}),
    "llama-linear": lambda: (llama(rope_parameters=rope("linear", factor=2.5), num_hidden_layers=3), {"spelling": 4}),
    "llama-dynamic": lambda: (llama(rope_parameters=rope("dynamic", factor=2.0), num_hidden_layers=3), {}),
    "llama-yarn": lambda: (
        llama(rope_parameters=rope("yarn", factor=4.0, original_max_position_embeddings=16), num_hidden_layers=3), {}),
    "mistral-window": lambda: (
        MistralForCausalLM(MistralConfig(**common(
            hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=2,
            head_dim=12, sliding_window=7, max_position_embeddings=256))), {"spelling": 4}),
    "qwen2": lambda: (
        Qwen2ForCausalLM(Qwen2Config(**common(
            hidden_size=56, intermediate_size=90, num_hidden_layers=4, num_attention_heads=7, num_key_value_heads=1,
            max_position_embeddings=256, tie_word_embeddings=True))), {}),
    "qwen3": lambda: (
        Qwen3ForCausalLM(Qwen3Config(**common(
            hidden_size=48, intermediate_size=90, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2,
            head_dim=14, max_position_embeddings=256))), {}),
    "gpt2": lambda: (
        GPT2LMHeadModel(GPT2Config(**common(n_embd=45, n_layer=4, n_head=5, n_positions=256))), {}),
    "opt-pre": lambda: (
        OPTForCausalLM(OPTConfig(**common(
            hidden_size=56, ffn_dim=101, num_hidden_layers=4, num_attention_heads=7, max_position_embeddings=250,
            word_embed_proj_dim=56))), {}),
    "opt-post": lambda: (
        OPTForCausalLM(OPTConfig(**common(
            hidden_size=60, ffn_dim=90, num_hidden_layers=3, num_attention_heads=5, max_position_embeddings=250,
            word_embed_proj_dim=36, do_layer_norm_before=False))), {}),
}


def write_gguf(folder, tokenizer):
    """A llama in one GGUF file, quantized as published ones are: rows of Q and K permuted for interleaved RoPE."""
    import gguf
    config = LlamaConfig(**common(hidden_size=96, intermediate_size=96, num_hidden_layers=3, num_attention_heads=6,
                                  num_key_value_heads=2, head_dim=32, max_position_embeddings=256))
    model = LlamaForCausalLM(config)
    widen(model, 77)
    writer = gguf.GGUFWriter(str(folder / "model.gguf"), "llama")
    writer.add_name("tiny llama")
    writer.add_block_count(3)
    writer.add_context_length(256)
    writer.add_embedding_length(96)
    writer.add_feed_forward_length(96)
    writer.add_head_count(6)
    writer.add_head_count_kv(2)
    writer.add_key_length(32)
    writer.add_value_length(32)
    writer.add_rope_dimension_count(32)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    tokens = [token for token, _ in vocabulary]
    tokens += [f"<|unused{i}|>" for i in range(VOCABULARY - len(tokens))]
    kinds = [gguf.TokenType.CONTROL if i < 3 else gguf.TokenType.NORMAL if i < len(vocabulary) else gguf.TokenType.UNUSED
             for i in range(VOCABULARY)]
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(EOS)
    writer.add_add_bos_token(False)

    def permute(weight, heads):
        return weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)

    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
             "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
             "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    kinds = [gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q5_1,
             gguf.GGMLQuantizationType.BF16, gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.Q4_1,
             gguf.GGMLQuantizationType.Q5_0]
    count = 0
    for name, tensor in model.state_dict().items():
        data = tensor.float().numpy()
        if name == "model.embed_tokens.weight":
            target = "token_embd.weight"
        elif name == "model.norm.weight":
            target = "output_norm.weight"
        elif name == "lm_head.weight":
            target = "output.weight"
        else:
            layer, rest = name.removeprefix("model.layers.").split(".", 1)
            target = f"blk.{layer}.{names[rest.removesuffix('.weight')]}.weight"
            if "attn_q" in target:
                data = permute(data, 6)
            if "attn_k" in target:
                data = permute(data, 2)
        if data.ndim == 1:
            writer.add_tensor(target, data)
        else:
            kind = kinds[count % len(kinds)]
            count += 1
            writer.add_tensor(target, gguf.quants.quantize(data, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf", dtype=torch.float32)


FP8_STEPS = 8
FP8_MIN_GAP = 0.08
FP8_TOLERANCE = 0.06
FP8_GAIN = 0.7  # of matrices: a step more or less in one element does not grow from layer to layer
FP8_HEAD_GAIN = 2.0


def to_fp8(values, scale):
    """Elements rounded to the nearest even of values / scale, saturated."""
    return (values * (1.0 / scale)).clamp(-448, 448).to(torch.float8_e4m3fn)


def blocks_of(values, rows, columns):
    """The largest magnitude of each rows x columns block, [blocks down, blocks across]."""
    height, width = -(-values.shape[0] // rows), -(-values.shape[1] // columns)
    padded = torch.zeros(height * rows, width * columns)
    padded[:values.shape[0], :values.shape[1]] = values.abs()
    return padded.reshape(height, rows, width, columns).amax(dim=(1, 3))


def spread(scales, rows, columns, shape):
    """Block scales as a matrix of one scale an element."""
    return scales.repeat_interleave(rows, 0).repeat_interleave(columns, 1)[:shape[0], :shape[1]]


class Fp8Linear(torch.nn.Module):
    """x w^T on what fp8 keeps of both. kind: channel, static (one scale each for w and x) or block."""

    def __init__(self, linear, kind):
        super().__init__()
        weight, self.kind, self.bias = linear.weight.data, kind, linear.bias
        if kind == "block":
            self.scale = blocks_of(weight, 128, 128) / 448
            spread_scale = spread(self.scale, 128, 128, weight.shape)
        elif kind == "channel":
            self.scale = spread_scale = weight.abs().amax(1, keepdim=True) / 448
        else:
            self.scale = spread_scale = weight.abs().amax() / 448
        self.stored = to_fp8(weight, spread_scale)
        self.weight = self.stored.float() * spread_scale
        self.input_scale = torch.tensor(6.0 / 448) if kind == "static" else None

    def forward(self, x):
        rows = x.reshape(-1, x.shape[-1])
        if self.kind == "block":
            scale = spread(blocks_of(rows, 1, 128) / 448, 1, 128, rows.shape)
        elif self.kind == "channel":
            scale = rows.abs().amax(1, keepdim=True) / 448
        else:
            scale = self.input_scale
        y = torch.nn.functional.linear(to_fp8(rows, scale).float() * scale, self.weight, self.bias)
        return y.reshape(*x.shape[:-1], -1)

    def tensors(self):
        yield "weight", self.stored
        yield "weight_scale_inv" if self.kind == "block" else "weight_scale", self.scale.clone()
        if self.input_scale is not None:
            yield "input_scale", self.input_scale


def quantization_config(kind, ignored):
    if kind == "block":
        return {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
    number = {"num_bits": 8, "type": "float", "symmetric": True}
    is_static = kind == "static"
    group = {"targets": ["Linear"],
             "weights": {**number, "dynamic": False, "strategy": "tensor" if is_static else "channel"},
             "input_activations": {**number, "dynamic": not is_static, "strategy": "tensor" if is_static else "token"}}
    return {"quant_method": "compressed-tensors", "format": "float-quantized", "quantization_status": "compressed",
            "config_groups": {"group_0": group}, "ignore": ["lm_head", *ignored]}


def write_fp8(folder, kind, ignored, layers, seed):
    """A llama whose layers are in fp8 but for the ignored modules; the rest is bfloat16. Two tensor ranks cut it at
    whole blocks."""
    heads = dict(num_attention_heads=2, head_dim=128) if kind == "block" else dict(num_attention_heads=4, head_dim=64)
    model = llama(hidden_size=160, intermediate_size=256, num_hidden_layers=layers, num_key_value_heads=2, **heads)
    widen(model, seed, FP8_GAIN)
    model.lm_head.weight.data *= FP8_HEAD_GAIN / FP8_GAIN
    model = model.to(torch.bfloat16).float()
    tensors = {}
    for name, module in list(model.named_modules()):
        if not isinstance(module, torch.nn.Linear) or name in ("lm_head", *ignored):
            continue
        parent, _, child = name.rpartition(".")
        quantized = Fp8Linear(module, kind)
        setattr(model.get_submodule(parent), child, quantized)
        tensors.update((f"{name}.{part}", tensor.contiguous()) for part, tensor in quantized.tensors())
    tensors.update((name, value.to(torch.bfloat16)) for name, value in model.state_dict().items())
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    config = model.config.to_dict()
    config.update(architectures=["LlamaForCausalLM"], dtype="bfloat16",
                  quantization_config=quantization_config(kind, ignored))
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    return model


# name -> (kind, modules that are not in fp8, layers)
FP8_FIXTURES = {
    "llama-fp8-channel": ("channel", ["model.layers.1.mlp.down_proj"], 2),
    "llama-fp8-static": ("static", [], 2),
    "llama-fp8-block": ("block", [], 2),
}


def main(wanted):
    torch.set_num_threads(1)
    tokenizer = make_tokenizer()
    for number, name in enumerate([*FIXTURES, "llama-gguf", *FP8_FIXTURES]):
        if wanted and name not in wanted:
            continue
        folder = HERE / "models" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if name == "llama-gguf":
            model = write_gguf(folder, tokenizer)
        elif name in FP8_FIXTURES:
            kind, ignored, layers = FP8_FIXTURES[name]
            model = write_fp8(folder, kind, ignored, layers, 1000 + number)
            tokenizer.save(str(folder / "tokenizer.json"))
        else:
            model, options = FIXTURES[name]()
            widen(model, 1000 + number)
            model = model.to(options.get("dtype", torch.float32))
            model.save_pretrained(folder, max_shard_size=options.get("max_shard_size", "5GB"))
            if options.get("spelling") == 4:
                transformers_4_spelling(folder)
            tokenizer.save(str(folder / "tokenizer.json"))
            # As a user would load it: buffers (rotary frequencies) are made in float32, not rounded to dtype.
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        if name in FP8_FIXTURES:
            write_reference(folder, model, tokenizer, FP8_STEPS, FP8_MIN_GAP, FP8_TOLERANCE)
        else:
            write_reference(folder, model, tokenizer)
        print(name, sum(f.stat().st_size for f in folder.iterdir()) // 1024, "KiB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
