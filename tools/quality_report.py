#!/usr/bin/env python3
"""Tables and plots of what bench/end_to_end measures.

  tools/quality_report.py QUALITY.jsonl ... [--model FILE] [--out SVG] [--against POLICY]
    Reads what fusion_quality wrote, in one file or several, and prints a Markdown table: for each
    policy the mean and its
    standard error over the questions. KL1 is the divergence (nats) of the first answer token from
    the full prefill's, tfKL the mean over its answer; agree, the share of its tokens that come
    first here too; exact, the same greedy answer; the F1 column, F1 minus that of the full prefill,
    by question. The last column is KL1 minus that of deviation without propagation (CacheBlend's
    rule) at the same ratio, by question. A second table has KL1 alone, selectors by ratios.
    --against attention/two_sided/0.150 adds KL1 minus that of this policy, by question.
    Plots KL1 against the ratio to docs/plots/fusion_quality_<model>.svg.

  tools/quality_report.py --prefill PREFILL.json [--out SVG]
    Reads what `prefill_bench --json` wrote and plots the time to the first token against the length
    of the prompt, full and fused from memory, to docs/plots/prefill_context.svg. Measure several
    lengths for that: --lengths 512,2048,4096,6144 --contexts 512,2048,4096,6144.
"""
import argparse
import collections
import json
import math
import pathlib
import re
import statistics
import sys

import svg_plot

ROOT = pathlib.Path(__file__).resolve().parent.parent
PLOTS = ROOT / "docs/plots"
BASELINE = ("deviation", "off")
PROPAGATIONS = {"off": "", "two_sided": ", propagated", "causal": ", propagated causally"}


def fail(message):
    raise SystemExit(f"quality_report: {message}")


def key_of(policy):
    """(selector, propagation, ratio); the reference is ("reference", "", 1)."""
    parts = policy.split("/")
    if len(parts) == 4:  # how the caches were kept at rest is part of the selector's name
        parts = [parts[0] + " " + parts[3], *parts[1:3]]
    return (parts[0], parts[1], float(parts[2])) if len(parts) == 3 else (parts[0], "", 1.0)


def read_rows(path, policies):
    """Adds {key_of(policy): {question: row}}."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            policies[key_of(row["policy"])][row["question"]] = row
        except (ValueError, KeyError, TypeError) as error:
            # A run that was killed leaves half a line; the next run goes on behind it.
            print(f"quality_report: {path}:{number} is passed over: {error!r}", file=sys.stderr)


def mean_and_error(values):
    """(mean, standard error of the mean); the error of a single value is not known: 0."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, 0.0
    return mean, statistics.stdev(values) / math.sqrt(len(values))


def quantile(values, share):
    """By linear interpolation between the ordered values."""
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    below = math.floor(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])


def with_error(values, digits=3, is_signed=False):
    mean, error = mean_and_error(values)
    return f"{mean:{'+' if is_signed else ''}.{digits}f} ± {error:.{digits}f}"


def values_of(rows, field):
    return [rows[question][field] for question in sorted(rows)]


def paired(rows, others, field):
    """rows[field] - others[field] over the questions that both have."""
    return [rows[question][field] - others[question][field]
            for question in sorted(rows.keys() & others.keys())]


def policy_name(key):
    selector, propagation, ratio = key
    if propagation in ("", "off") and selector in ("none", "full", "reference"):
        return selector
    return f"{selector}{PROPAGATIONS.get(propagation, ', ' + propagation)} {ratio:g}"


def print_table(policies, reference):
    print("| policy | n | KL1 | median | p90 | tfKL | agree | exact | F1 - full F1 | ms | "
          "KL1 - deviation's |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for key in sorted(policies, key=lambda key: (key[2], key[0], key[1])):
        rows = policies[key]
        kl1 = values_of(rows, "kl1")
        gains = paired(rows, reference, "f1")
        baseline = policies.get((*BASELINE, key[2]), {})
        against = paired(rows, baseline, "kl1") if key[:2] != BASELINE else []
        print(f"| {policy_name(key)} | {len(rows)} | {with_error(kl1)} | "
              f"{statistics.median(kl1):.3f} | {quantile(kl1, 0.9):.3f} | "
              f"{with_error(values_of(rows, 'tfkl'))} | "
              f"{with_error(values_of(rows, 'agree'))} | "
              f"{with_error(values_of(rows, 'exact'), 2)} | "
              f"{with_error(gains, is_signed=True) if gains else '-'} | "
              f"{statistics.median(values_of(rows, 'total_ms')):.0f} | "
              f"{with_error(against, is_signed=True) if against else '-'} |")
    if reference:
        rows = reference.values()
        print(f"\nFull prefill: n {len(rows)}, F1 {with_error([row['f1'] for row in rows])}, "
              f"{statistics.median(row['total_ms'] for row in rows):.0f} ms (median).")


def print_by_ratio(policies):
    """KL1 alone: a row for each selector and propagation, a column for each ratio."""
    ratios = sorted({ratio for selector, _, ratio in policies if selector not in ("none", "full")})
    kinds = sorted({key[:2] for key in policies if key[0] not in ("none", "full")})
    if not ratios:
        return
    print("\n| KL1 | " + " | ".join(f"{ratio:g}" for ratio in ratios) + " |")
    print("|---" * (len(ratios) + 1) + "|")
    for kind in kinds:
        cells = [policies.get((*kind, ratio), {}) for ratio in ratios]
        print(f"| {kind[0]}{PROPAGATIONS.get(kind[1], ', ' + kind[1])} | " + " | ".join(
            re.sub(r"\b0\.", ".", with_error(values_of(rows, "kl1"))) if rows else "-"
            for rows in cells) + " |")


def print_against(policies, baseline):
    """KL1 minus that of one policy, by question."""
    others = policies.get(key_of(baseline))
    if not others:
        fail(f"no policy {baseline} in these figures")
    print(f"\n| KL1 less that of {policy_name(key_of(baseline))} | n | |\n|---|---|---|")
    for key in sorted(policies, key=lambda key: (key[2], key[0], key[1])):
        differences = paired(policies[key], others, "kl1")
        if key != key_of(baseline) and differences:
            print(f"| {policy_name(key)} | {len(differences)} | "
                  f"{with_error(differences, 4, is_signed=True)} |")


def quality_plot(policies, model):
    lines = collections.defaultdict(list)
    for (selector, propagation, ratio), rows in sorted(policies.items()):
        if selector in ("none", "full"):
            continue
        mean, error = mean_and_error([row["kl1"] for row in rows.values()])
        lines[(selector, propagation)].append((ratio, mean, error))
    if not lines:
        return None
    selectors = sorted({selector for selector, _ in lines})
    series = [svg_plot.Series(selector + PROPAGATIONS.get(propagation, ", " + propagation), points,
                              selectors.index(selector), is_dashed=propagation == "off")
              for (selector, propagation), points in sorted(lines.items())]
    none = policies.get(("none", "off", 0.0), {})
    levels = (("nothing recomputed", statistics.fmean(row["kl1"] for row in none.values())),) \
        if none else ()
    num_questions = max(len(rows) for rows in policies.values())
    return svg_plot.Plot(f"{model}: KL of the first answer token, {num_questions} questions",
                         "share of cached tokens computed again",
                         "KL1, nats (mean, standard error)", series, is_log=True, levels=levels)


def write_plot(plot, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(svg_plot.render(plot), encoding="utf-8")
    print(f"\nplot: {path}", file=sys.stderr)


def report_quality(paths, model, out, baseline=None):
    policies = collections.defaultdict(dict)
    for path in paths:
        if not path.exists():
            fail(f"no {path}; `make quality` writes it")
        read_rows(path, policies)
    reference = policies.pop(("reference", "", 1.0), {})
    if not policies:
        fail(f"no policy in {', '.join(str(path) for path in paths)}")
    print_table(policies, reference)
    print_by_ratio(policies)
    if baseline is not None:
        print_against(policies, baseline)
    plot = quality_plot(policies, model)
    if plot is not None:
        write_plot(plot, out or PLOTS / f"fusion_quality_{model.lower()}.svg")


def report_prefill(path, out):
    if not path.exists():
        fail(f"no {path}; `prefill_bench --json {path}` writes it")
    report = json.loads(path.read_text(encoding="utf-8"))
    full = {row["tokens"]: row["median_ms"] for row in report.get("prefill") or []}
    fused = collections.defaultdict(list)
    for context in report.get("fused") or []:
        full[context["prompt_tokens"]] = context["full"]["median_ms"]
        for case in context["cases"]:
            if case["tier"] == "memory":
                fused[case["ratio"]].append((context["prompt_tokens"], case["median_ms"] / 1e3, 0))
    if not full:
        fail(f"neither prefill nor fused times in {path}")
    series = [svg_plot.Series("full prefill",
                              [(tokens, ms / 1e3, 0) for tokens, ms in sorted(full.items())], 6)]
    series += [svg_plot.Series(f"fused, {ratio:g} recomputed", sorted(points), index)
               for index, (ratio, points) in enumerate(sorted(fused.items()))]
    plot = svg_plot.Plot(f"{pathlib.Path(report['model']).stem}: time to the first token, "
                         f"{report['threads']} threads",
                         "tokens of the prompt", "seconds (median)", series)
    write_plot(plot, out or PLOTS / "prefill_context.svg")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("quality", nargs="*", type=pathlib.Path, help="rows of fusion_quality")
    parser.add_argument("--model", type=pathlib.Path, help="model file, for its name")
    parser.add_argument("--prefill", type=pathlib.Path, help="figures of prefill_bench")
    parser.add_argument("--out", type=pathlib.Path, help="where to write the plot")
    parser.add_argument("--against", help="a policy that the others are compared with")
    arguments = parser.parse_args()
    if bool(arguments.quality) == (arguments.prefill is not None):
        fail("want either QUALITY.jsonl or --prefill PREFILL.json")
    if arguments.prefill is not None:
        report_prefill(arguments.prefill, arguments.out)
    else:
        model = arguments.model.name.removesuffix(".gguf") if arguments.model else \
            arguments.quality[0].stem
        report_quality(arguments.quality, model, arguments.out, arguments.against)


if __name__ == "__main__":
    main()
