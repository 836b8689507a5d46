#!/usr/bin/env python3
"""Makes real embeddings for measuring searches of vectors: passages of public texts, and questions.

Cuts the texts of Cranfield, MuSiQue and SQuAD into windows of words that overlap, as chunks do,
takes --count different ones in a random order, and puts the questions of the three sets behind
them, which are searched for and not found. `model_embed_texts` embeds all of it with all-MiniLM.
What is there already is not made again.

Usage: tools/embed_passages.py --data ../shared/data --out build/passages.npy [--count 100000]
         [--words 16] [--program build/cpu/bin/model_embed_texts] [--threads N]
  --data   a folder with cranfield/, musique/dev75.json and squad2_articles/dev3.json
"""
import argparse
import json
import pathlib
import random
import subprocess
import sys

from retrieval_report import read_records


def read_texts(data):
    """(texts, questions) of all sets that are there."""
    texts, questions = [], []
    if (data / "cranfield").is_dir():
        texts += [record.get("W", "") for record in read_records(data / "cranfield/cran.all.1400")]
        questions += [record["W"] for record in read_records(data / "cranfield/cran.qry")]
    path = data / "musique/dev75.json"
    if path.is_file():
        for case in json.loads(path.read_text(encoding="utf-8")):
            texts += [passage["text"] for passage in case["ctxs"]]
            questions.append(case["question"])
    path = data / "squad2_articles/dev3.json"
    if path.is_file():
        for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
            for paragraph in article["paragraphs"]:
                texts.append(paragraph["context"])
                questions += [qa["question"] for qa in paragraph["qas"]]
    return list(dict.fromkeys(texts)), list(dict.fromkeys(" ".join(q.split()) for q in questions))


def windows_of(texts, num_words, stride):
    """All different windows, in the order of the texts."""
    found = {}
    for text in texts:
        words = text.split()
        for begin in range(0, max(1, len(words) - num_words + 1), stride):
            found[" ".join(words[begin:begin + num_words])] = None
    found.pop("", None)
    return list(found)


def choose(texts, num_words, count):
    """`count` windows at the longest stride that gives so many, in a random order."""
    for stride in range(num_words, 0, -1):
        passages = windows_of(texts, num_words, stride)
        if len(passages) >= count:
            break
    random.Random(1).shuffle(passages)
    return passages[:count], stride


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--words", type=int, default=16, help="of a passage")
    parser.add_argument("--embedder", default="models/all-MiniLM-L6-v2")
    parser.add_argument("--program", default="build/cpu/bin/model_embed_texts")
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    texts, questions = read_texts(arguments.data)
    if not texts:
        sys.exit(f"embed_passages: no texts in {arguments.data}; it wants cranfield/, "
                 "musique/dev75.json or squad2_articles/dev3.json")
    passages, stride = choose(texts, arguments.words, arguments.count)
    print(f"{len(passages)} passages of {arguments.words} words, one every {stride}; "
          f"{len(questions)} questions: --queries {len(questions)}", flush=True)
    lines = arguments.out.with_suffix(".txt")
    content = "\n".join(passages + questions) + "\n"
    if arguments.out.is_file() and lines.is_file() and \
            lines.read_text(encoding="utf-8") == content:
        print(f"{arguments.out} is there already")
        return
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    # The lines come last, so that what an interrupted run leaves is made again.
    lines.unlink(missing_ok=True)
    pending = arguments.out.with_suffix(".pending")
    pending.write_text(content, encoding="utf-8")
    subprocess.run([arguments.program, "--texts", pending, "--out", arguments.out, "--embedder",
                    arguments.embedder, "--queries", str(len(questions)), "--threads",
                    str(arguments.threads)], check=True)
    pending.rename(lines)


if __name__ == "__main__":
    main()
