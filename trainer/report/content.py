"""What a report is made of: numbers with their labels, before anything is drawn or written."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Role = Literal[
    "bernoulli",
    "gaussian",
    "simclr",
    "supervised",
    "supervised-bernoulli",
    "own-variance",
    "top",
    "bottom",
    "h",
    "z",
    "z-sampled",
    "bits",
    "sign",
    "itq",
    "projection",
    "pq",
]
"""What a line stands for; it has the same colour in every figure."""

Scale = Literal["linear", "log2", "log10"]


@dataclass(frozen=True, slots=True)
class Stat:
    """One number over seeds."""

    mean: float
    low: float
    high: float
    count: int
    """Number of runs."""

    @classmethod
    def of(cls, values: Sequence[float]) -> "Stat":
        """Over at least one value."""
        return cls(statistics.fmean(values), min(values), max(values), len(values))


@dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: Stat


@dataclass(frozen=True, slots=True)
class Line:
    """One setting, over seeds, against what is varied."""

    label: str
    role: Role
    points: tuple[Point, ...]
    shade: int = 0
    """Tells lines of one role apart: 0 is the role's own colour, and each further one is lighter."""
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Reference:
    """A number to compare with: a dotted line across the figure."""

    value: float
    label: str
    axis: Literal["x", "y"] = "y"


@dataclass(frozen=True, slots=True)
class Source:
    """Where the numbers come from."""

    setting: str
    """What all runs have in common: images, network, budget."""
    runs: str
    """Names, seeds, hardware and time."""


@dataclass(frozen=True, slots=True)
class Chart:
    key: str
    """Name of the file, without its ending; unique in a report."""
    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    source: Source
    caption: str
    paper: str = ""
    """What the paper says of it, with the place; empty for what is not in the paper."""
    undrawn: tuple[Line, ...] = ()
    """Listed with the numbers, but not drawn."""
    references: tuple[Reference, ...] = ()
    x_scale: Scale = "linear"
    y_scale: Scale = "linear"

    @property
    def over_seeds(self) -> str:
        """What its lines and bands are, in a sentence."""
        if all(point.y.count == 1 for line in self.lines for point in line.points):
            return "One seed each."
        return "Lines are means over seeds; bands reach from the lowest to the highest."


@dataclass(frozen=True, slots=True)
class Cell:
    text: str
    detail: str = ""
    """A second, smaller line."""
    strong: bool = False

    @classmethod
    def over(cls, values: Sequence[float], digits: int) -> "Cell":
        """Mean of a number over seeds and, of several, its range; a dash for none."""
        if not values:
            return DASH
        stat = Stat.of(values)
        text, low, high = (f"{value:,.{digits}f}" for value in (stat.mean, stat.low, stat.high))
        return cls(text, f"{low} to {high}" if stat.count > 1 else "")


DASH = Cell("–")


@dataclass(frozen=True, slots=True)
class Table:
    key: str
    title: str
    groups: tuple[tuple[str, int], ...]
    """Headings above the headings, each with the number of columns that it spans; may be empty."""
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str
    source: Source | None = None
    """None where the rows say it."""
    paper: str = ""
    num_text_columns: int = 1
    """Columns at the left that hold words; the others hold numbers."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A figure, or a part of one, that the runs do not support."""

    what: str
    reason: str
    command: str
    """What would make it."""


Part = Chart | Table | Missing


@dataclass(frozen=True, slots=True)
class Section:
    name: str
    parts: tuple[Part, ...]
