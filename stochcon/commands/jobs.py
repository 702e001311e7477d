"""`jobs`: sources that the service indexes in the background."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from index.protocol import DEFAULT_COLLECTION
from stochcon.commands.options import (
    CollectionOption,
    DataOption,
    ExcludeOption,
    IncludeOption,
    JsonOption,
    UrlOption,
    opened_service,
    parse_object,
)
from stochcon.output import print_json, print_table, say
from stochcon.results import JobInfo
from stochcon.sources.source import Labels

if TYPE_CHECKING:
    from stochcon.jobs_client import JobsClient

app = typer.Typer(help="Index folders, archives and object stores in the background of a service.")

PAGE = 1000

IdArgument = Annotated[str, typer.Argument(metavar="ID")]


@app.command("submit")
def submit(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Folder, image, .tar, .zip, .parquet, .txt of paths, or URL, as the service sees it.",
        ),
    ],
    collection: CollectionOption = DEFAULT_COLLECTION,
    labels: Annotated[
        Labels, typer.Option("--labels", help="`folders`: the first folder below SOURCE is the label.")
    ] = "none",
    label_column: Annotated[
        str, typer.Option("--label-column", help="Column of a Parquet file that holds labels.")
    ] = "label",
    metadata: Annotated[
        str | None, typer.Option("--metadata", help="""Put on every item: '{"year": 2024}'.""")
    ] = None,
    metadata_columns: Annotated[
        list[str] | None,
        typer.Option("--metadata-column", help="Column of a Parquet file for the metadata; repeatable."),
    ] = None,
    prefix: Annotated[str, typer.Option("--prefix", help="Put this before every id.")] = "",
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    watching: Annotated[bool, typer.Option("--watch", help="Show its progress until it is over.")] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
    url: UrlOption = None,
) -> None:
    """Queue a source, and print the id of the job."""
    if "://" not in source:
        source = str(Path(source).absolute())
    with _jobs(data, url) as jobs:
        job = jobs.submit(
            source,
            collection,
            prefix=prefix,
            labels=labels,
            label_column=label_column,
            metadata=parse_object(metadata, "--metadata"),
            metadata_columns=metadata_columns or (),
            include=include or (),
            exclude=exclude or (),
        )
        if not watching:
            _print(job, as_json)
            return
        say(f"job {job.id}")
        _follow(jobs, job.id, as_json)


@app.command("list")
def list_jobs(
    limit: Annotated[int, typer.Option("--limit", help="How many, the newest.", min=1, max=PAGE)] = 20,
    as_json: JsonOption = False,
    data: DataOption = None,
    url: UrlOption = None,
) -> None:
    """List jobs, newest first. With --json: one line each."""
    with _jobs(data, url) as jobs:
        found = jobs.list(limit=limit)
    if as_json:
        for job in found:
            print_json(job)
        return
    columns = ("id", "state", "found", "done", "skipped", "failed", "collection", "source")
    print_table(columns, [_row(job) for job in found])


@app.command("show")
def show(id: IdArgument, data: DataOption = None, url: UrlOption = None) -> None:
    """Print one job as JSON."""
    with _jobs(data, url) as jobs:
        print_json(jobs.get(id))


@app.command("watch")
def watch(
    id: IdArgument, as_json: JsonOption = False, data: DataOption = None, url: UrlOption = None
) -> None:
    """Show a job's progress until it is over. Exit code 1 if it failed or was cancelled.

    Ctrl-C ends the watching, not the job. With --json: a line each time it has changed.
    """
    with _jobs(data, url) as jobs:
        _follow(jobs, id, as_json)


@app.command("failures")
def failures(
    id: IdArgument, as_json: JsonOption = False, data: DataOption = None, url: UrlOption = None
) -> None:
    """List the images that a job left out, with the reasons. With --json: one line each."""
    with _jobs(data, url) as jobs:
        skip = 0
        while page := jobs.failures(id, skip, PAGE):
            skip += len(page)
            for entry in page:
                if as_json:
                    print_json(entry)
                else:
                    print(f"{entry.id}: {entry.reason}")


@app.command("pause")
def pause(id: IdArgument, data: DataOption = None, url: UrlOption = None) -> None:
    """Begin nothing more of a job; what is under way is finished."""
    with _jobs(data, url) as jobs:
        _print(jobs.pause(id), as_json=False)


@app.command("resume")
def resume(id: IdArgument, data: DataOption = None, url: UrlOption = None) -> None:
    """Go on with a job that was paused."""
    with _jobs(data, url) as jobs:
        _print(jobs.resume(id), as_json=False)


@app.command("retry")
def retry(id: IdArgument, data: DataOption = None, url: UrlOption = None) -> None:
    """Try the images that failed again, and go on with a job that failed itself."""
    with _jobs(data, url) as jobs:
        _print(jobs.retry(id), as_json=False)


@app.command("cancel")
def cancel(id: IdArgument, data: DataOption = None, url: UrlOption = None) -> None:
    """Cancel a job, or remove from the list one that is over. What it has stored stays."""
    with _jobs(data, url) as jobs:
        _print(jobs.cancel(id), as_json=False)


@contextmanager
def _jobs(data: Path | None, url: str | None) -> "Iterator[JobsClient]":
    """The jobs of the service that the options and the environment name, or that owns the store here."""
    otherwise = (
        "jobs need a running service: start it with `stochcon serve --root FOLDER`, or use "
        "`stochcon index`, which needs none"
    )
    with opened_service(data, url, otherwise) as client:
        yield client.jobs


def _follow(jobs: "JobsClient", id: str, as_json: bool) -> None:
    from stochcon.job_progress import job_progress

    with job_progress(quiet=as_json) as shown:
        for job in jobs.watch(id):
            shown.update(job)
            if as_json:
                print_json(job)
    if not as_json:
        print(summary(job))
    if job.reason:
        say(f"{job.state}: {job.reason}")
    if job.failed and not as_json:
        say(f"`stochcon jobs failures {job.id}` lists what failed, and `stochcon jobs retry` tries it again")
    if job.state != "done":
        raise typer.Exit(1)


def summary(job: JobInfo) -> str:
    """A job's state, counts and speed in one line."""
    line = (
        f"{job.state}: {job.found} found, {job.added} added, {job.updated} updated, {job.skipped} skipped, "
        f"{job.failed} failed"
    )
    if job.started is None or job.finished is None:
        return line
    took = datetime.fromisoformat(job.finished) - datetime.fromisoformat(job.started)
    seconds = max(took.total_seconds(), 1e-3)
    return f"{line}; {job.settled / seconds:.0f} images/s over {seconds:.1f} s"


def _print(job: JobInfo, as_json: bool) -> None:
    if as_json:
        print_json(job)
    else:
        print(job.id, job.state, sep="\t")


def _row(job: JobInfo) -> tuple[object, ...]:
    done = job.added + job.updated
    return job.id, job.state, job.found, done, job.skipped, job.failed, job.collection, job.source
