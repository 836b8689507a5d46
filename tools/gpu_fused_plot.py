#!/usr/bin/env python3
"""Plots what end_to_end_gpu_bench fused prints: the time to the first token on a device.

  tools/gpu_fused_plot.py FILE... --ratio R [--out SVG]
    By the length of the prompt, R of the cached tokens computed again: a line for full prefill and
    one for each mode; to docs/plots/gpu_fused_length.svg.

  tools/gpu_fused_plot.py FILE... --tokens N [--out SVG]
    By the share of cached tokens computed again, for the prompt of N tokens: a line for each mode,
    full prefill as a level; to docs/plots/gpu_fused_ratio_<N>.svg.

FILE is the program's standard output. Several are read as one; they must be of one device and one
form of products, and no case may be in two. --modes attention,stride keeps these alone. Whiskers
are the standard deviation over the repetitions.
"""
import argparse
import collections
import dataclasses
import pathlib
import re

import svg_plot

ROOT = pathlib.Path(__file__).resolve().parent.parent
PLOTS = ROOT / "docs/plots"
DEVICE = re.compile(r"(.+), [0-9.]+ GB")
PRODUCTS = re.compile(r"(products in .+); [0-9.]+ GB of weights")
PROMPT = re.compile(r"([0-9]+) tokens, [0-9]+ MB of caches; full prefill ([0-9.]+) ms")
CASE = re.compile(r"([a-z-]+) +([0-9.]+) +([0-9.]+) +([0-9.]+)((?: +[0-9.]+){7})")


@dataclasses.dataclass
class Figures:
    machine: tuple = ()  # device, form of products
    full: dict = dataclasses.field(default_factory=dict)  # tokens: milliseconds
    cases: dict = dataclasses.field(default_factory=dict)  # (tokens, mode, ratio): (ms, deviation)


def fail(message):
    raise SystemExit(f"gpu_fused_plot: {message}")


def read_machine(lines, path):
    found = [pattern.fullmatch(line) for pattern, line in zip((DEVICE, PRODUCTS), lines)]
    if len(found) < 2 or None in found:
        fail(f"{path} does not begin with the device and its products; want the standard output "
             "of end_to_end_gpu_bench fused")
    return tuple(match[1] for match in found)


def read_case(match, tokens, figures, place):
    key = (tokens, match[1], float(match[2]))
    if key in figures.cases:
        fail(f"{place}: {match[1]} at {match[2]} of {tokens} tokens was measured already")
    milliseconds = float(match[3])
    figures.cases[key] = (milliseconds, milliseconds * float(match[4]) / 100.0)


def read_file(path, figures):
    """Adds the cases of one run."""
    if not path.exists():
        fail(f"no {path}; it is the standard output of end_to_end_gpu_bench fused")
    lines = path.read_text(encoding="utf-8").splitlines()
    machine = read_machine(lines, path)
    if figures.machine not in ((), machine):
        fail(f"{path} is of {', '.join(machine)}, others are of {', '.join(figures.machine)}")
    figures.machine = machine
    tokens = None
    for number, line in enumerate(lines[2:], 3):
        if not line.strip() or line.startswith("mode "):
            continue
        if match := PROMPT.fullmatch(line):
            tokens = int(match[1])
            figures.full.setdefault(tokens, float(match[2]))
        elif (match := CASE.fullmatch(line)) and tokens is not None:
            read_case(match, tokens, figures, f"{path}:{number}")
        else:
            fail(f"{path}:{number} is no case and no prompt: {line!r}")


def read_files(paths):
    figures = Figures()
    for path in paths:
        read_file(path, figures)
    if not figures.cases:
        fail("no cases in " + ", ".join(map(str, paths)))
    return figures


def lines_of(figures, modes, point):
    """Series by mode; `point` makes an x of (tokens, ratio), None for what is not in the plot."""
    points = collections.defaultdict(list)
    for (tokens, mode, ratio), (milliseconds, deviation) in figures.cases.items():
        x = point(tokens, ratio)
        if x is not None and (not modes or mode in modes):
            points[mode].append((x, milliseconds, deviation))
    if not points:
        fail("none of the cases that are asked for is in the files")
    bases = list(dict.fromkeys(mode.removesuffix("-on-device") for mode in points))
    return [svg_plot.Series(mode.replace("-on-device", ", caches on the device"), sorted(values),
                            bases.index(mode.removesuffix("-on-device")),
                            is_dashed=mode.endswith("-on-device"))
            for mode, values in points.items()]


def length_plot(figures, ratio, modes):
    fused = lines_of(figures, modes, lambda tokens, share: tokens if share == ratio else None)
    lengths = {tokens for series in fused for tokens, _, _ in series.points}
    full = [(tokens, milliseconds, 0.0) for tokens, milliseconds in sorted(figures.full.items())
            if tokens in lengths]
    return svg_plot.Plot(f"8B model, {figures.machine[0]}, {figures.machine[1]}: "
                         f"{ratio:g} computed again",
                         "tokens of the prompt", "milliseconds to the first token (median)",
                         [svg_plot.Series("full prefill", full, 6), *fused], is_log=True,
                         is_log_x=True)


def ratio_plot(figures, tokens, modes):
    fused = lines_of(figures, modes, lambda length, share: share if length == tokens else None)
    return svg_plot.Plot(f"8B model, {figures.machine[0]}, {figures.machine[1]}: "
                         f"{tokens:,} tokens",
                         "share of cached tokens computed again",
                         "milliseconds to the first token (median)", fused,
                         levels=(("full prefill", figures.full[tokens]),))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=pathlib.Path, help="outputs of the benchmark")
    parser.add_argument("--ratio", type=float, help="plot by length at this ratio")
    parser.add_argument("--tokens", type=int, help="plot by ratio at this length")
    parser.add_argument("--modes", default="", help="modes to plot, all by default")
    parser.add_argument("--out", type=pathlib.Path, help="where to write the plot")
    arguments = parser.parse_args()
    if (arguments.ratio is None) == (arguments.tokens is None):
        fail("want either --ratio or --tokens")
    figures = read_files(arguments.files)
    modes = [mode for mode in arguments.modes.split(",") if mode]
    if arguments.ratio is not None:
        plot = length_plot(figures, arguments.ratio, modes)
        path = arguments.out or PLOTS / "gpu_fused_length.svg"
    else:
        plot = ratio_plot(figures, arguments.tokens, modes)
        path = arguments.out or PLOTS / f"gpu_fused_ratio_{arguments.tokens}.svg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(svg_plot.render(plot), encoding="utf-8")
    print(f"plot: {path}")


if __name__ == "__main__":
    main()
