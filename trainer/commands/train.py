"""`stochcon train`."""

import dataclasses
import itertools
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainer.commands.options import Device, Precision, Threads, interrupted, prepare_torch

if TYPE_CHECKING:
    from trainer.ranks import Ranks
    from trainer.recipe import Recipe


def train(
    recipe: Annotated[
        str | None, typer.Argument(help="Name of a recipe, for example cifar10-cpu; --list has them all.")
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option("--images", help="A folder of images, a Parquet file or a .tar; may be repeated."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/RECIPE if left out.")] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            help="Weights to start from, in place of the recipe's: a run, a model that export wrote, "
            ".safetensors or a state dict."
        ),
    ] = None,
    monitor: Annotated[
        list[Path] | None,
        typer.Option("--monitor", help="Held-out images: bit counts or accuracy of them after each epoch."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs, in place of the recipe's.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step, in place of the recipe's.")] = None,
    chunk_size: Annotated[
        int | None, typer.Option(help="Images in memory at a time; the gradients stay those of the batch.")
    ] = None,
    base_lr: Annotated[
        float | None, typer.Option(help="Learning rate at batch 256, in place of the recipe's.")
    ] = None,
    precision: Precision = "auto",
    seed: Annotated[int | None, typer.Option(help="Seed of weights, order, views and noise.")] = None,
    device: Device = "cpu",
    threads: Threads = None,
    checkpoint_every: Annotated[float, typer.Option(help="Seconds between checkpoints.", min=0)] = 60.0,
    list_recipes: Annotated[
        bool, typer.Option("--list", help="Name the recipes, and train nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --list: one JSON document.")] = False,
) -> None:
    """Train a model. The same command again goes on where an interrupted run stopped."""
    if list_recipes:
        _list(as_json)
        return
    if as_json:
        raise typer.BadParameter("--json is for --list: a run reports in its folder, as metrics.jsonl")
    if recipe is None or not images:
        missing = "a recipe" if recipe is None else "--images"
        raise typer.BadParameter(
            f"{missing} is missing: give RECIPE --images PATH, or --list to see the recipes"
        )
    changes: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "chunk_size": chunk_size,
        "base_lr": base_lr,
        "seed": seed,
    }
    from trainer.catalogue import find_entry
    from trainer.initial_weights import Weights
    from trainer.ranks import launched, together
    from trainer.sources import open_source
    from trainer.train import train as run_training

    prepare_torch(device, threads)
    ranks: Ranks | None = None
    try:
        with launched(device) as ranks:
            with together(ranks):
                entry = find_entry(recipe)
                chosen = dataclasses.replace(
                    entry.recipe, **{key: value for key, value in changes.items() if value is not None}
                )
                given = init or entry.weights
                weights = Weights.read(given) if given else None
                if weights:
                    chosen = dataclasses.replace(chosen, initial_weights=weights.digest)
                folder = out or Path("runs") / chosen.name
                source = open_source(images)
                held_out = open_source(monitor) if monitor else None
            chosen = _with_precision(chosen, precision, device, folder, ranks)
            run_training(
                chosen,
                source,
                folder,
                weights=weights,
                held_out=held_out,
                ranks=ranks,
                checkpoint_every_s=checkpoint_every,
                command=shlex.join(["stochcon", *sys.argv[1:]]),
            )
    except KeyboardInterrupt as exc:
        if ranks is not None and ranks.rank != 0:
            raise
        raise interrupted() from exc
    except ConnectionError as exc:
        typer.echo(f"Error: {exc}", err=True)
        raise typer.Exit(1) from exc
    except (ValueError, FloatingPointError) as exc:
        wrong_use = isinstance(exc, ValueError)
        if ranks is not None and ranks.rank != 0:  # which ends the same way, and says why
            raise typer.Exit(2 if wrong_use else 1) from exc
        if wrong_use:
            raise typer.BadParameter(str(exc)) from exc
        typer.echo(f"Error: {exc}", err=True)
        raise typer.Exit(1) from exc
    if ranks.rank == 0:
        typer.echo(f"trained {chosen.name} into {folder}")


def _with_precision(
    recipe: "Recipe", wanted: Precision, device: str, folder: Path, ranks: "Ranks"
) -> "Recipe":
    """The recipe with the precision that rank 0, which has the folder, decides on for all."""
    from trainer import checkpoint as checkpoints
    from trainer.precision import decide
    from trainer.ranks import together

    decision = None
    with together(ranks):
        if ranks.rank == 0:
            saved = checkpoints.load(folder) if wanted == "auto" else None
            kept = saved.recipe.precision if saved else None
            decision, remark = decide(wanted, recipe.precision, device, kept)
            if remark:
                typer.echo(remark, err=True)
    told = ranks.broadcast(None if decision is None else decision.encode())
    assert told is not None
    return dataclasses.replace(recipe, precision="bf16" if told == b"bf16" else "fp32")


def _list(as_json: bool) -> None:
    from trainer.catalogue import entries

    found = entries()
    if as_json:
        rows = [
            {
                "name": entry.recipe.name,
                "family": entry.family,
                "reproduces": entry.reproduces,
                "command": entry.command,
                "cost": entry.cost,
                "expected": entry.expected,
                "recipe": entry.recipe.to_dict(),
            }
            for entry in found
        ]
        typer.echo(json.dumps(rows))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for family, group in itertools.groupby(found, key=lambda entry: entry.family):
        first, *others = group
        table = Table(title=f"{family}: {first.cost}", title_justify="left", show_lines=True)
        table.add_column("recipe", no_wrap=True)
        table.add_column("reproduces, expected result")
        for entry in (first, *others):
            words = [entry.reproduces, entry.expected]
            words += [f"cost: {entry.cost}"] * (entry.cost != first.cost)
            table.add_row(entry.recipe.name, "\n".join(words))
        console.print(table)
        typer.echo(f"{first.command.replace(first.recipe.name, 'RECIPE')}\n")
    typer.echo(
        "Frozen and fine-tuned results are made of a run by stochcon probe, finetune and evaluate, and drawn "
        "by stochcon report. --json has each recipe's command and all its settings."
    )
