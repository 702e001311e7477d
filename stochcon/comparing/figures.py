"""The pictures of a comparison, on figures of their own: pyplot and its global settings stay untouched."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from stochcon.comparing.comparison import Comparison, Curves
from stochcon.comparing.measure import Floats
from stochcon.comparing.significance import Estimate

DPI = 160

_INK, _FAINT, _RULE = "#1a1a1a", "#6b6b6b", "#d9d9d9"
_COLOURS = ("#0072b2", "#d55e00")
"""Of A and B, from Okabe and Ito's palette, which the colour-blind can tell apart."""
_BINS = 40
_NAME_CHARACTERS = 28
_WIDTH_IN = 6.4

Draw = Callable[[Comparison, tuple[Curves, Curves]], Figure]


def scores(found: Comparison, curves: tuple[Curves, Curves]) -> Figure:
    """What was tested, and each edit, with intervals of 95 %."""
    shown = [*found.tested, *found.edits]
    # The edits are what the last one tested is made of, so they stand a little apart.
    places = np.arange(len(shown)) + 0.5 * (np.arange(len(shown)) >= len(found.tested))
    figure, (axes,) = _figure(found, 1, height_in=1.3 + 0.36 * max(len(shown), 1))
    for side, colour in enumerate(_COLOURS):
        estimates = [(score.a, score.b)[side] for score in shown]
        rows = places + (-0.19, 0.19)[side]
        values = [estimate.value for estimate in estimates]
        axes.barh(rows, values, height=0.36, color=colour, alpha=0.85)
        axes.errorbar(values, rows, xerr=_ends(estimates), fmt="none", ecolor=_INK, elinewidth=1, capsize=2)
    axes.set_yticks(places, [score.name for score in shown])
    axes.set_ylim(len(shown) + 0.1, -0.6)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(axis="y", visible=False)
    axes.set_title("Right answers, and the intervals of 95 %", loc="left", fontsize=10, color=_INK)
    return figure


def distances(found: Comparison, curves: tuple[Curves, Curves]) -> Figure:
    """Distances to the nearest image beside those of random pairs, for each model."""
    figure, panels = _figure(found, 2, height_in=4.6, is_named=False)
    models = (("A", found.a), ("B", found.b))
    for axes, (side, model), drawn, colour in zip(panels, models, curves, _COLOURS, strict=True):
        edges = _edges([drawn.nearest, drawn.random], model.num_bits)
        axes.hist(drawn.random, edges.tolist(), density=True, color=_FAINT, alpha=0.4, label="random pairs")
        axes.hist(
            drawn.nearest, edges.tolist(), density=True, color=colour, alpha=0.75, label="to the nearest"
        )
        title = f"{side}: {_short(model.name)}, {100 * model.separation:.1f} % told from random"
        axes.set_title(title, loc="left", fontsize=10, color=_INK)
        axes.legend(frameon=False, fontsize=8, labelcolor=_INK, loc="best")
        axes.set_yticks([])
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    panels[-1].set_xlabel("distance, as a share of the bits", fontsize=9, color=_INK)
    low = min(axes.get_xlim()[0] for axes in panels)
    high = max(axes.get_xlim()[1] for axes in panels)
    for axes in panels:
        axes.set_xlim(max(low, 0), min(high, 1))
    return figure


def entropy(found: Comparison, curves: tuple[Curves, Curves]) -> Figure:
    """How unsure the models are of a bit, over the images."""
    figure, (axes,) = _figure(found, 1, height_in=3.4)
    low = min(float(drawn.entropy.min()) for drawn in curves)
    high = max(float(drawn.entropy.max()) for drawn in curves)
    edges = np.linspace(low, max(high, low + 1e-3), _BINS + 1).tolist()
    for drawn, colour in zip(curves, _COLOURS, strict=True):
        axes.hist(drawn.entropy, edges, density=True, color=colour, alpha=0.3, histtype="stepfilled")
        axes.hist(drawn.entropy, edges, density=True, color=colour, linewidth=1.6, histtype="step")
    axes.set_yticks([])
    axes.set_xlabel("entropy of an image's code, in bits for each bit of it", fontsize=9, color=_INK)
    axes.set_title("How unsure the models are", loc="left", fontsize=10, color=_INK)
    return figure


def activity(found: Comparison, curves: tuple[Curves, Curves]) -> Figure:
    """In what share of the images each bit is 1, bits sorted by it."""
    figure, (axes,) = _figure(found, 1, height_in=3.4)
    for drawn, colour in zip(curves, _COLOURS, strict=True):
        ordered = np.sort(drawn.activity)
        axes.plot((np.arange(len(ordered)) + 0.5) / len(ordered), ordered, color=colour, linewidth=1.8)
    axes.axhline(0.5, color=_FAINT, linestyle=(0, (1, 2)), linewidth=1)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.02, 1.02)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("bits, sorted", fontsize=9, color=_INK)
    axes.set_ylabel("images in which a bit is 1", fontsize=9, color=_INK)
    axes.set_title("How the bits are used", loc="left", fontsize=10, color=_INK)
    return figure


FIGURES: dict[str, Draw] = {
    "scores": scores,
    "distances": distances,
    "entropy": entropy,
    "activity": activity,
}
"""By the name of the file, without `.png`."""


def _figure(
    found: Comparison, num_panels: int, *, height_in: float, is_named: bool = True
) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained", facecolor="white")
    panels = [figure.add_subplot(num_panels, 1, number + 1) for number in range(num_panels)]
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_FAINT)
        axes.grid(color=_RULE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=8, color=_FAINT, labelcolor=_INK)
    if is_named:
        for side, model, colour in zip("AB", (found.a, found.b), _COLOURS, strict=True):
            panels[0].plot([], [], color=colour, linewidth=6, label=f"{side}: {_short(model.name)}")
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8, labelcolor=_INK)
    return figure, panels


def _ends(estimates: Sequence[Estimate]) -> list[list[float]]:
    """How far the intervals reach below and above."""
    return [[e.value - e.low for e in estimates], [e.high - e.value for e in estimates]]


def _edges(values: Sequence[Floats], num_bits: int) -> Floats:
    """Edges of bins that all hold as many whole numbers of bits, so that none is empty for want of them."""
    low = min(round(float(v.min()) * num_bits) for v in values)
    high = max(round(float(v.max()) * num_bits) for v in values)
    step = max(1, -(-(high - low + 1) // _BINS))
    return (np.arange(low, high + step + 1, step) - 0.5) / num_bits


def _short(name: str) -> str:
    # Names are anybody's, and `$` would begin a formula.
    text = name if len(name) <= _NAME_CHARACTERS else f"{name[: _NAME_CHARACTERS - 1]}…"
    return text.replace("$", r"\$")
