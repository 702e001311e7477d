"""Which backend a verb gets: a service that was named, a store opened here, or the service that has it."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from contracts.errors import NotFound, StoreLocked
from stochcon.backend import Backend, ImageEncoder
from stochcon.extras import require

if TYPE_CHECKING:
    from service.settings import Settings
    from stochcon.remote import RemoteBackend


def open_remote(url: str, api_key: str | None) -> "RemoteBackend":
    """The service at `url`. One that is no URL is wrong use."""
    from stochcon.client import Client
    from stochcon.remote import RemoteBackend

    try:
        return RemoteBackend(Client(url, api_key))
    except ValueError as exc:
        raise typer.BadParameter(str(exc), param_hint="--url") from exc


def open_store(data: Path | None, models: Path | None, api_key: str | None, *, make: bool) -> Backend:
    """The store here, or, if a service owns it, that service.

    Raises NotFound if there is no store, unless `make` allows a new one, and StoreLocked if its owner
    does not serve.
    """
    settings = read_settings(data=data, models=models)
    if not make and not settings.data.is_dir():
        raise NotFound(
            f"there is no store in {settings.data}: index images first, or name another folder with --data"
        )
    from service.engine import Engine
    from service.logs import configure_logs
    from stochcon.local import LocalBackend

    configure_logs(logging.WARNING, for_people=True)
    try:
        return LocalBackend(Engine.open(settings))
    except StoreLocked as exc:
        if exc.url is None:
            raise
        return open_remote(exc.url, api_key)


def open_encoder(models: Path | None) -> ImageEncoder:
    """The models here, without any store."""
    settings = read_settings(models=models)
    from stochcon.local import LocalEncoder

    return LocalEncoder(settings)


def read_settings(**given: Any) -> "Settings":
    """The settings from flags, where they are not None, and the environment. A bad one is wrong use."""
    require("cpu")
    from pydantic import ValidationError

    from service.settings import Settings

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as exc:
        fault = exc.errors()[0]
        name = "_".join(str(part) for part in fault["loc"])
        # A verb hands over all of its flags; a setting that it has none for can only be a variable.
        flag = f"--{name.replace('_', '-')} or " if name in given else ""
        raise typer.BadParameter(
            f"{fault['msg']} (it is {fault['input']!r})", param_hint=f"{flag}STOCHCON_{name.upper()}"
        ) from exc
