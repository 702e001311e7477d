"""The `stochcon` command: its verbs, and how it says that something is wrong.

Each part is imported by the verb that uses it, so that `stochcon --help` is quick and a machine needs
only what it uses. Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from contracts.errors import NotFound, StochConError, StoreLocked
from stochcon.commands import collections, items, jobs, models
from stochcon.commands.index_images import index_images
from stochcon.commands.options import (
    DataOption,
    ModelsOption,
    ProviderOption,
    RootOption,
    ThreadsOption,
)
from stochcon.commands.query import classify, encode, search
from stochcon.commands.worker import worker
from stochcon.extras import MissingExtra, require
from stochcon.opening import read_settings
from stochcon.output import say

app = typer.Typer(
    help="Compressed binary embeddings of images: train, serve, index and search.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("encode")(encode)
app.command("index")(index_images)
app.command("search")(search)
app.command("classify")(classify)
app.add_typer(items.app, name="items")
app.add_typer(collections.app, name="collections")
app.add_typer(models.app, name="models")
app.add_typer(jobs.app, name="jobs")
app.command("worker")(worker)

HANDED_ON = {
    "train": "Train a model.",
    "finetune": "Train a model on, with labels.",
    "probe": "Train linear layers on a frozen model.",
    "export": "Write a trained model as one ONNX file.",
    "evaluate": "Measure a model on labelled images.",
    "report": "Draw the paper's figures from trained models.",
}
"""Verbs whose options are the trainer's own business."""


@app.command()
def serve(
    data: DataOption = None,
    models: ModelsOption = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Name, id or file of the model; the newest by default.")
    ] = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on [127.0.0.1].")] = None,
    port: Annotated[
        int | None, typer.Option("--port", help="Port to listen on [8000]; 0 takes a free one.", min=0)
    ] = None,
    provider: ProviderOption = None,
    threads: ThreadsOption = None,
    insecure: Annotated[
        bool | None, typer.Option("--insecure", help="Let other machines in without an API key.")
    ] = None,
    roots: RootOption = None,
    keep_originals: Annotated[
        bool | None,
        typer.Option("--keep-originals", help="Keep the image files of uploads, for other models."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Processes for jobs, started when there are any [1].", min=0),
    ] = None,
) -> None:
    """Run the service until it is told to stop."""
    settings = read_settings(
        data=data,
        models=models,
        model=model,
        host=host,
        port=port,
        provider=provider,
        threads=threads,
        insecure=insecure,
        roots=tuple(roots) if roots else None,
        keep_originals=keep_originals,
        workers=workers,
    )
    from service.jobs.roots import Roots
    from service.server import run as run_server
    from service.settings import check_exposure

    try:
        check_exposure(settings)
        Roots(settings.roots)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc
    run_server(settings)


@app.command()
def verify(data: DataOption = None) -> None:
    """Check everything stored against its checksums and itself; a line for each fault.

    The service has to be stopped for this. Exit code 1 if there is a fault.
    """
    settings = read_settings(data=data)
    if not settings.data.is_dir():
        raise NotFound(f"there is no store in {settings.data}: name its folder with --data")
    from index.embedded import EmbeddedStore

    try:
        with EmbeddedStore.open(settings.data, num_threads=settings.threads) as store:
            faults = store.verify()
    except StoreLocked as exc:
        owner = f"the service at {exc.url}" if exc.url else "another process"
        raise StoreLocked(
            f"{settings.data} is in use by {owner}: stop that first to verify the store"
        ) from exc
    for fault in faults:
        print(fault)
    if faults:
        raise typer.Exit(1)
    say("the store is sound")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit. Every failure is one line on stderr."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return the exit code."""
    command = typer.main.get_command(app)
    try:
        code = command.main(list(arguments) or ["--help"], prog_name="stochcon", standalone_mode=False)
    except typer.TyperException as exc:
        context = getattr(exc, "ctx", None)
        path = context.command_path if context else "stochcon"
        say(f"{path}: {exc.format_message()} (see `{path} --help`)")
        return exc.exit_code
    except MissingExtra as exc:
        say(f"stochcon: {exc}")
        return 2
    except (StochConError, OSError) as exc:
        say(f"stochcon: {exc}")
        return 1
    return code if isinstance(code, int) else 0


def _hand_to_trainer(context: typer.Context) -> None:
    """Let the trainer's own command of this name parse its arguments and run."""
    require("trainer")
    from trainer import cli as trainer_cli

    verbs = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    for verb in trainer_cli.VERBS:
        verbs.command()(verb)
    arguments = [str(context.info_name), *context.args]
    code = typer.main.get_command(verbs).main(arguments, prog_name="stochcon", standalone_mode=False)
    if code:
        raise typer.Exit(code)


for _verb, _does in HANDED_ON.items():
    app.command(
        _verb,
        help=_does,
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(_hand_to_trainer)
