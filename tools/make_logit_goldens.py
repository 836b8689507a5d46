#!/usr/bin/env python3
"""Writes what llama.cpp computes for varied prompts: tests/data/logits/{smollm2,qwen2,gemma3}.json.

For each prompt: its token ids, the 64 tokens that llama.cpp continues it with greedily (also past
the end of a turn), and for each of these steps the eight largest logits.

  tokens   the greedy continuation of the model file as it is
  top_ids  the eight ids with the largest logits, the largest first
  logits   their logits; here llama.cpp rounds activations to 8 bits in every matrix product
  exact    logits of the same ids for the same text, by llama.cpp with the same weights dequantised
           to f32 beforehand, so that nothing is rounded but f32 itself
  margins  the largest logit minus the second

`activation_rounding` is the RMS of logits - exact: what llama.cpp's own rounding does. KV caches
are f32 in both, attention is not flash attention, and batches are of one thread count.

Needs the models of tools/fetch_models.sh (smollm2 qwen gemma), 2 GB of temporary space, and
  pip install llama-cpp-python gguf

Usage: tools/make_logit_goldens.py [--models FOLDER] [smollm2] [qwen2] [gemma3]
"""
import argparse
import json
import math
import pathlib
import tempfile

import gguf
import llama_cpp
import numpy

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODELS = {
    "smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf",
    "qwen2": "Qwen2.5-Coder-0.5B-Instruct-Q4_K_M.gguf",
    "gemma3": "gemma-3-270m-q4_k_m.gguf",
}
NUM_STEPS = 64
NUM_TOP = 8
NUM_THREADS = 2
CONTEXT = 1536

CHAT_ML = "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n" \
          "<|im_start|>assistant\n"
GEMMA = "<start_of_turn>user\n{system}\n\n{user}<end_of_turn>\n<start_of_turn>model\n"
SYSTEM = "You are a careful assistant."

PARAGRAPH = (
    "Intarsia is a craft in which pieces of veneer are cut beforehand and inlaid into a surface; "
    "only the seams are finished by hand. The oldest known works decorated boxes and choir stalls "
    "in Tuscany, and travelling workshops carried the technique across the Alps. A panel begins as "
    "a drawing, which is pricked through onto stacked sheets of walnut, pear, maple and bog oak. "
    "Each shape is sawn with a blade finer than a hair, shaded in hot sand, and glued face down. ")
BRIDGES = "".join(
    f"Bridge {number}: built in {1700 + number * 37 % 211} over the river {river}, {length} m "
    f"long, {material}, toll {toll} pence.\n"
    for number, (river, length, material, toll) in enumerate(
        [("Tay", 412, "iron", 3), ("Esk", 96, "stone", 1), ("Forth", 1610, "steel", 9),
         ("Clyde", 233, "brick", 2), ("Spey", 148, "timber", 4), ("Dee", 77, "stone", 6),
         ("Don", 59, "granite", 2), ("Tweed", 351, "iron", 5), ("Nith", 188, "brick", 8),
         ("Annan", 64, "stone", 1), ("Ness", 120, "timber", 7), ("Beauly", 91, "granite", 3),
         ("Conon", 83, "iron", 2), ("Oykel", 45, "stone", 5), ("Helmsdale", 72, "brick", 4),
         ("Thurso", 110, "granite", 6), ("Wick", 68, "timber", 3), ("Findhorn", 202, "steel", 8)]))
# (name, what the user says); None instead of a chat: the text is continued as it stands.
CHATS = [
    ("greeting", "Hello! Who are you and what can you help me with?"),
    ("explain", "Explain in three paragraphs why the sky is blue and why sunsets are red."),
    ("passage", f"{PARAGRAPH}\n\nWhich woods are named in the passage, and how is a shape shaded?"),
    ("code_python", "Write a Python function that returns the n-th Fibonacci number iteratively, "
                    "with type hints, a docstring and two doctests."),
    ("code_c", "What does this C function do, and where is the bug?\n\n"
               "int find(const int *a, int n, int x) {\n  int lo = 0, hi = n;\n"
               "  while (lo <= hi) {\n    int mid = (lo + hi) / 2;\n"
               "    if (a[mid] == x) return mid;\n    if (a[mid] < x) lo = mid + 1;\n"
               "    else hi = mid - 1;\n  }\n  return -1;\n}"),
    ("german", "Übersetze ins Englische und erkläre jedes Verb: „Die Größe des Straßenschilds "
               "überraschte Jürgen, als er früh am Morgen über die Brücke fuhr.“"),
    ("chinese_japanese", "请用中文简单介绍长城的历史。それから、日本語で富士山について二文で教えてください。"),
    ("russian_arabic", "Столица России — Москва. Напиши ещё пять столиц. ثم اكتب عاصمة مصر."),
    ("digits", "Add 1234567 and 7654321, then multiply 37 by 43, and list the primes below 60. "
               "Pi is 3.14159265358979; the date is 2024-02-29T23:59:59Z; the price is $1,299.00."),
    ("bridges", f"{BRIDGES}\nWhich bridge is the longest, when was it built and what is its toll? "
                "List all stone bridges with their rivers."),
    ("paragraphs", "".join(f"[{number}] {PARAGRAPH}\n" for number in range(1, 8)) +
     "\nSummarise the passages in one sentence and cite their numbers."),
]
TEXTS = [
    ("story", "Once upon a time, in a village between two mountains, there lived a clockmaker who"),
    ("table", "| city | country | population |\n|---|---|---|\n| Paris | France | 2102650 |\n"
              "| Berlin | Germany | 3755251 |\n| Madrid |"),
]


def prompts(name):
    template = GEMMA if name == "gemma3" else CHAT_ML
    chats = [(label, template.format(system=SYSTEM, user=user)) for label, user in CHATS]
    return chats + TEXTS


def write_dequantised(source, target):
    """A copy of the model file `source` whose tensors are all f32."""
    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type"):
            continue
        is_array = field.types[0] == gguf.GGUFValueType.ARRAY
        writer.add_key_value(key, field.contents(), field.types[0],
                             sub_type=field.types[-1] if is_array else None)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        shape = [int(size) for size in reversed(tensor.shape)]
        writer.add_tensor_info(tensor.name, shape, numpy.dtype(numpy.float32),
                               4 * math.prod(shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        writer.write_tensor_data(values.astype(numpy.float32))
    writer.close()


def load(path):
    f32 = llama_cpp.GGML_TYPE_F32
    return llama_cpp.Llama(str(path), n_ctx=CONTEXT, n_batch=512, n_threads=NUM_THREADS,
                           n_threads_batch=NUM_THREADS, type_k=f32, type_v=f32, flash_attn=False,
                           verbose=False)


def run(llama, ids, forced=None):
    """(tokens, logits [NUM_STEPS, vocabulary]): a continuation of `ids`, greedy or forced."""
    llama.reset()
    llama.eval(ids)
    tokens, rows = [], []
    for step in range(NUM_STEPS):
        pointer = llama_cpp.llama_get_logits_ith(llama.ctx, -1)
        row = numpy.ctypeslib.as_array(pointer, shape=(llama.n_vocab(),)).copy()
        token = int(row.argmax()) if forced is None else forced[step]
        tokens.append(token)
        rows.append(row)
        if step + 1 < NUM_STEPS:
            llama.eval([token])
    return tokens, numpy.stack(rows)


def rounded(values):
    return [round(float(value), 4) for value in values]


def make(name, path):
    print(f"{name}: the model file as it is", flush=True)
    llama = load(path)
    items, as_is = [], []
    for label, text in prompts(name):
        ids = llama.tokenize(text.encode(), add_bos=name == "gemma3", special=True)
        if len(ids) + NUM_STEPS > CONTEXT:
            raise SystemExit(f"{label}: {len(ids)} tokens are too many")
        tokens, rows = run(llama, ids)
        top = numpy.argsort(-rows, axis=1, kind="stable")[:, :NUM_TOP]
        logits = numpy.take_along_axis(rows, top, axis=1)
        items.append({"name": label, "ids": ids, "tokens": tokens,
                      "margins": rounded(logits[:, 0] - logits[:, 1]), "top_ids": top.tolist(),
                      "logits": [rounded(row) for row in logits]})
        as_is.append(logits)
        print(f"  {label}: {len(ids)} tokens", flush=True)
    llama.close()
    print(f"{name}: dequantised to f32", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "f32.gguf"
        write_dequantised(path, copy)
        llama = load(copy)
        squares = []
        for item, logits in zip(items, as_is):
            _, rows = run(llama, item["ids"], item["tokens"])
            exact = numpy.take_along_axis(rows, numpy.array(item["top_ids"]), axis=1)
            largest = rows.max(axis=1)
            if (largest > exact.max(axis=1)).any():
                raise SystemExit(f"{item['name']}: {NUM_TOP} logits do not hold the exact largest")
            item["exact"] = [rounded(row) for row in exact]
            squares.append(((logits - exact) ** 2).mean())
            print(f"  {item['name']}: RMS difference {math.sqrt(squares[-1]):.4f}", flush=True)
        llama.close()
    return {"reference": f"llama-cpp-python {llama_cpp.__version__}", "model": path.name,
            "activation_rounding": round(math.sqrt(float(numpy.mean(squares))), 4),
            "prompts": items}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[[], *MODELS], help="default: all")
    parser.add_argument("--models", type=pathlib.Path, default=ROOT / "models")
    arguments = parser.parse_args()
    for name in arguments.names or MODELS:
        golden = make(name, arguments.models / MODELS[name])
        text = json.dumps(golden, separators=(",", ":"))
        # A line for each list of a prompt, so that a change shows where it is.
        for key in ("name", "tokens", "margins", "top_ids", "logits", "exact"):
            text = text.replace(f',"{key}"', f',\n"{key}"')
        text = text.replace('{"name"', '\n{"name"')
        path = ROOT / "tests/data/logits" / f"{name}.json"
        path.write_text(text + "\n", encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes", flush=True)


if __name__ == "__main__":
    main()
