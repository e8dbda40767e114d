#!/usr/bin/env python3
"""Makes quantized.gguf: random blocks of every quantized type that millrace reads, each beside the
values that the `gguf` package's numpy dequantizers give for them, as an F32 tensor NAME.values.

    pip install gguf numpy
    python3 test/data/make_quantized_blocks.py
"""

import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

ROWS, COLUMNS = 3, 512
# Where each type keeps its f16 scales: random bits there would make NaN and infinity.
SCALES = {
    Type.Q4_0: [0],
    Type.Q4_1: [0, 2],
    Type.Q5_0: [0],
    Type.Q5_1: [0, 2],
    Type.Q8_0: [0],
    Type.Q4_K: [0, 2],
    Type.Q5_K: [0, 2],
    Type.Q6_K: [208],
}


def main() -> None:
    random = np.random.default_rng(20)
    path = pathlib.Path(__file__).parent / "quantized.gguf"
    writer = gguf.GGUFWriter(path, "blocks")
    for kind, scales in SCALES.items():
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = random.integers(0, 256, (ROWS, COLUMNS // elements, size), dtype=np.uint8)
        for at in scales:
            values = (random.standard_normal(blocks.shape[:2]) * 0.05).astype(np.float16)
            values[0, 0] = np.float16(3e-7)  # a subnormal
            blocks[:, :, at : at + 2] = values[:, :, None].view(np.uint8)
        data = blocks.reshape(ROWS, -1)
        writer.add_tensor(kind.name, data, raw_dtype=kind)
        writer.add_tensor(kind.name + ".values", gguf.dequantize(data, kind).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
