"""What verbs print: tables on a terminal, plain lines elsewhere, JSON for scripts.

Results go to stdout; progress, warnings and errors to stderr.
"""

import base64
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from stochcon.indexing import Counts

PLAIN_INTERVAL_S = 10.0
"""How often progress is printed where there is no terminal to redraw a bar on."""


def say(message: str) -> None:
    """One line on stderr."""
    print(" ".join(message.split()), file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """One line of JSON on stdout; dataclasses become objects, and codes base64."""
    import orjson

    sys.stdout.write(orjson.dumps(value, default=_to_json).decode() + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on a terminal; elsewhere lines of tab-separated values, without the heading."""
    texts = [["" if value is None else _one_line(str(value)) for value in row] for row in rows]
    if not sys.stdout.isatty():
        for row in texts:
            print("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column, sample in zip(columns, rows[0] if rows else columns, strict=True):
        table.add_column(column, justify="right" if isinstance(sample, (int, float)) else "left")
    for row in texts:
        table.add_row(*map(Text, row))
    Console().print(table)


def size(num_bytes: int) -> str:
    """Bytes for people to read, in powers of 1024."""
    value = float(num_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


class Progress(Protocol):
    """Told how far a run is."""

    def update(self, counts: Counts) -> None:
        """Show `counts`."""
        ...


@contextmanager
def progress(count: Callable[[], int], quiet: bool = False) -> Iterator[Progress]:
    """A bar with images/s and the time left on a terminal, a line now and then elsewhere.

    `count` gives the number of images; it is only called for the bar.
    """
    if quiet or not sys.stderr.isatty():
        yield _Lines(float("inf") if quiet else PLAIN_INTERVAL_S)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("indexing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}"),
    )
    with RichProgress(*columns, console=Console(stderr=True)) as bar:
        yield _Bar(bar, bar.add_task("index", total=count(), rate="", failed=""))


class _Lines:
    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._start_s = self._last_s = time.monotonic()

    def update(self, counts: Counts) -> None:
        now_s = time.monotonic()
        if now_s - self._last_s < self._interval_s:
            return
        self._last_s = now_s
        rate = (counts.added + counts.updated) / (now_s - self._start_s)
        say(f"{counts.done} images, {counts.failed} failed, {rate:.0f} encoded/s")


@dataclass
class _Bar:
    bar: Any
    task: Any

    def __post_init__(self) -> None:
        self._start_s = time.monotonic()

    def update(self, counts: Counts) -> None:
        rate = (counts.added + counts.updated) / max(time.monotonic() - self._start_s, 1e-9)
        failed = f"[red]{counts.failed} failed" if counts.failed else ""
        self.bar.update(self.task, completed=counts.done, rate=f"{rate:.0f} images/s", failed=failed)


def _one_line(text: str) -> str:
    # Ids have no control characters, but labels and metadata may, and a terminal would act on them.
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _to_json(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    raise TypeError(f"cannot write {type(value).__name__} as JSON")
