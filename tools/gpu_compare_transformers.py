#!/usr/bin/env python3
"""Measures full prefill and decoding of an 8B model with Hugging Face transformers on a device.

The model is Llama-3-8B's shape with random bf16 weights, as in
bench/end_to_end/gpu_prefill_bench.cc; run both on one device for a ratio. Times are those of the
device, by events: the median after two warm-ups, of a prefill that computes one row of logits and
of a decoding step at a context.

Usage: tools/gpu_compare_transformers.py [--lengths 5200,32768] [--attention sdpa]
"""
import argparse
import statistics
import sys

NUM_WARM_UPS = 2


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", default="5200,32768", help="prompt lengths in tokens")
    parser.add_argument("--attention", default="sdpa", help="sdpa, flash_attention_2 or eager")
    parser.add_argument("--backend", default="any", choices=("any", "cudnn", "flash"),
                        help="what scaled_dot_product_attention may choose")
    parser.add_argument("--decode-context", type=int, default=5200)
    parser.add_argument("--decode-steps", type=int, default=32)
    parser.add_argument("--repetitions", type=int, default=5)
    return parser.parse_args()


def make_model(transformers, torch, attention, num_positions):
    config = transformers.LlamaConfig(
        vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
        num_attention_heads=32, num_key_value_heads=8, rope_theta=500000.0,
        max_position_embeddings=num_positions, tie_word_embeddings=False,
        attn_implementation=attention)
    torch.manual_seed(1)
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = transformers.LlamaForCausalLM(config)
    torch.set_default_dtype(previous)
    return model.eval()


def measure(torch, repetitions, work):
    """Milliseconds on the device of each run of `work` after the warm-ups."""
    samples = []
    for run in range(NUM_WARM_UPS + repetitions):
        begin = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        end.synchronize()
        if run >= NUM_WARM_UPS:
            samples.append(begin.elapsed_time(end))
    return samples


def allowed_backends(torch, backend):
    attention = torch.nn.attention
    kinds = attention.SDPBackend
    chosen = {"any": [kinds.CUDNN_ATTENTION, kinds.FLASH_ATTENTION, kinds.EFFICIENT_ATTENTION,
                      kinds.MATH],
              "cudnn": [kinds.CUDNN_ATTENTION], "flash": [kinds.FLASH_ATTENTION]}
    return attention.sdpa_kernel(chosen[backend])


def run(arguments, torch, transformers):
    lengths = [int(length) for length in arguments.lengths.split(",")]
    num_positions = max(*lengths, arguments.decode_context + arguments.decode_steps, 131072)
    model = make_model(transformers, torch, arguments.attention, num_positions)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, "
          f"transformers {transformers.__version__}, {arguments.attention}/{arguments.backend}")

    def tokens_of(length):
        return torch.randint(0, 128256, (1, length), device="cuda")

    for length in lengths:
        tokens = tokens_of(length)
        samples = measure(torch, arguments.repetitions,
                          lambda: model(tokens, use_cache=True, logits_to_keep=1))
        print(f"prefill {length:6d}: {statistics.median(samples):9.2f} ms")

    def decode():
        past = prefilled.past_key_values
        token = tokens_of(1)
        for _ in range(arguments.decode_steps):
            output = model(token, past_key_values=past, use_cache=True, logits_to_keep=1)
            past, token = output.past_key_values, output.logits[:, -1:].argmax(-1)
        past.crop(arguments.decode_context)

    prefilled = model(tokens_of(arguments.decode_context), use_cache=True, logits_to_keep=1)
    samples = measure(torch, arguments.repetitions, decode)
    print(f"decode at {arguments.decode_context}: "
          f"{statistics.median(samples) / arguments.decode_steps:9.3f} ms a token")
    print(f"peak memory: {torch.cuda.max_memory_allocated() * 1e-9:.2f} GB")


def main():
    arguments = parse_arguments()
    try:
        import torch
        import transformers
    except ImportError as error:
        print(f"gpu_compare_transformers: {error}; install torch and transformers", file=sys.stderr)
        return 1
    if not torch.cuda.is_available():
        print("gpu_compare_transformers: torch finds no CUDA device", file=sys.stderr)
        return 1
    with torch.inference_mode(), allowed_backends(torch, arguments.backend):
        run(arguments, torch, transformers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
