"""`models compare`: two models side by side on images of one's own."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contracts.errors import NotFound
from stochcon.commands.options import JsonOption, KOption, ModelsOption, open_sources
from stochcon.extras import require
from stochcon.opening import read_settings
from stochcon.output import PLAIN_INTERVAL_S, print_json, print_table, say
from stochcon.sources.source import Failure, Labels, SourceOptions, SourceUnavailable

if TYPE_CHECKING:
    from service.models import ModelFile, ModelFolder

_MODEL_HELP = "Its name, the beginning of its id, or an .onnx file."


def compare_models(
    a: Annotated[str, typer.Argument(metavar="A", help=_MODEL_HELP)],
    b: Annotated[str, typer.Argument(metavar="B", help=_MODEL_HELP)],
    images: Annotated[
        list[str],
        typer.Option(
            "--images", metavar="PATH", help="Images to compare on: whatever `index` takes; repeatable."
        ),
    ],
    labels: Annotated[
        Labels, typer.Option("--labels", help="`folders`: the first sub-folder below PATH is the label.")
    ] = "none",
    limit: Annotated[
        int | None,
        typer.Option("--limit", help="Compare on so many, drawn at random; all if not given.", min=2),
    ] = None,
    k: KOption = 20,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write a page, pictures and numbers into this folder.")
    ] = None,
    as_json: JsonOption = False,
    models: ModelsOption = None,
) -> None:
    """Compare two models on images of your own: by label, by near-duplicates, and by their codes.

    Needs no service and no store. With --json: one document.
    """
    settings = read_settings(models=models)
    if out is not None:
        require("plots")
    from service.models import ModelFolder
    from stochcon.comparing.run import compare
    from stochcon.comparing.tables import columns, rows

    folder = ModelFolder(settings.models)
    pair = find_model(folder, a), find_model(folder, b)
    try:
        found, curves = compare(
            pair,
            settings,
            open_sources(images, SourceOptions(labels=labels)),
            k=k,
            limit=limit,
            on_progress=_progress(),
            on_failure=_say_failure,
        )
    except SourceUnavailable as exc:
        raise typer.BadParameter(str(exc), param_hint="--images") from exc
    if as_json:
        print_json(found)
    else:
        print_table(columns(found), rows(found))
        print(found.verdict)
    if not found.labelled:
        say("not compared by label: that takes two labels of at least two images each (--labels folders)")
    if out is not None:
        from stochcon.comparing.page import write_page

        say(f"the page is {write_page(found, curves, out)}")


def find_model(folder: "ModelFolder", wanted: str) -> "ModelFile":
    """The model of that name, path or beginning of an id.

    Raises NotFound if there is none, or several ids begin so, and InvalidModel if it makes no codes.
    """
    listed = folder.list().models if folder.path.is_dir() else []
    if not any(wanted in (model.manifest.name, model.id) for model in listed):
        found = [model.id for model in listed if model.id.startswith(wanted)]
        if len(found) > 1:
            raise NotFound(f"the ids of {len(found)} models begin with {wanted!r}: give more of one")
        if found:
            wanted = found[0]
    return folder.select(wanted)


def _progress() -> Callable[[str, int], None]:
    """What prints a line on stderr now and then."""
    last_s = time.monotonic()

    def show(stage: str, num_images: int) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if now_s - last_s >= PLAIN_INTERVAL_S:
            last_s = now_s
            say(f"{num_images} images {stage}")

    return show


def _say_failure(failure: Failure) -> None:
    say(f"{failure.id}: {failure.reason}")
