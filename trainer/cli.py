"""The commands `stochcon train`, `export` and `evaluate`. Nothing heavy is imported until one runs."""

import dataclasses
import importlib
import json
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from trainer.recipe import Recipe

EVALUATION = "evaluation.json"

Images = Annotated[
    list[Path], typer.Option("--images", help="A folder of images or a Parquet file; may be repeated.")
]


Device = Annotated[Literal["cpu", "cuda"], typer.Option(help="Where the network runs.")]


def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, for example cifar10-cpu.")],
    images: Images,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/RECIPE if left out.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs, in place of the recipe's.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step, in place of the recipe's.")] = None,
    base_lr: Annotated[
        float | None, typer.Option(help="Learning rate at batch 256, in place of the recipe's.")
    ] = None,
    precision: Annotated[
        Literal["bf16", "fp32"] | None, typer.Option(help="In place of the recipe's.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, order, views and noise.")] = None,
    device: Device = "cpu",
    threads: Annotated[int | None, typer.Option(help="CPU threads; all cores if left out.", min=1)] = None,
    checkpoint_every: Annotated[float, typer.Option(help="Seconds between checkpoints.", min=0)] = 60.0,
) -> None:
    """Train a model. The same command again goes on where an interrupted run stopped."""
    changes: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "base_lr": base_lr,
        "precision": precision,
        "seed": seed,
    }
    try:
        chosen = dataclasses.replace(
            find_recipe(recipe), **{key: value for key, value in changes.items() if value is not None}
        )
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc
    import torch

    from trainer.sources import open_source
    from trainer.train import train as run_training

    _check_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    folder = out or Path("runs") / chosen.name
    try:
        run_training(chosen, open_source(images), folder, device=device, checkpoint_every_s=checkpoint_every)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc
    except FloatingPointError as exc:
        typer.echo(f"Error: {exc}", err=True)
        raise typer.Exit(1) from exc
    typer.echo(f"trained {chosen.name} into {folder}")


def evaluate(
    model: Annotated[Path, typer.Argument(help="A run folder, or an exported .onnx file.")],
    images: Images,
    queries: Annotated[
        list[Path], typer.Option("--queries", help="Labelled images to classify by the others; repeatable.")
    ],
    k: Annotated[int, typer.Option(help="Neighbours that vote.", min=1, max=1000)] = 20,
    device: Device = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")] = False,
) -> None:
    """Measure k-NN top-1 and mAP of codes, and of floats, pixels and random projections beside them.

    `--images` is the gallery. What is found for a run is kept in it, for `export` to put on the card.
    """
    if not model.exists():
        raise typer.BadParameter(f"{model} does not exist: give a run folder or an .onnx file")
    from trainer.evaluate import FileEncoder, RunEncoder, embed, report
    from trainer.sources import open_source

    _check_device(device)
    try:
        encoder = RunEncoder(model, device) if model.is_dir() else FileEncoder(model)
        asked, gallery = embed(encoder, open_source(queries)), embed(encoder, open_source(images))
        values = report(asked, gallery, k)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc
    broken = asked.broken + gallery.broken
    if broken:
        typer.echo(f"{len(broken)} images cannot be read and are left out; the first: {broken[0]}", err=True)
    rounded = {key: round(value, 4) for key, value in values.items()}
    if model.is_dir():
        (model / EVALUATION).write_text(json.dumps(rounded, indent=1) + "\n")
    if as_json:
        typer.echo(json.dumps(rounded))
    else:
        _print_table(rounded)


def export(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    out: Annotated[Path, typer.Option(help="The .onnx file to write.")],
    name: Annotated[str | None, typer.Option(help="Name of the model; the file's if left out.")] = None,
    version: Annotated[str, typer.Option(help="Version on the card.")] = "1",
    data: Annotated[str, typer.Option(help="What it was trained on, for the card.")] = "",
    licence: Annotated[str, typer.Option(help="Licence of the model, for the card.")] = "",
) -> None:
    """Write the model of a run as one ONNX file, checked against PyTorch."""
    from trainer.export import export as write_model

    evaluation = run / EVALUATION
    metrics: dict[str, Any] = json.loads(evaluation.read_text()) if evaluation.exists() else {}
    try:
        manifest, parity = write_model(
            run, out, name=name or out.stem, version=version, data=data, licence=licence, metrics=metrics
        )
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc
    except RuntimeError as exc:
        typer.echo(f"Error: {exc}", err=True)
        raise typer.Exit(1) from exc
    size = out.stat().st_size
    typer.echo(f"wrote {out}: {manifest.name} {manifest.version}, {manifest.num_bits} bits, {size} bytes")
    typer.echo(
        f"against PyTorch: largest error {parity.max_error:.2g}, "
        f"{parity.flipped_bits} of {parity.num_bits} bits differ"
    )


def find_recipe(name: str) -> "Recipe":
    """The recipe of that name. Raises ValueError, naming those there are."""
    import trainer.recipes

    found: dict[str, Recipe] = {}
    for module in pkgutil.iter_modules(trainer.recipes.__path__):
        recipe = importlib.import_module(f"trainer.recipes.{module.name}").RECIPE
        found[recipe.name] = recipe
    if name not in found:
        raise ValueError(f"there is no recipe {name}: choose one of {', '.join(sorted(found))}")
    return found[name]


def _check_device(device: str) -> None:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("cuda is not available to this torch: choose --device cpu")


def _print_table(values: dict[str, float]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("representation", "k-NN top-1", "mAP")
    suffix = "_knn_top1"
    for key in values:
        if key.endswith(suffix):
            name = key.removesuffix(suffix)
            table.add_row(name, f"{values[key]:.4f}", f"{values[f'{name}_map']:.4f}")
    console = Console()
    console.print(table)
    for key in ("active_bits", "entropy_bits", "dead_bits"):
        if key in values:
            console.print(f"{key.replace('_', ' ')}: {values[key]:.1f}")
