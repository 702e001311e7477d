"""How far a job of the service is: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from stochcon.output import PLAIN_INTERVAL_S, say
from stochcon.results import JobInfo


class JobProgress(Protocol):
    """Told how far a job is."""

    def update(self, job: JobInfo) -> None:
        """Show it."""
        ...


@contextmanager
def job_progress(quiet: bool = False) -> Iterator[JobProgress]:
    """What shows a job's progress, on standard error."""
    if quiet or not sys.stderr.isatty():
        yield _Lines(float("inf") if quiet else PLAIN_INTERVAL_S)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.fields[found]}"),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[notes]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("queued", total=None, found="?", rate="", left="", notes="")
        yield _Bar(bar, task)


@dataclass
class _Lines:
    interval_s: float
    _last_s: float = 0.0

    def update(self, job: JobInfo) -> None:
        now_s = time.monotonic()
        if now_s - self._last_s >= self.interval_s:
            self._last_s = now_s
            parts = [f"{job.settled:,} of {_found(job)}", f"{job.failed:,} failed"]
            say(f"{job.state}: " + ", ".join([*parts, _rate(job)] if job.images_per_s else parts))


@dataclass
class _Bar:
    bar: Any
    task: Any

    def update(self, job: JobInfo) -> None:
        notes = [f"[red]{job.failed} failed[/]"] if job.failed else []
        if job.reason and not job.is_over:
            notes.append(job.reason.partition(":")[0])
        self.bar.update(
            self.task,
            description=job.state,
            # A bar without a total moves to and fro: the scan has not ended, so nobody knows.
            total=job.found if job.scanned else None,
            completed=job.settled,
            found=_found(job),
            rate=_rate(job),
            left="" if job.seconds_left is None else f"{_duration(job.seconds_left)} left",
            notes="  ".join(notes),
        )


def _found(job: JobInfo) -> str:
    return f"{job.found:,}" if job.scanned else f"{job.found:,} found so far"


def _rate(job: JobInfo) -> str:
    return f"{job.images_per_s:.0f} images/s" if job.images_per_s else ""


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
