#!/usr/bin/env python3
"""Asks the demo's questions and shows the answers with their citations and costs.

Each question is asked with the caches that are there, and once all of its passages have one, by
full prefill, with what a prefix cache could reuse, and by fusion. Passages get letters as they
first appear, so that one sees which of them come back, and in which order.

Usage: tools/demo_report.py PROGRAM DATABASE COLLECTION
"""
import json
import pathlib
import re
import subprocess
import sys
import textwrap

QUESTIONS = {
    "postgres": [
        "What does VACUUM do?",
        "How does VACUUM FULL differ from plain VACUUM?",
        "Does VACUUM FULL need extra disk space?",
    ],
    "manual": [
        "When is a KV cache written?",
        "Why is the first answer slow?",
        "What does CACHE COLLECTION do?",
    ],
}
# The prefix row is there for its costs: its answer is that of the full prefill.
WAYS = [("full prefill", "reuse = none"), ("prefix reuse", "reuse = prefix, max_tokens = 1"),
        ("fused", "reuse = chunks")]
WIDTH = 96


def run(program, database, *statements):
    """Runs statements in one process, which ends when missing caches are written; their rows."""
    command = [program, database, "--format", "json"]
    for statement in statements:
        command += ["-c", statement]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as process:
        try:
            output, errors = process.communicate()
        except KeyboardInterrupt:
            process.wait()  # Ctrl-C went to it as well.
            raise
    if process.returncode != 0:
        sys.exit(f"demo: {errors.strip()}")
    return [json.loads(line) for line in output.splitlines()]


def wrap(text, indent="   "):
    lines = []
    for paragraph in text.splitlines() or [""]:
        lines += textwrap.wrap(paragraph, WIDTH, initial_indent=indent,
                               subsequent_indent=indent, break_long_words=False) or [""]
    return "\n".join(lines)


def seconds(milliseconds):
    return f"{milliseconds / 1000:.2f} s"


def passages_of(plan):
    """The passages of an EXPLAIN, in the order of the prompt, and how many are cached."""
    lines = [row["plan"] for row in plan]
    found = [m.groups() for m in (re.search(r"-> (\S+) bytes (\d+)-\d+ score", x) for x in lines)
             if m]
    cached = next(int(m[1]) for m in (re.search(r"(\d+) of \d+ chunks cached", x) for x in lines)
                  if m)
    return found, cached


def table(rows):
    """Lines of a table: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        yield "   " + "   ".join(cells)


def show_answer(answer):
    print(wrap(answer["answer"]))
    for citation in answer["citations"]:
        place = "/".join(pathlib.PurePath(citation["source"]).parts[-2:])
        quote = " ".join(citation["quote"].split())
        if len(quote) > 240:
            quote = quote[:240].rsplit(" ", 1)[0] + " ..."
        print(f"   [{citation['n']}] {place} "
              f"bytes {citation['byte_start']}-{citation['byte_end']}")
        print(wrap(f'"{quote}"', "       "))


def without_numbers(text):
    return " ".join(re.sub(r"\s*\[\d+\]", "", text).split())


def show_costs(answers):
    full = answers[0]["timing"]["ttft_ms"]
    rows = [["", "prompt", "reused", "recomputed", "fresh", "first token", "speed-up"]]
    for (name, _), answer in zip(WAYS, answers):
        if name == "fused":
            name += f", ratio {answer['fusion']['ratio']}"
        usage = answer["usage"]
        first = answer["timing"]["ttft_ms"]
        rows.append([name] + [f"{usage[key + '_tokens']:,}"
                              for key in ("prompt", "reused", "recomputed", "fresh")] +
                    [seconds(first), f"{full / first:.1f}x"])
    print("\n".join(table(rows)), flush=True)


def ask(program, database, collection, question, letters):
    """Asks with the caches that are there, then, when the others are written, in all ways."""
    def sql(way):
        return f"ANSWER '{question}' FROM {collection} WITH ({way});"

    plan, first = run(program, database, f"EXPLAIN ANSWER '{question}' FROM {collection};",
                      sql("reuse = chunks"))
    passages, cached = passages_of(plan)
    for passage in passages:
        letters.setdefault(passage, chr(ord("A") + len(letters)))
    print(f"   passages {' '.join(letters[passage] for passage in passages)}: "
          f"{cached} of {len(passages)} have a KV cache, "
          f"first token after {seconds(first[0]['timing']['ttft_ms'])}\n", flush=True)
    plan, *answers = run(program, database, f"EXPLAIN ANSWER '{question}' FROM {collection};",
                         *map(sql, (way for _, way in WAYS)))
    answers = [rows[0] for rows in answers]
    fused, full = answers[-1], answers[0]
    show_answer(fused)
    if without_numbers(full["answer"]) != without_numbers(fused["answer"]):
        print("   With full prefill the answer is:")
        print(wrap(full["answer"], "     "))
    print()
    show_costs(answers)


def main():
    program, database, collection = sys.argv[1:]
    letters = {}
    for number, question in enumerate(QUESTIONS[collection], 1):
        print(f"\n{number}. {question}", flush=True)
        ask(program, database, collection, question, letters)
    print("\nreused: from a stored KV cache; recomputed: computed again, because it depends most on"
          " its\nnew neighbours; fresh: without a cache.\n")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
