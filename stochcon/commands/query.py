"""`encode`, `search` and `classify`: questions about images."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from contracts.codes import to_text
from index.protocol import DEFAULT_COLLECTION, Hit
from stochcon.backend import ImageEncoder, Query
from stochcon.commands.options import (
    CodeOption,
    CollectionOption,
    DataOption,
    FilterOption,
    JsonOption,
    KOption,
    ModelsOption,
    RadiusOption,
    UrlOption,
    open_sources,
    opened,
    opened_encoder,
    parse_code,
    parse_object,
    read_image,
)
from stochcon.indexing import BATCH_IMAGES
from stochcon.output import print_json, print_table, say
from stochcon.results import Encoding
from stochcon.sources.folder import FolderSource
from stochcon.sources.source import Failure, Source, SourceImage, walk
from stochcon.sources.source import read_image as read_source_image

ImageArgument = Annotated[Path | None, typer.Argument(metavar="[IMAGE]", help="The image to ask about.")]
IdOption = Annotated[str | None, typer.Option("--id", help="Ask about an item instead.")]


def encode(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Images, or folders of them.")],
    raw: Annotated[
        Path | None, typer.Option("--raw", help="Also write the codes to this file, one after the other.")
    ] = None,
    models: ModelsOption = None,
    url: UrlOption = None,
) -> None:
    """Print the code of each image as a line of JSON: path, code (base64), active_bits, entropy_bits.

    An image that cannot be encoded gives a line with its path and error, and exit code 1 at the end.
    """
    failed = False
    sources = list(zip(paths, open_sources([str(path) for path in paths]), strict=True))
    with opened_encoder(models, url) as encoder, ExitStack() as files:
        codes = files.enter_context(raw.open("wb")) if raw else None
        for line, code in _encoded(encoder, _images(sources)):
            print_json(line)
            failed |= code is None
            if codes and code is not None:
                codes.write(code)
    if failed:
        raise typer.Exit(1)


def search(
    image: ImageArgument = None,
    id: IdOption = None,
    code: CodeOption = None,
    k: KOption = 10,
    radius: RadiusOption = None,
    filter: FilterOption = None,
    rescore: Annotated[
        bool, typer.Option("--rescore", help="Rank by expected distance under the model's own doubt.")
    ] = False,
    collection: CollectionOption = DEFAULT_COLLECTION,
    as_json: JsonOption = False,
    data: DataOption = None,
    models: ModelsOption = None,
    url: UrlOption = None,
) -> None:
    """Find the items nearest to an image, an item or a code."""
    query = _query(image, id, code, k, radius, filter, collection, rescore)
    with opened(data, models, url) as backend:
        answer = backend.search(query)
    if as_json:
        print_json(answer)
    elif answer.hits:
        print_table(("distance", "id", "label"), _rows(answer.hits))
    else:
        say(f"nothing in the collection {collection!r} answers this")


def classify(
    image: ImageArgument = None,
    id: IdOption = None,
    code: CodeOption = None,
    k: KOption = 10,
    radius: RadiusOption = None,
    filter: FilterOption = None,
    collection: CollectionOption = DEFAULT_COLLECTION,
    as_json: JsonOption = False,
    data: DataOption = None,
    models: ModelsOption = None,
    url: UrlOption = None,
) -> None:
    """Label an image, an item or a code by the labelled items nearest to it."""
    query = _query(image, id, code, k, radius, filter, collection)
    with opened(data, models, url) as backend:
        answer = backend.classify(query)
    if as_json:
        print_json(answer)
    elif not answer.labels:
        say(f"no item of the collection {collection!r} that answers this has a label: index with --labels")
    else:
        print_table(("score", "label"), [(f"{entry.score:.4f}", entry.label) for entry in answer.labels])


def _query(
    image: Path | None,
    id: str | None,
    code: str | None,
    k: int,
    radius: int | None,
    filter: str | None,
    collection: str,
    rescore: bool = False,
) -> Query:
    if sum(given is not None for given in (image, id, code)) != 1:
        raise typer.BadParameter("give exactly one of IMAGE, --id and --code")
    return Query(
        image=read_image(image),
        code=parse_code(code),
        id=id,
        collection=collection,
        k=k,
        radius=radius,
        filter=parse_object(filter, "--filter"),
        rescore=rescore,
    )


def _rows(hits: Sequence[Hit]) -> list[tuple[int, str, str | None]]:
    return [(hit.distance, hit.id, hit.label) for hit in hits]


def _images(sources: Iterable[tuple[Path, Source]]) -> Iterator[tuple[str, bytes | str]]:
    """Name, and bytes or what is wrong, of each image in turn."""
    for path, source in sources:
        for entry in walk(source):
            data = read_source_image(entry) if isinstance(entry, SourceImage) else entry
            name = str(path) if path.is_file() and isinstance(source, FolderSource) else str(path / entry.id)
            yield name, data.reason if isinstance(data, Failure) else data


def _encoded(
    encoder: ImageEncoder, images: Iterator[tuple[str, bytes | str]]
) -> Iterator[tuple[dict[str, Any], bytes | None]]:
    """The line to print, and the code if there is one, for each image."""
    while batch := list(islice(images, BATCH_IMAGES)):
        results = iter(encoder.encode_many([data for _, data in batch if isinstance(data, bytes)]))
        for name, data in batch:
            result = next(results) if isinstance(data, bytes) else data
            if isinstance(result, Encoding):
                line = {
                    "path": name,
                    "code": to_text(result.code),
                    "active_bits": result.active_bits,
                    "entropy_bits": result.entropy_bits,
                }
                yield line, result.code
            else:
                yield {"path": name, "error": str(result)}, None
