"""`collections`: what is stored, for which model, and what it costs."""

from typing import Annotated

import typer

from index.protocol import CollectionInfo
from stochcon.commands.options import DataOption, JsonOption, ModelsOption, UrlOption, opened
from stochcon.output import print_json, print_table, size

app = typer.Typer(help="List, show, create and delete collections.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME")]


@app.command("list")
def list_collections(
    as_json: JsonOption = False,
    data: DataOption = None,
    models: ModelsOption = None,
    url: UrlOption = None,
) -> None:
    """List collections. With --json: one line each."""
    with opened(data, models, url) as backend:
        found = backend.collections()
    if as_json:
        for info in found:
            print_json(info)
        return
    columns = ("name", "items", "labelled", "model", "bits", "on disk", "in memory", "originals")
    print_table(columns, [_row(info) for info in found])


@app.command("show")
def show_collection(
    name: NameArgument,
    data: DataOption = None,
    models: ModelsOption = None,
    url: UrlOption = None,
) -> None:
    """Print one collection as JSON."""
    with opened(data, models, url) as backend:
        print_json(backend.collection(name))


@app.command("create")
def create_collection(
    name: NameArgument,
    data: DataOption = None,
    models: ModelsOption = None,
    url: UrlOption = None,
) -> None:
    """Make an empty collection for the model in use; one that is there already is left as it is."""
    with opened(data, models, url, make=True) as backend:
        backend.create_collection(name)


@app.command("delete")
def delete_collection(
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Delete it with all its items.")] = False,
    data: DataOption = None,
    models: ModelsOption = None,
    url: UrlOption = None,
) -> None:
    """Delete a collection with all its items."""
    if not yes:
        raise typer.BadParameter(f"this deletes every item of {name!r}: confirm with --yes")
    with opened(data, models, url) as backend:
        backend.delete_collection(name)


def _row(info: CollectionInfo) -> tuple[object, ...]:
    return (
        info.name,
        info.num_items,
        info.num_labelled,
        info.model.name,
        info.model.num_bits,
        size(info.disk_bytes),
        size(info.memory_bytes),
        size(info.original_bytes) if info.num_originals else None,
    )
