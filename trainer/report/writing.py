"""From run folders to a folder with pictures and one page."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from trainer.report.bits import bits_against_quality
from trainer.report.content import Chart, Missing, Section
from trainer.report.figure2 import figure_2
from trainer.report.figure3 import figure_3
from trainer.report.figure4 import figure_4
from trainer.report.figure5 import figure_5
from trainer.report.markdown import markdown
from trainer.report.page import page
from trainer.report.records import Runs
from trainer.report.runs import read_runs
from trainer.report.table1 import table_1
from trainer.report.tables import codes, efforts, regressions
from trainer.report.training import training_curves

PAGE = "report.html"
MARKDOWN = "report.md"

_SECTIONS = (
    ("Table 1", table_1),
    ("Figure 2", figure_2),
    ("Figure 3", figure_3),
    ("Figure 4", figure_4),
    ("Figure 5", figure_5),
    ("Bits against quality", bits_against_quality),
    ("Codes", codes),
    ("Regression", regressions),
    ("Training", training_curves),
    ("Runs", efforts),
)


@dataclass(frozen=True, slots=True)
class Report:
    page: Path
    pictures: tuple[Path, ...]
    missing: tuple[Missing, ...]
    unfinished: tuple[Path, ...]
    """Folders of runs that are in no figure."""


def sections_of(runs: Runs) -> tuple[Section, ...]:
    """Everything that the runs support, and what they do not, in the order of the paper."""
    return tuple(Section(name, tuple(make(runs))) for name, make in _SECTIONS)


def write_report(paths: Iterable[Path], out: Path) -> Report:
    """Write a PNG for each figure, and `report.html` and `report.md` with them and the tables, into `out`.

    Raises ValueError for a path that is no run or is damaged, before anything is written.
    """
    from trainer.report.drawing import DPI, draw

    runs = read_runs(paths)
    sections = sections_of(runs)
    out.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, Path] = {}
    for chart in (part for section in sections for part in section.parts if isinstance(part, Chart)):
        pictures[chart.key] = out / f"{chart.key}.png"
        draw(chart).savefig(pictures[chart.key], dpi=DPI)
    images = {key: picture.read_bytes() for key, picture in pictures.items()}
    (out / PAGE).write_text(page(runs, sections, images), "utf-8")
    (out / MARKDOWN).write_text(markdown(runs, sections), "utf-8")
    return Report(
        out / PAGE,
        tuple(pictures.values()),
        tuple(part for section in sections for part in section.parts if isinstance(part, Missing)),
        tuple(run.folder for run in runs.unfinished),
    )
