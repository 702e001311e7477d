"""`index`: put the images of folders, archives and the like into a collection."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer

from contracts.errors import ModelMismatch, NotFound
from index.protocol import DEFAULT_COLLECTION
from stochcon.backend import Backend
from stochcon.commands.options import (
    CollectionOption,
    DataOption,
    ExcludeOption,
    IncludeOption,
    JsonOption,
    ModelsOption,
    UrlOption,
    open_sources,
    opened,
)
from stochcon.indexing import Counts, Indexing, prune
from stochcon.output import print_json, progress, say
from stochcon.sources.folder import FolderSource
from stochcon.sources.source import Failure, Labels, SourceOptions, walk

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 and the number of the signal."""


def index_images(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Folders, images, archives, Parquet files, lists, or URLs."),
    ],
    collection: CollectionOption = DEFAULT_COLLECTION,
    labels: Annotated[
        Labels, typer.Option("--labels", help="`folders`: the first sub-folder below PATH is the label.")
    ] = "none",
    prefix: Annotated[str, typer.Option("--prefix", help="Put this before every id.")] = "",
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    delete_gone: Annotated[
        bool, typer.Option("--prune", help="Delete the items whose file below PATH is gone.")
    ] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
    models: ModelsOption = None,
    url: UrlOption = None,
) -> None:
    """Index images. Those that are in the collection and have not changed are skipped.

    An image that cannot be read is counted and listed with the reason; it never ends the run. Ctrl-C
    keeps what is done. With --json: a line for each failure, then one with the counts.
    """
    options = SourceOptions(
        prefix=prefix, labels=labels, include=tuple(include or ()), exclude=tuple(exclude or ())
    )
    sources = open_sources(paths, options)
    if delete_gone and not all(isinstance(source, FolderSource) for source in sources):
        raise typer.BadParameter("only of folders can be told which files are gone", param_hint="--prune")
    deleted = 0
    with opened(data, models, url, make=True) as backend, _interruptible() as is_stopping:
        _check_model(backend, collection)
        # Counting walks the folders once more, so it is left out where nobody sees the time left.
        with progress(lambda: sum(source.count() for source in sources), quiet=as_json) as shown:
            run = Indexing(backend, collection, shown.update, _report(as_json), is_stopping)
            for path, source in zip(paths, sources, strict=True):
                before = run.counts.done
                run.run(walk(source))
                if run.counts.done == before and not is_stopping():
                    # Nothing is deleted here either: an empty folder may be a disk that is not mounted.
                    say(f"{path} holds no images")
                elif delete_gone and not is_stopping():
                    deleted += prune(backend, collection, source)
    _summarise(run.counts, deleted, as_json)
    if is_stopping():
        say("interrupted: what is counted above is stored, and the same command goes on from there")
        raise typer.Exit(INTERRUPTED)


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Make the first Ctrl-C a wish to stop, so that no write is cut off; the second one is obeyed at once."""
    stopping = threading.Event()

    def stop(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stopping.set()
        say("stopping: finishing the images under way (Ctrl-C again to stop at once)")

    previous = signal.signal(signal.SIGINT, stop)
    try:
        yield stopping.is_set
    finally:
        signal.signal(signal.SIGINT, previous)


def _check_model(backend: Backend, collection: str) -> None:
    """Find out before the first image whether the collection is another model's."""
    try:
        info = backend.collection(collection)
    except NotFound:
        return
    active = backend.active_model()
    if info.num_items and info.model.id != active.id:
        raise ModelMismatch(
            f"collection {collection!r} holds codes of model {info.model.name} ({info.model.id[:12]}) and "
            f"the model in use is {active.name} ({active.id[:12]}): index into another with --collection"
        )


def _report(as_json: bool) -> Callable[[Failure], None]:
    def print_failure(failure: Failure) -> None:
        if as_json:
            print_json({"id": failure.id, "error": failure.reason})
        else:
            say(f"{failure.id}: {failure.reason}")

    return print_failure


def _summarise(counts: Counts, deleted: int, as_json: bool) -> None:
    if as_json:
        print_json(asdict(counts) | {"deleted": deleted})
        return
    parts = [f"{counts.added} added", f"{counts.updated} updated", f"{counts.unchanged} unchanged"]
    print(", ".join([*parts, f"{deleted} deleted", f"{counts.failed} failed"]))
