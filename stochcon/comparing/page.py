"""A folder with the pictures, one page that holds everything, and the numbers."""

import base64
import html
from pathlib import Path

import orjson

from stochcon.comparing.comparison import Comparison, Curves
from stochcon.comparing.tables import columns, rows

PAGE = "comparison.html"
NUMBERS = "comparison.json"

CAPTIONS = {
    "scores": "By label, each image is left out and the others are asked. For near-duplicates, edited images "
    "look for their original among all images.",
    "distances": "The further apart the two are, the more a near neighbour means. How far they can be apart "
    "depends on the images.",
    "entropy": "0 is a model that is sure of every bit, 1 one that knows nothing.",
    "activity": "A bit that is 1 in half of the images tells the most; one at 0 % or 100 % tells nothing.",
}

_STYLE = """
:root { --ink: #1a1a1a; --faint: #5c5c5c; --rule: #d9d9d9; --paper: #ffffff; --shade: #f4f5f7; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --faint: #a8a8a8; --rule: #3d4046; --paper: #16181c; --shade: #202329; }
}
body {
  margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 66rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
h1 { font-size: 1.4rem; overflow-wrap: anywhere; }
.verdict { padding: .75rem 1rem; border-radius: 4px; background: var(--shade); overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; white-space: pre; border-top: 1px solid var(--rule); }
th { font-weight: 600; }
td:first-child { text-align: left; }
.figures { display: grid; gap: 2rem 1.5rem; margin-top: 2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 28rem), 1fr)); }
figure { margin: 0; }
img { display: block; width: 100%; height: auto; background: #fff; border-radius: 4px; }
figcaption { font-size: .875rem; color: var(--faint); }
"""


def write_page(found: Comparison, curves: tuple[Curves, Curves], out: Path) -> Path:
    """Write the pictures, the page and the numbers into `out`, and return the page. Needs matplotlib.

    Raises OSError.
    """
    from stochcon.comparing.figures import DPI, FIGURES

    out.mkdir(parents=True, exist_ok=True)
    pictures = {}
    for name, draw in FIGURES.items():
        pictures[name] = out / f"{name}.png"
        draw(found, curves).savefig(pictures[name], dpi=DPI)
    (out / NUMBERS).write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n")
    page = out / PAGE
    page.write_text(_page(found, pictures), encoding="utf-8")
    return page


def _page(found: Comparison, pictures: dict[str, Path]) -> str:
    title = html.escape(f"{found.a.name} and {found.b.name}")
    head = "".join(f"<th>{html.escape(text)}</th>" for text in columns(found))
    body = "".join(f"<tr>{_cells(row)}</tr>\n" for row in rows(found))
    figures = "".join(_figure(path, CAPTIONS[name]) for name, path in pictures.items())
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style>\n<h1>{title}, compared on {found.images.used} images</h1>\n"
        f'<p class="verdict">{html.escape(found.verdict)}</p>\n'
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n'
        f'<div class="figures">\n{figures}</div>\n</html>\n'
    )


def _cells(row: tuple[str, ...]) -> str:
    return "".join(f"<td>{html.escape(text)}</td>" for text in row)


def _figure(path: Path, caption: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    text = html.escape(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>\n"
    )
