"""`models add | activate | cancel | rollback | delete`: another model put into use, and back."""

import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from contracts.errors import BackendUnavailable, NotFound
from stochcon.commands.options import DataOption, JsonOption, UrlOption, opened_service
from stochcon.output import print_json, say
from stochcon.results import ActivationInfo

if TYPE_CHECKING:
    from stochcon.client import Client

_POLL_S = 1.0

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="Its name, or the beginning of its id.")]
Missing = Literal["ask", "leave-out", "keep"]


def add_model(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="The .onnx file.", exists=True, dir_okay=False)
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the file there; that of FILE if not given.")
    ] = None,
    data: DataOption = None,
    url: UrlOption = None,
) -> None:
    """Put a model file into a service's model folder, once it has passed a check there. Prints its id."""
    with _client(data, url) as client:
        print(client.upload_model(path, name).id)


def delete_model(name: ModelArgument, data: DataOption = None, url: UrlOption = None) -> None:
    """Delete a model's file from a service's model folder. One that is in use is refused."""
    with _client(data, url) as client:
        client.delete_model(_id_of(client, name))


def activate_model(
    name: ModelArgument,
    missing: Annotated[
        Missing,
        typer.Option("--missing", help="Items without a source: ask, leave-out, or keep their collection."),
    ] = "ask",
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait until it is over.")] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
    url: UrlOption = None,
) -> None:
    """Put a model into use: every collection is encoded again with it, and all are switched at once.

    Searches and writes go on meanwhile. Ctrl-C ends the waiting, not the activation. Exit code 1 if items
    would be left out and nobody has decided, or if it failed.
    """
    with _client(data, url) as client:
        found = client.activate_model(_id_of(client, name), missing)
        shown = ""
        while not detach and not found.is_over and found.state != "waiting":
            text = _progress(client, found)
            if text != shown:
                say(text)
                shown = text
            time.sleep(_POLL_S)
            with suppress(BackendUnavailable):  # The service may be started anew meanwhile.
                found = client.activation() or found
    if as_json:
        print_json(found)
    else:
        print(f"{found.state}: {name}")
    _tell(found)
    if not detach and found.state != "done":
        raise typer.Exit(1)


def cancel_activation(name: ModelArgument, data: DataOption = None, url: UrlOption = None) -> None:
    """Give up the activation of a model. What was encoded is kept for the next try."""
    with _client(data, url) as client:
        print(client.cancel_activation(_id_of(client, name)).state)


def rollback_model(as_json: JsonOption = False, data: DataOption = None, url: UrlOption = None) -> None:
    """Go back from the active model to the one before it, at once.

    Items written since are not in the old generation, and counted. To have them encoded first, activate the
    old model instead.
    """
    with _client(data, url) as client:
        active = next(info.id for info in client.models() if info.active)
        found = client.rollback_model(active)
    if as_json:
        print_json(found)
    else:
        print(f"active: {found.model}")
    _tell(found)


def _client(data: Path | None, url: str | None) -> AbstractContextManager["Client"]:
    otherwise = "models are put into use by a running service: start it with `stochcon serve --root FOLDER`"
    return opened_service(data, url, otherwise)


def _id_of(client: "Client", name: str) -> str:
    found = [info.id for info in client.models() if info.name == name or info.id.startswith(name)]
    if len(found) != 1:
        raise NotFound(f"{len(found)} models match {name!r}: `stochcon models list` names them")
    return found[0]


def _progress(client: "Client", found: ActivationInfo) -> str:
    parts: list[str] = [found.state]
    for collection, job_id in found.jobs.items():
        try:
            job = client.jobs.get(job_id)
        except (BackendUnavailable, NotFound):
            continue
        parts.append(f"{collection} {job.settled:,} of {job.found:,}")
    return ", ".join(parts)


def _tell(found: ActivationInfo) -> None:
    if found.reason:
        say(found.reason)
    for collection, count in found.left_out.items():
        said = "is left out" if found.state == "done" else "would be left out"
        say(f"{collection}: {count:,} {'item' if count == 1 else 'items'} that {said}, having no source now")
        if collection in found.jobs:
            say(f"  `stochcon jobs failures {found.jobs[collection]}` lists them with the reasons")
    if found.state == "waiting":
        say("decide by `stochcon models activate MODEL --missing leave-out`, or `--missing keep`")
