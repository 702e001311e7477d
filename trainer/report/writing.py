"""From run folders to a folder with pictures and one page."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.report.bits import bits_against_quality
from trainer.report.content import Chart, Missing, Part, Table
from trainer.report.figure2 import figure_2_left, figure_2_right
from trainer.report.figure3 import figure_3
from trainer.report.figure4 import figure_4
from trainer.report.figure5 import figure_5_left, figure_5_right
from trainer.report.look import DPI
from trainer.report.page import Section, page
from trainer.report.records import Runs
from trainer.report.runs import read_runs
from trainer.report.table1 import table_1
from trainer.report.tables import codes, efforts, regressions
from trainer.report.training import training_curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = "report.html"


@dataclass(frozen=True, slots=True)
class Report:
    page: Path
    runs: Runs
    sections: tuple[Section, ...]
    pictures: dict[str, Path]
    """The file of each chart and table, by its key."""


def sections_of(runs: Runs) -> tuple[Section, ...]:
    """Everything that the runs support, and what they do not, in the order of the paper."""
    figure_5 = [*figure_5_left(runs), *figure_5_right(runs)]
    made: Sequence[tuple[str, list[Part]]] = (
        ("Table 1", table_1(runs)),
        ("Figure 2", [*figure_2_left(runs), *figure_2_right(runs)]),
        ("Figure 3", figure_3(runs)),
        ("Figure 4", figure_4(runs)),
        ("Figure 5", figure_5),
        ("Bits against quality", bits_against_quality(runs)),
        ("Codes", codes(runs)),
        ("Regression", regressions(runs)),
        ("Training", training_curves(runs)),
        ("Runs", efforts(runs)),
    )
    return tuple(Section(name, tuple(parts)) for name, parts in made)


def write_report(folders: Iterable[Path], out: Path) -> Report:
    """Write a PNG for each figure and table, and `report.html` with all of them, into `out`.

    Raises ValueError for a folder that is no run or is damaged, before anything is written.
    """
    runs = read_runs(folders)
    sections = sections_of(runs)
    out.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, Path] = {}
    for section in sections:
        for part in section.parts:
            if not isinstance(part, Missing):
                pictures[part.key] = out / f"{part.key}.png"
                _draw(part).savefig(pictures[part.key], dpi=DPI)
    path = out / PAGE
    images = {key: picture.read_bytes() for key, picture in pictures.items()}
    path.write_text(page(runs, sections, images), "utf-8")
    return Report(path, runs, sections, pictures)


def _draw(part: Chart | Table) -> "Figure":
    from trainer.report.figures import draw
    from trainer.report.table_figures import draw_table

    return draw(part) if isinstance(part, Chart) else draw_table(part)
