import itertools

from markdown_it import MarkdownIt

from tests.trainer.report.test_page import CHART, NOTHING
from trainer.report.content import Cell, Missing, Section, Table
from trainer.report.markdown import markdown


def tokens(*parts):
    """What a reader of GitHub's Markdown sees."""
    text = markdown(NOTHING, (Section("A part", parts),))
    return MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)


def cells(found):
    """The text of every cell, row by row, headings among them."""
    rows = []
    for token, after in itertools.pairwise(found):
        if token.type == "tr_open":
            rows.append([])
        if token.type in ("td_open", "th_open"):
            rows[-1].append("".join(child.content for child in after.children))
    return rows


def test_a_table_keeps_its_cells_whatever_stands_in_them():
    table = Table(
        "table",
        "T",
        (("", 1), ("both", 2)),
        ("a", "b|c", "d"),
        ((Cell("x < y", "1 to 2"), Cell("q(z|x)"), Cell("*", strong=True)),),
        "Caption.",
        paper="It says.",
    )
    found = tokens(table)
    assert cells(found) == [
        ["a", "both: b|c", "both: d"],
        ["x < y<br><sub>1 to 2</sub>", "q(z|x)", "*"],
    ]
    assert any(token.content == "**The paper.** It says." for token in found)


def test_a_figure_is_its_picture_with_its_numbers():
    found = tokens(CHART)
    images = [child for token in found for child in token.children or [] if child.type == "image"]
    assert [image.attrs["src"] for image in images] == ["chart.png"]
    assert cells(found) == [
        ["epoch", "z"],
        ["1", "1,236<br><sub>1,234 to 1,236, n = 2</sub>"],
        ["2", "2,471<br><sub>2,469 to 2,473, n = 2</sub>"],
    ]


def test_what_is_missing_is_said_with_the_command_that_makes_it():
    found = tokens(Missing("Figure 9", "no run <has> it", "stochcon train x"))
    assert any("Missing: Figure 9." in token.content for token in found)
    code = [child.content for t in found for child in t.children or [] if child.type == "code_inline"]
    assert code == ["stochcon train x"]
