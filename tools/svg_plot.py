"""A plot of lines as SVG text, for the pages below docs/: no library, no fonts, no randomness.

Equal data give equal bytes, so a plot changes in a commit only when its figures do.
"""
import dataclasses
import html
import math

WIDTH, HEIGHT = 860, 460
LEFT, RIGHT, TOP, BOTTOM = 70, 250, 46, 56  # RIGHT holds the legend
# Okabe and Ito: told apart also by the colour-blind.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


@dataclasses.dataclass
class Series:
    name: str
    points: list  # (x, y, error), the error in units of y, 0 for none
    colour: int = 0  # index into COLOURS
    is_dashed: bool = False


@dataclasses.dataclass
class Plot:
    title: str
    x_label: str
    y_label: str
    series: list
    is_log: bool = False  # the y axis
    levels: tuple = ()  # (name, y): horizontal lines
    is_log_x: bool = False


def nice_step(span, count):
    """A step of 1, 2 or 5 times a power of ten that divides `span` into about `count` parts."""
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)


def linear_ticks(low, high, count=6):
    step = nice_step(high - low, count)
    return [index * step for index in range(math.ceil(low / step - 1e-9),
                                            math.floor(high / step + 1e-9) + 1)]


def log_ticks(low, high):
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [factor * 10.0 ** power for power in powers for factor in (1, 2, 5)]
    return [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]


def number(value):
    return f"{value:.10g}" if abs(value) < 1e4 else f"{value:,.0f}"


class Axes:
    """Data to pixels."""

    def __init__(self, plot):
        xs = [x for series in plot.series for x, _, _ in series.points]
        ys = [y for series in plot.series for _, y, _ in series.points]
        ys += [y for _, y in plot.levels]
        self.is_log = plot.is_log
        self.is_log_x = plot.is_log_x
        if self.is_log_x:
            self.x_low, self.x_high = min(xs) / 1.15, max(xs) * 1.15
        else:
            self.x_low, self.x_high = 0.0, max(xs) * 1.03 or 1.0
        if self.is_log:
            positive = [y for y in ys if y > 0.0] or [1.0]
            self.y_low, self.y_high = min(positive) / 1.4, max(positive) * 1.3
        else:
            self.y_low, self.y_high = 0.0, max(ys) * 1.05 or 1.0

    def x(self, value):
        if self.is_log_x:
            share = math.log(value / self.x_low) / math.log(self.x_high / self.x_low)
        else:
            share = (value - self.x_low) / (self.x_high - self.x_low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value):
        if self.is_log:
            value = max(value, self.y_low)  # a whisker may reach below zero
            share = math.log(value / self.y_low) / math.log(self.y_high / self.y_low)
        else:
            share = (value - self.y_low) / (self.y_high - self.y_low)
        return HEIGHT - BOTTOM - min(max(share, 0.0), 1.0) * (HEIGHT - TOP - BOTTOM)


def text(x, y, content, anchor="start", extra=""):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>'
            f"{html.escape(content)}</text>")


def line(x1, y1, x2, y2, stroke, extra=""):
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
            f'stroke="{stroke}"{extra}/>')


def grid(plot, axes):
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    y_ticks = log_ticks if axes.is_log else linear_ticks
    for tick in y_ticks(axes.y_low, axes.y_high):
        yield line(LEFT, axes.y(tick), right, axes.y(tick), "#dddddd")
        yield text(LEFT - 8, axes.y(tick) + 4, number(tick), "end")
    x_ticks = log_ticks if axes.is_log_x else linear_ticks
    for tick in x_ticks(axes.x_low, axes.x_high):
        yield line(axes.x(tick), bottom, axes.x(tick), bottom + 5, "#444444")
        yield text(axes.x(tick), bottom + 20, number(tick), "middle")
    yield line(LEFT, bottom, right, bottom, "#444444")
    yield line(LEFT, TOP, LEFT, bottom, "#444444")
    middle = (TOP + bottom) / 2
    yield text((LEFT + right) / 2, HEIGHT - 14, plot.x_label, "middle")
    yield text(18, middle, plot.y_label, "middle", f' transform="rotate(-90 18 {middle:.1f})"')
    yield text(LEFT, 26, plot.title, extra=' font-size="16" font-weight="bold"')


def draw_series(series, axes):
    stroke = COLOURS[series.colour % len(COLOURS)]
    path = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y, _ in series.points)
    dash = ' stroke-dasharray="6 4"' if series.is_dashed else ""
    yield f'<polyline points="{path}" fill="none" stroke="{stroke}" stroke-width="2"{dash}/>'
    for x, y, error in series.points:
        if error > 0.0:
            yield line(axes.x(x), axes.y(y - error), axes.x(x), axes.y(y + error), stroke)
        fill = "#ffffff" if series.is_dashed else stroke
        yield (f'<circle cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}" r="3.5" fill="{fill}" '
               f'stroke="{stroke}"/>')


def legend(plot):
    x, y = WIDTH - RIGHT + 16, TOP + 10
    for series in plot.series:
        dash = ' stroke-dasharray="6 4"' if series.is_dashed else ""
        yield line(x, y, x + 28, y, COLOURS[series.colour % len(COLOURS)],
                   f' stroke-width="2"{dash}')
        yield text(x + 36, y + 4, series.name)
        y += 20


def render(plot):
    """The whole SVG document."""
    axes = Axes(plot)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
             f'width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>', *grid(plot, axes)]
    for name, level in plot.levels:
        parts.append(line(LEFT, axes.y(level), WIDTH - RIGHT, axes.y(level), "#888888",
                          ' stroke-dasharray="2 3"'))
        parts.append(text(WIDTH - RIGHT - 4, axes.y(level) - 5, name, "end"))
    for series in plot.series:
        parts += draw_series(series, axes)
    return "\n".join([*parts, *legend(plot), "</svg>"]) + "\n"
