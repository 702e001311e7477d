"""Charts drawn with matplotlib, on figures of their own: pyplot and its global settings stay untouched."""

import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from trainer.report.content import Chart, Line, Reference
from trainer.report.look import (
    FAINT,
    INK,
    LOOKS,
    RULE,
    SMALL_PT,
    TEXT_PT,
    TITLE_PT,
    colour_of,
    drawable,
)

_WIDTH_IN, _HEIGHT_IN = 5.2, 3.7
_TITLE_CHARACTERS, _SETTING_CHARACTERS, _NOTE_CHARACTERS = 58, 92, 17
_MOST_TICKS = 10
_NEAR = 0.6
"""A reference is drawn as a line if it lies within this share of the data's range from the data."""


def draw(chart: Chart) -> Figure:
    """The chart as a figure, ready for `savefig`."""
    figure = Figure(figsize=(_WIDTH_IN, _HEIGHT_IN), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    _style(axes, chart)
    for line in chart.lines:
        _draw_line(axes, line)
    _scale(axes, chart)
    _refer(axes, chart.references, chart.y_scale == "log")
    figure.suptitle(
        textwrap.fill(drawable(chart.title), _TITLE_CHARACTERS),
        x=0.015,
        ha="left",
        fontsize=TITLE_PT,
        fontweight="bold",
        color=INK,
        parse_math=False,
    )
    axes.set_title(
        textwrap.fill(drawable(chart.source.setting), _SETTING_CHARACTERS),
        loc="left",
        fontsize=SMALL_PT - 1,
        color=FAINT,
        parse_math=False,
    )
    _legend(figure, axes)
    return figure


def _style(axes: Axes, chart: Chart) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SMALL_PT + 0.5, color=FAINT, labelcolor=INK)
    axes.set_xlabel(chart.x_label, fontsize=TEXT_PT, color=INK)
    axes.set_ylabel(chart.y_label, fontsize=TEXT_PT, color=INK)


def _draw_line(axes: Axes, line: Line) -> None:
    """Means as a line, and from the lowest to the highest a band; for a single point, a bar."""
    colour, mark = colour_of(line.role, line.shade), LOOKS[line.role][1]
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
        label=drawable(line.label),
        linestyle=(0, (4, 2)) if line.dashed else "-",
        linewidth=1.6,
        marker=mark if line.marks or len(x) == 1 else "",
        markersize=4.5,
        markeredgecolor="white",
        markeredgewidth=0.6,
    )


def _scale(axes: Axes, chart: Chart) -> None:
    values = sorted({point.x for line in chart.lines for point in line.points})
    if chart.x_scale == "log2":
        axes.set_xscale("log", base=2)
        ticks = values if len(values) <= _MOST_TICKS else _powers_of_two(values)
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(7, integer=values[-1] >= 2))
        axes.set_xlim(left=0)
    if chart.y_scale == "log":
        axes.set_yscale("log")
    else:
        axes.yaxis.set_major_locator(MaxNLocator(6))


def _powers_of_two(values: Sequence[float]) -> list[float]:
    return [2.0**n for n in range(32) if values[0] <= 2**n <= values[-1]]


def _refer(axes: Axes, references: Sequence[Reference], is_log: bool) -> None:
    """Lines across the axes, with their names outside at the right; a value far away is only named."""
    for reference in references:
        if reference.axis == "x":
            axes.axvline(reference.value, color=FAINT, linewidth=1, linestyle=(0, (1, 2)), zorder=1)
            axes.annotate(
                drawable(reference.label),
                (reference.value, 0.04),
                xycoords=("data", "axes fraction"),
                xytext=(4, 0),
                textcoords="offset points",
                fontsize=SMALL_PT,
                color=FAINT,
                parse_math=False,
            )
    lowest, highest = axes.get_ylim()
    reach = 0.0 if is_log else _NEAR * (highest - lowest)
    notes = []
    for reference in (reference for reference in references if reference.axis == "y"):
        if lowest - reach <= reference.value <= highest + reach:
            axes.axhline(reference.value, color=FAINT, linewidth=1, linestyle=(0, (1, 2)), zorder=1)
            notes.append((reference.value, reference.label))
        else:
            arrow = "↑" if reference.value > highest else "↓"
            notes.append((reference.value, f"{arrow} {reference.label}"))
    _name_at_right(axes, sorted(notes))


def _name_at_right(axes: Axes, notes: Sequence[tuple[float, str]]) -> None:
    """Names of lines outside the axes, from the lowest up, each clear of the one below it."""
    free = 0.0
    for value, label in notes:
        text = textwrap.fill(drawable(label), _NOTE_CHARACTERS)
        height = 0.06 * (text.count("\n") + 1)
        _, place = axes.transAxes.inverted().transform(axes.transData.transform((1, value)))
        middle = max(min(max(place, 0.0), 1.0), free + height / 2 if free else 0.0)
        free = middle + height / 2
        axes.annotate(
            text,
            (1.015, middle),
            xycoords="axes fraction",
            fontsize=SMALL_PT - 0.5,
            color=FAINT,
            va="center",
            parse_math=False,
            annotation_clip=False,
        )


def _legend(figure: Figure, axes: Axes) -> None:
    """Below the axes, each name once; none for a single line."""
    handles: dict[str, Line2D] = {}
    for line in axes.get_lines():
        label = str(line.get_label())
        if not label.startswith("_"):
            handles.setdefault(label, line)
    if len(handles) < 2:
        return
    columns = 3 if max(map(len, handles)) <= 18 else 2 if max(map(len, handles)) <= 34 else 1
    legend = figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=min(columns, len(handles)),
        frameon=False,
        fontsize=SMALL_PT + 0.5,
        labelcolor=INK,
        handlelength=2.4,
        columnspacing=1.6,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
