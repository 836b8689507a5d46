#!/usr/bin/env python3
"""Writes tests/data/embedding/minilm.json: texts and their vectors by sentence-transformers.

The reference is the real sentence-transformers (PyTorch, f32, on the CPU), which is not needed to
build or test: pip install sentence-transformers. One text at a time, so that no padding takes part.
Texts with names of special tokens ("[MASK]") are left out, because there the reference and Intarsia
differ on purpose: to Intarsia a document is data and contains no special token.

Usage: tools/make_embedding_goldens.py [MODEL_FOLDER] [OUTPUT]
"""
import json
import pathlib
import sys

import sentence_transformers

ROOT = pathlib.Path(__file__).resolve().parent.parent
PARAGRAPH = (
    "Intarsia is a craft in which pieces of veneer are cut beforehand and inlaid into a surface; "
    "only the seams are finished by hand. The oldest known works decorated boxes and choir stalls "
    "in Tuscany, and travelling workshops carried the technique across the Alps. ")
TEXTS = [
    "",
    "   \t\n ",
    "a",
    "Hello, world!",
    "What is the capital of France?",
    "The capital of France is Paris.",
    "THE CAPITAL OF FRANCE IS PARIS.",
    "Die Größe des Straßenschilds überraschte Jürgen; naïve façade, Ångström, Łódź.",
    "e\u0301le\u0300ve versus \u00e9l\u00e8ve: combining and precomposed accents",
    "\u6f22\u5b57\u3068\u3072\u3089\u304c\u306a\u3092\u542b\u3080\u6587\u7ae0\u3067\u3059\u3002",
    "\u041c\u043e\u0441\u043a\u0432\u0430 \u2014 "
    "\u0441\u0442\u043e\u043b\u0438\u0446\u0430 \u0420\u043e\u0441\u0441\u0438\u0438.",
    "\u0627\u0644\u0633\u0644\u0627\u0645 \u0639\u0644\u064a\u0643\u0645",
    "emoji \U0001f600\U0001f680 and \u2603 snowman, zero\u200bwidth, bell\u0007, "
    "replacement \ufffd",
    "def add(a: int, b: int) -> int:\n    return a + b  # O(1)\n",
    "https://example.org/path?query=42&lang=de#fragment",
    "3.14159, 1,000,000 and -273.15 \u00b0C at 101325 Pa; $5.99 (20% off)",
    "x" * 120 + " is one unknown token, but " + "y" * 100 + " is spelled",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    PARAGRAPH,
    PARAGRAPH * 4,
    "word " * 253 + "end",
    "word " * 254 + "cut",
    PARAGRAPH * 12,
]


def main(arguments):
    folder = arguments[0] if arguments else str(ROOT / "models" / "all-MiniLM-L6-v2")
    output = arguments[1] if len(arguments) > 1 else ROOT / "tests/data/embedding/minilm.json"
    model = sentence_transformers.SentenceTransformer(folder, device="cpu")
    items = []
    for text in TEXTS:
        vector = model.encode([text], convert_to_numpy=True)[0]
        items.append({"text": text, "vector": [round(float(value), 6) for value in vector]})
    golden = {"reference": f"sentence-transformers {sentence_transformers.__version__}",
              "max_tokens": model.max_seq_length, "items": items}
    text = json.dumps(golden, ensure_ascii=True, separators=(",", ":"))
    # A line for each text, so that a change shows where it is.
    pathlib.Path(output).write_text(text.replace('{"text"', '\n{"text"') + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
