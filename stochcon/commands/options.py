"""Options that many verbs share, what they are parsed into, and how a verb reaches its backend."""

import base64
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contracts.errors import BackendUnavailable, NotFound
from stochcon.backend import Backend, ImageEncoder
from stochcon.sources.opening import open_source
from stochcon.sources.source import Source, SourceOptions, SourceUnavailable

if TYPE_CHECKING:
    from stochcon.client import Client

DataOption = Annotated[
    Path | None, typer.Option("--data", help="Folder of the store (STOCHCON_DATA; by default ./data).")
]
ModelsOption = Annotated[
    Path | None,
    typer.Option("--models", help="Folder of models (STOCHCON_MODELS; by default those that ship)."),
]
UrlOption = Annotated[
    str | None,
    typer.Option("--url", help="A running service to use instead of a store here (STOCHCON_URL)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
CollectionOption = Annotated[str, typer.Option("--collection", "-c", help="Name of the collection.")]
CodeOption = Annotated[str | None, typer.Option("--code", help="A code in base64, instead of an image.")]
KOption = Annotated[int, typer.Option("-k", help="How many neighbours.", min=1, max=1000)]
RadiusOption = Annotated[
    int | None, typer.Option("--radius", help="Largest distance in bits, inclusive.", min=0)
]
ProviderOption = Annotated[
    str | None, typer.Option("--provider", help="auto, cuda, openvino or cpu; auto takes the best.")
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", help="Threads to use; by default every core.")
]
RootOption = Annotated[
    list[str] | None,
    typer.Option("--root", help="Folder or URL that jobs may read; repeatable (STOCHCON_ROOTS)."),
]
IncludeOption = Annotated[
    list[str] | None,
    typer.Option("--include", help="Take only images whose path matches, such as '*/2024/*'; repeatable."),
]
ExcludeOption = Annotated[
    list[str] | None, typer.Option("--exclude", help="Leave out images whose path matches; repeatable.")
]
FilterOption = Annotated[
    str | None, typer.Option("--filter", help="""Filter as JSON: '{"metadata.year": {"gte": 2020}}'.""")
]


@contextmanager
def opened(
    data: Path | None, models: Path | None, url: str | None, *, make: bool = False
) -> Iterator[Backend]:
    """The backend that the options and the environment name, closed at the end.

    Without a URL that is the store here or, if a service owns it, that service. `make` allows a
    store that is not there yet to be made.
    """
    from stochcon import opening

    if url is not None and data is not None:
        raise typer.BadParameter("--url and --data exclude each other: a service has its own store")
    if url is None and data is None:
        url = os.environ.get("STOCHCON_URL")
    api_key = _api_key()
    if url is not None:
        backend: Backend = opening.open_remote(url, api_key)
    else:
        backend = opening.open_store(data, models, api_key, make=make)
    with closing(backend):
        yield backend


@contextmanager
def opened_service(data: Path | None, url: str | None, otherwise: str) -> "Iterator[Client]":
    """The service that the options and the environment name, or that owns the store here.

    Raises BackendUnavailable, which says `otherwise`, where there is none.
    """
    with opened(data, None, url) as backend:
        client = backend.client()
        if client is None:
            raise BackendUnavailable(otherwise)
        yield client


@contextmanager
def opened_encoder(models: Path | None, url: str | None) -> Iterator[ImageEncoder]:
    """The service that the options and the environment name, or the models here; closed at the end."""
    from stochcon import opening

    if url is None and models is None:
        url = os.environ.get("STOCHCON_URL")
    encoder: ImageEncoder = (
        opening.open_encoder(models) if url is None else opening.open_remote(url, _api_key())
    )
    with closing(encoder):
        yield encoder


@contextmanager
def opened_models(data: Path | None, models: Path | None, url: str | None) -> Iterator[ImageEncoder]:
    """What knows which model is active: what `opened` gives, or the models alone where there is no store.

    A folder of models that is named is asked itself.
    """
    with ExitStack() as stack:
        found: ImageEncoder | None = None
        if models is None:
            with suppress(NotFound):
                found = stack.enter_context(opened(data, None, url))
        yield found or stack.enter_context(opened_encoder(models, url))


def _api_key() -> str | None:
    """The key of the environment, or of the file that it names, as the service itself reads it."""
    key, file = os.environ.get("STOCHCON_API_KEY"), os.environ.get("STOCHCON_API_KEY_FILE")
    if key is not None or file is None:
        return key
    try:
        return Path(file).read_text().strip()
    except OSError as exc:
        raise typer.BadParameter(
            f"{file} cannot be read: {exc.strerror}", param_hint="STOCHCON_API_KEY_FILE"
        ) from exc


def parse_object(text: str | None, option: str) -> dict[str, Any] | None:
    """The JSON object given to `option`. Other text is wrong use."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise typer.BadParameter(f"not JSON ({exc})", param_hint=option) from exc
    if not isinstance(value, dict):
        raise typer.BadParameter("not a JSON object", param_hint=option)
    return value


def parse_code(text: str | None) -> bytes | None:
    """The bytes of the code given to --code. Other text is wrong use."""
    if text is None:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as exc:
        raise typer.BadParameter(f"not standard base64 ({exc})", param_hint="--code") from exc


def read_image(path: Path | None) -> bytes | None:
    """The bytes of the image file named. One that cannot be read is wrong use."""
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as exc:
        raise typer.BadParameter(f"{path} cannot be read: {exc.strerror}", param_hint="IMAGE") from exc


def open_sources(paths: Sequence[str], options: SourceOptions = SourceOptions()) -> list[Source]:
    """The sources at paths or URLs. One that there is not is wrong use."""
    try:
        return [open_source(path, options) for path in paths]
    except SourceUnavailable as exc:
        raise typer.BadParameter(str(exc), param_hint="PATH") from exc
