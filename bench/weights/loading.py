"""Loads a checkpoint on several hosts from a file server of limited bandwidth, by each --load-strategy.

    loading.py BUILD [MEGABYTES_PER_SECOND [HOSTS]]

Hosts are network namespaces of this machine (test/slurm/cluster.py), the server is bench/weights/slow_files.c, mounted
without a cache. Needs root, cc, fuse3 and libfuse3-dev, and numpy for the checkpoint's random weights.
"""

import json
import os
import struct
import subprocess
import sys

SOURCE = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
sys.path.insert(0, f"{SOURCE}/test/slurm")

from cluster import BASE, Cluster, isolate, wait_until

HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, VOCABULARY = 1024, 4096, 16, 16, 4, 16384


def write_checkpoint(folder):
    import numpy

    os.makedirs(folder)
    with open(f"{folder}/config.json", "w") as file:
        json.dump({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
                   "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
                   "num_key_value_heads": KV_HEADS, "vocab_size": VOCABULARY, "rms_norm_eps": 1e-5,
                   "max_position_embeddings": 2048, "tie_word_embeddings": False, "torch_dtype": "bfloat16"}, file)
    head_dim = HIDDEN // HEADS
    shapes = {"model.embed_tokens.weight": [VOCABULARY, HIDDEN], "lm_head.weight": [VOCABULARY, HIDDEN],
              "model.norm.weight": [HIDDEN]}
    for i in range(LAYERS):
        shapes |= {f"model.layers.{i}.{name}.weight": shape for name, shape in {
            "input_layernorm": [HIDDEN], "post_attention_layernorm": [HIDDEN], "self_attn.q_proj": [HIDDEN, HIDDEN],
            "self_attn.k_proj": [KV_HEADS * head_dim, HIDDEN], "self_attn.v_proj": [KV_HEADS * head_dim, HIDDEN],
            "self_attn.o_proj": [HIDDEN, HIDDEN], "mlp.gate_proj": [INNER, HIDDEN], "mlp.up_proj": [INNER, HIDDEN],
            "mlp.down_proj": [HIDDEN, INNER]}.items()}
    header, at = {}, 0
    for name, shape in shapes.items():
        bytes_ = 2 * int(numpy.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + bytes_]}
        at += bytes_
    text = json.dumps(header).encode()
    random = numpy.random.default_rng(1)
    with open(f"{folder}/model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for shape in shapes.values():
            values = random.standard_normal(shape, dtype=numpy.float32) * 0.02
            file.write((values.view(numpy.uint32) >> 16).astype(numpy.uint16).tobytes())
    return at


def main():
    build, rate = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 100.0
    hosts = int(sys.argv[3]) if len(sys.argv) > 3 else 4
    isolate(["cc", "fusermount3"])
    work = f"{BASE}/loading"
    bytes_ = write_checkpoint(f"{work}/files")
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "fuse3"], check=True, capture_output=True, text=True)
    subprocess.run(["cc", "-O2", f"{SOURCE}/bench/weights/slow_files.c", *flags.stdout.split(), "-o", f"{work}/slow_files"],
                   check=True)
    os.makedirs(f"{work}/model")
    server = subprocess.Popen([f"{work}/slow_files", f"{work}/files", str(rate), "-f", f"{work}/model"])
    wait_until(lambda: os.path.exists(f"{work}/model/config.json"), 10, "the mount")
    cluster = Cluster(hosts)  # after the mount, which its hosts are to see
    with open(f"{work}/p.jsonl", "w") as file:
        print(json.dumps({"prompt": [5, 6, 7], "max_tokens": 2}), file=file)
    print(f"{bytes_ * 1e-9:.2f} GB of bfloat16 weights, a server of {rate:.0f} MB/s, {hosts} hosts of one rank", flush=True)
    nodes = ",".join(f"{node}:1" for node in cluster.nodes)
    for grid in (["-dp", str(hosts)], ["-dp", str(hosts // 2), "-tp", "2"], ["-tp", str(hosts)]):
        for strategy in ("read", "broadcast", "auto"):
            job = cluster.mpirun("-H", nodes, "-n", str(hosts), f"{build}/millrace", *grid, "--model", f"{work}/model",
                                 "--tokenizer", f"{SOURCE}/test/data/models/llama-tied-bias", "--load-strategy", strategy,
                                 "--max-model-len", "64", "--prompts", f"{work}/p.jsonl", "--output", f"{work}/o.jsonl",
                                 "--overwrite")
            done = subprocess.run(job, capture_output=True, text=True, timeout=120)
            lines = [line.split("info ", 1)[1] for line in done.stderr.splitlines()
                     if "weights:" in line or "load strategy" in line]
            print(" ".join(grid), strategy, "|", *lines, sep="  ", flush=True)
            if done.returncode != 0:
                print(done.stderr, flush=True)
    server.terminate()


main()
