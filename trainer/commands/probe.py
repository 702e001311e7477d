"""`stochcon probe`."""

import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainer.commands.options import (
    NOT_KEPT,
    Device,
    Images,
    Precision,
    Queries,
    Threads,
    prepare_torch,
    tell_if_unfinished,
)

if TYPE_CHECKING:
    from trainer.held_out import Scores
    from trainer.probe import ProbeSettings


def probe(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    images: Images,
    queries: Queries,
    target: Annotated[
        str | None, typer.Option(help="A numeric column to regress on, instead of classifying.")
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the images.")] = 20,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 256,
    seed: Annotated[int, typer.Option(help="Seed of layers, order, views and noise.")] = 0,
    precision: Precision = "auto",
    device: Device = "cpu",
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")] = False,
) -> None:
    """Train linear layers on a frozen network, on each of its representations (appendix A.3).

    What is found is kept in the run if that is finished, as probe.json or probe-COLUMN.json.
    """
    from trainer.probe import ProbeSettings

    prepare_torch(device, threads)
    kept = not tell_if_unfinished(run, NOT_KEPT)
    settings = ProbeSettings(epochs, batch_size, seed)
    try:
        values = run_probe(run, images, queries, settings, target, precision, device, kept)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc
    except FloatingPointError as exc:
        typer.echo(f"Error: {exc}", err=True)
        raise typer.Exit(1) from exc
    if as_json:
        typer.echo(json.dumps(values))
    else:
        print_table(values)


def run_probe(
    run: Path,
    images: list[Path],
    queries: list[Path],
    settings: "ProbeSettings",
    target: str | None = None,
    precision: Precision = "auto",
    device: str = "cpu",
    kept: bool = True,
) -> dict[str, Any]:
    """Probe a run and return what is found, which is also kept in it unless `kept` is false.

    Raises ValueError for images or a target that cannot be learnt from, FloatingPointError if a loss is not
    finite.
    """
    if target is not None and not _names_a_file(target):
        raise ValueError(
            f"--target is {target!r}, and a file is named after it: call the column by a short name without /"
        )
    from trainer.precision import decide
    from trainer.probe import probe
    from trainer.runs import load_run
    from trainer.scores import summary, write_json
    from trainer.sources import open_source
    from trainer.targets import Classification, Regression, Task

    started_s = time.monotonic()
    trained = load_run(run)
    train, test = open_source(images), open_source(queries)
    task: Task = Classification(train, test) if target is None else Regression(train, test, target)
    used, remark = decide(precision, trained.recipe.precision, device)
    if remark:
        typer.echo(remark, err=True)
    found = probe(trained.model.to(device), train, test, task, settings, used, _say)
    if found.broken:
        count, first = len(found.broken), found.broken[0]
        typer.echo(f"images that cannot be read, and are left out: {count}; the first: {first}", err=True)
    main, *others = found.scores[0]["h"]
    values: dict[str, Any] = {
        "epochs": settings.epochs,
        "batch_size": settings.batch_size,
        "seed": settings.seed,
        "precision": used,
        "sampled_at_test": False,
        "num_images": len(task.learnable),
        "num_queries": found.num_queries,
        "broken_images": len(found.broken),
        "seconds": round(time.monotonic() - started_s, 1),
        "command": shlex.join(["stochcon", *sys.argv[1:]]),
    }
    if isinstance(task, Regression):
        values["baseline_mae"] = round(task.baseline_mae, 6)
    values["representations"] = {
        name: summary(main, [scores[name][main] for scores in found.scores])
        | {other: [round(scores[name][other], 6) for scores in found.scores] for other in others}
        for name in found.scores[0]
    }
    if kept:
        write_json(run / ("probe.json" if target is None else f"probe-{target}.json"), values)
    return values


def _names_a_file(column: str) -> bool:
    return column.isprintable() and "/" not in column and 0 < len(os.fsencode(column)) <= 200


def _say(epoch: int, scores: "Scores") -> None:
    told = "  ".join(f"{name} {next(iter(values.values())):.4f}" for name, values in scores.items())
    typer.echo(f"epoch {epoch}  {told}", err=True)


def print_table(values: dict[str, Any]) -> None:
    """The scores of each representation, the last epoch's beside the best's."""
    from rich.console import Console
    from rich.table import Table

    main, name = ("r2", "R²") if "baseline_mae" in values else ("top1", "top-1")
    table = Table(
        title=f"Linear probes: {values['num_images']:,} images, {values['num_queries']:,} held out",
        title_justify="left",
    )
    table.add_column("representation")
    for heading in (f"{name}, last", f"{name}, best", "of epoch", *(["MAE, last"] * (main == "r2"))):
        table.add_column(heading, justify="right")
    for on, scores in values["representations"].items():
        cells = [f"{scores['last']:.4f}", f"{scores['best']:.4f}", str(scores["best_epoch"])]
        table.add_row(on, *cells, *([f"{scores['mae'][-1]:.4g}"] if "mae" in scores else []))
    console = Console()
    console.print(table)
    if "baseline_mae" in values:
        console.print(f"MAE of always saying the mean: {values['baseline_mae']:.4g}")
