#!/usr/bin/env python3
"""Measures how well a search ranks what people judged to be relevant: by vectors, words, and both.

Loads the Cranfield collection (1,400 abstracts, 225 questions with graded judgements) into a new
database by the shell `intarsia`, asks every question in each mode, and prints NDCG@10, recall@10
and MRR@10 with 95 % confidence intervals over questions, in Markdown. The gain of a judgement is
4 for grade 1, 3 for 2, 2 for 3 and 1 for 4; other grades are none.

Usage: tools/retrieval_report.py --data FOLDER [--program FILE] [--embedder FOLDER] [--options TEXT]
         [--generator FILE] [--reranker FOLDER] [--questions N] [--reference]
  --data       cran.all.1400, cran.qry and cranqrel lie there
  --options    of one more row: --options "mode = 'hybrid', rrf_k = 10"; may be repeated
  --generator  registers a model g, for --options "rerank = g"
  --reranker   registers a model ce, for --options "rerank = ce"
  --reference  one more row: BM25 as its formula says, over every document, by a few lines with the
               same words, stems and function words; needs pip install snowballstemmer
  --questions  every so many-th is left out until about N are left; 0: all
"""
import argparse
import collections
import json
import math
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time

MODES = ("mode = 'vector'", "mode = 'text'", "mode = 'hybrid'",
         "mode = 'hybrid', rank_fusion = 'relative'", "mode = 'hybrid', rank_fusion = 'linear'")
REFERENCE = "BM25 by its formula"
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


def stored(document):
    """(title, text)"""
    title, text = document.get("T", ""), document.get("W", "")
    # The abstract repeats the title, which is stored and embedded by itself.
    text = text[len(title):].strip() if text.startswith(title) else text
    return title, text or title or "-"


def load(program, database, models, documents):
    """`models` are (name, type, path); the first is the embedder."""
    script = [f"CREATE MODEL {name} TYPE {kind} FROM {quote(str(path.resolve()))};"
              for name, kind, path in models if path]
    script.append("CREATE COLLECTION cran WITH (chunk_tokens = 1024);")
    rows = []
    for number, document in enumerate(documents, 1):
        title, text = stored(document)
        rows.append(f"('{number}', {quote(title)}, {quote(text)})")
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


def reference_rankings(documents, questions):
    """The documents that BM25 (k1 1.2, b 0.75) ranks best for each question."""
    import snowballstemmer

    stem = snowballstemmer.stemmer("english").stemWord
    source = pathlib.Path("index/text_analyzer.cc").read_text(encoding="utf-8")
    functions = set(re.findall(r'"(\w+)"', source.split("kFunctionWords = {", 1)[1]
                               .split("};", 1)[0]))

    def words(text):
        return re.findall(r"\d+(?:[.,]\d+)+|[a-z0-9]+(?:'[a-z]+)*", text.lower())

    counts, lengths = [], []
    for document in documents:
        terms = [stem(word) for word in words(" ".join(stored(document)))]
        counts.append(collections.Counter(terms))
        lengths.append(len(terms))
    frequency = collections.Counter(term for count in counts for term in count)
    mean = sum(lengths) / len(lengths)
    rankings = []
    for question in questions:
        asked = words(plain(question))
        asked = [word for word in asked if word not in functions] or asked
        scores = [0.0] * len(documents)
        for term, weight in collections.Counter(map(stem, asked)).items():
            number = frequency[term]
            idf = math.log(1 + (len(documents) - number + 0.5) / (number + 0.5))
            for i, count in enumerate(counts):
                if count[term]:
                    norm = 1.2 * (1 - 0.75 + 0.75 * lengths[i] / mean)
                    scores[i] += weight * idf * 2.2 * count[term] / (count[term] + norm)
        best = sorted(range(len(documents)), key=lambda i: (-scores[i], i))[:DEPTH]
        rankings.append([i + 1 for i in best if scores[i] > 0])
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
    parser.add_argument("--embedder", default="models/all-MiniLM-L6-v2", type=pathlib.Path)
    parser.add_argument("--generator", type=pathlib.Path)
    parser.add_argument("--reranker", type=pathlib.Path)
    parser.add_argument("--reference", action="store_true")
    parser.add_argument("--questions", type=int, default=0)
    parser.add_argument("--options", action="append", default=[])
    arguments = parser.parse_args()
    documents = read_records(arguments.data / "cran.all.1400")
    questions = [record["W"] for record in read_records(arguments.data / "cran.qry")]
    judgements = read_judgements(arguments.data / "cranqrel")
    judged = [i for i in range(len(questions)) if judgements.get(i + 1)]
    if arguments.questions:
        judged = judged[::max(1, len(judged) // arguments.questions)]
    with tempfile.TemporaryDirectory(prefix="retrieval_report_") as folder:
        database = folder + "/kb"
        load(arguments.program, database,
             [("e", "EMBEDDING", arguments.embedder), ("g", "GENERATE", arguments.generator),
              ("ce", "RERANK", arguments.reranker)], documents)
        print(f"{len(documents)} documents, {len(judged)} questions with judgements\n")
        print("| search | NDCG@10 | recall@10 | MRR@10 | ms a question |\n|---|---|---|---|---|")
        extra = [REFERENCE] if arguments.reference else []
        for options in (*MODES, *extra, *arguments.options):
            start = time.perf_counter()
            asked = [questions[i] for i in judged]
            if options == REFERENCE:
                rankings = reference_rankings(documents, asked)
            else:
                rankings = rank(arguments.program, database, asked, options)
            elapsed = time.perf_counter() - start
            cells = []
            for measure in (ndcg, recall, reciprocal_rank):
                values = [measure(ranking, judgements[i + 1])
                          for ranking, i in zip(rankings, judged)]
                cells.append(f"{sum(values) / len(values):.4f} ± {interval(values):.4f}")
            cells.append(f"{1e3 * elapsed / len(judged):.0f}")
            print(f"| {options} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
