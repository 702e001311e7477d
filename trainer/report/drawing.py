"""Charts drawn with matplotlib, on figures of their own: pyplot and its global settings stay untouched.

One set of colours that the colour-blind can tell apart, and one mark for each role.
"""

import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from trainer.report.content import Chart, Line, Reference, Role

DPI = 200

_SIZE_IN = (5.2, 3.9)
_INK, _FAINT, _RULE = "#1a1a1a", "#6b6b6b", "#d9d9d9"
_TITLE_PT, _TEXT_PT, _SMALL_PT = 10.0, 9.0, 7.5
_TITLE_CHARACTERS, _SETTING_CHARACTERS, _COLUMN_CHARACTERS = 58, 96, 32
_MOST_TICKS, _MOST_MARKS = 10, 20
_NEAR = 0.6
"""A reference is drawn if it lies within this share of the data's range from the data; else it is named."""

_BLACK, _BLUE, _SKY, _GREEN, _ORANGE, _RED, _PINK = (
    "#3d3d3d",
    "#0072b2",
    "#56b4e9",
    "#009e73",
    "#e69f00",
    "#d55e00",
    "#cc79a7",
)
"""Of Okabe and Ito's palette."""

_LOOKS: dict[Role, tuple[str, str]] = {
    "bernoulli": (_BLUE, "o"),
    "gaussian": (_RED, "s"),
    "simclr": (_GREEN, "^"),
    "supervised": (_BLACK, "D"),
    "supervised-bernoulli": (_PINK, "v"),
    "own-variance": (_PINK, "X"),
    "top": (_BLUE, "o"),
    "bottom": (_RED, "s"),
    "h": (_BLACK, "D"),
    "z": (_BLUE, "o"),
    "z-sampled": (_SKY, "^"),
    "bits": (_RED, "s"),
    "sign": (_BLACK, "D"),
    "itq": (_RED, "s"),
    "projection": (_GREEN, "^"),
    "pq": (_ORANGE, "v"),
}
"""Colour and mark of each role."""

_DOTTED = (0, (1, 2))
_LIGHTER, _LIGHTEST = 0.15, 0.75


def draw(chart: Chart) -> Figure:
    """The chart as a figure, ready for `savefig` at `DPI`."""
    figure = Figure(figsize=_SIZE_IN, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    for line in chart.lines:
        _draw_line(axes, line)
    _style(axes, chart)
    _draw_references(axes, chart.references)
    title = textwrap.fill(chart.title, _TITLE_CHARACTERS)
    figure.suptitle(title, x=0.015, ha="left", fontsize=_TITLE_PT, fontweight="bold", color=_INK)
    axes.set_title(
        textwrap.fill(chart.source.setting, _SETTING_CHARACTERS),
        loc="left",
        fontsize=_SMALL_PT - 1,
        color=_FAINT,
        parse_math=False,  # names of images may hold any character
    )
    _legend(figure, axes)
    return figure


def _draw_line(axes: Axes, line: Line) -> None:
    """Means as a line, and from the lowest to the highest a band; for a single point, a bar."""
    base, mark = _LOOKS[line.role]
    colour = _mixed_with_white(base, line.shade)
    x = [point.x for point in line.points]
    low, high = [point.y.low for point in line.points], [point.y.high for point in line.points]
    if any(point.y.count > 1 for point in line.points):
        if len(x) == 1:
            axes.vlines(x, low, high, color=colour, linewidth=1.2)
        else:
            axes.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0)
    axes.plot(
        x,
        [point.y.mean for point in line.points],
        color=colour,
        label=line.label,
        linestyle=(0, (4, 2)) if line.dashed else "-",
        linewidth=1.6,
        marker=mark if len(x) <= _MOST_MARKS else "",
        markersize=4.5,
        markeredgecolor="white",
        markeredgewidth=0.6,
    )


def _mixed_with_white(colour: str, shade: int) -> str:
    share = min(_LIGHTEST, _LIGHTER * shade)
    channels = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    return "#" + "".join(f"{round(value + (255 - value) * share):02x}" for value in channels)


def _style(axes: Axes, chart: Chart) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.grid(axis="y", color=_RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=_SMALL_PT + 0.5, color=_FAINT, labelcolor=_INK)
    axes.set_xlabel(chart.x_label, fontsize=_TEXT_PT, color=_INK)
    axes.set_ylabel(chart.y_label, fontsize=_TEXT_PT, color=_INK)
    values = sorted({point.x for line in chart.lines for point in line.points})
    if chart.x_scale == "log2":
        axes.set_xscale("log", base=2)
        powers = [2.0**n for n in range(32) if values[0] <= 2**n <= values[-1]]
        axes.xaxis.set_major_locator(FixedLocator(values if len(values) <= _MOST_TICKS else powers))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(7, integer=values[-1] >= 2))
        axes.set_xlim(left=0)
    if chart.y_scale == "log10":
        axes.set_yscale("log")
    else:
        axes.yaxis.set_major_locator(MaxNLocator(6))


def _draw_references(axes: Axes, references: Sequence[Reference]) -> None:
    """Dotted lines across the axes; one that would squeeze the data is in the legend alone."""
    lowest, highest = axes.get_ylim()
    reach = _NEAR * (highest - lowest) if axes.get_yscale() == "linear" else 0.0
    for number, reference in enumerate(references):
        colour = _mixed_with_white(_FAINT, 2 * number)
        if reference.axis == "x":
            axes.axvline(reference.value, color=colour, linestyle=_DOTTED, zorder=1, label=reference.label)
        elif lowest - reach <= reference.value <= highest + reach:
            axes.axhline(reference.value, color=colour, linestyle=_DOTTED, zorder=1, label=reference.label)
        else:
            where = "above" if reference.value > highest else "below"
            axes.plot([], [], color=colour, linestyle=_DOTTED, label=f"{reference.label}, {where} the axis")


def _legend(figure: Figure, axes: Axes) -> None:
    """Below the axes, each name once; none for a single line."""
    handles: dict[str, Line2D] = {}
    for line in axes.get_lines():
        handles.setdefault(str(line.get_label()), line)
    if len(handles) < 2:
        return
    columns = 2 if max(map(len, handles)) > _COLUMN_CHARACTERS // 2 else 3
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=1 if max(map(len, handles)) > _COLUMN_CHARACTERS + 8 else min(columns, len(handles)),
        frameon=False,
        fontsize=_SMALL_PT + 0.5,
        labelcolor=_INK,
        handlelength=2.4,
        columnspacing=1.6,
    )
