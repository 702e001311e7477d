"""`items`: single items of a collection."""

from pathlib import Path
from typing import Annotated

import typer

from index.protocol import DEFAULT_COLLECTION, Item
from stochcon.commands.options import (
    CodeOption,
    CollectionOption,
    DataOption,
    JsonOption,
    ModelsOption,
    UrlOption,
    opened,
    parse_code,
    parse_object,
    read_image,
)
from stochcon.output import print_json, print_table
from stochcon.results import NewItem

app = typer.Typer(help="Get, put, delete and list items.")

PAGE = 1000

IdArgument = Annotated[str, typer.Argument(metavar="ID")]


@app.command("get")
def get_item(
    id: IdArgument,
    original: Annotated[
        Path | None,
        typer.Option("--original", metavar="FILE", help="Write its image file there, if that is kept."),
    ] = None,
    collection: CollectionOption = DEFAULT_COLLECTION,
    data: DataOption = None,
    models: ModelsOption = None,
    url: UrlOption = None,
) -> None:
    """Print one item as JSON."""
    with opened(data, models, url) as backend:
        item = backend.get(collection, id)
        if original is not None:
            _write(original, backend.original(collection, id))
        print_json(item)


@app.command("put")
def put_item(
    id: IdArgument,
    image: Annotated[Path | None, typer.Argument(metavar="[IMAGE]", help="Its image.")] = None,
    code: CodeOption = None,
    label: Annotated[str | None, typer.Option("--label")] = None,
    metadata: Annotated[str | None, typer.Option("--metadata", help="A flat JSON object.")] = None,
    uri: Annotated[str | None, typer.Option("--uri", help="Where the image is kept.")] = None,
    collection: CollectionOption = DEFAULT_COLLECTION,
    data: DataOption = None,
    models: ModelsOption = None,
    url: UrlOption = None,
) -> None:
    """Add one item, or replace the one of that id, from an image or a code."""
    if (image is None) == (code is None):
        raise typer.BadParameter("give exactly one of IMAGE and --code")
    if uri is None and image is not None:
        uri = image.resolve().as_uri()
    item = NewItem(
        id=id,
        image=read_image(image),
        code=parse_code(code),
        label=label,
        metadata=parse_object(metadata, "--metadata") or {},
        uri=uri,
    )
    with opened(data, models, url, make=True) as backend:
        backend.put(collection, item)


@app.command("delete")
def delete_items(
    ids: Annotated[list[str], typer.Argument(metavar="ID...")],
    collection: CollectionOption = DEFAULT_COLLECTION,
    data: DataOption = None,
    models: ModelsOption = None,
    url: UrlOption = None,
) -> None:
    """Delete items, one after the other; the first that is not there ends it."""
    with opened(data, models, url) as backend:
        for id in ids:
            backend.delete(collection, id)


@app.command("list")
def list_items(
    after: Annotated[str | None, typer.Option("--after", help="Begin above this id.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="How many; all by default.", min=1)] = None,
    collection: CollectionOption = DEFAULT_COLLECTION,
    as_json: JsonOption = False,
    data: DataOption = None,
    models: ModelsOption = None,
    url: UrlOption = None,
) -> None:
    """List items by id. With --json: one line each."""
    with opened(data, models, url) as backend:
        left = limit
        while left is None or left > 0:
            page = backend.list_items(collection, after, PAGE if left is None else min(PAGE, left))
            if not page:
                return
            _print_page(page, as_json)
            after = page[-1].id
            left = None if left is None else left - len(page)


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as exc:
        raise typer.BadParameter(f"{path} cannot be written: {exc.strerror}") from exc


def _print_page(page: list[Item], as_json: bool) -> None:
    if not as_json:
        print_table(("id", "label", "uri"), [(item.id, item.label, item.uri) for item in page])
        return
    for item in page:
        print_json(item)
