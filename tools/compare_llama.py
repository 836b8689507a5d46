#!/usr/bin/env python3
"""Compares prefill and decoding with llama.cpp: same file, same threads, turn by turn.

Each round runs our benchmark and llama.cpp, every other round in the reverse order, so that
whatever else the machine does meets both. Measured are a full prefill (default 2,048 tokens,
nothing cached) and decoding of 64 tokens behind 512, each after a warm-up. llama.cpp runs with
mmap, n_batch 2048, n_ubatch 512 and the same number of threads for prompts and decoding, with flash
attention on and off; the better of the two, by its median, counts. Ratios are taken within a round.

Needs the package llama-cpp-python, which builds llama.cpp for this machine:
  pip install llama-cpp-python

Usage: tools/compare_llama.py [--bench PROGRAM] [--model FILE] [--threads N] [--rounds N]
                              [--prefill TOKENS] [--json FILE]
"""
import argparse
import ctypes
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
DECODE_CONTEXT = 512
DECODE_TOKENS = 64


class Llama:
    """A context of llama.cpp, driven without Python's sampling in what is timed."""

    def __init__(self, llama_cpp, model, threads, num_tokens, flash_attention):
        self.api = llama_cpp
        self.llama = llama_cpp.Llama(
            str(model), n_ctx=num_tokens, n_batch=2048, n_ubatch=512, n_threads=threads,
            n_threads_batch=threads, use_mmap=True, flash_attn=flash_attention, verbose=False)

    def clear(self):
        self.api.llama_memory_clear(self.api.llama_get_memory(self.llama.ctx), True)

    def decode(self, ids):
        """Appends `ids` to the context and waits for the logits of the last one."""
        for begin in range(0, len(ids), 2048):
            part = ids[begin:begin + 2048]
            tokens = (ctypes.c_int32 * len(part))(*part)
            batch = self.api.llama_batch_get_one(tokens, len(part))
            code = self.api.llama_decode(self.llama.ctx, batch)
            if code != 0:
                raise SystemExit(f"compare_llama: llama_decode returned {code}")
        self.api.llama_synchronize(self.llama.ctx)

    def ids(self, count):
        """Plain tokens, spread over the vocabulary."""
        return [100 + index * 7919 % (self.llama.n_vocab() - 1000) for index in range(count)]

    def measure(self, prefill_tokens):
        """{metric: tokens a second}"""
        ids = self.ids(max(prefill_tokens, DECODE_CONTEXT) + DECODE_TOKENS)
        self.clear()
        self.decode(ids[:256])  # wakes its threads up
        self.clear()
        begin = time.perf_counter()
        self.decode(ids[:prefill_tokens])
        prefill = prefill_tokens / (time.perf_counter() - begin)
        self.clear()
        self.decode(ids[:DECODE_CONTEXT])
        begin = time.perf_counter()
        for token in ids[DECODE_CONTEXT:DECODE_CONTEXT + DECODE_TOKENS]:
            self.decode([token])
        decode = DECODE_TOKENS / (time.perf_counter() - begin)
        self.clear()
        return {"prefill": prefill, "decode": decode}


def measure_ours(program, model, threads, prefill_tokens, compute):
    """{metric: tokens a second}"""
    command = [str(program), "--model", str(model), "--threads", str(threads),
               "--compute", compute,
               "--parts", "prefill,decode", "--lengths", str(prefill_tokens),
               "--decode-context", str(DECODE_CONTEXT), "--decode-tokens", str(DECODE_TOKENS),
               "--repetitions", "1", "--json", "-"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if run.returncode != 0:
        raise SystemExit(f"compare_llama: {program.name} failed:\n{run.stderr}")
    report = json.loads(run.stdout)
    if "prefill" not in report or "decode" not in report:
        raise SystemExit(f"compare_llama: {program.name} left a part out:\n{run.stderr}")
    return {"prefill": report["prefill"][0]["tokens_per_s"],
            "decode": report["decode"]["tokens_per_s"]}


def run_rounds(llama_cpp, arguments):
    """{program: {metric: [tokens a second, by round]}}"""
    num_tokens = max(arguments.prefill, DECODE_CONTEXT) + DECODE_TOKENS
    contexts = {f"llama.cpp, flash attention {name}":
                Llama(llama_cpp, arguments.model, arguments.threads, num_tokens, name == "on")
                for name in ("off", "on")}
    programs = [("intarsia", lambda: measure_ours(arguments.bench, arguments.model,
                                                  arguments.threads, arguments.prefill,
                                                  arguments.compute))]
    programs += [(name, lambda context=context: context.measure(arguments.prefill))
                 for name, context in contexts.items()]
    rates = {name: {"prefill": [], "decode": []} for name, _ in programs}
    for number in range(arguments.rounds):
        for name, measure in programs if number % 2 == 0 else reversed(programs):
            for metric, rate in measure().items():
                rates[name][metric].append(rate)
            print(f"round {number + 1} of {arguments.rounds}: {name}: "
                  + ", ".join(f"{metric} {values[-1]:.1f}"
                              for metric, values in rates[name].items()),
                  file=sys.stderr, flush=True)
    return rates


def spread(values, digits):
    return (f"{min(values):.{digits}f} / {statistics.median(values):.{digits}f} / "
            f"{max(values):.{digits}f}")


def print_table(rates, titles):
    print("| tokens/s, min / median / max | " + " | ".join(titles.values()) + " |")
    print("|---|" + "---|" * len(titles))
    for name, metrics in rates.items():
        print(f"| {name} | " + " | ".join(spread(metrics[key], 1) for key in titles) + " |")
    ratios = {}
    for key in titles:
        others = [metrics[key] for name, metrics in rates.items() if name != "intarsia"]
        best = max(others, key=statistics.median)
        ratios[key] = [ours / theirs for ours, theirs in zip(rates["intarsia"][key], best)]
    print("| ratio to the better of llama.cpp | "
          + " | ".join(spread(ratios[key], 2) for key in titles) + " |")
    return ratios


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", type=pathlib.Path,
                        default=ROOT / "build/cpu/bin/end_to_end_prefill_bench")
    parser.add_argument("--model", type=pathlib.Path,
                        default=ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prefill", type=int, default=2048, help="tokens of the prompt")
    parser.add_argument("--compute", default="auto", choices=["auto", "int8", "bf16", "f32"],
                        help="how our products with many rows are computed")
    parser.add_argument("--json", type=pathlib.Path, help="where to write the figures")
    arguments = parser.parse_args()
    if min(arguments.threads, arguments.rounds, arguments.prefill) < 1:
        raise SystemExit("compare_llama: --threads, --rounds and --prefill must be at least 1")
    try:
        import llama_cpp
    except ImportError:
        print("compare_llama: llama.cpp is not compared with, because this Python lacks "
              "llama_cpp;\n  install it with: pip install llama-cpp-python", file=sys.stderr)
        return
    if not arguments.model.exists():
        print(f"compare_llama: no {arguments.model}, so nothing is compared; get it with "
              "tools/fetch_models.sh", file=sys.stderr)
        return
    if not arguments.bench.exists():
        raise SystemExit(f"compare_llama: no {arguments.bench}; build it with `make build`")
    arguments.model = arguments.model.resolve()
    arguments.bench = arguments.bench.resolve()
    rates = run_rounds(llama_cpp, arguments)
    print(f"\n{arguments.model.name}, {arguments.threads} threads, {arguments.rounds} rounds, "
          f"products {arguments.compute}, "
          f"llama-cpp-python {llama_cpp.__version__}\n")
    titles = {"prefill": f"prefill {arguments.prefill}", "decode": f"decode at {DECODE_CONTEXT}"}
    ratios = print_table(rates, titles)
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"model": arguments.model.name, "threads": arguments.threads,
                        "prefill_tokens": arguments.prefill, "tokens_per_s": rates,
                        "ratios": ratios}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
