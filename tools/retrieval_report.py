#!/usr/bin/env python3
"""Measures how well a search ranks what people judged to be relevant: by vectors, words, and both.

Loads the Cranfield collection (1,400 abstracts, 225 questions with graded judgements) into a new
database by the shell `intarsia`, asks every question in each mode, and prints NDCG@10, recall@10
and MRR@10 with 95 % confidence intervals over questions, in Markdown. The gain of a judgement is
4 for grade 1, 3 for 2, 2 for 3 and 1 for 4; other grades are none.

Usage: tools/retrieval_report.py --data FOLDER [--program FILE] [--embedder FOLDER] [--options TEXT]
  --data      cran.all.1400, cran.qry and cranqrel lie there
  --options   of one more row: --options "mode = 'hybrid', rrf_k = 10"; may be repeated
"""
import argparse
import json
import math
import pathlib
import random
import re
import subprocess
import sys
import tempfile

MODES = ("mode = 'vector'", "mode = 'text'", "mode = 'hybrid'",
         "mode = 'hybrid', rank_fusion = 'relative'", "mode = 'hybrid', rank_fusion = 'linear'")
DEPTH = 10


def read_records(path):
    """The records of a file in SMART's form, as [{letter: text}]."""
    records = []
    for part in re.split(r"^\.I\s+\d+\s*$", path.read_text(encoding="latin-1"), flags=re.M)[1:]:
        fields = re.split(r"^\.([TABW])\s*$", part, flags=re.M)
        records.append({fields[i]: " ".join(fields[i + 1].split())
                        for i in range(1, len(fields) - 1, 2)})
    return records


def read_judgements(path):
    """{question, from 1: {document, from 1: gain}}"""
    gains = {}
    for line in path.read_text(encoding="latin-1").splitlines():
        question, document, grade = (int(field) for field in line.split()[:3])
        if 1 <= grade <= 4:
            gains.setdefault(question, {})[document] = 5 - grade
    return gains


def quote(text):
    return "'" + text.replace("'", "''") + "'"


def run(program, database, script):
    """What each statement of `script` printed, as lists of rows."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql", encoding="utf-8") as file:
        file.write(script)
        file.flush()
        result = subprocess.run([program, database, "--json", "-f", file.name], check=False,
                                capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"retrieval_report: {program} failed:\n{result.stderr[-2000:]}")
    return [json.loads(line) for line in result.stdout.splitlines()]


def load(program, database, embedder, documents):
    script = [f"CREATE MODEL e TYPE EMBEDDING FROM {quote(embedder)};",
              "CREATE COLLECTION cran WITH (chunk_tokens = 1024);"]
    rows = []
    for number, document in enumerate(documents, 1):
        title, text = document.get("T", ""), document.get("W", "")
        # The abstract repeats the title, which is stored and embedded by itself.
        text = text[len(title):].strip() if text.startswith(title) else text
        rows.append(f"('{number}', {quote(title)}, {quote(text or title or '-')})")
    for begin in range(0, len(rows), 100):
        script.append("INSERT INTO cran (id, title, content) VALUES " +
                      ",\n".join(rows[begin:begin + 100]) + ";")
    run(program, database, "\n".join(script))


def rank(program, database, questions, options):
    """The documents that each question finds, best first, each once."""
    # A little deeper, because a long document may be there with several chunks.
    script = "\n".join(f"SEARCH {quote(plain(question))} IN cran LIMIT {3 * DEPTH} "
                       f"WITH ({options}, snippet_chars = 1);" for question in questions)
    rankings = []
    for rows in run(program, database, script):
        rankings.append(list(dict.fromkeys(int(row["source"]) for row in rows))[:DEPTH])
    return rankings


def plain(question):
    """The question without what the language of searches would take for an operator."""
    return re.sub(r"[\"*+-]", " ", question)


def ndcg(ranking, gains):
    gain = sum(gains.get(document, 0) / math.log2(i + 2) for i, document in enumerate(ranking))
    ideal = sorted(gains.values(), reverse=True)[:DEPTH]
    return gain / sum(value / math.log2(i + 2) for i, value in enumerate(ideal))


def recall(ranking, gains):
    return sum(document in gains for document in ranking) / min(len(gains), DEPTH)


def reciprocal_rank(ranking, gains):
    return next((1 / (i + 1) for i, document in enumerate(ranking) if document in gains), 0.0)


def interval(values):
    """Half the width of the 95 % interval of the mean, by bootstrap."""
    draw = random.Random(1)
    means = sorted(sum(draw.choices(values, k=len(values))) / len(values) for _ in range(1000))
    return (means[974] - means[25]) / 2


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", required=True, type=pathlib.Path)
    parser.add_argument("--program", default="build/cpu/bin/intarsia")
    parser.add_argument("--embedder", default="models/all-MiniLM-L6-v2")
    parser.add_argument("--options", action="append", default=[])
    arguments = parser.parse_args()
    documents = read_records(arguments.data / "cran.all.1400")
    questions = [record["W"] for record in read_records(arguments.data / "cran.qry")]
    judgements = read_judgements(arguments.data / "cranqrel")
    judged = [i for i in range(len(questions)) if judgements.get(i + 1)]
    with tempfile.TemporaryDirectory(prefix="retrieval_report_") as folder:
        database = folder + "/kb"
        load(arguments.program, database, str(pathlib.Path(arguments.embedder).resolve()),
             documents)
        print(f"{len(documents)} documents, {len(judged)} questions with judgements\n")
        print("| search | NDCG@10 | recall@10 | MRR@10 |\n|---|---|---|---|")
        for options in (*MODES, *arguments.options):
            rankings = rank(arguments.program, database, questions, options)
            cells = []
            for measure in (ndcg, recall, reciprocal_rank):
                values = [measure(rankings[i], judgements[i + 1]) for i in judged]
                cells.append(f"{sum(values) / len(values):.4f} ± {interval(values):.4f}")
            print(f"| {options} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
