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


def tell_if_unfinished(run: Path) -> None:
    """What is made of a run that was interrupted is made of less than its recipe says."""
    from trainer.run_record import unfinished

    remark = unfinished(run)
    if remark:
        typer.echo(remark, err=True)


def prepare_torch(device: str, threads: int | None = None) -> None:
    """Set the number of threads, and refuse a device that is not there as wrong use."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("cuda is not available to this torch: choose --device cpu")
    if threads is not None:
        torch.set_num_threads(threads)
