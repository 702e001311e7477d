"""The page: one HTML file that holds its pictures and styles, and asks for nothing from anywhere."""

import base64
from collections.abc import Mapping, Sequence
from html import escape

from trainer.report.content import Cell, Chart, Missing, Section, Source, Table
from trainer.report.groups import count_of
from trainer.report.numbers import numbers_of
from trainer.report.page_style import STYLE
from trainer.report.records import Runs

INTRODUCTION = (
    "Each figure and table of “Stochastic Contrastive Learning” (Ramapuram, Busbridge, Suau and Webb) that "
    "these runs support, the paper's own numbers beside ours. The paper has one table, Table 1. It gives "
    "Figures 2 to 5 as pictures, without a table of their points: beside those stands what its text says. "
    "From “Bits against quality” on, nothing is from the paper unless it says so."
)

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Browsers are told to load nothing either."""


def page(runs: Runs, sections: Sequence[Section], pictures: Mapping[str, bytes]) -> str:
    """The whole document; `pictures` has the PNG of each chart by its key."""
    links = "".join(f'<a href="#{_anchor(s.name)}">{escape(s.name)}</a>' for s in sections)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>StochCon: the paper's figures and tables from our runs</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>Stochastic Contrastive Learning, reproduced</h1>
<p>{escape(INTRODUCTION)}</p>
<p>{escape(inventory(runs))}</p>
{_unfinished(runs)}<nav aria-label="Sections">{links}</nav>
</header>
<main>
{"".join(_section(section, pictures) for section in sections)}</main>
</body>
</html>
"""


def inventory(runs: Runs) -> str:
    """How much the report is made of, in a sentence or two."""
    everyone = [*runs.trained, *runs.fine_tuned]
    if not everyone:
        return "No run given is finished."
    hours = sum(run.record.seconds for run in everyone) / 3600
    kinds = f"{count_of(len(runs.trained), 'trained run')} and {len(runs.fine_tuned)} fine-tuned"
    return f"From {kinds}, of {hours:.1f} hours together. The last table lists them."


def _unfinished(runs: Runs) -> str:
    if not runs.unfinished:
        return ""
    names = ", ".join(str(run.folder) for run in runs.unfinished)
    return f'<p class="warning">Not finished, and therefore in no figure: {escape(names)}.</p>\n'


def _section(section: Section, pictures: Mapping[str, bytes]) -> str:
    figures = "".join(_figure(part, pictures[part.key]) for part in section.parts if isinstance(part, Chart))
    tables = "".join(_table(part) for part in section.parts if isinstance(part, Table))
    missing = "".join(_missing(part) for part in section.parts if isinstance(part, Missing))
    return (
        f'<section id="{_anchor(section.name)}">\n<h2>{escape(section.name)}</h2>\n'
        + tables
        + (f'<div class="figures">\n{figures}</div>\n' if figures else "")
        + (f'<div class="missing"><h3>Missing</h3>\n<dl>\n{missing}</dl></div>\n' if missing else "")
        + "</section>\n"
    )


def _figure(chart: Chart, picture: bytes) -> str:
    encoded = base64.b64encode(picture).decode("ascii")
    title = escape(chart.title)
    return f"""<figure id="{escape(chart.key)}">
<img src="data:image/png;base64,{encoded}" alt="{title}. The numbers are listed below.">
<figcaption>
<p><b>{title}.</b> {escape(chart.caption)} {escape(chart.over_seeds)}</p>
{_paper(chart.paper)}{_source(chart.source)}{_numbers(chart)}</figcaption>
</figure>
"""


def _paper(text: str) -> str:
    return f'<p class="paper"><b>The paper.</b> {escape(text)}</p>\n' if text else ""


def _source(source: Source | None) -> str:
    if source is None:
        return ""
    return f'<p class="source">{escape(source.setting)}.<br>{escape(source.runs)}</p>\n'


def _numbers(chart: Chart) -> str:
    numbers = numbers_of(chart)
    return (
        f"<details><summary>Numbers</summary>\n<p>{escape(numbers.caption)}</p>\n"
        f"{_scrolling(_grid(numbers), chart.title)}</details>\n"
    )


def _table(table: Table) -> str:
    return (
        f'<div class="table" id="{escape(table.key)}">\n<h3>{escape(table.title)}</h3>\n'
        f"{_scrolling(_grid(table), table.title)}<p>{escape(table.caption)}</p>\n"
        f"{_paper(table.paper)}{_source(table.source)}</div>\n"
    )


def _grid(table: Table) -> str:
    spans = "".join(
        f'<th scope="colgroup" colspan="{span}"{_side(name != "", "group")}>{escape(name)}</th>'
        for name, span in table.groups
    )
    heads = "".join(
        f'<th scope="col"{_side(number < table.num_text_columns, "words")}>{escape(name)}</th>'
        for number, name in enumerate(table.header)
    )
    rows = "".join(
        "<tr>"
        + "".join(_cell(cell, number < table.num_text_columns) for number, cell in enumerate(row))
        + "</tr>\n"
        for row in table.rows
    )
    groups = f"<tr>{spans}</tr>" if spans else ""
    return f"<table><thead>{groups}<tr>{heads}</tr></thead>\n<tbody>{rows}</tbody></table>"


def _cell(cell: Cell, is_words: bool) -> str:
    text = f"<b>{escape(cell.text)}</b>" if cell.strong else escape(cell.text)
    detail = f"<small>{escape(cell.detail)}</small>" if cell.detail else ""
    return f"<td{_side(is_words, 'words')}>{text}{detail}</td>"


def _side(applies: bool, name: str) -> str:
    return f' class="{name}"' if applies else ""


def _scrolling(table: str, name: str) -> str:
    """Wide tables scroll by themselves, with the keyboard as well."""
    return f'<div class="wide" tabindex="0" role="region" aria-label="{escape(name)}">{table}</div>\n'


def _missing(missing: Missing) -> str:
    return (
        f"<dt>{escape(missing.what)}</dt><dd>{escape(missing.reason)}"
        f"<br><code>{escape(missing.command)}</code></dd>\n"
    )


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")
