"""What the tests of figures ask: the charts of a folder of runs, and what is missing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.report.content import Chart, Line, Missing, Part, Table
from trainer.report.records import Runs
from trainer.report.runs import read_runs

Make = Callable[[Runs], list[Part]]


class Made:
    """The parts that a figure makes of the runs in a folder."""

    def __init__(self, make: Make, folder: Path) -> None:
        parts = make(read_runs([folder]))
        self.charts = {part.key: part for part in parts if isinstance(part, Chart)}
        self.tables = {part.key: part for part in parts if isinstance(part, Table)}
        self.missing = {part.what: part.command for part in parts if isinstance(part, Missing)}

    def lines(self, key: str) -> dict[str, list[tuple[float, float]]]:
        """Means of each line that is drawn, to six digits."""
        return {line.label: means(line) for line in self.charts[key].lines}


def means(line: Line) -> list[tuple[float, float]]:
    return [(point.x, round(point.y.mean, 6)) for point in line.points]


@pytest.fixture
def made(tmp_path: Path) -> Callable[[Make], Made]:
    """What a figure makes of the runs in `tmp_path`."""
    return lambda make: Made(make, tmp_path)
