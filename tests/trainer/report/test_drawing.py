import itertools
from dataclasses import replace

import pytest

from trainer.report.content import Chart, Line, Point, Reference, Source, Stat
from trainer.report.drawing import draw

LINES = (
    Line("two seeds", "z", (Point(8, Stat.of([40.0, 44.0])), Point(64, Stat.of([50.0])))),
    Line("alone", "bits", (Point(64, Stat.of([45.0, 47.0])),), dashed=True),
)
CHART = Chart(
    key="chart",
    title="A title",
    x_label="bits",
    y_label="top-1",
    lines=LINES,
    source=Source("photos of $5 (7 images)", "one run"),
    caption="What it is.",
    references=(Reference(48.0, "near"), Reference(96.0, "far"), Reference(11.0, "across", "x")),
    x_scale="log2",
)


@pytest.fixture(scope="module")
def figure():
    """Drawn once, with everything in its place."""
    figure = draw(CHART)
    figure.draw_without_rendering()
    return figure


def test_means_are_drawn_and_ranges_are_bands_or_bars(figure):
    (axes,) = figure.axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}
    assert drawn["two seeds"] == [[8, 42], [64, 50]]
    assert drawn["alone"] == [[64, 46]]
    band, bar = axes.collections
    corners = band.get_paths()[0].vertices.tolist()
    assert [8, 40] in corners
    assert [8, 44] in corners
    assert bar.get_segments()[0].tolist() == [[64, 45], [64, 47]]


def test_a_reference_far_away_is_named_and_does_not_squeeze_the_data(figure):
    (axes,), (legend,) = figure.axes, figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["two seeds", "alone", "near", "far, above the axis", "across"]
    assert 48 <= axes.get_ylim()[1] < 60


def test_widths_are_the_ticks(figure):
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["8", "64"]


def is_in_view(axes, text):
    """Labels of ticks outside the limits are not drawn."""
    lowest, highest = axes.get_ylim()
    return text not in axes.get_yticklabels() or lowest <= text.get_position()[1] <= highest


def test_texts_are_inside_the_picture_and_clear_of_one_another(figure):
    (axes,), (legend,) = figure.axes, figure.legends
    texts = [figure._suptitle, axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label]
    texts += [*axes.get_xticklabels(), *axes.get_yticklabels(), *legend.get_texts()]
    shown = [text for text in texts if text.get_text() and is_in_view(axes, text)]
    boxes = [text.get_window_extent() for text in shown]
    for box in boxes:
        assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 <= box.y1 <= figure.bbox.y1
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_a_logarithmic_axis_and_a_long_curve_are_drawn():
    curve = Line("curve", "gaussian", tuple(Point(x, Stat.of([10.0**-x])) for x in range(30)))
    figure = draw(replace(CHART, lines=(curve,), references=(), x_scale="linear", y_scale="log10"))
    (axes,) = figure.axes
    assert axes.get_yscale() == "log"
    assert axes.get_lines()[0].get_marker() == ""
    assert figure.legends == []
