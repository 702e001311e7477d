"""The same as the page in Markdown, for a repository to show: pictures are files beside it."""

from collections.abc import Sequence

from trainer.report.content import Cell, Chart, Missing, Section, Source, Table
from trainer.report.numbers import numbers_of
from trainer.report.page import INTRODUCTION, inventory
from trainer.report.records import Runs


def markdown(runs: Runs, sections: Sequence[Section]) -> str:
    """The whole document; the picture of a chart is `KEY.png`."""
    head = ["# Stochastic Contrastive Learning, reproduced", INTRODUCTION, inventory(runs)]
    if runs.unfinished:
        names = ", ".join(f"`{run.folder.name}`" for run in runs.unfinished)
        head.append(f"Not finished, and therefore in no figure: {names}.")
    blocks = [*head, *(block for section in sections for block in _section(section))]
    return "\n\n".join(blocks) + "\n"


def _section(section: Section) -> list[str]:
    blocks = [f"## {section.name}"]
    for part in section.parts:
        if isinstance(part, Chart):
            blocks += _chart(part)
        elif isinstance(part, Table):
            blocks += [f"### {_plain(part.title)}", *_about(part, part.caption), _grid(part)]
        else:
            blocks.append(_missing(part))
    return blocks


def _chart(chart: Chart) -> list[str]:
    numbers = numbers_of(chart)
    return [
        f"### {_plain(chart.title)}",
        f"![{_plain(chart.title)}; the numbers are below]({chart.key}.png)",
        *_about(chart, f"{chart.caption} {chart.over_seeds}"),
        f"<details><summary>Numbers: {_plain(numbers.caption)}</summary>",
        _grid(numbers),
        "</details>",
    ]


def _about(part: Chart | Table, caption: str) -> list[str]:
    paper = [f"**The paper.** {_plain(part.paper)}"] if part.paper else []
    return [_plain(caption), *paper, *_source(part.source)]


def _source(source: Source | None) -> list[str]:
    return [] if source is None else [f"<sub>{_plain(source.setting)}. {_plain(source.runs)}</sub>"]


def _grid(table: Table) -> str:
    """A heading that spans columns is put before the heading of each of them."""
    spans = [name for name, span in table.groups for _ in range(span)] or [""] * len(table.header)
    heads = [f"{span}: {name}" if span else name for span, name in zip(spans, table.header, strict=True)]
    rule = [":--" if number < table.num_text_columns else "--:" for number in range(len(heads))]
    rows = [[_cell(cell) for cell in row] for row in table.rows]
    lines = [[_plain(head) for head in heads], rule, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(cell: Cell) -> str:
    text = f"**{_plain(cell.text)}**" if cell.strong else _plain(cell.text)
    return f"{text}<br><sub>{_plain(cell.detail)}</sub>" if cell.detail else text


def _missing(missing: Missing) -> str:
    return f"*Missing: {_plain(missing.what)}.* {_plain(missing.reason)}: `{missing.command}`"


def _plain(text: str) -> str:
    """Text in which Markdown and HTML see no marks of theirs."""
    for mark in "\\`*_[]|":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")
