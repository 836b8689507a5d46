#!/usr/bin/env python3
"""Measures searches of vectors from ten thousand to ten million of them, and plots the times.

  tools/vector_growth.py [--sizes N,...] [--bench PROGRAM] [--threads N] [--out SVG]
    Runs index_vector_search_bench for each size with made-up vectors of 384 dimensions, prints a
    table and plots it to docs/plots/vector_growth.svg. The sizes are 10,000, 100,000 and
    1,000,000; where INTARSIA_BENCH_LARGE is set also 10,000,000, which need 24 GB of memory. A
    graph is built up to --graph-max vectors.

  tools/vector_growth.py FILE... [--out SVG]
    The same with what the program's --json wrote on another machine.
"""
import argparse
import json
import os
import pathlib
import subprocess
import tempfile

import svg_plot

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIZES = (10_000, 100_000, 1_000_000)
LARGE = 10_000_000
WAYS = ("flat scan", "binary scan", "binary scan, in one batch", "graph",
        "device scan")


def measure(size, arguments, folder):
    """Runs the benchmark for `size` vectors. Returns where it left its figures."""
    path = pathlib.Path(folder) / f"{size}.json"
    command = [arguments.bench, "--random", str(size), "--queries", str(arguments.queries),
               "--threads", str(arguments.threads), "--unfiltered", "--no-file", "--json", path]
    if size <= arguments.graph_max:
        command.append("--graph")
    subprocess.run(command, check=True)
    return path


def read(path):
    report = json.loads(path.read_text(encoding="utf-8"))
    if "searches" not in report or "names_bytes" not in report:
        raise SystemExit(f"vector_growth: {path} is not of index_vector_search_bench --json")
    return report


def bytes_a_vector(report, part):
    return (report[part] if part == "names_bytes" else report[part]["bytes"]) / report["vectors"]


def print_table(reports):
    print("| vectors | settings by calibration | codes built, s "
          "| bytes a vector: codes, names, graph | "
          + " | ".join(f"{way}: ms (recall)" for way in WAYS) + " |")
    print("|" + "---|" * (4 + len(WAYS)))
    for report in reports:
        binary = report["binary"]
        found = {search["way"]: search for search in report["searches"]}
        graph = f"{bytes_a_vector(report, 'graph'):.0f}" if "graph" in report else "-"
        times = [f"{found[way]['median_us'] / 1e3:.3g} ({found[way]['recall']:.4f})"
                 if way in found else "-" for way in WAYS]
        print(f"| {report['vectors']:,} | {binary['bits']} bits, query of {binary['query_bits']}, "
              f"bound {binary['error_bound']:.1f} | {binary['build_ms'] / 1e3:.2f} | "
              f"{bytes_a_vector(report, 'binary'):.0f}, "
              f"{bytes_a_vector(report, 'names_bytes'):.0f}, {graph} | "
              + " | ".join(times) + " |")


def plot_of(reports):
    points = {way: [] for way in WAYS}
    for report in reports:
        for search in report["searches"]:
            if search["way"] in points:
                points[search["way"]].append((report["vectors"], search["median_us"] / 1e3, 0.0))
    series = [svg_plot.Series(way, points[way], index)
              for index, way in enumerate(WAYS) if points[way]]
    return svg_plot.Plot(f"Ten nearest of vectors of {reports[0]['dim']} dimensions, one thread",
                         "vectors", "milliseconds a search (median)", series, is_log=True,
                         is_log_x=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=pathlib.Path, help="figures of a run")
    parser.add_argument("--sizes", help="numbers of vectors, separated by commas")
    parser.add_argument("--bench", default="build/cpu/bin/index_vector_search_bench")
    parser.add_argument("--queries", type=int, default=64)
    parser.add_argument("--threads", type=int, default=0, help="that build; 0: all")
    parser.add_argument("--graph-max", type=int, default=100_000)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs/plots/vector_growth.svg")
    arguments = parser.parse_args()
    sizes = list(SIZES) + ([LARGE] if "INTARSIA_BENCH_LARGE" in os.environ else [])
    if arguments.sizes:
        sizes = [int(size) for size in arguments.sizes.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        files = arguments.files or [measure(size, arguments, folder) for size in sizes]
        reports = sorted((read(path) for path in files), key=lambda report: report["vectors"])
    print_table(reports)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(svg_plot.render(plot_of(reports)), encoding="utf-8")
    print(f"plot: {arguments.out}")


if __name__ == "__main__":
    main()
