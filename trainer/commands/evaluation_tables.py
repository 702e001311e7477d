"""What `stochcon evaluate` prints."""

from typing import Any

from rich.console import Console
from rich.table import Table

from trainer.retrieval import CUTOFFS

_STATISTICS = {
    "top1": ("top-1 of its own layer", 4),
    "active_bits": ("active bits", 1),
    "entropy_bits": ("entropy, bits", 1),
    "dead_bits": ("dead bits", 0),
    "aggregate_variance": ("aggregate variance", 4),
}


def print_retrieval(values: dict[str, Any]) -> None:
    """One row for each representation, and the statistics of the latent below."""
    columns = {"knn_top1": "k-NN", "map": "mAP"}
    columns |= {f"recall_at_{at}": f"R@{at}" for at in CUTOFFS}
    columns |= {f"precision_at_{at}": f"P@{at}" for at in CUTOFFS[1:]}
    suffix = "_knn_top1"
    rows = [name.removesuffix(suffix) for name in values if name.endswith(suffix)]
    there = [key for key in columns if any(f"{row}_{key}" in values for row in rows)]
    table = Table(
        title=f"{values['num_queries']:,} queries, a gallery of {values['num_images']:,}",
        caption=f"k-NN: top-1 of {values['k']} neighbours. R: recall. P: precision.",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("")
    for key in there:
        table.add_column(columns[key], justify="right")
    for row in rows:
        table.add_row(row, *(f"{values[f'{row}_{key}']:.4f}" for key in there))
    console = Console()
    console.print(table)
    for key, (label, digits) in _STATISTICS.items():
        if key in values:
            console.print(f"{label}: {values[key]:.{digits}f}")


def print_baselines(values: dict[str, Any]) -> None:
    """One row for each method and size."""
    table = Table(title="Codes of h beside learned ones", title_justify="left")
    table.add_column("code")
    for name in ("bits", "k-NN top-1", "mAP"):
        table.add_column(name, justify="right")
    for method, sizes in values.items():
        for size, scores in sizes.items():
            bits = size if size != "0" else ""
            table.add_row(method, bits, f"{scores['knn_top1']:.4f}", f"{scores['map']:.4f}")
    Console().print(table)


def print_units(values: dict[str, Any]) -> None:
    """One row for each number of units."""
    table = Table(
        title=f"Random forests on units of the {values['latent']} latent: {values['num_images']:,} images, "
        f"{values['folds']} folds",
        title_justify="left",
    )
    for name in ("units", "F1", "std over folds"):
        table.add_column(name, justify="right")
    for number, score in values["f1"].items():
        table.add_row(number, f"{score['mean']:.4f}", f"{score['std']:.4f}")
    Console().print(table)
