"""`stochcon evaluate`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from trainer.commands.options import Device, Images, Queries, prepare_torch

EVALUATION = "evaluation.json"


def evaluate(
    model: Annotated[Path, typer.Argument(help="A run folder, or an exported .onnx file.")],
    images: Images,
    queries: Queries,
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

    prepare_torch(device)
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
