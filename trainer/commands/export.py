"""`stochcon export`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from trainer.commands.options import tell_if_unfinished


def export(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    out: Annotated[Path, typer.Option(help="The .onnx file to write.")],
    name: Annotated[str | None, typer.Option(help="Name of the model; the file's if left out.")] = None,
    version: Annotated[str, typer.Option(help="Version on the card.")] = "1",
    data: Annotated[str, typer.Option(help="What it was trained on, for the card.")] = "",
    licence: Annotated[str, typer.Option(help="Licence of the model, for the card.")] = "",
) -> None:
    """Write the model of a run as one ONNX file, checked against PyTorch."""
    from trainer.evaluate import EVALUATION
    from trainer.export import export as write_model

    tell_if_unfinished(run)
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
