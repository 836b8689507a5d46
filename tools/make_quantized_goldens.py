#!/usr/bin/env python3
"""Writes tests/data/quantized_goldens.bin: random blocks and what the Python package `gguf` makes
of them, for tests/kernels/quantized_block_test.cc.

Per type: its name and the raw blocks as strings, then their f32 values as a string; a string is a
u64 length and the bytes, all little-endian.

Usage: tools/make_quantized_goldens.py [TARGET]        (needs numpy and gguf)
"""
import pathlib
import struct
import sys

import gguf
import numpy

TYPES = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K")
HALF_OFFSETS = {  # where a block has its f16 numbers; other bytes may hold anything
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,),
    "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,),
}
# Normal of either sign, the smallest normal and subnormal, the largest, zero.
HALVES = (0.0123, -0.75, 2.0 ** -14, 2.0 ** -24, 65504.0, -0.0, 1.0, -3.1e-5)
SEED = 20240229


def random_blocks(name, random):
    size, num_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    if size == 1:
        values = random.standard_normal(64).astype(numpy.float32)
        values[:4] = (0.0, -0.0, numpy.inf, -numpy.inf)
        if name == "F16":
            return values.astype(numpy.float16).view(numpy.uint8)
        raw = values.view(numpy.uint8)
        return raw.reshape(-1, 4)[:, 2:].copy().reshape(-1) if name == "BF16" else raw
    blocks = random.integers(0, 256, (len(HALVES) if size == 32 else 4, num_bytes), numpy.uint8)
    for index, block in enumerate(blocks):
        for shift, offset in enumerate(HALF_OFFSETS[name]):
            half = numpy.float16(HALVES[(index + 3 * shift) % len(HALVES)])
            block[offset:offset + 2] = numpy.frombuffer(half.tobytes(), numpy.uint8)
    return blocks.reshape(-1)


def to_string(data):
    return struct.pack("<Q", len(data)) + data


def main(arguments):
    target = pathlib.Path(arguments[0] if arguments else "tests/data/quantized_goldens.bin")
    target.parent.mkdir(parents=True, exist_ok=True)
    random = numpy.random.default_rng(SEED)
    content = b""
    for name in TYPES:
        blocks = random_blocks(name, random)
        values = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[name])
        values = values.astype(numpy.float32)
        content += to_string(name.encode()) + to_string(blocks.tobytes())
        content += to_string(values.tobytes())
    target.write_bytes(content)
    print(f"{target}: {len(content)} bytes, {len(TYPES)} types")


if __name__ == "__main__":
    main(sys.argv[1:])
