"""Options that several of the trainer's commands have. Nothing heavy is imported until one runs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Images = Annotated[
    list[Path],
    typer.Option("--images", help="A folder of images, a Parquet file or a .tar; may be repeated."),
]

Queries = Annotated[
    list[Path], typer.Option("--queries", help="Labelled images to measure on, held out; may be repeated.")
]

Device = Annotated[Literal["cpu", "cuda"], typer.Option(help="Where the network runs.")]

Threads = Annotated[int | None, typer.Option(help="CPU threads; all cores if left out.", min=1)]

Precision = Annotated[
    Literal["auto", "bf16", "fp32"],
    typer.Option(help="auto is that of the recipe, or fp32 where the device has no bf16 units."),
]


def tell_if_unfinished(run: Path, consequence: str = "") -> bool:
    """Whether a run was interrupted: what is made of it is made of less than its recipe says."""
    from trainer.run_record import unfinished

    remark = unfinished(run)
    if remark:
        typer.echo(remark + consequence, err=True)
    return bool(remark)


NOT_KEPT = "; what is found is printed, and not kept"
"""Said of measurements of an unfinished run, which would pass for those of its end once it goes on."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 and the number of the signal."""


def interrupted() -> typer.Exit:
    """Say how a training that was stopped by Ctrl-C goes on; what to raise then."""
    typer.echo("interrupted: the same command goes on from the last checkpoint", err=True)
    return typer.Exit(INTERRUPTED)


def prepare_torch(device: str, threads: int | None = None) -> None:
    """Set how threads and memory are used, and refuse a device that is not there as wrong use."""
    import torch

    from trainer.memory import keep_freed_memory

    if device == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("cuda is not available to this torch: choose --device cpu")
    if threads is not None:
        torch.set_num_threads(threads)
    keep_freed_memory()
