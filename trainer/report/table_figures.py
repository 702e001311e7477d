"""Tables drawn as pictures, as books print them: rules above, below and under the headings, none between."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import IdentityTransform

from trainer.report.content import Cell, Table
from trainer.report.look import DPI, FAINT, INK, SMALL_PT, TEXT_PT, TITLE_PT, drawable

_LINE_IN = 0.16
_DETAIL_IN = 0.13
_ROW_GAP_IN = 0.09
_COLUMN_GAP_IN = 0.24
_MARGIN_IN = 0.12

Side = Literal["left", "right", "center"]


@dataclass(frozen=True, slots=True)
class _Grid:
    """Where columns are, in inches from the left."""

    left: tuple[float, ...]
    right: tuple[float, ...]
    num_text_columns: int

    def anchor(self, column: int) -> tuple[float, Side]:
        """Where the text of a column is fixed: words at the left, numbers at the right."""
        if column < self.num_text_columns:
            return self.left[column], "left"
        return self.right[column], "right"


def draw_table(table: Table) -> Figure:
    """The table as a figure, ready for `savefig` at `look.DPI`, as large as it needs."""
    figure = Figure(dpi=DPI, facecolor="white")
    pen = _Pen(figure)
    grid = _layout(table, pen)
    width = grid.right[-1] + _MARGIN_IN
    footer = textwrap.wrap(drawable(table.source.setting), max(40, int(width * 18))) if table.source else []
    heights = [_row_height(row) for row in table.rows]
    num_headings = 2 if table.groups else 1
    height = (
        2 * _MARGIN_IN
        + 0.3
        + num_headings * (_LINE_IN + _ROW_GAP_IN)
        + sum(heights)
        + 0.12
        + _DETAIL_IN * len(footer)
    )
    figure.set_size_inches(
        max(width, pen.width_of(table.title, TITLE_PT, bold=True) + 2 * _MARGIN_IN), height
    )

    top = height - _MARGIN_IN
    pen.write(_MARGIN_IN, top, table.title, TITLE_PT, bold=True)
    top -= 0.3
    pen.rule(_MARGIN_IN, grid.right[-1], top, 1.2)
    top = _headings(table, grid, pen, top - _ROW_GAP_IN / 2)
    pen.rule(_MARGIN_IN, grid.right[-1], top, 0.8)
    for row, row_height in zip(table.rows, heights, strict=True):
        for column, cell in enumerate(row):
            x, side = grid.anchor(column)
            y = top - _ROW_GAP_IN / 2
            pen.write(x, y, cell.text, TEXT_PT, side=side, bold=cell.strong)
            pen.write(x, y - _LINE_IN, cell.detail, SMALL_PT - 0.5, side=side, colour=FAINT)
        top -= row_height
    pen.rule(_MARGIN_IN, grid.right[-1], top, 1.2)
    top -= 0.08
    for line in footer:
        pen.write(_MARGIN_IN, top, line, SMALL_PT - 1, colour=FAINT)
        top -= _DETAIL_IN
    return figure


def _headings(table: Table, grid: _Grid, pen: "_Pen", top: float) -> float:
    """One or two lines of headings; returns where they end."""
    if table.groups:
        first = 0
        for name, span in table.groups:
            last = first + span - 1
            left, right = grid.left[first], grid.right[last]
            if name:
                pen.write((left + right) / 2, top, name, TEXT_PT, side="center")
                pen.rule(left, right, top - _LINE_IN - 0.02, 0.5)
            first = last + 1
        top -= _LINE_IN + _ROW_GAP_IN
    for column, name in enumerate(table.header):
        x, side = grid.anchor(column)
        pen.write(x, top, name, SMALL_PT + 0.5, side=side, colour=FAINT)
    return top - _LINE_IN - _ROW_GAP_IN / 2


def _layout(table: Table, pen: "_Pen") -> _Grid:
    """Columns as wide as their widest text; a heading over several widens the last of them if need be."""
    widths = []
    for column, name in enumerate(table.header):
        cells = [row[column] for row in table.rows]
        widths.append(max([pen.width_of(name, SMALL_PT + 0.5), *(pen.cell_width(cell) for cell in cells)]))
    first = 0
    for name, span in table.groups:
        have = sum(widths[first : first + span]) + _COLUMN_GAP_IN * (span - 1)
        lacking = pen.width_of(name, TEXT_PT) - have
        if lacking > 0:
            for column in range(first, first + span):
                widths[column] += lacking / span
        first += span
    left, right, x = [], [], _MARGIN_IN
    for width in widths:
        left.append(x)
        right.append(x + width)
        x += width + _COLUMN_GAP_IN
    return _Grid(tuple(left), tuple(right), table.num_text_columns)


def _row_height(row: Sequence[Cell]) -> float:
    details = _DETAIL_IN if any(cell.detail for cell in row) else 0.0
    return _LINE_IN + details + _ROW_GAP_IN


class _Pen:
    """Writes on a figure at places in inches from the lower left, and says how wide a text is."""

    def __init__(self, figure: Figure) -> None:
        self._figure = figure
        FigureCanvasAgg(figure)  # becomes the figure's canvas, which texts are measured on

    def write(
        self,
        x: float,
        y: float,
        text: str,
        size_pt: float,
        *,
        side: Side = "left",
        bold: bool = False,
        colour: str = INK,
    ) -> None:
        """`text` below the height `y`."""
        if text:
            self._figure.add_artist(self._text(x, y, text, size_pt, side, bold, colour))

    def rule(self, left: float, right: float, y: float, width_pt: float) -> None:
        self._figure.add_artist(
            Line2D(
                [left * DPI, right * DPI],
                [y * DPI, y * DPI],
                color=INK,
                linewidth=width_pt,
                transform=IdentityTransform(),
            )
        )

    def cell_width(self, cell: Cell) -> float:
        return max(
            self.width_of(cell.text, TEXT_PT, bold=cell.strong), self.width_of(cell.detail, SMALL_PT - 0.5)
        )

    def width_of(self, text: str, size_pt: float, *, bold: bool = False) -> float:
        """Inches."""
        if not text:
            return 0.0
        drawn = self._text(0, 0, text, size_pt, "left", bold, INK)
        drawn.set_figure(self._figure)
        return float(drawn.get_window_extent().width) / DPI

    def _text(
        self, x: float, y: float, text: str, size_pt: float, side: Side, bold: bool, colour: str
    ) -> Text:
        return Text(
            x * DPI,
            y * DPI,
            drawable(text),
            fontsize=size_pt,
            fontweight="bold" if bold else "normal",
            color=colour,
            ha=side,
            va="top",
            transform=IdentityTransform(),
            parse_math=False,
        )
