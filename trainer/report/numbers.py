"""The numbers behind a figure, as a table."""

from trainer.report.content import DASH, Cell, Chart, Point, Table

_MOST_ROWS = 12
"""Of longer curves every n-th point is listed, and the last."""


def numbers_of(chart: Chart) -> Table:
    """What is drawn, and what is only listed: a row for each x, a column for each line."""
    lines = (*chart.lines, *chart.undrawn)
    points: list[dict[float, Point]] = [{point.x: point for point in line.points} for line in lines]
    xs = sorted({x for found in points for x in found})
    step = -(-len(xs) // _MOST_ROWS)
    unit = f"{chart.y_label}{'' if step == 1 else f'; one point in {step}'}"
    references = [f"{reference.label} ({plain(reference.value)})" for reference in chart.references]
    return Table(
        key=f"{chart.key}-numbers",
        title=f"{chart.title}: numbers",
        groups=(),
        header=(chart.x_label, *(line.label for line in lines)),
        rows=tuple(
            (Cell(plain(x)), *(_range(found[x]) if x in found else DASH for found in points))
            for x in sorted({*xs[::step], xs[-1]})
        ),
        caption=". ".join([unit, *references]) + ".",
        num_text_columns=0,
    )


def plain(value: float) -> str:
    """Four digits, as people write them."""
    if value == 0 or value == int(value):
        return f"{value:,.0f}"
    size = abs(value)
    return f"{value:,.0f}" if size >= 1000 else f"{value:.4g}" if size >= 0.001 else f"{value:.1e}"


def _range(point: Point) -> Cell:
    mean = plain(point.y.mean)
    if point.y.count == 1:
        return Cell(mean)
    return Cell(mean, f"{plain(point.y.low)} to {plain(point.y.high)}, n = {point.y.count}")
