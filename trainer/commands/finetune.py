"""`stochcon finetune`."""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from trainer.commands.options import (
    Device,
    Images,
    Precision,
    Queries,
    Threads,
    interrupted,
    prepare_torch,
    tell_if_unfinished,
)


def finetune(
    run: Annotated[Path, typer.Argument(help="The run folder to start from.")],
    images: Images,
    queries: Queries,
    out: Annotated[Path, typer.Option(help="Folder of the fine-tuned run.")],
    on: Annotated[
        Literal["h", "z", "bits"] | None,
        typer.Option(help="What the linear layer reads; z if the run has a latent, else h."),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the images.")] = 20,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 256,
    lr: Annotated[
        float, typer.Option(help="Learning rate of Adam; a tenth of it for the last fifth.")
    ] = 3e-4,
    precision: Precision = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the new layer, order, views and noise.")] = 0,
    device: Device = "cpu",
    threads: Threads = None,
    checkpoint_every: Annotated[float, typer.Option(help="Seconds between checkpoints.", min=0)] = 60.0,
) -> None:
    """Train a run's whole network on with labels (appendix A.3). The same command again goes on."""
    from trainer import checkpoint as checkpoints
    from trainer.checkpoint import digest
    from trainer.finetune import FINETUNE
    from trainer.finetune import finetune as run_finetuning
    from trainer.precision import decide
    from trainer.recipe import FineTuning
    from trainer.runs import load_run
    from trainer.sources import open_source

    prepare_torch(device, threads)
    tell_if_unfinished(run)
    try:
        trained = load_run(run)
        saved = checkpoints.load(out) if precision == "auto" else None
        kept = saved.finetuning.precision if saved and saved.finetuning else None
        used, remark = decide(precision, trained.recipe.precision, device, kept)
        if remark:
            typer.echo(remark, err=True)
        settings = FineTuning(
            on=on or ("h" if trained.recipe.latent == "none" else "z"),
            weights=digest(trained.model.state_dict()),
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            precision=used,
            seed=seed,
        )
        run_finetuning(
            trained,
            open_source(images),
            open_source(queries),
            out,
            settings,
            device=device,
            checkpoint_every_s=checkpoint_every,
            command=shlex.join(["stochcon", *sys.argv[1:]]),
        )
    except KeyboardInterrupt as exc:
        raise interrupted() from exc
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc
    except FloatingPointError as exc:
        typer.echo(f"Error: {exc}", err=True)
        raise typer.Exit(1) from exc
    found = json.loads((out / FINETUNE).read_text())
    typer.echo(f"fine-tuned {trained.recipe.name} on {settings.on} into {out}")
    typer.echo(f"top-1 {found['last']:.4f} last, {found['best']:.4f} best (epoch {found['best_epoch']})")
    if "sampled" in found:
        typer.echo(f"with z sampled at test: {found['sampled']['last']:.4f} last")
