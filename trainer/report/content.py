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
    "floats",
]
"""What a line stands for; it has the same colour in every figure."""

Scale = Literal["linear", "log"]


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
    marks: bool = True
    """Draw a mark at each point; off for curves over training."""
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Reference:
    """A number to compare with: a line across the figure, or a note at its edge if it lies outside."""

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
    """One figure of one panel."""

    key: str
    """Name of the file, without its ending; unique in a report."""
    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    source: Source
    caption: str
    paper: str = ""
    """What the paper says of it, with the place."""
    undrawn: tuple[Line, ...] = ()
    """Listed with the numbers, but not drawn."""
    references: tuple[Reference, ...] = ()
    x_scale: Literal["linear", "log2"] = "linear"
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
    stat: Stat | None = None


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
    """None for a table of the paper alone."""
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
